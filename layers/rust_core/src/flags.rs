//! How far a transaction has come, as a bit set that only ever grows (merge is OR).

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

/// What two observers of one transaction know together.
pub fn merge(left: u32, right: u32) -> u32 {
    left | right
}

/// `Err` says which rule an impossible set breaks.
pub fn check(flags: u32) -> Result<(), String> {
    let known = NAMES.iter().fold(0, |all, (bit, _)| all | bit);
    if flags & !known != 0 {
        return Err(format!("unknown bits {:#x}", flags & !known));
    }
    for (flag, needed) in NEEDS {
        if flags & flag != 0 && flags & needed == 0 {
            return Err(format!("{} but not {}", names(flag)[0], names(needed)[0]));
        }
    }
    Ok(())
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
        fn names_tell_the_whole_set(flags in 0u32..1024) {
            prop_assert_eq!(from_names(names(flags)), Ok(flags));
        }
    }

    #[test]
    fn impossible_sets_are_errors() {
        for flags in [REWARDED, FINAL | VERIFIED, VOTED, RECONCILED | STORED_IMMUDB, 1 << 10] {
            assert!(check(flags).is_err(), "{flags:b}");
        }
        assert!(check(VERIFIED | VOTED | FINAL | REWARDED | STORED_ATLAS | RECONCILED).is_ok());
    }
}
