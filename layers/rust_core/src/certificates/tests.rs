//! Certificates and lists are made here byte by byte, so that every field can be wrong.

use super::*;
use aws_lc_rs::signature::{KeyPair, ML_DSA_65_SIGNING, PqdsaKeyPair};
use der::Decode;
use proptest::prelude::*;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use x509_cert::Certificate;
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::name::Name;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

const NOT_BEFORE: &str = "260101000000Z";
const NOT_AFTER: &str = "270101000000Z";
/// 1 January, 1 June and 31 December 2026, and 1 January 2027.
const FIRST_S: u64 = 1_767_225_600;
const NOW_S: u64 = 1_780_272_000;
const LATE_S: u64 = 1_798_675_200;
const LAST_S: u64 = 1_798_761_600;

const DIGITAL_SIGNATURE: [u8; 4] = [3, 2, 7, 0x80];
const CERT_AND_CRL_SIGN: [u8; 4] = [3, 2, 1, 0x06];

static CA_KEY: LazyLock<PqdsaKeyPair> = LazyLock::new(|| key(1));
static OTHER_KEY: LazyLock<PqdsaKeyPair> = LazyLock::new(|| key(2));
static CA: LazyLock<Vec<u8>> = LazyLock::new(|| authority(&CA_KEY));
/// Certificates with the serials 0 to 3; the last one runs out before the year does.
static ACCOUNTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let ends = |serial| if serial == 3 { "261201000000Z" } else { NOT_AFTER };
    (0..4).map(|serial| Draft { not_after: ends(serial), ..Draft::account(serial) }.signed(&CA_KEY)).collect()
});

fn key(seed: u8) -> PqdsaKeyPair {
    PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, &[seed; 32]).unwrap()
}

fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut element = vec![tag];
    match content.len() {
        short @ 0..=0x7f => element.push(short as u8),
        middle @ 0x80..=0xff => element.extend([0x81, middle as u8]),
        long => element.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    element.extend(content);
    element
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn name(of: &str) -> Vec<u8> {
    let attribute = sequence(&[&[6, 3, 0x55, 4, 3], &tlv(0x0c, &[of.as_bytes()])]);
    sequence(&[&tlv(0x31, &[&attribute])])
}

fn extension(object: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let flag: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    sequence(&[&tlv(6, &[object]), flag, &tlv(4, &[value])])
}

fn constraints(ca: bool) -> Vec<u8> {
    extension(&[0x55, 0x1d, 19], true, if ca { &[0x30, 3, 1, 1, 0xff] } else { &[0x30, 0] })
}

fn usage(bits: [u8; 4]) -> Vec<u8> {
    extension(&[0x55, 0x1d, 15], true, &bits)
}

fn signed(to_be_signed: &[u8], signer: &PqdsaKeyPair) -> Vec<u8> {
    let mut signature = vec![0; SIGNATURE_BYTES];
    assert_eq!(signer.sign(to_be_signed, &mut signature).unwrap(), SIGNATURE_BYTES);
    sequence(&[to_be_signed, &CA_ALGORITHM, &tlv(3, &[&[0], &signature])])
}

fn key_info(algorithm: Algorithm, public_key: &[u8]) -> Vec<u8> {
    let (_, prefix) = KEY_INFOS.iter().find(|(known, _)| *known == algorithm).unwrap();
    [prefix, public_key].concat()
}

struct Draft {
    version: Vec<u8>,
    serial: u8,
    issuer: &'static str,
    subject: &'static str,
    not_after: &'static str,
    key_info: Vec<u8>,
    unique_ids: Vec<u8>,
    extensions: Vec<Vec<u8>>,
}

impl Draft {
    fn account(serial: u8) -> Self {
        Self {
            version: vec![0xa0, 3, 2, 1, 2],
            serial,
            issuer: "CA",
            subject: "account",
            not_after: NOT_AFTER,
            key_info: key_info(Algorithm::Ed25519, &[serial; 32]),
            unique_ids: Vec::new(),
            extensions: vec![constraints(false), usage(DIGITAL_SIGNATURE)],
        }
    }

    fn to_be_signed(&self) -> Vec<u8> {
        let extensions: Vec<&[u8]> = self.extensions.iter().map(Vec::as_slice).collect();
        sequence(&[
            &self.version,
            &[2, 1, self.serial],
            &CA_ALGORITHM,
            &name(self.issuer),
            &sequence(&[&tlv(0x17, &[NOT_BEFORE.as_bytes()]), &tlv(0x17, &[self.not_after.as_bytes()])]),
            &name(self.subject),
            &self.key_info,
            &self.unique_ids,
            &tlv(0xa3, &[&sequence(&extensions)]),
        ])
    }

    fn signed(&self, signer: &PqdsaKeyPair) -> Vec<u8> {
        signed(&self.to_be_signed(), signer)
    }
}

fn ca_draft(key: &PqdsaKeyPair) -> Draft {
    Draft {
        subject: "CA",
        key_info: key_info(Algorithm::MlDsa65, key.public_key().as_ref()),
        extensions: vec![constraints(true), usage(CERT_AND_CRL_SIGN)],
        ..Draft::account(99)
    }
}

fn authority(key: &PqdsaKeyPair) -> Vec<u8> {
    ca_draft(key).signed(key)
}

struct ListDraft {
    number: Option<Vec<u8>>,
    next_update: Option<&'static str>,
    revoked: Vec<u8>,
    entry_extensions: Vec<u8>,
}

impl ListDraft {
    fn numbered(number: u8, revoked: &[u8]) -> Self {
        Self {
            number: Some(vec![number]),
            next_update: Some(NOT_AFTER),
            revoked: revoked.to_vec(),
            entry_extensions: Vec::new(),
        }
    }

    fn signed(&self) -> Vec<u8> {
        let entries: Vec<u8> = self.revoked.iter().flat_map(|serial| self.entry(*serial)).collect();
        let time = |time: &str| tlv(0x17, &[time.as_bytes()]);
        let extensions = self.number.as_ref().map(|number| {
            tlv(0xa0, &[&sequence(&[&extension(&[0x55, 0x1d, 20], false, &tlv(2, &[number]))])])
        });
        let to_be_signed = sequence(&[
            &[2, 1, 1],
            &CA_ALGORITHM,
            &name("CA"),
            &time(NOT_BEFORE),
            &self.next_update.map(time).unwrap_or_default(),
            &if entries.is_empty() { Vec::new() } else { sequence(&[&entries]) },
            &extensions.unwrap_or_default(),
        ]);
        signed(&to_be_signed, &CA_KEY)
    }

    fn entry(&self, serial: u8) -> Vec<u8> {
        sequence(&[&[2, 1, serial], &tlv(0x17, &[NOT_BEFORE.as_bytes()]), &self.entry_extensions])
    }
}

fn list(number: u8, revoked: &[u8]) -> Vec<u8> {
    ListDraft::numbered(number, revoked).signed()
}

fn reading(crl_der: Option<&[u8]>, cached_max: usize) -> Authority {
    Authority::with_cache(&CA, crl_der, NonZeroUsize::new(cached_max).unwrap()).unwrap()
}

fn refusal(checked: Result<Arc<Account>, Refusal>) -> Option<Refusal> {
    checked.err()
}

#[test]
fn the_account_id_is_the_hash_of_the_subject_public_key_info() {
    // RFC 8410 section 10.1: the SubjectPublicKeyInfo of an Ed25519 key.
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    let wanted: [u8; 32] = Sha256::digest([&prefix[..], &[9; 32]].concat()).into();
    assert_eq!(account_id(Algorithm::Ed25519, &[9; 32]), Some(wanted));
    assert_eq!(account_id(Algorithm::Ed25519, &[9; 31]), None);
}

#[test]
fn key_infos_are_what_another_encoder_writes() {
    use der::Encode;
    use der::asn1::BitString;
    use der::oid::ObjectIdentifier;

    for (algorithm, oid) in [
        (Algorithm::Ed25519, "1.3.101.112"),
        (Algorithm::MlDsa44, "2.16.840.1.101.3.4.3.17"),
        (Algorithm::MlDsa65, "2.16.840.1.101.3.4.3.18"),
    ] {
        let public_key = vec![7; algorithm.public_key_len()];
        let identifier =
            AlgorithmIdentifierOwned { oid: ObjectIdentifier::new_unwrap(oid), parameters: None };
        let info = SubjectPublicKeyInfoOwned {
            algorithm: identifier.clone(),
            subject_public_key: BitString::from_bytes(&public_key).unwrap(),
        };
        let encoded = info.to_der().unwrap();
        assert_eq!(encoded, key_info(algorithm, &public_key));
        assert_eq!(key_of(&encoded), Some((algorithm, &public_key[..])));
        assert_eq!(key_of(&encoded[..encoded.len() - 1]), None);
        assert_eq!(identifier.to_der().unwrap() == CA_ALGORITHM, algorithm == Algorithm::MlDsa65);
    }
}

#[test]
fn the_one_used_longest_ago_makes_room() {
    let authority = reading(None, 2);
    let known = |index: usize| authority.check_known(&ACCOUNTS[index], NOW_S).is_some();
    for index in [0, 1, 0, 2] {
        authority.check(&ACCOUNTS[index], NOW_S).unwrap();
        assert!(authority.cache().len() <= 2);
    }
    assert!(known(0) && known(2) && !known(1));
    assert_eq!(CACHE_CERTIFICATES_MAX, Authority::new(&CA, None).unwrap().cache().cap());
}

#[test]
fn a_certificate_that_differs_in_one_bit_is_never_served_from_the_cache() {
    let authority = reading(None, 4);
    let good = &ACCOUNTS[0];
    authority.check(good, NOW_S).unwrap();
    let signature = good.len() - SIGNATURE_BYTES;
    for at in (0..good.len()).step_by(7).chain(signature - 2..signature + 50).chain([good.len() - 1]) {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        assert!(authority.check_known(&changed, NOW_S).is_none(), "byte {at}");
        let refusal = refusal(authority.check(&changed, NOW_S)).unwrap();
        assert!(
            matches!(refusal, Refusal::BadSignature | Refusal::Malformed | Refusal::WrongIssuer),
            "byte {at}: {refusal:?}"
        );
        assert!(at < signature || refusal == Refusal::BadSignature, "byte {at}: {refusal:?}");
    }
    assert!(authority.check_known(good, NOW_S).unwrap().is_ok());
}

#[test]
fn what_is_refused_does_not_fill_the_cache() {
    let authority = reading(Some(&list(1, &[2])), 4);
    let forged = Draft::account(7).signed(&OTHER_KEY);
    let no_signer = Draft { extensions: vec![constraints(false)], ..Draft::account(7) }.signed(&CA_KEY);
    assert_eq!(refusal(authority.check(&forged, NOW_S)), Some(Refusal::BadSignature));
    assert_eq!(refusal(authority.check(&no_signer, NOW_S)), Some(Refusal::WrongKeyUsage));
    assert_eq!(refusal(authority.check(&ACCOUNTS[2], NOW_S)), Some(Refusal::Revoked));
    assert_eq!(refusal(authority.check(&ACCOUNTS[0], FIRST_S - 1)), Some(Refusal::NotYetValid));
    assert_eq!(authority.cache().len(), 0);
}

#[test]
fn a_certificate_in_the_cache_expires_at_its_time() {
    let authority = reading(None, 4);
    let expires = &ACCOUNTS[3];
    let account = authority.check(expires, NOW_S).unwrap();
    let last_s = account.not_after_s();
    assert!(authority.check_known(expires, last_s).unwrap().is_ok());
    assert_eq!(refusal(authority.check_known(expires, last_s + 1).unwrap()), Some(Refusal::Expired));
    assert_eq!(refusal(authority.check_known(expires, FIRST_S - 1).unwrap()), Some(Refusal::NotYetValid));
}

#[test]
fn no_certificate_outlives_the_ca() {
    let ca = Draft { not_after: "260701000000Z", ..ca_draft(&CA_KEY) }.signed(&CA_KEY);
    let authority = Authority::new(&ca, None).unwrap();
    authority.check(&ACCOUNTS[0], NOW_S).unwrap();
    assert_eq!(refusal(authority.check(&ACCOUNTS[0], LATE_S)), Some(Refusal::Expired));
    assert_eq!(refusal(authority.check(&ACCOUNTS[1], LATE_S)), Some(Refusal::Expired));
}

#[test]
fn a_new_list_counts_at_once_for_what_is_in_the_cache() {
    let authority = reading(Some(&list(1, &[])), 4);
    authority.check(&ACCOUNTS[0], NOW_S).unwrap();
    authority.replace_crl(&list(2, &[0])).unwrap();
    assert_eq!(refusal(authority.check_known(&ACCOUNTS[0], NOW_S).unwrap()), Some(Refusal::Revoked));
    // A hold that is lifted (RFC 5280 section 5.3.1) counts at once, too.
    authority.replace_crl(&list(3, &[])).unwrap();
    assert!(authority.check_known(&ACCOUNTS[0], NOW_S).unwrap().is_ok());
}

#[test]
fn an_older_list_can_not_revive_a_certificate() {
    let authority = reading(Some(&list(9, &[0])), 4);
    for replay in [list(8, &[]), list(9, &[]), list(0, &[])] {
        assert_eq!(authority.replace_crl(&replay), Err(Refusal::BadCrl));
    }
    authority.replace_crl(&list(9, &[0])).unwrap();
    assert_eq!(refusal(authority.check(&ACCOUNTS[0], NOW_S)), Some(Refusal::Revoked));
}

#[test]
fn numbers_of_lists_compare_as_numbers() {
    let numbered =
        |number: &[u8]| ListDraft { number: Some(number.to_vec()), ..ListDraft::numbered(0, &[]) }.signed();
    let authority = reading(Some(&numbered(&[0x7f])), 4);
    let longest: Vec<u8> = (0..20).map(|at| 0x7f - at).collect();
    let with_sign: Vec<u8> = [vec![0, 0xff], longest[..19].to_vec()].concat();
    for newer in [&[0, 0x80][..], &[1, 0], &longest, &with_sign] {
        authority.replace_crl(&numbered(newer)).unwrap();
    }
    assert_eq!(authority.replace_crl(&numbered(&longest)), Err(Refusal::BadCrl));
    // 21 octets, and a negative number.
    let too_long: Vec<u8> = [vec![1], longest].concat();
    for bad in [&too_long[..], &[0x80]] {
        assert_eq!(authority.replace_crl(&numbered(bad)), Err(Refusal::BadCrl));
    }
}

#[test]
fn a_list_needs_a_number_an_end_and_no_entry_that_is_not_understood() {
    // A certificateIssuer (RFC 5280 section 5.3.3): the entry is about another CA's certificate.
    let entry_extensions = sequence(&[&extension(&[0x55, 0x1d, 29], true, &[0x30, 0])]);
    for bad in [
        ListDraft { number: None, ..ListDraft::numbered(1, &[]) },
        ListDraft { next_update: None, ..ListDraft::numbered(1, &[]) },
        ListDraft { entry_extensions, ..ListDraft::numbered(1, &[7]) },
    ] {
        let bad = bad.signed();
        assert!(CertificateList::<Rfc5280>::from_der(&bad).is_ok());
        assert_eq!(Authority::new(&CA, Some(&bad)).err(), Some(Refusal::BadCrl));
    }
}

#[test]
fn a_list_past_its_end_refuses_also_what_is_in_the_cache() {
    let ends = ListDraft { next_update: Some("260701000000Z"), ..ListDraft::numbered(1, &[]) }.signed();
    let authority = reading(Some(&ends), 4);
    authority.check(&ACCOUNTS[0], NOW_S).unwrap();
    assert_eq!(refusal(authority.check_known(&ACCOUNTS[0], LATE_S).unwrap()), Some(Refusal::BadCrl));
    authority.replace_crl(&list(2, &[])).unwrap();
    assert!(authority.check_known(&ACCOUNTS[0], LATE_S).unwrap().is_ok());
}

#[test]
fn only_a_ca_with_a_post_quantum_key_is_an_authority() {
    let refused = |draft: Draft| Authority::new(&draft.signed(&CA_KEY), None).err();
    let draft = || ca_draft(&CA_KEY);
    let not_ca = vec![constraints(false), usage(CERT_AND_CRL_SIGN)];
    assert_eq!(refused(Draft { extensions: not_ca, ..draft() }), Some(Refusal::WrongIssuer));
    let only_signs = vec![constraints(true), usage(DIGITAL_SIGNATURE)];
    assert_eq!(refused(Draft { extensions: only_signs, ..draft() }), Some(Refusal::WrongIssuer));
    let mut limited = draft();
    // Name constraints (RFC 5280 section 4.2.1.10) are critical, and nobody here applies them.
    limited.extensions.push(extension(&[0x55, 0x1d, 30], true, &[0x30, 0]));
    assert_eq!(refused(limited), Some(Refusal::WrongIssuer));
    for (algorithm, length) in [(Algorithm::Ed25519, 32), (Algorithm::MlDsa44, 1312)] {
        let key_info = key_info(algorithm, &vec![1; length]);
        assert_eq!(refused(Draft { key_info, ..draft() }), Some(Refusal::UnsupportedKey));
    }
}

#[test]
fn a_certificate_is_version_3_without_unique_ids_and_with_each_extension_once() {
    let authority = reading(None, 4);
    let twice = |one: Vec<u8>| [Draft::account(5).extensions, vec![one]].concat();
    for draft in [
        Draft { version: Vec::new(), ..Draft::account(5) },
        Draft { version: vec![0xa0, 3, 2, 1, 1], ..Draft::account(5) },
        Draft { unique_ids: vec![0x81, 2, 0, 1], ..Draft::account(5) },
        Draft { extensions: twice(usage(DIGITAL_SIGNATURE)), ..Draft::account(5) },
        Draft { extensions: twice(constraints(false)), ..Draft::account(5) },
    ] {
        assert_eq!(refusal(authority.check(&draft.signed(&CA_KEY), NOW_S)), Some(Refusal::Malformed));
    }
}

#[test]
fn threads_see_a_revocation_as_soon_as_it_is_taken() {
    let authority = reading(Some(&list(1, &[])), 2);
    let (revoked, next) = (list(2, &[0]), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let checkers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut checks = 0_u32;
                    loop {
                        // Asked before the check: whatever is then answered came after the list.
                        let is_revoked = next.load(Ordering::Acquire);
                        let refusal = refusal(authority.check(&ACCOUNTS[0], NOW_S));
                        checks += 1;
                        if is_revoked {
                            return refusal;
                        }
                        assert!(matches!(refusal, None | Some(Refusal::Revoked)));
                        authority.check(&ACCOUNTS[checks as usize % 2 + 1], NOW_S).unwrap();
                    }
                })
            })
            .collect();
        authority.replace_crl(&revoked).unwrap();
        next.store(true, Ordering::Release);
        for checker in checkers {
            assert_eq!(checker.join().unwrap(), Some(Refusal::Revoked));
        }
    });
}

/// Newest last; the one of number 4 runs out in July, number 2 comes with two contents.
static LISTS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let ends = ListDraft { next_update: Some("260701000000Z"), ..ListDraft::numbered(4, &[0]) };
    vec![list(1, &[]), list(2, &[0, 1]), list(2, &[]), list(3, &[2]), ends.signed(), list(5, &[0, 3])]
});

#[derive(Debug, Clone)]
enum Step {
    Check { certificate: usize, now_s: u64 },
    Replace { list: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let times = prop::sample::select(vec![FIRST_S - 1, FIRST_S, NOW_S, LATE_S, LAST_S, LAST_S + 1]);
    let step = prop_oneof![
        6 => (0..ACCOUNTS.len() + 1, times)
            .prop_map(|(certificate, now_s)| Step::Check { certificate, now_s }),
        1 => (0..LISTS.len()).prop_map(|list| Step::Replace { list }),
    ];
    prop::collection::vec(step, 1..60)
}

fn told(checked: Result<Arc<Account>, Refusal>) -> Result<(String, Vec<u8>, u64), Refusal> {
    checked.map(|account| (account.account_id(), account.serial().to_vec(), account.not_after_s()))
}

proptest! {
    #[test]
    fn whatever_happened_before_the_answer_is_that_of_a_new_authority(steps in steps()) {
        // Smaller than the number of certificates, so that some make room.
        let authority = reading(None, 2);
        let mut current: Option<&[u8]> = None;
        let number = |index: usize| [1, 2, 2, 3, 4, 5][index];
        let mut known: Option<usize> = None;
        for step in steps {
            match step {
                Step::Check { certificate, now_s } => {
                    let mut der = ACCOUNTS[certificate % ACCOUNTS.len()].clone();
                    if certificate == ACCOUNTS.len() {
                        *der.last_mut().unwrap() ^= 1;
                    }
                    let fresh = Authority::new(&CA, current).unwrap();
                    prop_assert_eq!(told(authority.check(&der, now_s)), told(fresh.check(&der, now_s)));
                }
                Step::Replace { list } => {
                    let newer =
                        known.is_none_or(|known| number(list) > number(known) || list == known);
                    prop_assert_eq!(authority.replace_crl(&LISTS[list]).is_ok(), newer);
                    if newer {
                        (known, current) = (Some(list), Some(LISTS[list].as_slice()));
                    }
                }
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(Authority::new(&bytes, None).err(), Some(Refusal::WrongIssuer));
        prop_assert_eq!(Authority::new(&CA, Some(&bytes)).err(), Some(Refusal::BadCrl));
        prop_assert_eq!(refusal(reading(None, 1).check(&bytes, 0)), Some(Refusal::Malformed));
        let _ = Contents::read(&bytes);
    }

    #[test]
    fn changed_contents_are_read_as_another_reader_does(
        at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>(),
    ) {
        let whole = &ACCOUNTS[1];
        let mut der = whole.clone();
        der[at.index(whole.len() - SIGNATURE_BYTES)] = to;
        der.truncate(whole.len() - if to % 2 == 0 { 0 } else { cut.index(whole.len()) });
        let ours = SignedBytes::read(&der);
        let theirs = Certificate::from_der(&der);
        if let (Some(signed), Ok(certificate)) = (&ours, &theirs) {
            let theirs = certificate.tbs_certificate();
            if let Some(contents) = Contents::read(signed.to_be_signed) {
                prop_assert_eq!(contents.serial.as_bytes(), theirs.serial_number().as_bytes());
                prop_assert_eq!(Name::from_der(contents.issuer), Ok(theirs.issuer().clone()));
                prop_assert_eq!(Name::from_der(contents.subject), Ok(theirs.subject().clone()));
                prop_assert_eq!(&contents.validity, theirs.validity());
                let usage = theirs.get_extension::<KeyUsage>().unwrap().map(|(_, usage)| usage);
                prop_assert_eq!(contents.extensions.usage, usage);
            }
            prop_assert_eq!(Some(signed.signature), certificate.signature().as_bytes());
        }
        // What we take as bytes may be broken for them only; whatever else they refuse, so do we.
        if let Some(signed) = ours
            && let Some(contents) = Contents::read(signed.to_be_signed)
            && [contents.issuer, contents.subject].iter().all(|name| Name::from_der(name).is_ok())
            && [contents.algorithm, signed.algorithm]
                .iter()
                .all(|identifier| AlgorithmIdentifierOwned::from_der(identifier).is_ok())
            && SubjectPublicKeyInfoOwned::from_der(contents.key_info).is_ok()
        {
            prop_assert!(theirs.is_ok(), "{:?}", theirs.err());
        }
    }
}
