//! Sealing of content: a content key wrapped by X25519 and NTRU (sntrup761) together, AES-256-GCM.
//!
//! The wrapping key is HKDF-SHA-256 (RFC 5869) over both shared secrets, bound to both ciphertexts
//! and both public keys, so that an attacker has to break the curve and the lattice. NTRU is dear,
//! so one content key serves many records within named limits; each record carries its wrapped key
//! and is readable by itself.
//!
//! Wrapped key: version (1) ‖ ephemeral X25519 key (32) ‖ sntrup761 ciphertext (1039) ‖ nonce (12) ‖
//! encrypted content key and tag (48). Ciphertext: nonce (12) ‖ encrypted content ‖ tag (16).
//!
//! Secrets are wiped: each raw secret lives in one `Zeroizing` place and is not moved, AES keys live
//! in aws-lc's memory, which it cleanses when freed. Beyond our reach are the seed that sntrup761
//! takes by value, and what Python holds (a private key, a content). All randomness is aws-lc's, which
//! neither a fork nor a restored snapshot of the process repeats.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::{hkdf, rand as random};
use sha2::{Digest, Sha256};
use sntrup761::{
    CIPHERTEXT_SIZE, Ciphertext, DecapsulationKey, EncapsulationKey, PUBLIC_KEY_SIZE, SECRET_KEY_SIZE,
};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// Uses of one content key at most: random 96-bit nonces stay unique far below 2^32 (SP 800-38D).
pub const CONTENT_KEY_USES_MAX: u64 = 1 << 20;
/// Seconds of one content key at most.
pub const CONTENT_KEY_LIFETIME_S: u64 = 300;
/// Bytes by which a ciphertext is longer than its content: nonce and tag.
pub const SEALED_OVERHEAD: usize = NONCE_LEN + MAX_TAG_LEN;
/// Content keys that an opener remembers, so that a batch pays for one unwrapping.
const OPENED_KEYS_MAX: usize = 1024;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"love-seal-v1";
const X25519_LEN: usize = 32;
const AES_KEY_LEN: usize = 32;
const WRAPPED_LEN: usize = 1 + X25519_LEN + CIPHERTEXT_SIZE + AES_KEY_LEN + SEALED_OVERHEAD;

/// The one error of sealing and opening: it tells nothing about where it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealError;

/// A new reader's key pair: (private, public), X25519 part first.
pub fn keygen() -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), SealError> {
    let curve = PrivateKey::generate(&X25519).map_err(|_| SealError)?;
    let seed: Curve25519SeedBin<'_> = curve.as_be_bytes().map_err(|_| SealError)?;
    let curve_public = curve.compute_public_key().map_err(|_| SealError)?;
    let (lattice_public, lattice_private) = sntrup761::generate_key_from_seed(**random_secret()?);
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

/// A content key in use, and the form of it that only the reader can open.
pub struct ContentKey {
    key: LessSafeKey,
    wrapped: Vec<u8>,
}

struct Current {
    content_key: Arc<ContentKey>,
    uses: u64,
    since: Instant,
}

impl ContentKey {
    /// What a record carries beside its ciphertext.
    pub fn wrapped(&self) -> &[u8] {
        &self.wrapped
    }
}

impl ContentSealer {
    pub fn new(public_key: &[u8], uses_max: u64, lifetime_s: u64) -> Result<Self, SealError> {
        if public_key.len() != X25519_LEN + PUBLIC_KEY_SIZE
            || !(1..=CONTENT_KEY_USES_MAX).contains(&uses_max)
            || lifetime_s > CONTENT_KEY_LIFETIME_S
        {
            return Err(SealError);
        }
        let lifetime = Duration::from_secs(lifetime_s);
        Ok(Self { public_key: public_key.to_vec(), uses_max, lifetime, current: Mutex::new(None) })
    }

    /// (wrapped key, ciphertext) of a content, bound to its associated data.
    pub fn seal(&self, content: &[u8], associated_data: &[u8]) -> Result<(Vec<u8>, Vec<u8>), SealError> {
        let mut sealed = vec![0; content.len() + SEALED_OVERHEAD];
        let content_key = self.seal_into(content, associated_data, &mut sealed)?;
        Ok((content_key.wrapped.clone(), sealed))
    }

    /// `seal`, with the ciphertext written in place: `sealed` is `SEALED_OVERHEAD` longer than the content.
    pub fn seal_into(
        &self,
        content: &[u8],
        associated_data: &[u8],
        sealed: &mut [u8],
    ) -> Result<Arc<ContentKey>, SealError> {
        let content_key = self.content_key()?;
        encrypt(&content_key.key, random_nonce()?, content, associated_data, sealed)?;
        Ok(content_key)
    }

    /// The content key for one more use; the lock is not held while others encrypt.
    fn content_key(&self) -> Result<Arc<ContentKey>, SealError> {
        let mut slot = self.current.lock().map_err(|_| SealError)?;
        let current = match &mut *slot {
            Some(now) if now.uses < self.uses_max && now.since.elapsed() < self.lifetime => now,
            spent => {
                let content_key = Arc::new(wrap(&self.public_key)?);
                spent.insert(Current { content_key, uses: 0, since: Instant::now() })
            }
        };
        current.uses += 1;
        Ok(Arc::clone(&current.content_key))
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
    let mut content = vec![0; content_len(ciphertext)?];
    open_into(private_key, wrapped_key, ciphertext, associated_data, &mut content)?;
    Ok(content)
}

/// `open`, with the content written in place: `content` is of `content_len`; zeros after an error.
pub fn open_into(
    private_key: &[u8],
    wrapped_key: &[u8],
    ciphertext: &[u8],
    associated_data: &[u8],
    content: &mut [u8],
) -> Result<(), SealError> {
    decrypt(&*opened_key(private_key, wrapped_key)?, ciphertext, associated_data, content)
}

/// How long the content of a ciphertext is.
pub fn content_len(ciphertext: &[u8]) -> Result<usize, SealError> {
    ciphertext.len().checked_sub(SEALED_OVERHEAD).ok_or(SealError)
}

/// Content keys unwrapped lately, by a hash of private and wrapped key; the one used longest ago
/// makes room.
#[derive(Default)]
struct OpenedKeys {
    keys: HashMap<[u8; 32], (u64, Arc<LessSafeKey>)>,
    clock: u64,
}

impl OpenedKeys {
    fn get(&mut self, name: &[u8; 32]) -> Option<Arc<LessSafeKey>> {
        self.clock += 1;
        let (used, key) = self.keys.get_mut(name)?;
        *used = self.clock;
        Some(Arc::clone(key))
    }

    fn insert(&mut self, name: [u8; 32], key: Arc<LessSafeKey>) {
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

fn opened_key(private_key: &[u8], wrapped_key: &[u8]) -> Result<Arc<LessSafeKey>, SealError> {
    static OPENED: LazyLock<Mutex<OpenedKeys>> = LazyLock::new(Mutex::default);
    let name: [u8; 32] =
        Sha256::new().chain_update(Sha256::digest(private_key)).chain_update(wrapped_key).finalize().into();
    if let Some(key) = OPENED.lock().map_err(|_| SealError)?.get(&name) {
        return Ok(key);
    }
    let key = Arc::new(unwrap(private_key, wrapped_key)?);
    OPENED.lock().map_err(|_| SealError)?.insert(name, Arc::clone(&key));
    Ok(key)
}

fn wrap(public_key: &[u8]) -> Result<ContentKey, SealError> {
    let (curve_public, lattice_public) = public_key.split_at(X25519_LEN);
    let ephemeral = PrivateKey::generate(&X25519).map_err(|_| SealError)?;
    let ephemeral_public = ephemeral.compute_public_key().map_err(|_| SealError)?;
    let lattice_key = EncapsulationKey::try_from(lattice_public).map_err(|_| SealError)?;
    let (encapsulated, lattice_secret) = lattice_key.encapsulate_deterministic(**random_secret()?);
    let wrapping = agree(&ephemeral, curve_public, |curve_secret| {
        wrapping_key(
            curve_secret,
            lattice_secret.as_ref(),
            ephemeral_public.as_ref(),
            encapsulated.as_ref(),
            public_key,
        )
    })?;
    let content_key = random_secret()?;
    let mut wrapped = Vec::with_capacity(WRAPPED_LEN);
    wrapped.push(VERSION);
    wrapped.extend_from_slice(ephemeral_public.as_ref());
    wrapped.extend_from_slice(encapsulated.as_ref());
    let header_len = wrapped.len();
    wrapped.resize(WRAPPED_LEN, 0);
    encrypt(&wrapping, random_nonce()?, &content_key[..], DOMAIN, &mut wrapped[header_len..])?;
    Ok(ContentKey { key: aes(&content_key[..])?, wrapped })
}

fn unwrap(private_key: &[u8], wrapped_key: &[u8]) -> Result<LessSafeKey, SealError> {
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
    let lattice = DecapsulationKey::try_from(lattice_private).map_err(|_| SealError)?;
    let lattice_public = EncapsulationKey::from(&lattice);
    let lattice_secret = lattice.decapsulate(&Ciphertext::try_from(encapsulated).map_err(|_| SealError)?);
    let public_key = [curve_public.as_ref(), lattice_public.as_ref()].concat();
    let wrapping = agree(&curve, ephemeral_public, |curve_secret| {
        wrapping_key(curve_secret, lattice_secret.as_ref(), ephemeral_public, encapsulated, &public_key)
    })?;
    let mut content_key = Zeroizing::new([0; AES_KEY_LEN]);
    decrypt(&wrapping, encrypted, DOMAIN, &mut content_key[..])?;
    aes(&content_key[..])
}

/// What `derive` makes of the X25519 secret (RFC 7748), which stays in aws-lc's hands.
fn agree<T>(
    private: &PrivateKey,
    public: &[u8],
    derive: impl FnOnce(&[u8]) -> Result<T, SealError>,
) -> Result<T, SealError> {
    // aws-lc refuses an all-zero secret, so a low-order public key ends here.
    agreement::agree(private, UnparsedPublicKey::new(&X25519, public), SealError, derive)
}

fn wrapping_key(
    curve_secret: &[u8],
    lattice_secret: &[u8],
    ephemeral_public: &[u8],
    encapsulated: &[u8],
    public_key: &[u8],
) -> Result<LessSafeKey, SealError> {
    let secrets = Zeroizing::new([curve_secret, lattice_secret].concat());
    let mut key = Zeroizing::new([0; AES_KEY_LEN]);
    hkdf::Salt::new(hkdf::HKDF_SHA256, &[])
        .extract(&secrets)
        .expand(&[DOMAIN, ephemeral_public, encapsulated, public_key], hkdf::HKDF_SHA256)
        .and_then(|material| material.fill(&mut key[..]))
        .map_err(|_| SealError)?;
    aes(&key[..])
}

fn aes(key: &[u8]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| SealError)
}

/// Boxed, so that returning it leaves no copy behind.
fn random_secret() -> Result<Box<Zeroizing<[u8; 32]>>, SealError> {
    let mut secret = Box::new(Zeroizing::new([0; 32]));
    random::fill(&mut secret[..]).map_err(|_| SealError)?;
    Ok(secret)
}

fn random_nonce() -> Result<[u8; NONCE_LEN], SealError> {
    let mut nonce = [0; NONCE_LEN];
    random::fill(&mut nonce).map_err(|_| SealError)?;
    Ok(nonce)
}

fn encrypt(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    plain: &[u8],
    associated_data: &[u8],
    sealed: &mut [u8],
) -> Result<(), SealError> {
    let (head, rest) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(SealError)?;
    let (body, tag) = rest.split_at_mut_checked(plain.len()).ok_or(SealError)?;
    if tag.len() != MAX_TAG_LEN {
        return Err(SealError);
    }
    head.copy_from_slice(&nonce);
    body.copy_from_slice(plain);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let made =
        key.seal_in_place_separate_tag(nonce, Aad::from(associated_data), body).map_err(|_| SealError)?;
    tag.copy_from_slice(made.as_ref());
    Ok(())
}

fn decrypt(
    key: &LessSafeKey,
    sealed: &[u8],
    associated_data: &[u8],
    plain: &mut [u8],
) -> Result<(), SealError> {
    if content_len(sealed)? != plain.len() {
        return Err(SealError);
    }
    let (nonce, rest) = sealed.split_at(NONCE_LEN);
    let (body, tag) = rest.split_at(plain.len());
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
    key.open_separate_gather(nonce, Aad::from(associated_data), body, tag, plain).map_err(|_| SealError)
}

#[cfg(test)]
mod tests;
