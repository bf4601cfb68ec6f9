//! Revocation lists (RFC 5280 section 5): which serials their CA has taken back.

use super::encoding::SignedBytes;
use super::{Authority, CA_ALGORITHM, Refusal};
use ahash::HashSet;
use der::oid::AssociatedOid;
use der::{Decode, Encode};
use sha2::{Digest, Sha256};
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::CrlNumber;

/// RFC 5280 section 5.2.3: a CRL number has at most 20 octets.
const NUMBER_BYTES_MAX: usize = 20;

/// A list whose signature holds; only `read` makes one.
pub struct RevocationList {
    number: [u8; NUMBER_BYTES_MAX],
    contents_sha256: [u8; 32],
    this_update_s: u64,
    next_update_s: u64,
    serials: HashSet<Box<[u8]>>,
}

impl RevocationList {
    /// The list in `der`, if `authority` signed it and it tells the whole truth.
    pub fn read(authority: &Authority, der: &[u8]) -> Result<Self, Refusal> {
        Self::read_whole(authority, der).ok_or(Refusal::BadCrl)
    }

    fn read_whole(authority: &Authority, der: &[u8]) -> Option<Self> {
        let signed = SignedBytes::read(der)?;
        let list = CertificateList::<Rfc5280>::from_der(der).ok()?.tbs_cert_list;
        if !authority.may_revoke
            || list.issuer.to_der().ok()? != authority.subject
            || list.signature.to_der().ok()? != CA_ALGORITHM
            // A partial or delta list says so in a critical extension.
            || has_critical(list.crl_extensions.as_ref())
            || !authority.has_signed(&signed)
        {
            return None;
        }
        let mut serials = HashSet::default();
        for entry in list.revoked_certificates.unwrap_or_default() {
            // Section 5.3: an entry not understood makes the list useless.
            if has_critical(entry.crl_entry_extensions.as_ref()) {
                return None;
            }
            serials.insert(entry.serial_number.as_bytes().into());
        }
        Some(Self {
            number: number(list.crl_extensions.as_ref()?)?,
            contents_sha256: Sha256::digest(signed.to_be_signed).into(),
            this_update_s: list.this_update.to_unix_duration().as_secs(),
            // Section 5.1.2.5 demands it: without it an old list would never look old.
            next_update_s: list.next_update?.to_unix_duration().as_secs(),
            serials,
        })
    }

    /// Whether this list may take the place of `known`: it is newer, or says the very same.
    pub fn may_replace(&self, known: &Self) -> bool {
        self.number > known.number
            || (self.number == known.number && self.contents_sha256 == known.contents_sha256)
    }

    /// A list past its `nextUpdate` says nothing: who can hold back a new one could otherwise keep
    /// a revoked certificate alive.
    pub fn admits(&self, serial: &[u8], now_s: u64) -> Result<(), Refusal> {
        if now_s < self.this_update_s || now_s > self.next_update_s {
            return Err(Refusal::BadCrl);
        }
        if self.serials.contains(serial) {
            return Err(Refusal::Revoked);
        }
        Ok(())
    }
}

fn has_critical(extensions: Option<&Extensions>) -> bool {
    extensions.is_some_and(|extensions| extensions.iter().any(|extension| extension.critical))
}

/// Big-endian and padded, so that numbers compare as bytes.
fn number(extensions: &Extensions) -> Option<[u8; NUMBER_BYTES_MAX]> {
    let mut found = extensions.iter().filter(|extension| extension.extn_id == CrlNumber::OID);
    let (Some(extension), None) = (found.next(), found.next()) else { return None };
    let CrlNumber(number) = CrlNumber::from_der(extension.extn_value.as_bytes()).ok()?;
    let digits = number.as_bytes();
    let mut padded = [0; NUMBER_BYTES_MAX];
    padded[NUMBER_BYTES_MAX.checked_sub(digits.len())?..].copy_from_slice(digits);
    Some(padded)
}
