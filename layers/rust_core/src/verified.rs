//! Batches of signed headers, from JSON to verified, ordered and placed out of one parse.
//!
//! A `VerifiedBatch` comes only out of verification: whoever is given one need not ask again.

use crate::canonical::{self, Value};
use crate::certificates::account_id;
use crate::dependencies::{ObjectDeps, ObjectId, ObjectSets};
use crate::places::{self, Place, Position};
use crate::signatures::{Algorithm, Signed, batch_verify};
use rayon::prelude::*;
use std::convert::Infallible;

/// Fewer headers than this are not worth waking another thread.
const HEADERS_A_TASK: usize = 32;

/// A header as it came: JSON, with the sender's key and signature.
#[derive(Debug, Clone, Copy)]
pub struct SignedHeader<'a> {
    pub header: &'a [u8],
    pub algorithm: Option<Algorithm>,
    pub public_key: &'a [u8],
    pub signature: &'a [u8],
}

/// Why a header is not verified; `code()` is what programs compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Malformed,
    BadSignature,
    NotTheSender,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::BadSignature => "bad_signature",
            Self::NotTheSender => "not_the_sender",
        }
    }
}

/// A well-formed header, signed by the key whose account is its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader {
    pub transaction_id: [u8; 32],
    pub sender: [u8; 32],
    pub nonce: u64,
    pub position: Position,
    /// The header's canonical JSON, which the sender signed.
    pub signing_bytes: Vec<u8>,
    reads: Vec<ObjectId>,
    writes: Vec<ObjectId>,
}

/// What `verify` found out about each header, in the order given.
#[derive(Debug, Clone)]
pub struct VerifiedBatch {
    outcomes: Vec<Result<VerifiedHeader, Refusal>>,
    deps: ObjectDeps,
}

impl VerifiedBatch {
    pub fn verify(headers: &[SignedHeader<'_>]) -> Self {
        let parsed: Vec<Option<VerifiedHeader>> =
            headers.par_iter().with_min_len(HEADERS_A_TASK).map(|signed| parse(signed.header)).collect();
        let signed: Vec<Signed<'_>> = headers
            .iter()
            .zip(&parsed)
            .map(|(header, parsed)| Signed {
                algorithm: header.algorithm.filter(|_| parsed.is_some()),
                public_key: header.public_key,
                message: parsed.as_ref().map_or(&[], |parsed| &parsed.signing_bytes),
                signature: header.signature,
            })
            .collect();
        let verified = batch_verify(&signed);
        let outcomes: Vec<_> = parsed
            .into_iter()
            .zip(headers)
            .zip(verified)
            .map(|((parsed, header), verified)| {
                let parsed = parsed.ok_or(Refusal::Malformed)?;
                let owner = header.algorithm.and_then(|algorithm| account_id(algorithm, header.public_key));
                match (verified, owner) {
                    (false, _) => Err(Refusal::BadSignature),
                    (true, Some(owner)) if owner == parsed.sender => Ok(parsed),
                    (true, _) => Err(Refusal::NotTheSender),
                }
            })
            .collect();
        let deps = ObjectDeps::resolve(sets(&outcomes));
        Self { outcomes, deps }
    }

    pub fn outcomes(&self) -> &[Result<VerifiedHeader, Refusal>] {
        &self.outcomes
    }

    /// The layers of the batch; what is not verified reads and writes nothing, and so holds up nobody.
    pub fn deps(&self) -> &ObjectDeps {
        &self.deps
    }

    /// The place of each verified header whose position is on the globe.
    pub fn places(&self) -> Vec<Option<Place>> {
        self.outcomes
            .par_iter()
            .with_min_len(HEADERS_A_TASK)
            .map(|outcome| places::locate(outcome.as_ref().ok()?.position).ok())
            .collect()
    }
}

fn sets(outcomes: &[Result<VerifiedHeader, Refusal>]) -> ObjectSets {
    let mut sets = ObjectSets::with_capacity(outcomes.len());
    let ok = |id: &ObjectId| Ok::<_, Infallible>(*id);
    for outcome in outcomes {
        let (reads, writes) = match outcome {
            Ok(header) => (&header.reads[..], &header.writes[..]),
            Err(_) => (&[][..], &[][..]),
        };
        let Ok(()) = sets.push(reads.iter().map(ok), writes.iter().map(ok));
    }
    sets
}

/// A header by its schema: these members and no others, ids in lower-case hex, natural numbers.
fn parse(header: &[u8]) -> Option<VerifiedHeader> {
    let value = canonical::parse(header).ok()?;
    let Value::Object(members) = &value else { return None };
    // Members are sorted and unique, so that they can be told by their places.
    let [amount, nonce, position, reads, recipient, sender, transaction_id, version, writes] = named(
        members,
        [
            "amount",
            "nonce",
            "position",
            "reads",
            "recipient",
            "sender",
            "transaction_id",
            "version",
            "writes",
        ],
    )?;
    natural(amount)?;
    natural(version)?;
    id(recipient)?;
    let Value::Object(position) = position else { return None };
    let [accuracy_m, latitude_e7, longitude_e7, observed_at_ms] =
        named(position, ["accuracy_m", "latitude_e7", "longitude_e7", "observed_at_ms"])?;
    natural(accuracy_m)?;
    natural(observed_at_ms)?;
    Some(VerifiedHeader {
        transaction_id: id(transaction_id)?,
        sender: id(sender)?,
        nonce: natural(nonce)?,
        position: Position { latitude_e7: integer(latitude_e7)?, longitude_e7: integer(longitude_e7)? },
        signing_bytes: canonical::written(&value),
        reads: ids(reads)?,
        writes: ids(writes)?,
    })
}

fn named<'v, 'a, const N: usize>(
    members: &'v [canonical::Member<'a>],
    names: [&str; N],
) -> Option<[&'v Value<'a>; N]> {
    let same = members.len() == N && members.iter().zip(names).all(|((known, _), name)| known == name);
    same.then(|| std::array::from_fn(|at| &members[at].1))
}

fn integer(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Integer(number) => Some(*number),
        _ => None,
    }
}

fn natural(value: &Value<'_>) -> Option<u64> {
    integer(value)?.try_into().ok()
}

fn ids(value: &Value<'_>) -> Option<Vec<ObjectId>> {
    match value {
        Value::Array(items) => items.iter().map(id).collect(),
        _ => None,
    }
}

fn id(value: &Value<'_>) -> Option<[u8; 32]> {
    let Value::Text(text) = value else { return None };
    let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut id = [0; 32];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(id)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::hex;
    use ed25519_zebra::{SigningKey, VerificationKey};
    use proptest::prelude::*;

    fn header(seed: u8, object: u8) -> (String, [u8; 32], SigningKey) {
        let key = SigningKey::from([seed; 32]);
        let public_key: [u8; 32] = VerificationKey::from(&key).into();
        let sender = hex(&account_id(Algorithm::Ed25519, &public_key).unwrap());
        let (other, object) = (hex(&[seed; 32]), hex(&[object; 32]));
        let text = format!(
            r#"{{"amount":5,"nonce":7,"position":{{"accuracy_m":9,"latitude_e7":501109000,"longitude_e7":86821000,"observed_at_ms":1}},"reads":[],"recipient":"{other}","sender":"{sender}","transaction_id":"{other}","version":1,"writes":["{object}"]}}"#
        );
        (text, public_key, key)
    }

    fn verify(made: &[(String, [u8; 32], [u8; 64])]) -> VerifiedBatch {
        let signed: Vec<_> = made
            .iter()
            .map(|(header, public_key, signature)| SignedHeader {
                header: header.as_bytes(),
                algorithm: Some(Algorithm::Ed25519),
                public_key,
                signature,
            })
            .collect();
        VerifiedBatch::verify(&signed)
    }

    fn signed(seed: u8, object: u8) -> (String, [u8; 32], [u8; 64]) {
        let (text, public_key, key) = header(seed, object);
        let signature = key.sign(text.as_bytes()).into();
        (text, public_key, signature)
    }

    #[test]
    fn a_verified_batch_is_ordered_and_placed() {
        let made = [signed(1, 1), signed(2, 1), signed(3, 2)];
        let batch = verify(&made);
        assert_eq!(batch.deps().layers(), [0, 1, 0]);
        for (outcome, (text, ..)) in batch.outcomes().iter().zip(&made) {
            let header = outcome.as_ref().unwrap();
            assert_eq!((header.nonce, &header.signing_bytes[..]), (7, text.as_bytes()));
        }
        let places = batch.places();
        assert!(places.iter().all(|place| place.is_some_and(|place| place.city == "Frankfurt am Main")));
    }

    #[test]
    fn what_is_refused_has_a_reason_and_holds_up_nobody() {
        let (mut forged, mut strange, mut odd) = (signed(1, 1), signed(2, 1), signed(3, 1));
        forged.2[40] ^= 1;
        // A good signature by a key whose account is not the sender.
        let key = SigningKey::from([9; 32]);
        (strange.1, strange.2) = (VerificationKey::from(&key).into(), key.sign(strange.0.as_bytes()).into());
        odd.0 = odd.0.replace("\"amount\":5,", "\"amount\":5,\"more\":5,");
        let batch = verify(&[forged, strange, odd, signed(4, 1)]);
        let reasons: Vec<_> = batch
            .outcomes()
            .iter()
            .map(|outcome| outcome.as_ref().err().map(|reason| reason.code()))
            .collect();
        assert_eq!(reasons, [Some("bad_signature"), Some("not_the_sender"), Some("malformed"), None]);
        assert_eq!(batch.deps().layers(), [0, 0, 0, 0]);
        assert!(batch.places()[..3].iter().all(Option::is_none));
    }

    #[test]
    fn another_writing_of_the_same_header_is_the_same_header() {
        let (text, public_key, signature) = signed(1, 1);
        let spaced = text.replace(",\"", " ,\n \"").replace("amount", "\\u0061mount");
        let batch = verify(&[(spaced, public_key, signature)]);
        assert_eq!(batch.outcomes()[0].as_ref().unwrap().signing_bytes, text.as_bytes());
    }

    #[test]
    fn a_header_out_of_its_schema_is_malformed() {
        let (text, public_key, key) = header(1, 1);
        for (from, to) in [
            ("\"amount\":5", "\"amount\":-5"),
            ("\"amount\":5", "\"amount\":\"5\""),
            ("\"nonce\":7", "\"nonce\":-7"),
            ("\"nonce\":7,", ""),
            ("\"reads\":[]", "\"reads\":[\"ab\"]"),
            ("\"reads\":[]", "\"reads\":{}"),
            ("\"accuracy_m\":9", "\"accuracy_m\":null"),
            ("\"accuracy_m\":9,", ""),
            ("\"version\":1", "\"version\":1.0"),
            (&hex(&[1; 32]), &hex(&[0xab; 32]).to_uppercase()),
        ] {
            let broken = text.replacen(from, to, 1);
            assert_ne!(broken, text);
            let signature = key.sign(broken.as_bytes()).into();
            let batch = verify(&[(broken, public_key, signature)]);
            assert_eq!(batch.outcomes()[0], Err(Refusal::Malformed), "{to}");
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(at in any::<prop::sample::Index>(), byte in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..99)) {
            let (text, public_key, signature) = signed(1, 1);
            let mut bytes = text.into_bytes();
            let place = at.index(bytes.len());
            bytes[place] = byte;
            for header in [&bytes[..], &bytes[..place], &noise[..]] {
                let signed = SignedHeader { header, algorithm: Some(Algorithm::Ed25519), public_key: &public_key, signature: &signature };
                let batch = VerifiedBatch::verify(&[signed, signed]);
                let is_same = canonical::canonicalize(header).is_ok_and(|same| same == signed_text());
                prop_assert!(batch.outcomes().iter().all(|outcome| outcome.is_ok() == is_same));
            }
        }
    }

    fn signed_text() -> Vec<u8> {
        header(1, 1).0.into_bytes()
    }
}
