//! Account certificates: X.509 (RFC 5280) signed ML-DSA-65 (RFC 9881) by the federation's CA.

mod encoding;
mod revocation;
#[cfg(test)]
mod tests;

use crate::canonical::hex;
use crate::signatures::Algorithm;
use aws_lc_rs::signature::{ML_DSA_65, ParsedPublicKey};
use encoding::{Contents, SignedBytes};
use lru::LruCache;
use revocation::RevocationList;
use sha2::{Digest, Sha256};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{KeyUsage, SubjectAltName};
use x509_cert::time::Validity;

/// Certificates whose signature an `Authority` remembers; up to 8 KB each, 32 MB in all.
pub const CACHE_CERTIFICATES_MAX: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A SubjectAltName URI with this prefix names the home continent.
pub const CONTINENT_URN: &str = "urn:love:continent:";
const CONTINENTS: [&str; 7] =
    ["Asia", "Europe", "NorthAmerica", "SouthAmerica", "Africa", "Oceania", "MiddleEast"];

/// A SubjectPublicKeyInfo is these bytes and then the key, as the algorithms have no parameters
/// and keys of one length (RFC 8410 section 4, RFC 9881 section 4).
const KEY_INFOS: [(Algorithm, &[u8]); 3] = [
    (Algorithm::Ed25519, &[0x30, 42, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 33, 0]),
    (
        Algorithm::MlDsa44,
        &[0x30, 0x82, 5, 0x32, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 17, 3, 0x82, 5, 0x21, 0],
    ),
    (
        Algorithm::MlDsa65,
        &[0x30, 0x82, 7, 0xb2, 0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18, 3, 0x82, 7, 0xa1, 0],
    ),
];

/// AlgorithmIdentifier of ML-DSA-65: only the post-quantum algorithm is good enough for the
/// federation's own signature.
const CA_ALGORITHM: [u8; 13] = [0x30, 11, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 18];

/// Why a certificate is not accepted; `code()` is what programs compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Malformed,
    WrongIssuer,
    BadSignature,
    NotYetValid,
    Expired,
    WrongKeyUsage,
    Revoked,
    BadCrl,
    UnsupportedKey,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::WrongIssuer => "wrong_issuer",
            Self::BadSignature => "bad_signature",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::WrongKeyUsage => "wrong_key_usage",
            Self::Revoked => "revoked",
            Self::BadCrl => "bad_crl",
            Self::UnsupportedKey => "unsupported_key",
        }
    }
}

/// The federation's CA, its revocation list, and the certificates that were checked lately.
///
/// Any thread may use it at any time.
pub struct Authority {
    /// The issuer's name as it is encoded in the certificates.
    subject: Vec<u8>,
    key: ParsedPublicKey,
    lifetime: Lifetime,
    may_revoke: bool,
    revoked: RwLock<Option<RevocationList>>,
    checked: Mutex<LruCache<Commitment, Arc<Account>, ahash::RandomState>>,
}

impl Authority {
    /// Take a CA, and the list of what it has revoked; without a list nothing counts as revoked.
    pub fn new(ca_der: &[u8], crl_der: Option<&[u8]>) -> Result<Self, Refusal> {
        Self::with_cache(ca_der, crl_der, CACHE_CERTIFICATES_MAX)
    }

    fn with_cache(ca_der: &[u8], crl_der: Option<&[u8]>, cached_max: NonZeroUsize) -> Result<Self, Refusal> {
        let ca = SignedBytes::read(ca_der)
            .and_then(|signed| Contents::read(signed.to_be_signed))
            .ok_or(Refusal::WrongIssuer)?;
        let may_issue = ca.extensions.is_ca() && ca.extensions.may(KeyUsage::key_cert_sign);
        if !may_issue || ca.extensions.unknown_critical {
            return Err(Refusal::WrongIssuer);
        }
        let Some((Algorithm::MlDsa65, public_key)) = key_of(ca.key_info) else {
            return Err(Refusal::UnsupportedKey);
        };
        let authority = Self {
            subject: ca.subject.to_vec(),
            key: ParsedPublicKey::new(&ML_DSA_65, public_key).map_err(|_| Refusal::UnsupportedKey)?,
            lifetime: Lifetime::of(&ca.validity),
            may_revoke: ca.extensions.may(KeyUsage::crl_sign),
            revoked: RwLock::new(None),
            checked: Mutex::new(LruCache::with_hasher(cached_max, ahash::RandomState::new())),
        };
        if let Some(crl_der) = crl_der {
            authority.replace_crl(crl_der)?;
        }
        Ok(authority)
    }

    /// Check an account certificate at `now_s` (Unix time in seconds).
    ///
    /// Only the signature, and what can't change, is answered from the cache: time and revocation
    /// are asked each time, so that a new revocation list counts at once.
    pub fn check(&self, der: &[u8], now_s: u64) -> Result<Arc<Account>, Refusal> {
        self.check_known(der, now_s).unwrap_or_else(|| self.check_new(der, now_s))
    }

    /// `check` of a certificate in the cache; none for any other. Less than a microsecond.
    pub fn check_known(&self, der: &[u8], now_s: u64) -> Option<Result<Arc<Account>, Refusal>> {
        let account = self.cache().get(&commitment(der)?).cloned()?;
        // All bytes: the cache's key is only a part of them.
        if *account.der != *der {
            return None;
        }
        Some(self.holds(&account, now_s).map(|()| account))
    }

    /// `check` without a look into the cache: costs a signature's check.
    pub fn check_new(&self, der: &[u8], now_s: u64) -> Result<Arc<Account>, Refusal> {
        let signed = SignedBytes::read(der).ok_or(Refusal::Malformed)?;
        let contents = Contents::read(signed.to_be_signed).ok_or(Refusal::Malformed)?;
        if contents.issuer != self.subject {
            return Err(Refusal::WrongIssuer);
        }
        if contents.algorithm != signed.algorithm || !self.has_signed(&signed) {
            return Err(Refusal::BadSignature);
        }
        let account = Arc::new(Account::of(der, &contents)?);
        self.holds(&account, now_s)?;
        // Only what the CA signed gets here: nobody else can fill the cache.
        if let Some(key) = commitment(der) {
            self.cache().put(key, Arc::clone(&account));
        }
        Ok(account)
    }

    /// Take a newer revocation list; it counts at once.
    ///
    /// A list with a lower CRL number is refused (`BadCrl`), and so is another one with the same
    /// number (RFC 5280 section 5.2.3): an old list, played again, would revive what was revoked.
    pub fn replace_crl(&self, crl_der: &[u8]) -> Result<(), Refusal> {
        let list = RevocationList::read(self, crl_der)?;
        let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
        if revoked.as_ref().is_some_and(|known| !list.may_replace(known)) {
            return Err(Refusal::BadCrl);
        }
        *revoked = Some(list);
        Ok(())
    }

    /// What depends on the time and on the revocation list.
    fn holds(&self, account: &Account, now_s: u64) -> Result<(), Refusal> {
        self.lifetime.contains(now_s)?;
        account.lifetime.contains(now_s)?;
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        revoked.as_ref().map_or(Ok(()), |list| list.admits(&account.serial, now_s))
    }

    fn has_signed(&self, signed: &SignedBytes<'_>) -> bool {
        signed.algorithm == CA_ALGORITHM && self.key.verify_sig(signed.to_be_signed, signed.signature).is_ok()
    }

    fn cache(&self) -> MutexGuard<'_, LruCache<Commitment, Arc<Account>, ahash::RandomState>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The hash that an ML-DSA-65 signature begins with (FIPS 204 algorithm 26): no two signatures of
/// the CA share it, so it names a certificate at a fraction of the cost of hashing all its bytes.
type Commitment = [u8; 48];

/// FIPS 204 table 2; the signature is the last thing in a certificate.
const SIGNATURE_BYTES: usize = 3309;

fn commitment(der: &[u8]) -> Option<Commitment> {
    der[der.len().checked_sub(SIGNATURE_BYTES)?..].first_chunk().copied()
}

/// What a checked certificate says; only an `Authority` makes one.
#[derive(Debug)]
pub struct Account {
    der: Box<[u8]>,
    account_id: [u8; 32],
    home_continent: Option<&'static str>,
    algorithm: Algorithm,
    public_key: Box<[u8]>,
    serial: Box<[u8]>,
    lifetime: Lifetime,
    fingerprint_sha256: OnceLock<[u8; 32]>,
}

impl Account {
    /// Whatever is always true of the certificate; `contents` were read from `der`.
    fn of(der: &[u8], contents: &Contents<'_>) -> Result<Self, Refusal> {
        let extensions = &contents.extensions;
        if extensions.is_ca() || !extensions.may(KeyUsage::digital_signature) {
            return Err(Refusal::WrongKeyUsage);
        }
        if extensions.unknown_critical {
            return Err(Refusal::Malformed);
        }
        let (algorithm, public_key) = key_of(contents.key_info).ok_or(Refusal::UnsupportedKey)?;
        Ok(Self {
            der: der.into(),
            account_id: Sha256::digest(contents.key_info).into(),
            home_continent: extensions.names.as_ref().map_or(Ok(None), home_continent)?,
            algorithm,
            public_key: public_key.into(),
            serial: contents.serial.as_bytes().into(),
            lifetime: Lifetime::of(&contents.validity),
            fingerprint_sha256: OnceLock::new(),
        })
    }

    /// Hex SHA-256 of the key's SubjectPublicKeyInfo.
    pub fn account_id(&self) -> String {
        hex(&self.account_id)
    }

    pub fn home_continent(&self) -> Option<&'static str> {
        self.home_continent
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    pub fn not_after_s(&self) -> u64 {
        self.lifetime.not_after_s
    }

    /// Of the whole certificate; made when first asked for, as it costs 3 us.
    pub fn fingerprint_sha256(&self) -> &[u8; 32] {
        self.fingerprint_sha256.get_or_init(|| Sha256::digest(&self.der).into())
    }
}

/// An account's name: SHA-256 of its key as DER SubjectPublicKeyInfo; none for a key of a wrong length.
pub fn account_id(algorithm: Algorithm, public_key: &[u8]) -> Option<[u8; 32]> {
    if public_key.len() != algorithm.public_key_len() {
        return None;
    }
    let (_, prefix) = KEY_INFOS.iter().find(|(known, _)| *known == algorithm)?;
    Some(Sha256::new().chain_update(prefix).chain_update(public_key).finalize().into())
}

/// The kind and the bytes of a key that the federation knows.
fn key_of(key_info: &[u8]) -> Option<(Algorithm, &[u8])> {
    KEY_INFOS.iter().find_map(|(algorithm, prefix)| {
        let public_key = key_info.strip_prefix(*prefix)?;
        (public_key.len() == algorithm.public_key_len()).then_some((*algorithm, public_key))
    })
}

#[derive(Debug, Clone, Copy)]
struct Lifetime {
    not_before_s: u64,
    not_after_s: u64,
}

impl Lifetime {
    fn of(validity: &Validity) -> Self {
        Self {
            not_before_s: validity.not_before.to_unix_duration().as_secs(),
            not_after_s: validity.not_after.to_unix_duration().as_secs(),
        }
    }

    /// Both ends belong to it (RFC 5280 section 4.1.2.5).
    fn contains(self, now_s: u64) -> Result<(), Refusal> {
        if now_s < self.not_before_s {
            return Err(Refusal::NotYetValid);
        }
        if now_s > self.not_after_s {
            return Err(Refusal::Expired);
        }
        Ok(())
    }
}

fn home_continent(SubjectAltName(names): &SubjectAltName) -> Result<Option<&'static str>, Refusal> {
    for name in names {
        if let GeneralName::UniformResourceIdentifier(uri) = name
            && let Some(wanted) = uri.as_str().strip_prefix(CONTINENT_URN)
        {
            let known = CONTINENTS.into_iter().find(|continent| *continent == wanted);
            return known.map(Some).ok_or(Refusal::Malformed);
        }
    }
    Ok(None)
}
