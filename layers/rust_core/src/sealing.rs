//! Sealing of content: a content key wrapped by X25519 and NTRU (sntrup761) together, AES-256-GCM.
//!
//! The wrapping key is HKDF-SHA-256 (RFC 5869) over both shared secrets, bound to both ciphertexts
//! and both public keys, so that an attacker has to break the curve and the lattice. NTRU is dear,
//! so one content key serves many records within named limits; each record carries its wrapped key
//! and is readable by itself.
//!
//! Wrapped key: version (1) ‖ ephemeral X25519 key (32) ‖ sntrup761 ciphertext (1039) ‖ nonce (12) ‖
//! encrypted content key and tag (48). Ciphertext: nonce (12) ‖ encrypted content ‖ tag (16).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::{hkdf, rand as random};
use sha2::{Digest, Sha256};
use sntrup761::{
    CIPHERTEXT_SIZE, Ciphertext, DecapsulationKey, EncapsulationKey, PUBLIC_KEY_SIZE, SECRET_KEY_SIZE,
};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};
use zeroize::{Zeroize, Zeroizing};

/// Uses of one content key at most: random 96-bit nonces stay unique far below 2^32 (SP 800-38D).
pub const CONTENT_KEY_USES_MAX: u64 = 1 << 20;
/// Seconds of one content key at most.
pub const CONTENT_KEY_LIFETIME_S: u64 = 300;
/// Content keys that an opener remembers, so that a batch pays for one unwrapping.
const OPENED_KEYS_MAX: usize = 1024;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"love-seal-v1";
const X25519_LEN: usize = 32;
const WRAPPED_CONTENT_KEY_LEN: usize = NONCE_LEN + 32 + 16;
const WRAPPED_LEN: usize = 1 + X25519_LEN + CIPHERTEXT_SIZE + WRAPPED_CONTENT_KEY_LEN;

/// The one error of sealing and opening: it tells nothing about where it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealError;

type ContentKey = Zeroizing<[u8; 32]>;

/// A new reader's key pair: (private, public), X25519 part first.
pub fn keygen() -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), SealError> {
    let curve = PrivateKey::generate(&X25519).map_err(|_| SealError)?;
    let seed: Curve25519SeedBin<'_> = curve.as_be_bytes().map_err(|_| SealError)?;
    let curve_public = curve.compute_public_key().map_err(|_| SealError)?;
    let (lattice_public, lattice_private) = sntrup761::generate_key(rand::rng());
    let private = Zeroizing::new([seed.as_ref(), lattice_private.as_ref()].concat());
    Ok((private, [curve_public.as_ref(), lattice_public.as_ref()].concat()))
}

/// Seals contents for one reader, and takes a new content key when a limit is reached.
pub struct ContentSealer {
    public_key: Vec<u8>,
    uses_max: u64,
    lifetime: Duration,
    current: Mutex<Option<Current>>,
}

struct Current {
    key: LessSafeKey,
    wrapped: Vec<u8>,
    uses: u64,
    since: Instant,
}

impl ContentSealer {
    pub fn new(public_key: &[u8], uses_max: u64, lifetime_s: u64) -> Result<Self, SealError> {
        if public_key.len() != X25519_LEN + PUBLIC_KEY_SIZE || !(1..=CONTENT_KEY_USES_MAX).contains(&uses_max)
        {
            return Err(SealError);
        }
        let lifetime = Duration::from_secs(lifetime_s);
        Ok(Self { public_key: public_key.to_vec(), uses_max, lifetime, current: Mutex::new(None) })
    }

    /// (wrapped key, ciphertext) of a content, bound to its associated data.
    pub fn seal(&self, content: &[u8], associated_data: &[u8]) -> Result<(Vec<u8>, Vec<u8>), SealError> {
        let mut slot = self.current.lock().map_err(|_| SealError)?;
        if slot.as_ref().is_none_or(|now| now.uses >= self.uses_max || now.since.elapsed() >= self.lifetime) {
            let (content_key, wrapped) = wrap(&self.public_key)?;
            *slot = Some(Current { key: aes(&content_key)?, wrapped, uses: 0, since: Instant::now() });
        }
        let current = slot.as_mut().ok_or(SealError)?;
        current.uses += 1;
        Ok((current.wrapped.clone(), encrypt(&current.key, content, associated_data)?))
    }
}

/// One content under a content key of its own.
pub fn seal(
    public_key: &[u8],
    content: &[u8],
    associated_data: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), SealError> {
    ContentSealer::new(public_key, 1, CONTENT_KEY_LIFETIME_S)?.seal(content, associated_data)
}

/// Open what `seal` made; any fault in key, wrapped key, ciphertext or associated data is one error.
pub fn open(
    private_key: &[u8],
    wrapped_key: &[u8],
    ciphertext: &[u8],
    associated_data: &[u8],
) -> Result<Vec<u8>, SealError> {
    decrypt(&aes(&opened_key(private_key, wrapped_key)?)?, ciphertext, associated_data)
}

/// Content keys unwrapped lately, by a hash of private and wrapped key; the one used longest ago
/// makes room. Dropped keys are zeroised.
#[derive(Default)]
struct OpenedKeys {
    keys: HashMap<[u8; 32], (u64, ContentKey)>,
    clock: u64,
}

impl OpenedKeys {
    fn get(&mut self, name: &[u8; 32]) -> Option<ContentKey> {
        self.clock += 1;
        let (used, key) = self.keys.get_mut(name)?;
        *used = self.clock;
        Some(key.clone())
    }

    fn insert(&mut self, name: [u8; 32], key: ContentKey) {
        self.clock += 1;
        // A scan of a full cache costs microseconds, beside the milliseconds of an unwrapping.
        if self.keys.len() >= OPENED_KEYS_MAX
            && let Some(oldest) = self.keys.iter().min_by_key(|(_, (used, _))| *used).map(|(name, _)| *name)
        {
            self.keys.remove(&oldest);
        }
        self.keys.insert(name, (self.clock, key));
    }
}

fn opened_key(private_key: &[u8], wrapped_key: &[u8]) -> Result<ContentKey, SealError> {
    static OPENED: LazyLock<Mutex<OpenedKeys>> = LazyLock::new(Mutex::default);
    let name: [u8; 32] =
        Sha256::new().chain_update(Sha256::digest(private_key)).chain_update(wrapped_key).finalize().into();
    if let Some(key) = OPENED.lock().map_err(|_| SealError)?.get(&name) {
        return Ok(key);
    }
    let key = unwrap(private_key, wrapped_key)?;
    OPENED.lock().map_err(|_| SealError)?.insert(name, key.clone());
    Ok(key)
}

fn wrap(public_key: &[u8]) -> Result<(ContentKey, Vec<u8>), SealError> {
    let (curve_public, lattice_public) = public_key.split_at(X25519_LEN);
    let ephemeral = PrivateKey::generate(&X25519).map_err(|_| SealError)?;
    let ephemeral_public = ephemeral.compute_public_key().map_err(|_| SealError)?;
    let curve_secret = agree(&ephemeral, curve_public)?;
    let lattice_key = EncapsulationKey::try_from(lattice_public).map_err(|_| SealError)?;
    let (encapsulated, lattice_secret) = lattice_key.encapsulate(rand::rng());
    let wrapping = wrapping_key(
        &curve_secret,
        lattice_secret.as_ref(),
        ephemeral_public.as_ref(),
        encapsulated.as_ref(),
        public_key,
    )?;
    let mut content_key: ContentKey = Zeroizing::new([0; 32]);
    random::fill(&mut content_key[..]).map_err(|_| SealError)?;
    let encrypted = encrypt(&aes(&wrapping)?, &content_key[..], DOMAIN)?;
    let wrapped = [&[VERSION], ephemeral_public.as_ref(), encapsulated.as_ref(), &encrypted].concat();
    Ok((content_key, wrapped))
}

fn unwrap(private_key: &[u8], wrapped_key: &[u8]) -> Result<ContentKey, SealError> {
    if private_key.len() != X25519_LEN + SECRET_KEY_SIZE
        || wrapped_key.len() != WRAPPED_LEN
        || wrapped_key[0] != VERSION
    {
        return Err(SealError);
    }
    let (curve_private, lattice_private) = private_key.split_at(X25519_LEN);
    let (ephemeral_public, rest) = wrapped_key[1..].split_at(X25519_LEN);
    let (encapsulated, encrypted) = rest.split_at(CIPHERTEXT_SIZE);
    let curve = PrivateKey::from_private_key(&X25519, curve_private).map_err(|_| SealError)?;
    let curve_public = curve.compute_public_key().map_err(|_| SealError)?;
    let curve_secret = agree(&curve, ephemeral_public)?;
    let lattice = DecapsulationKey::try_from(lattice_private).map_err(|_| SealError)?;
    let lattice_public = EncapsulationKey::from(&lattice);
    let lattice_secret = lattice.decapsulate(&Ciphertext::try_from(encapsulated).map_err(|_| SealError)?);
    let public_key = [curve_public.as_ref(), lattice_public.as_ref()].concat();
    let wrapping =
        wrapping_key(&curve_secret, lattice_secret.as_ref(), ephemeral_public, encapsulated, &public_key)?;
    let mut plain = decrypt(&aes(&wrapping)?, encrypted, DOMAIN)?;
    let key = <[u8; 32]>::try_from(plain.as_slice()).map(Zeroizing::new).map_err(|_| SealError);
    plain.zeroize();
    key
}

fn agree(private: &PrivateKey, public: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    // aws-lc refuses an all-zero secret, so a low-order public key ends here.
    agreement::agree(private, UnparsedPublicKey::new(&X25519, public), SealError, |secret| {
        Ok(Zeroizing::new(secret.to_vec()))
    })
}

fn wrapping_key(
    curve_secret: &[u8],
    lattice_secret: &[u8],
    ephemeral_public: &[u8],
    encapsulated: &[u8],
    public_key: &[u8],
) -> Result<ContentKey, SealError> {
    let secrets = Zeroizing::new([curve_secret, lattice_secret].concat());
    let mut key: ContentKey = Zeroizing::new([0; 32]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(&secrets)
        .expand(&[DOMAIN, ephemeral_public, encapsulated, public_key], hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut key[..]))
        .map_err(|_| SealError)?;
    Ok(key)
}

fn aes(key: &ContentKey) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, &key[..]).map(LessSafeKey::new).map_err(|_| SealError)
}

fn encrypt(key: &LessSafeKey, plain: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    random::fill(&mut nonce).map_err(|_| SealError)?;
    let mut out = Vec::with_capacity(NONCE_LEN + plain.len() + 16);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plain);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated_data),
            &mut out[NONCE_LEN..],
        )
        .map_err(|_| SealError)?;
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn decrypt(key: &LessSafeKey, sealed: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, SealError> {
    if sealed.len() < NONCE_LEN + 16 {
        return Err(SealError);
    }
    let (nonce, rest) = sealed.split_at(NONCE_LEN);
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
    let mut buffer = rest.to_vec();
    let length =
        key.open_in_place(nonce, Aad::from(associated_data), &mut buffer).map_err(|_| SealError)?.len();
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static PAIR: LazyLock<(Zeroizing<Vec<u8>>, Vec<u8>)> = LazyLock::new(|| keygen().unwrap());

    #[test]
    fn a_content_key_is_changed_at_its_limit() {
        let sealer = ContentSealer::new(&PAIR.1, 2, 300).unwrap();
        let wrapped: Vec<Vec<u8>> = (0..5).map(|_| sealer.seal(b"x", b"").unwrap().0).collect();
        assert!(
            wrapped[0] == wrapped[1]
                && wrapped[1] != wrapped[2]
                && wrapped[2] == wrapped[3]
                && wrapped[3] != wrapped[4]
        );
        let no_time = ContentSealer::new(&PAIR.1, 9, 0).unwrap();
        assert_ne!(no_time.seal(b"x", b"").unwrap().0, no_time.seal(b"x", b"").unwrap().0);
        assert!(ContentSealer::new(&PAIR.1, CONTENT_KEY_USES_MAX + 1, 1).is_err());
        assert!(ContentSealer::new(b"short", 1, 1).is_err());
    }

    #[test]
    fn the_key_used_longest_ago_makes_room() {
        let mut opened = OpenedKeys::default();
        let name = |number: usize| {
            let mut name = [0; 32];
            name[..8].copy_from_slice(&number.to_be_bytes());
            name
        };
        (0..OPENED_KEYS_MAX).for_each(|number| opened.insert(name(number), Zeroizing::new([1; 32])));
        assert!(opened.get(&name(0)).is_some());
        opened.insert(name(OPENED_KEYS_MAX), Zeroizing::new([2; 32]));
        assert!(opened.get(&name(1)).is_none());
        assert!(opened.get(&name(0)).is_some() && opened.get(&name(OPENED_KEYS_MAX)).is_some());
        assert_eq!(opened.keys.len(), OPENED_KEYS_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn opens_what_was_sealed_and_nothing_else(
            content in prop::collection::vec(any::<u8>(), 0..400), data in prop::collection::vec(any::<u8>(), 0..70), at in any::<prop::sample::Index>(), bit in 0u8..8
        ) {
            let (wrapped, ciphertext) = seal(&PAIR.1, &content, &data).unwrap();
            prop_assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, &data), Ok(content));
            let mut flipped = ciphertext.clone();
            flipped[at.index(ciphertext.len())] ^= 1 << bit;
            prop_assert_eq!(open(&PAIR.0, &wrapped, &flipped, &data), Err(SealError));
            let mut flipped = wrapped.clone();
            let place = at.index(wrapped.len());
            flipped[place] ^= 1 << bit;
            // X25519 ignores the top bit of a key (RFC 7748), but the derivation does not.
            prop_assert_eq!(open(&PAIR.0, &flipped, &ciphertext, &data), Err(SealError));
            prop_assert_eq!(open(&PAIR.0, &wrapped, &ciphertext[..at.index(ciphertext.len())], &data), Err(SealError));
            prop_assert_eq!(open(&PAIR.0, &wrapped[..place], &ciphertext, &data), Err(SealError));
            prop_assert_eq!(open(&PAIR.0, &wrapped, &ciphertext, &[&data[..], b"!"].concat()), Err(SealError));
            let other = keygen().unwrap();
            prop_assert_eq!(open(&other.0, &wrapped, &ciphertext, &data), Err(SealError));
        }
    }
}
