//! Layers of transactions that may run in parallel, out of the objects they read and write.

use ahash::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hasher};

/// An object's name, 32 bytes; chosen by clients, so it is hashed with a secret seed (ahash).
pub type ObjectId = [u8; 32];

/// The objects that each transaction of a batch reads and writes.
#[derive(Debug, Default, Clone)]
pub struct ObjectSets {
    ids: Vec<ObjectId>,
    /// Where a transaction's reads end, and its writes, which follow them.
    ends: Vec<[usize; 2]>,
}

impl ObjectSets {
    pub fn with_capacity(transactions: usize) -> Self {
        Self { ids: Vec::with_capacity(4 * transactions), ends: Vec::with_capacity(transactions) }
    }

    /// Add the next transaction; `Err` is the first that an iterator gives, and then nothing is added.
    pub fn push<E>(
        &mut self,
        reads: impl IntoIterator<Item = Result<ObjectId, E>>,
        writes: impl IntoIterator<Item = Result<ObjectId, E>>,
    ) -> Result<(), E> {
        let start = self.ids.len();
        let added = self.extend(reads).and_then(|read_end| Ok([read_end, self.extend(writes)?]));
        match added {
            Ok(ends) => {
                self.ends.push(ends);
                Ok(())
            }
            Err(error) => {
                self.ids.truncate(start);
                Err(error)
            }
        }
    }

    fn extend<E>(&mut self, ids: impl IntoIterator<Item = Result<ObjectId, E>>) -> Result<usize, E> {
        for id in ids {
            self.ids.push(id?);
        }
        Ok(self.ids.len())
    }
}

/// Why a transaction comes after another one: both use the object, and one of them writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    pub before: usize,
    pub object: ObjectId,
}

/// The layer of each transaction, and the reasons.
///
/// A reader comes after the last writer, a writer after the last writer and all readers since;
/// conflicting writers keep their order in the batch. The answer depends on the input only.
#[derive(Debug, Clone)]
pub struct ObjectDeps {
    layers: Vec<u32>,
    ends: Vec<[usize; 2]>,
    /// What `ObjectSets` names, as places in `objects`.
    uses: Vec<u32>,
    objects: Vec<ObjectId>,
}

/// How far an object's use has come.
#[derive(Default, Clone, Copy)]
struct Reached {
    /// One more than the layer of the last writer; 0 while nobody wrote.
    written: u32,
    /// One more than the highest layer of a reader since then.
    read: u32,
}

impl ObjectDeps {
    pub fn resolve(sets: ObjectSets) -> Self {
        let (uses, objects) = numbered(&sets.ids);
        let mut reached = vec![Reached::default(); objects.len()];
        let mut start = 0;
        let layers = sets
            .ends
            .iter()
            .map(|&[read_end, write_end]| {
                let (reads, writes) = (&uses[start..read_end], &uses[read_end..write_end]);
                start = write_end;
                let after_writers = reads.iter().map(|&object| reached[object as usize].written);
                let after_all = writes.iter().map(|&object| {
                    let known = reached[object as usize];
                    known.written.max(known.read)
                });
                let layer = after_writers.chain(after_all).max().unwrap_or(0);
                for &object in reads {
                    let known = &mut reached[object as usize];
                    known.read = known.read.max(layer + 1);
                }
                for &object in writes {
                    reached[object as usize] = Reached { written: layer + 1, read: 0 };
                }
                layer
            })
            .collect();
        Self { layers, ends: sets.ends, uses, objects }
    }

    /// The layer of each transaction: 0 depends on nothing before it in the batch.
    pub fn layers(&self) -> &[u32] {
        &self.layers
    }

    /// Indices by layer, each in the order of the batch.
    pub fn grouped(&self) -> Vec<Vec<usize>> {
        let count = self.layers.iter().max().map_or(0, |highest| *highest as usize + 1);
        let mut groups = vec![Vec::new(); count];
        for (index, layer) in self.layers.iter().enumerate() {
            groups[*layer as usize].push(index);
        }
        groups
    }

    /// The edges into a transaction: the earlier ones that it has to come after, latest first.
    ///
    /// For what it reads that is the last writer; for what it writes also each reader since.
    /// `None` for an index that is not in the batch.
    pub fn conflicts(&self, index: usize) -> Option<Vec<Conflict>> {
        let (reads, writes) = self.uses_of(index)?;
        let mut open: Vec<(u32, bool)> = reads.iter().map(|object| (*object, false)).collect();
        open.extend(writes.iter().map(|object| (*object, true)));
        open.sort_unstable_by(|left, right| right.cmp(left));
        // Read and written: the write asks for more.
        open.dedup_by_key(|(object, _)| *object);
        let mut found = Vec::new();
        for before in (0..index).rev() {
            let (their_reads, their_writes) = self.uses_of(before)?;
            open.retain(|&(object, is_written)| {
                let they_write = their_writes.contains(&object);
                if they_write || (is_written && their_reads.contains(&object)) {
                    found.push(Conflict { before, object: self.objects[object as usize] });
                }
                !they_write
            });
            if open.is_empty() {
                break;
            }
        }
        Some(found)
    }

    fn uses_of(&self, index: usize) -> Option<(&[u32], &[u32])> {
        let [read_end, write_end] = *self.ends.get(index)?;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before][1]);
        Some((&self.uses[start..read_end], &self.uses[read_end..write_end]))
    }
}

/// Each id as the place of its first mention among the distinct ones, and these.
fn numbered(ids: &[ObjectId]) -> (Vec<u32>, Vec<ObjectId>) {
    let seed = RandomState::new();
    let hash = |id: &ObjectId| {
        let mut hasher = seed.build_hasher();
        hasher.write(id);
        hasher.finish()
    };
    let mut objects: Vec<ObjectId> = Vec::with_capacity(ids.len());
    let mut places: HashTable<u32> = HashTable::with_capacity(ids.len());
    let uses = ids
        .iter()
        .map(|id| {
            let next = objects.len() as u32;
            let entry = places.entry(
                hash(id),
                |place| objects[*place as usize] == *id,
                |place| hash(&objects[*place as usize]),
            );
            let place = *entry.or_insert(next).get();
            if place == next {
                objects.push(*id);
            }
            place
        })
        .collect();
    (uses, objects)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    type Sets = (Vec<ObjectId>, Vec<ObjectId>);

    fn resolved(items: &[Sets]) -> ObjectDeps {
        let mut sets = ObjectSets::default();
        for (reads, writes) in items {
            let ok = |id: &ObjectId| Ok::<_, Infallible>(*id);
            sets.push(reads.iter().map(ok), writes.iter().map(ok)).unwrap();
        }
        ObjectDeps::resolve(sets)
    }

    fn conflict(left: &Sets, right: &Sets) -> bool {
        left.1.iter().any(|id| right.0.contains(id) || right.1.contains(id))
            || left.0.iter().any(|id| right.1.contains(id))
    }

    fn batches() -> impl Strategy<Value = Vec<Sets>> {
        let ids = || {
            prop::collection::vec(0u8..8, 0..3)
                .prop_map(|ids| ids.into_iter().map(|id| [id; 32]).collect::<Vec<_>>())
        };
        prop::collection::vec((ids(), ids()), 0..40)
    }

    proptest! {
        #[test]
        fn equal_to_the_longest_chain_of_conflicts(items in batches()) {
            let mut wanted: Vec<u32> = Vec::new();
            for (index, item) in items.iter().enumerate() {
                let layer = (0..index).filter(|&before| conflict(&items[before], item))
                    .map(|before| wanted[before] + 1).max().unwrap_or(0);
                wanted.push(layer);
            }
            let deps = resolved(&items);
            prop_assert_eq!(deps.layers(), wanted);
        }

        #[test]
        fn the_conflicts_explain_each_layer(items in batches()) {
            let deps = resolved(&items);
            for (index, item) in items.iter().enumerate() {
                let edges = deps.conflicts(index).unwrap();
                for edge in &edges {
                    let other = &items[edge.before];
                    prop_assert!(edge.before < index);
                    prop_assert!(item.1.contains(&edge.object) || other.1.contains(&edge.object));
                    prop_assert!(item.0.contains(&edge.object) || item.1.contains(&edge.object));
                    prop_assert!(other.0.contains(&edge.object) || other.1.contains(&edge.object));
                }
                let layer = edges.iter().map(|edge| deps.layers()[edge.before] + 1).max().unwrap_or(0);
                prop_assert_eq!(deps.layers()[index], layer);
            }
            prop_assert!(deps.conflicts(items.len()).is_none());
        }
    }

    #[test]
    fn writers_of_one_object_keep_their_order() {
        let item: Sets = (vec![], vec![[1; 32]]);
        let deps = resolved(&[item.clone(), item.clone(), item]);
        assert_eq!(deps.grouped(), [[0], [1], [2]]);
        assert_eq!(deps.conflicts(2), Some(vec![Conflict { before: 1, object: [1; 32] }]));
        assert!(resolved(&[]).grouped().is_empty());
    }

    #[test]
    fn a_writer_comes_after_every_reader_since_the_last_write() {
        let (write, read): (Sets, Sets) = ((vec![], vec![[1; 32]]), (vec![[1; 32]], vec![]));
        let deps = resolved(&[write.clone(), read.clone(), read, write]);
        assert_eq!(deps.grouped(), [vec![0], vec![1, 2], vec![3]]);
        let before: Vec<usize> = deps.conflicts(3).unwrap().iter().map(|edge| edge.before).collect();
        assert_eq!(before, [2, 1, 0]);
    }

    #[test]
    fn a_transaction_that_fails_to_be_added_leaves_nothing_behind() {
        let mut sets = ObjectSets::default();
        assert_eq!(sets.push([Ok([1; 32])], [Ok([2; 32]), Err("short")]), Err("short"));
        sets.push::<&str>([], [Ok([1; 32])]).unwrap();
        assert_eq!(ObjectDeps::resolve(sets).layers(), [0]);
    }
}
