//! The raw crates that `make bench-core` times ours beside, on inputs that Python wrote.
//!
//! `beside DIRECTORY` reads lines `WORK INPUT TIMES` and answers each with the nanoseconds that
//! doing WORK that often on the file `DIRECTORY/INPUT.frames` took. So one program can let
//! different libraries take turns. Preparing is done at the first line and not counted.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand as random;
use aws_lc_rs::signature::{ED25519, ML_DSA_65, ParsedPublicKey, UnparsedPublicKey, VerificationAlgorithm};
use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
use rust_core::canonical;
use rust_core::dependencies::{ObjectDeps, ObjectSets};
use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Does the whole work once; whether the answer is the wanted one.
type Work = Box<dyn FnMut() -> bool>;

fn main() {
    // `cargo bench` runs every bench with `--bench` alone.
    let Some(directory) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")) else {
        eprintln!("beside: needs a directory of inputs; `make bench-core` runs it");
        return;
    };
    let directory = PathBuf::from(directory);
    let mut prepared: HashMap<String, Work> = HashMap::new();
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("stdin is text");
        let (name, times) = line.rsplit_once(' ').expect("a line is WORK INPUT TIMES");
        let times: u32 = times.parse().expect("TIMES is a number");
        let work = prepared.entry(name.to_owned()).or_insert_with(|| {
            let (work, input) = name.split_once(' ').expect("a line is WORK INPUT TIMES");
            prepare(work, frames(&directory.join(format!("{input}.frames"))))
        });
        let nanoseconds = time(work, times, name);
        writeln!(answers, "{nanoseconds}").and_then(|()| answers.flush()).expect("stdout is read");
    }
}

fn time(work: &mut Work, times: u32, name: &str) -> u128 {
    let started = Instant::now();
    for _ in 0..times {
        assert!(black_box(work()), "{name}: a wrong answer");
    }
    started.elapsed().as_nanos()
}

fn prepare(work: &str, frames: Vec<Vec<u8>>) -> Work {
    match work {
        "zebra_batch" => verification(frames, zebra_batch),
        "zebra_batches_of_1024" => verification(frames, |all| all.chunks(1024).all(zebra_batch)),
        "zebra_single" => verification(frames, |all| all.iter().all(zebra_single)),
        "dalek_batch" => verification(frames, dalek_batch),
        "dalek_batch_keys_kept" => dalek_batch_keys_kept(&signed(frames)),
        "aws_lc_ed25519" => verification(frames, |all| all.iter().all(|one| aws_lc(&ED25519, one))),
        "aws_lc_ml_dsa_65" => verification(frames, |all| all.iter().all(|one| aws_lc(&ML_DSA_65, one))),
        "aws_lc_ml_dsa_65_key_kept" => ml_dsa_65_key_kept(signed(frames)),
        "resolve" => resolve(&frames),
        "canonicalize" => each(frames, |document| canonical::canonicalize(document).is_ok()),
        "serde_jcs" => each(frames, |document| {
            let value: serde_json::Value = serde_json::from_slice(document).expect("JSON");
            !black_box(serde_jcs::to_vec(&value)).expect("canonical").is_empty()
        }),
        // Its maps are sorted by bytes: the same as JCS for names in ASCII, without floats.
        "serde_json_sorted" => each(frames, |document| {
            let value: serde_json::Value = serde_json::from_slice(document).expect("JSON");
            !black_box(serde_json::to_vec(&value)).expect("canonical").is_empty()
        }),
        "aws_lc_aes_256_gcm" => aes_256_gcm(frames),
        _ => panic!("unknown work {work}"),
    }
}

/// Public key, message and signature.
struct Signed {
    public_key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

fn signed(frames: Vec<Vec<u8>>) -> Vec<Signed> {
    let mut frames = frames.into_iter();
    let mut all = Vec::with_capacity(frames.len() / 3);
    while let (Some(public_key), Some(message), Some(signature)) =
        (frames.next(), frames.next(), frames.next())
    {
        all.push(Signed { public_key, message, signature });
    }
    all
}

fn verification(frames: Vec<Vec<u8>>, verifies: impl Fn(&[Signed]) -> bool + 'static) -> Work {
    let all = signed(frames);
    Box::new(move || verifies(&all))
}

fn zebra_parts(one: &Signed) -> (VerificationKeyBytes, Signature) {
    let key = VerificationKeyBytes::try_from(one.public_key.as_slice()).expect("32 bytes");
    (key, Signature::from_slice(&one.signature).expect("64 bytes"))
}

fn zebra_batch(all: &[Signed]) -> bool {
    let mut verifier = batch::Verifier::new();
    for one in all {
        let (key, signature) = zebra_parts(one);
        verifier.queue((key, signature, &one.message));
    }
    verifier.verify(rand::rng()).is_ok()
}

fn zebra_single(one: &Signed) -> bool {
    let (key, signature) = zebra_parts(one);
    VerificationKey::try_from(key).and_then(|key| key.verify(&signature, &one.message)).is_ok()
}

fn dalek_keys(all: &[Signed]) -> Vec<ed25519_dalek::VerifyingKey> {
    all.iter()
        .map(|one| {
            let bytes = one.public_key.as_slice().try_into().expect("32 bytes");
            ed25519_dalek::VerifyingKey::from_bytes(bytes).expect("a point")
        })
        .collect()
}

fn dalek_signatures(all: &[Signed]) -> Vec<ed25519_dalek::Signature> {
    all.iter().map(|one| ed25519_dalek::Signature::from_slice(&one.signature).expect("64 bytes")).collect()
}

fn dalek_batch(all: &[Signed]) -> bool {
    let messages: Vec<&[u8]> = all.iter().map(|one| one.message.as_slice()).collect();
    ed25519_dalek::verify_batch(&messages, &dalek_signatures(all), &dalek_keys(all)).is_ok()
}

fn dalek_batch_keys_kept(all: &[Signed]) -> Work {
    let keys = dalek_keys(all);
    let signatures = dalek_signatures(all);
    let messages: Vec<Vec<u8>> = all.iter().map(|one| one.message.clone()).collect();
    Box::new(move || {
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok()
    })
}

fn aws_lc(algorithm: &'static dyn VerificationAlgorithm, one: &Signed) -> bool {
    UnparsedPublicKey::new(algorithm, &one.public_key).verify(&one.message, &one.signature).is_ok()
}

/// All of one signer, such as certificates of one authority.
fn ml_dsa_65_key_kept(all: Vec<Signed>) -> Work {
    let key = ParsedPublicKey::new(&ML_DSA_65, &all[0].public_key).expect("a key");
    Box::new(move || all.iter().all(|one| key.verify_sig(&one.message, &one.signature).is_ok()))
}

/// The frames are the reads and the writes of each transaction, ids of 32 bytes one after another;
/// gathering them counts too.
fn resolve(frames: &[Vec<u8>]) -> Work {
    let ids = |frame: &[u8]| frame.as_chunks::<32>().0.to_vec();
    let items: Vec<_> = frames.chunks_exact(2).map(|pair| (ids(&pair[0]), ids(&pair[1]))).collect();
    Box::new(move || {
        let mut sets = ObjectSets::with_capacity(items.len());
        for (reads, writes) in &items {
            let Ok::<(), Infallible>(()) =
                sets.push(reads.iter().copied().map(Ok), writes.iter().copied().map(Ok));
        }
        !ObjectDeps::resolve(sets).grouped().is_empty()
    })
}

fn each(frames: Vec<Vec<u8>>, holds: impl Fn(&[u8]) -> bool + 'static) -> Work {
    Box::new(move || frames.iter().all(|frame| holds(frame)))
}

/// What sealing can't do without: a random nonce, a copy of the content, AES-256-GCM.
fn aes_256_gcm(frames: Vec<Vec<u8>>) -> Work {
    let key = UnboundKey::new(&AES_256_GCM, &[7; 32]).map(LessSafeKey::new).expect("a key");
    let [content, associated_data, ..] = <[Vec<u8>; 3]>::try_from(frames).expect("content, data, key");
    Box::new(move || {
        let mut nonce = [0; NONCE_LEN];
        random::fill(&mut nonce).expect("randomness");
        let mut out = Vec::with_capacity(content.len() + 16);
        out.extend_from_slice(&content);
        let aad = Aad::from(&associated_data);
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut out).is_ok()
            && out.len() == content.len() + 16
    })
}

/// A file of frames: each is its length (32 bits, little-endian) and its bytes.
fn frames(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut rest = bytes.as_slice();
    let mut frames = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (frame, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        frames.push(frame.to_vec());
        rest = after;
    }
    frames
}
