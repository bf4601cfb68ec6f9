//! How far a transaction has come, as a bit set that only ever grows (merge is OR).

use std::sync::atomic::{AtomicU32, Ordering};

pub const VERIFIED: u32 = 1;
pub const PLACED: u32 = 1 << 1;
pub const VOTED: u32 = 1 << 2;
pub const FINAL: u32 = 1 << 3;
pub const SHARDED: u32 = 1 << 4;
pub const REWARDED: u32 = 1 << 5;
pub const STORED_ATLAS: u32 = 1 << 6;
pub const STORED_DYNAMODB: u32 = 1 << 7;
pub const STORED_IMMUDB: u32 = 1 << 8;
pub const RECONCILED: u32 = 1 << 9;

/// Bit and name, lowest bit first; the names are those of JSON and logs.
pub const NAMES: [(u32, &str); 10] = [
    (VERIFIED, "verified"),
    (PLACED, "placed"),
    (VOTED, "voted"),
    (FINAL, "final"),
    (SHARDED, "sharded"),
    (REWARDED, "rewarded"),
    (STORED_ATLAS, "stored:atlas"),
    (STORED_DYNAMODB, "stored:dynamodb"),
    (STORED_IMMUDB, "stored:immudb"),
    (RECONCILED, "reconciled"),
];

/// A flag, and the flag that it can't be without.
const NEEDS: [(u32, u32); 4] =
    [(VOTED, VERIFIED), (FINAL, VOTED), (REWARDED, VOTED), (RECONCILED, STORED_ATLAS)];

/// Every bit that has a name.
const KNOWN: u32 = {
    let (mut all, mut index) = (0, 0);
    while index < NAMES.len() {
        all |= NAMES[index].0;
        index += 1;
    }
    all
};

/// What two observers of one transaction know together.
pub fn merge(left: u32, right: u32) -> u32 {
    left | right
}

/// Merge `other` into `target`, entry by entry; how many entries of `target` grew.
///
/// Others may merge into `target` at the same time: no flag is lost.
pub fn merge_into(target: &[AtomicU32], other: impl Iterator<Item = u32>) -> usize {
    target
        .iter()
        .zip(other)
        // A look first: an atomic OR costs ten times as much, and most entries have nothing new.
        .filter(|(known, new)| grows(known.load(Ordering::Relaxed), *new))
        .filter(|(known, new)| grows(known.fetch_or(*new, Ordering::Relaxed), *new))
        .count()
}

fn grows(known: u32, new: u32) -> bool {
    merge(known, new) != known
}

/// Where the first set is that can't be.
pub fn first_impossible(mut all: impl Iterator<Item = u32>) -> Option<usize> {
    all.position(|flags| !is_possible(flags))
}

/// How many sets have all flags of `mask`.
pub fn count(all: impl Iterator<Item = u32>, mask: u32) -> Result<usize, String> {
    check_known(mask)?;
    Ok(all.filter(|flags| flags & mask == mask).count())
}

/// `Err` says which rule an impossible set breaks.
pub fn check(flags: u32) -> Result<(), String> {
    check_known(flags)?;
    match NEEDS.iter().find(|need| lacks(flags, **need)) {
        Some((flag, needed)) => Err(format!("{} but not {}", names(*flag)[0], names(*needed)[0])),
        None => Ok(()),
    }
}

fn is_possible(flags: u32) -> bool {
    flags & !KNOWN == 0 && !NEEDS.iter().any(|need| lacks(flags, *need))
}

fn check_known(flags: u32) -> Result<(), String> {
    match flags & !KNOWN {
        0 => Ok(()),
        unknown => Err(format!("unknown bits {unknown:#x}")),
    }
}

fn lacks(flags: u32, (flag, needed): (u32, u32)) -> bool {
    flags & flag != 0 && flags & needed == 0
}

pub fn names(flags: u32) -> Vec<&'static str> {
    NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<u32, String> {
    names.into_iter().try_fold(0, |flags, wanted| {
        NAMES
            .iter()
            .find(|(_, name)| *name == wanted)
            .map(|(bit, _)| flags | bit)
            .ok_or_else(|| format!("unknown flag {wanted:?}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn merge_is_a_join(a in 0u32..1024, b in 0u32..1024, c in 0u32..1024) {
            prop_assert_eq!(merge(a, b), merge(b, a));
            prop_assert_eq!(merge(merge(a, b), c), merge(a, merge(b, c)));
            prop_assert_eq!(merge(a, a), a);
            prop_assert_eq!(merge(a, 0), a);
        }

        #[test]
        fn two_legal_sets_merge_to_a_legal_one(a in 0u32..1024, b in 0u32..1024) {
            if check(a).is_ok() && check(b).is_ok() {
                prop_assert!(check(merge(a, b)).is_ok());
            }
        }

        #[test]
        fn arrays_merge_entry_by_entry(pairs in prop::collection::vec((any::<u32>(), any::<u32>()), 0..50)) {
            let target: Vec<_> = pairs.iter().map(|(known, _)| AtomicU32::new(*known)).collect();
            let wanted: Vec<_> = pairs.iter().map(|(known, new)| merge(*known, *new)).collect();
            let grown = pairs.iter().filter(|(known, new)| merge(*known, *new) != *known).count();
            let other = || pairs.iter().map(|(_, new)| *new);
            prop_assert_eq!(merge_into(&target, other()), grown);
            prop_assert_eq!(merge_into(&target, other()), 0);
            let merged: Vec<_> = target.into_iter().map(AtomicU32::into_inner).collect();
            prop_assert_eq!(merged, wanted);
        }

        #[test]
        fn arrays_are_looked_through_as_single_sets_are(
            all in prop::collection::vec(0u32..2048, 0..50), mask in 0u32..1024,
        ) {
            let wanted = all.iter().position(|flags| check(*flags).is_err());
            prop_assert_eq!(first_impossible(all.iter().copied()), wanted);
            let with_all = all.iter().filter(|flags| **flags & mask == mask).count();
            prop_assert_eq!(count(all.iter().copied(), mask), Ok(with_all));
        }

        #[test]
        fn names_tell_the_whole_set(flags in 0u32..1024) {
            prop_assert_eq!(from_names(names(flags)), Ok(flags));
        }
    }

    #[test]
    fn merges_at_the_same_time_lose_no_flag_and_count_each_growth_once() {
        // Each thread brings another flag to each of the same entries.
        let target: Vec<_> = (0..50_000).map(|_| AtomicU32::new(0)).collect();
        let target = target.as_slice();
        let grown: usize = std::thread::scope(|scope| {
            let merges: Vec<_> = [VERIFIED, PLACED, SHARDED]
                .into_iter()
                .map(|flag| scope.spawn(move || merge_into(target, std::iter::repeat_n(flag, target.len()))))
                .collect();
            merges.into_iter().map(|merge| merge.join().unwrap()).sum()
        });
        assert_eq!(grown, 3 * target.len());
        let whole = VERIFIED | PLACED | SHARDED;
        assert!(target.iter().all(|entry| entry.load(Ordering::Relaxed) == whole));
    }

    #[test]
    fn a_mask_has_only_flags_that_are_known() {
        assert!(count(std::iter::empty(), 1 << 10).is_err());
        assert_eq!(KNOWN, 0x3ff);
    }

    #[test]
    fn impossible_sets_are_errors() {
        for flags in [REWARDED, FINAL | VERIFIED, VOTED, RECONCILED | STORED_IMMUDB, 1 << 10] {
            assert!(check(flags).is_err(), "{flags:b}");
        }
        assert!(check(VERIFIED | VOTED | FINAL | REWARDED | STORED_ATLAS | RECONCILED).is_ok());
    }
}
