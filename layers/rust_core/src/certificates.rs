//! Account certificates: X.509 (RFC 5280) signed ML-DSA-65 (RFC 9881) by the federation's CA.

use crate::canonical::hex;
use crate::signatures::{Algorithm, Signed};
use der::asn1::BitString;
use der::oid::{AssociatedOid, ObjectIdentifier};
use der::{Decode, Encode};
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::crl::CertificateList;
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage, SubjectAltName};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

/// A SubjectAltName URI with this prefix names the home continent.
pub const CONTINENT_URN: &str = "urn:love:continent:";
const CONTINENTS: [&str; 7] =
    ["Asia", "Europe", "NorthAmerica", "SouthAmerica", "Africa", "Oceania", "MiddleEast"];

/// Extensions that `check` looks at; any other critical one is refused.
const UNDERSTOOD: [ObjectIdentifier; 3] = [BasicConstraints::OID, KeyUsage::OID, SubjectAltName::OID];

const OIDS: [(Algorithm, ObjectIdentifier); 3] = [
    (Algorithm::Ed25519, ObjectIdentifier::new_unwrap("1.3.101.112")),
    (Algorithm::MlDsa44, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17")),
    (Algorithm::MlDsa65, ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18")),
];

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

/// What a checked certificate says; made by `check` only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub account_id: String,
    pub home_continent: Option<&'static str>,
    pub algorithm: Algorithm,
    pub public_key: Vec<u8>,
    pub serial: Vec<u8>,
    pub not_after_s: u64,
    pub fingerprint_sha256: [u8; 32],
}

/// An account's name: SHA-256 of its key as DER SubjectPublicKeyInfo; none for a key of a wrong length.
pub fn account_id(algorithm: Algorithm, public_key: &[u8]) -> Option<[u8; 32]> {
    if public_key.len() != algorithm.public_key_len() {
        return None;
    }
    let (_, oid) = OIDS.iter().find(|(known, _)| *known == algorithm)?;
    let info = SubjectPublicKeyInfoOwned {
        algorithm: AlgorithmIdentifierOwned { oid: *oid, parameters: None },
        subject_public_key: BitString::from_bytes(public_key).ok()?,
    };
    Some(Sha256::digest(info.to_der().ok()?).into())
}

/// Check an account certificate against the CA's certificate and, if given, its revocation list.
///
/// A revocation list past its `nextUpdate` is refused (`BadCrl`): who can hold back a new list
/// could otherwise keep a revoked certificate alive.
pub fn check(der: &[u8], ca_der: &[u8], crl_der: Option<&[u8]>, now_s: u64) -> Result<Account, Refusal> {
    let certificate = Certificate::from_der(der).map_err(|_| Refusal::Malformed)?;
    let authority = Certificate::from_der(ca_der).map_err(|_| Refusal::WrongIssuer)?;
    let tbs = certificate.tbs_certificate();
    let issuer = authority.tbs_certificate();
    if tbs.issuer() != issuer.subject() || !may_issue(&authority) {
        return Err(Refusal::WrongIssuer);
    }
    if tbs.signature() != certificate.signature_algorithm()
        || !signed_by(&authority, der, certificate.signature_algorithm(), certificate.signature())
    {
        return Err(Refusal::BadSignature);
    }
    for validity in [issuer.validity(), tbs.validity()] {
        if now_s < validity.not_before.to_unix_duration().as_secs() {
            return Err(Refusal::NotYetValid);
        }
        if now_s > validity.not_after.to_unix_duration().as_secs() {
            return Err(Refusal::Expired);
        }
    }
    if !may_sign(&certificate) {
        return Err(Refusal::WrongKeyUsage);
    }
    if let Some(crl_der) = crl_der {
        check_revocation(&certificate, &authority, crl_der, now_s)?;
    }
    if has_unknown_critical(tbs.extensions(), &UNDERSTOOD) {
        return Err(Refusal::Malformed);
    }
    let info = tbs.subject_public_key_info();
    let algorithm = algorithm_of(&info.algorithm).ok_or(Refusal::UnsupportedKey)?;
    let public_key = info.subject_public_key.as_bytes().ok_or(Refusal::UnsupportedKey)?;
    Ok(Account {
        account_id: hex(&account_id(algorithm, public_key).ok_or(Refusal::UnsupportedKey)?),
        home_continent: home_continent(&certificate)?,
        algorithm,
        public_key: public_key.to_vec(),
        serial: tbs.serial_number().as_bytes().to_vec(),
        not_after_s: tbs.validity().not_after.to_unix_duration().as_secs(),
        fingerprint_sha256: Sha256::digest(der).into(),
    })
}

fn check_revocation(
    certificate: &Certificate,
    authority: &Certificate,
    crl_der: &[u8],
    now_s: u64,
) -> Result<(), Refusal> {
    let list = CertificateList::from_der(crl_der).map_err(|_| Refusal::BadCrl)?;
    let issued_s = list.tbs_cert_list.this_update.to_unix_duration().as_secs();
    let until_s = list.tbs_cert_list.next_update.map(|until| until.to_unix_duration().as_secs());
    if now_s < issued_s
        || until_s.is_some_and(|until_s| now_s > until_s)
        || !may_revoke(authority)
        // A partial or delta list says so in a critical extension: it does not tell the whole truth.
        || has_unknown_critical(list.tbs_cert_list.crl_extensions.as_ref(), &[])
        || list.tbs_cert_list.issuer != *authority.tbs_certificate().subject()
        || list.tbs_cert_list.signature != list.signature_algorithm
        || !signed_by(authority, crl_der, &list.signature_algorithm, &list.signature)
    {
        return Err(Refusal::BadCrl);
    }
    let serial = certificate.tbs_certificate().serial_number();
    let revoked = list.tbs_cert_list.revoked_certificates.unwrap_or_default();
    if revoked.iter().any(|entry| entry.serial_number == *serial) {
        return Err(Refusal::Revoked);
    }
    Ok(())
}

/// RFC 5280 section 4.2: who does not understand a critical extension must refuse.
fn has_unknown_critical(extensions: Option<&Extensions>, understood: &[ObjectIdentifier]) -> bool {
    extensions.is_some_and(|extensions| {
        extensions.iter().any(|extension| extension.critical && !understood.contains(&extension.extn_id))
    })
}

fn algorithm_of(identifier: &AlgorithmIdentifierOwned) -> Option<Algorithm> {
    OIDS.iter()
        .find(|(_, oid)| identifier.oid == *oid && identifier.parameters.is_none())
        .map(|(algorithm, _)| *algorithm)
}

fn signed_by(
    authority: &Certificate,
    der: &[u8],
    identifier: &AlgorithmIdentifierOwned,
    signature: &BitString,
) -> bool {
    let key = authority.tbs_certificate().subject_public_key_info();
    let (Some(message), Some(public_key), Some(signature)) =
        (to_be_signed(der), key.subject_public_key.as_bytes(), signature.as_bytes())
    else {
        return false;
    };
    // Only the post-quantum algorithm is good enough for the federation's own signature.
    algorithm_of(identifier) == Some(Algorithm::MlDsa65)
        && algorithm_of(&key.algorithm) == Some(Algorithm::MlDsa65)
        && Signed { algorithm: Some(Algorithm::MlDsa65), public_key, message, signature }.verifies()
}

/// The bytes of the first element inside the outer SEQUENCE, as they were signed.
fn to_be_signed(der: &[u8]) -> Option<&[u8]> {
    let (outer, _) = element(der)?;
    let (_, inner) = element(outer)?;
    Some(inner)
}

/// The content of the first DER element, and the whole element.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = *der.get(1)? as usize;
    let (start, length) = if first < 0x80 {
        (2, first)
    } else {
        let count = first & 0x7f;
        if count == 0 || count > 4 {
            return None;
        }
        let length = der.get(2..2 + count)?.iter().fold(0usize, |length, byte| length << 8 | *byte as usize);
        (2 + count, length)
    };
    let end = start.checked_add(length)?;
    Some((der.get(start..end)?, der.get(..end)?))
}

fn may_issue(authority: &Certificate) -> bool {
    let tbs = authority.tbs_certificate();
    let is_ca =
        matches!(tbs.get_extension::<BasicConstraints>(), Ok(Some((_, BasicConstraints { ca: true, .. }))));
    is_ca && matches!(tbs.get_extension::<KeyUsage>(), Ok(Some((_, usage))) if usage.key_cert_sign())
}

fn may_revoke(authority: &Certificate) -> bool {
    matches!(authority.tbs_certificate().get_extension::<KeyUsage>(), Ok(Some((_, usage))) if usage.crl_sign())
}

fn may_sign(certificate: &Certificate) -> bool {
    let tbs = certificate.tbs_certificate();
    let usage = matches!(tbs.get_extension::<KeyUsage>(), Ok(Some((_, usage))) if usage.digital_signature());
    let not_ca = match tbs.get_extension::<BasicConstraints>() {
        Ok(None) => true,
        Ok(Some((_, constraints))) => !constraints.ca,
        Err(_) => false,
    };
    usage && not_ca
}

fn home_continent(certificate: &Certificate) -> Result<Option<&'static str>, Refusal> {
    let names = match certificate.tbs_certificate().get_extension::<SubjectAltName>() {
        Ok(names) => names,
        Err(_) => return Err(Refusal::Malformed),
    };
    let Some((_, SubjectAltName(names))) = names else { return Ok(None) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_account_id_is_the_hash_of_the_subject_public_key_info() {
        // RFC 8410 section 10.1: the SubjectPublicKeyInfo of an Ed25519 key.
        let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        let wanted: [u8; 32] = Sha256::digest([&prefix[..], &[9; 32]].concat()).into();
        assert_eq!(account_id(Algorithm::Ed25519, &[9; 32]), Some(wanted));
        assert_eq!(account_id(Algorithm::Ed25519, &[9; 31]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(check(&bytes, &bytes, Some(&bytes), 0), Err(Refusal::Malformed));
            let _ = to_be_signed(&bytes);
        }
    }
}
