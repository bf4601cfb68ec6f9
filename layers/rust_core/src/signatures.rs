//! Signatures of a batch: Ed25519 (RFC 8032, ZIP-215) and ML-DSA (FIPS 204), mixed, on all cores.
//!
//! The batch check and ed25519-zebra's single check agree on every input, so that no answer
//! depends on the company a signature is in.

use crate::ed25519_batch::Batch;
use aws_lc_rs::signature::{ML_DSA_44, ML_DSA_65, UnparsedPublicKey};
use ed25519_zebra::{Signature, VerificationKey};
use rayon::prelude::*;

/// A batch of at least this many pays for a thread of its own.
const CHUNK_MIN: usize = 32;
/// Larger batches gain nothing more, and no longer fit into a core's cache.
const CHUNK_MAX: usize = 8192;

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
            Some(Algorithm::Ed25519) => verifies_ed25519(self).is_some(),
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
    let chunk = ed25519.len().div_ceil(threads).clamp(CHUNK_MIN, CHUNK_MAX);
    let good: Vec<usize> = ed25519
        .par_chunks(chunk)
        .flat_map_iter(|indices| good_of(items, indices))
        .chain(others.into_par_iter().filter(|&index| items[index].verifies()))
        .collect();
    for index in good {
        answers[index] = true;
    }
    answers
}

fn good_of(items: &[Signed<'_>], indices: &[usize]) -> Vec<usize> {
    let mut batch = Batch::with_capacity(indices.len());
    for &index in indices {
        let item = &items[index];
        if let (Ok(key), Ok(signature)) = (item.public_key.try_into(), item.signature.try_into()) {
            // `None` says that it can't be read: nobody counts it.
            let _ = batch.push(index, key, item.message, signature);
        }
    }
    batch.good()
}

fn verifies_ed25519(signed: &Signed<'_>) -> Option<()> {
    let key = VerificationKey::try_from(signed.public_key).ok()?;
    let signature = Signature::from_slice(signed.signature).ok()?;
    key.verify(&signature, signed.message).ok()
}

#[cfg(test)]
mod tests;
