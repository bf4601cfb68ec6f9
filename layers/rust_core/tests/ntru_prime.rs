//! The lattice half of sealing is the sntrup761 that OpenSSH and PQClean speak.

use pqcrypto_ntruprime::sntrup761 as pqclean;
use pqcrypto_traits::kem::{
    Ciphertext as _, PublicKey as PqCleanPublic, SecretKey as PqCleanPrivate, SharedSecret as _,
};
use rust_core::sealing;
use sntrup761::{Ciphertext, DecapsulationKey, EncapsulationKey};

const X25519_LEN: usize = 32;
/// Each pair costs ten lattice operations of the pure-Rust crate, about 1 ms each.
const KEY_PAIRS: usize = 24;

/// A key pair as both libraries hold it.
struct Pair {
    public: EncapsulationKey,
    private: DecapsulationKey,
    clean_public: pqclean::PublicKey,
    clean_private: pqclean::SecretKey,
}

impl Pair {
    fn of(public: &[u8], private: &[u8]) -> Self {
        Self {
            public: EncapsulationKey::try_from(public).unwrap(),
            private: DecapsulationKey::try_from(private).unwrap(),
            clean_public: pqclean::PublicKey::from_bytes(public).unwrap(),
            clean_private: pqclean::SecretKey::from_bytes(private).unwrap(),
        }
    }

    /// As many pairs made by PQClean as by the crate that sealing uses.
    fn of_both_makers() -> impl Iterator<Item = Self> {
        (0..KEY_PAIRS).map(|number| {
            if number % 2 == 0 {
                let (public, private) = pqclean::keypair();
                Self::of(public.as_bytes(), private.as_bytes())
            } else {
                let (public, private) = sntrup761::generate_key(rand::rng());
                Self::of(public.as_ref(), private.as_ref())
            }
        })
    }

    /// What both decapsulate, which has to be the same.
    fn opened(&self, ciphertext: &[u8]) -> Vec<u8> {
        let secret = self.private.decapsulate(&Ciphertext::try_from(ciphertext).unwrap());
        let clean =
            pqclean::decapsulate(&pqclean::Ciphertext::from_bytes(ciphertext).unwrap(), &self.clean_private);
        assert_eq!(secret.as_ref(), clean.as_bytes());
        clean.as_bytes().to_vec()
    }

    /// (ciphertext, shared secret), one by each library.
    fn encapsulations(&self) -> [(Vec<u8>, Vec<u8>); 2] {
        let (ciphertext, secret) = self.public.encapsulate(rand::rng());
        let (clean_secret, clean_ciphertext) = pqclean::encapsulate(&self.clean_public);
        [
            (ciphertext.as_ref().to_vec(), secret.as_ref().to_vec()),
            (clean_ciphertext.as_bytes().to_vec(), clean_secret.as_bytes().to_vec()),
        ]
    }
}

#[test]
fn the_drafts_vectors_decapsulate_to_their_secrets() {
    let file: serde_json::Value = serde_json::from_str(include_str!("data/sntrup761.json")).unwrap();
    let tests = file["tests"].as_array().unwrap();
    for test in tests {
        let private = bytes(&test["private_key"]);
        let public = EncapsulationKey::from(&DecapsulationKey::try_from(&private[..]).unwrap());
        let pair = Pair::of(public.as_ref(), &private);
        assert_eq!(pair.opened(&bytes(&test["ciphertext"])), bytes(&test["shared_secret"]));
    }
    println!("known answers: sntrup761, draft-josefsson-ntruprime-streamlined: {} cases", tests.len());
    assert_eq!(tests.len(), 2);
}

#[test]
fn either_library_opens_what_the_other_encapsulates() {
    let mut agreed = 0;
    for pair in Pair::of_both_makers() {
        for (ciphertext, secret) in pair.encapsulations() {
            assert_eq!(pair.opened(&ciphertext), secret);
            agreed += 1;
        }
    }
    println!("sntrup761 beside PQClean: {agreed} encapsulations, equal secrets");
}

#[test]
fn both_libraries_reject_a_changed_ciphertext_with_the_same_false_secret() {
    let mut rejected = 0;
    for (number, pair) in Pair::of_both_makers().enumerate() {
        for (mut ciphertext, secret) in pair.encapsulations() {
            let at = (number * 8 + 7) * ciphertext.len() / (KEY_PAIRS * 8);
            ciphertext[at] ^= 1 << (number % 8);
            assert_ne!(pair.opened(&ciphertext), secret, "byte {at}");
            rejected += 1;
        }
        assert_ne!(
            pair.opened(&[0xFF; sntrup761::CIPHERTEXT_SIZE]),
            pair.opened(&[0; sntrup761::CIPHERTEXT_SIZE])
        );
    }
    println!("sntrup761 beside PQClean: {rejected} changed ciphertexts, equal implicit rejections");
}

#[test]
fn what_is_sealed_for_a_lattice_key_of_pqclean_opens() {
    let (private, public) = sealing::keygen().unwrap();
    let (lattice_public, lattice_private) = pqclean::keypair();
    let public = [&public[..X25519_LEN], lattice_public.as_bytes()].concat();
    let private = [&private[..X25519_LEN], lattice_private.as_bytes()].concat();
    let (wrapped, ciphertext) = sealing::seal(&public, b"rent", b"ids").unwrap();
    assert_eq!(sealing::open(&private, &wrapped, &ciphertext, b"ids"), Ok(b"rent".to_vec()));
}

fn bytes(hex: &serde_json::Value) -> Vec<u8> {
    let digits = hex.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}
