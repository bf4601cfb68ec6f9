//! Layers of transactions that may run in parallel, out of the objects they read and write.

use ahash::AHashMap;

/// An object's name, 32 bytes; chosen by clients, so it is hashed with a secret seed (ahash).
pub type ObjectId = [u8; 32];

#[derive(Default, Clone, Copy)]
struct Use {
    /// One more than the layer of the last writer; 0 while nobody wrote.
    written: u32,
    /// One more than the highest layer of a reader since then.
    read: u32,
}

/// The layer of each transaction: 0 depends on nothing before it in the batch.
///
/// A reader comes after the last writer, a writer after the last writer and all readers since;
/// conflicting writers keep their order in the batch. The answer depends on the input only.
pub fn layers<'a, R, W>(items: impl Iterator<Item = (R, W)>) -> Vec<u32>
where
    R: Iterator<Item = &'a ObjectId> + Clone,
    W: Iterator<Item = &'a ObjectId> + Clone,
{
    let mut uses: AHashMap<&'a ObjectId, Use> = AHashMap::new();
    items
        .map(|(reads, writes)| {
            let after_writers =
                reads.clone().filter_map(|id| uses.get(id)).map(|known| known.written).max().unwrap_or(0);
            let layer = writes
                .clone()
                .filter_map(|id| uses.get(id))
                .map(|known| known.written.max(known.read))
                .max()
                .unwrap_or(0)
                .max(after_writers);
            for id in reads {
                let known = uses.entry(id).or_default();
                known.read = known.read.max(layer + 1);
            }
            for id in writes {
                uses.insert(id, Use { written: layer + 1, read: 0 });
            }
            layer
        })
        .collect()
}

/// Indices grouped by layer, each in the order of the batch.
pub fn grouped(layers: &[u32]) -> Vec<Vec<usize>> {
    let count = layers.iter().max().map_or(0, |highest| *highest as usize + 1);
    let mut groups = vec![Vec::new(); count];
    for (index, layer) in layers.iter().enumerate() {
        groups[*layer as usize].push(index);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Sets = (Vec<ObjectId>, Vec<ObjectId>);

    fn layers_of(items: &[Sets]) -> Vec<u32> {
        layers(items.iter().map(|(reads, writes)| (reads.iter(), writes.iter())))
    }

    fn conflict(left: &Sets, right: &Sets) -> bool {
        left.1.iter().any(|id| right.0.contains(id) || right.1.contains(id))
            || left.0.iter().any(|id| right.1.contains(id))
    }

    proptest! {
        #[test]
        fn equal_to_the_longest_chain_of_conflicts(
            items in prop::collection::vec((prop::collection::vec(0u8..8, 0..3), prop::collection::vec(0u8..8, 0..3)), 0..40)
        ) {
            let items: Vec<Sets> = items.into_iter().map(|(reads, writes)| {
                (reads.into_iter().map(|id| [id; 32]).collect(), writes.into_iter().map(|id| [id; 32]).collect())
            }).collect();
            let mut wanted: Vec<u32> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let layer = (0..index).filter(|&before| conflict(&items[before], item))
                    .map(|before| wanted[before] + 1).max().unwrap_or(0);
                wanted.push(layer);
            }
            prop_assert_eq!(layers_of(&items), wanted);
        }
    }

    #[test]
    fn writers_of_one_object_keep_their_order() {
        let item: Sets = (vec![], vec![[1; 32]]);
        assert_eq!(grouped(&layers_of(&[item.clone(), item.clone(), item])), [[0], [1], [2]]);
        assert!(grouped(&[]).is_empty());
    }
}
