//! Each public function of the pure-Rust modules by itself: `cargo bench --bench core`.
//!
//! On all cores, unless RAYON_NUM_THREADS says otherwise; `make bench-core` is what compares with
//! others and with the limits.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ed25519_zebra::{SigningKey, VerificationKey};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rust_core::dependencies::{ObjectDeps, ObjectSets};
use rust_core::places::{LATITUDE_E7_MAX, LONGITUDE_E7_MAX, Position};
use rust_core::signatures::{Algorithm, Signed, batch_verify};
use rust_core::votes::{Delegate, Vote, vote_message};
use rust_core::{canonical, certificates, places, sealing, votes};
use std::convert::Infallible;
use std::hint::black_box;

const SEED: u64 = 4;
const BATCH: usize = 1024;

criterion_group!(
    core,
    of_signatures,
    of_dependencies,
    of_votes,
    of_places,
    of_canonical,
    of_sealing,
    of_certificates
);
criterion_main!(core);

struct Made {
    public_key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
}

fn made(signing: &SigningKey, message: Vec<u8>) -> Made {
    let signature = signing.sign(&message).into();
    Made { public_key: VerificationKey::from(signing).into(), message, signature }
}

fn of_signatures(criterion: &mut Criterion) {
    let mut chance = StdRng::seed_from_u64(SEED);
    let mut group = criterion.benchmark_group("signatures");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, signers, bad) in [
        ("distinct signers", BATCH, 0),
        ("32 signers", 32, 0),
        ("distinct signers, 1 % bad", BATCH, BATCH / 100),
    ] {
        let keys: Vec<SigningKey> =
            (0..signers).map(|_| SigningKey::from(chance.random::<[u8; 32]>())).collect();
        let mut all: Vec<Made> = (0..BATCH)
            .map(|index| made(&keys[index % signers], chance.random::<[u8; 32]>().repeat(12)))
            .collect();
        for _ in 0..bad {
            let at = chance.random_range(0..BATCH);
            all[at].message[0] ^= 1;
        }
        let items: Vec<Signed<'_>> = all
            .iter()
            .map(|one| Signed {
                algorithm: Some(Algorithm::Ed25519),
                public_key: &one.public_key,
                message: &one.message,
                signature: &one.signature,
            })
            .collect();
        group.bench_function(format!("batch_verify, 1024, {name}"), |bencher| {
            bencher.iter(|| batch_verify(&items))
        });
    }
    group.finish();
}

fn of_dependencies(criterion: &mut Criterion) {
    const TRANSACTIONS: usize = 100_000;
    let mut chance = StdRng::seed_from_u64(SEED);
    let objects: Vec<[u8; 32]> = (0..TRANSACTIONS).map(|_| chance.random()).collect();
    let mut some = || -> Vec<[u8; 32]> {
        let count = chance.random_range(1..=2);
        (0..count).map(|_| objects[chance.random_range(0..objects.len())]).collect()
    };
    let mut sets = ObjectSets::with_capacity(TRANSACTIONS);
    for _ in 0..TRANSACTIONS {
        let (reads, writes) = (some(), some());
        let Ok::<(), Infallible>(()) = sets.push(reads.into_iter().map(Ok), writes.into_iter().map(Ok));
    }
    let mut group = criterion.benchmark_group("dependencies");
    group.throughput(Throughput::Elements(TRANSACTIONS as u64)).sample_size(20);
    group.bench_function("ObjectDeps::resolve, 100000 of 2 to 4 ids", |bencher| {
        bencher.iter_batched(|| sets.clone(), ObjectDeps::resolve, BatchSize::LargeInput);
    });
    let deps = ObjectDeps::resolve(sets.clone());
    group.bench_function("ObjectDeps::conflicts, the last of 100000", |bencher| {
        bencher.iter(|| deps.conflicts(black_box(TRANSACTIONS - 1)));
    });
    group.finish();
}

fn of_votes(criterion: &mut Criterion) {
    const DELEGATES: usize = 100;
    const TRANSACTIONS: usize = 100;
    const EPOCH: u64 = 7;
    let mut chance = StdRng::seed_from_u64(SEED);
    let transactions: Vec<([u8; 32], [u8; 32], u64)> =
        (0..TRANSACTIONS).map(|nonce| (chance.random(), chance.random(), nonce as u64)).collect();
    let mut delegates = Vec::new();
    let mut signatures = Vec::new();
    for number in 0..DELEGATES {
        let key = SigningKey::from(chance.random::<[u8; 32]>());
        for (id, sender, nonce) in &transactions {
            signatures.push(<[u8; 64]>::from(key.sign(&vote_message(EPOCH, id, sender, *nonce))));
        }
        delegates.push(Delegate {
            delegate_id: format!("delegate-{number}"),
            algorithm: Some(Algorithm::Ed25519),
            public_key: <[u8; 32]>::from(VerificationKey::from(&key)).to_vec(),
            stake: 1_000,
        });
    }
    let cast: Vec<Vote<'_>> = signatures
        .iter()
        .enumerate()
        .map(|(index, signature)| {
            let (transaction_id, sender, nonce) = transactions[index % TRANSACTIONS];
            let delegate_id = &delegates[index / TRANSACTIONS].delegate_id;
            Vote { delegate_id, transaction_id, sender, nonce, signature }
        })
        .collect();
    let mut group = criterion.benchmark_group("votes");
    group.throughput(Throughput::Elements(cast.len() as u64)).sample_size(20);
    group.bench_function("collect, 10000 of 100 delegates", |bencher| {
        bencher.iter(|| votes::collect(&cast, &delegates, EPOCH));
    });
    group.finish();
}

fn of_places(criterion: &mut Criterion) {
    let mut chance = StdRng::seed_from_u64(SEED);
    let positions: Vec<Position> = (0..BATCH)
        .map(|_| Position {
            latitude_e7: chance.random_range(-LATITUDE_E7_MAX..=LATITUDE_E7_MAX),
            longitude_e7: chance.random_range(-LONGITUDE_E7_MAX..=LONGITUDE_E7_MAX),
        })
        .collect();
    let mut next = positions.iter().cycle();
    criterion.bench_function("places/locate, anywhere", |bencher| {
        bencher.iter(|| next.next().map(|position| places::locate(*position)));
    });
}

fn of_canonical(criterion: &mut Criterion) {
    let id = "5".repeat(64);
    let document = format!(
        r#"{{"version": 1, "sender": "{id}", "recipient": "{id}", "amount": 1250, "nonce": 7,
        "position": {{"latitude_e7": 501109000, "longitude_e7": 86821000, "accuracy_m": 20,
        "observed_at_ms": 1793500000000}}, "reads": [], "writes": [], "content": {{"salt": "{}", "memo": "rent"}},
        "signature": "{}"}}"#,
        &id[..32],
        "A".repeat(88),
    )
    .into_bytes();
    let mut group = criterion.benchmark_group("canonical");
    group.throughput(Throughput::Bytes(document.len() as u64));
    group.bench_function("canonicalize", |bencher| bencher.iter(|| canonical::canonicalize(&document)));
    group.bench_function("name", |bencher| bencher.iter(|| canonical::name(&document)));
    group.finish();
}

fn of_sealing(criterion: &mut Criterion) {
    let (private, public) = sealing::keygen().expect("a pair");
    let (content, data) = ([7; 1024], [8; 64]);
    let sealer =
        sealing::ContentSealer::new(&public, sealing::CONTENT_KEY_USES_MAX, sealing::CONTENT_KEY_LIFETIME_S)
            .expect("a sealer");
    let (wrapped, ciphertext) = sealer.seal(&content, &data).expect("sealed");
    let mut group = criterion.benchmark_group("sealing");
    group
        .bench_function("ContentSealer::seal, 1 KB", |bencher| bencher.iter(|| sealer.seal(&content, &data)));
    group.bench_function("open, 1 KB, key unwrapped before", |bencher| {
        bencher.iter(|| sealing::open(&private, &wrapped, &ciphertext, &data));
    });
    group.sample_size(20);
    group.bench_function("seal, 1 KB, a content key of its own", |bencher| {
        bencher.iter(|| sealing::seal(&public, &content, &data));
    });
    group.bench_function("open, 1 KB, key to be unwrapped", |bencher| {
        let fresh = || sealing::seal(&public, &content, &data).expect("sealed");
        bencher.iter_batched(
            fresh,
            |(wrapped, ciphertext)| sealing::open(&private, &wrapped, &ciphertext, &data),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// A certificate needs a CA, which Python has: its checks are timed by `make bench-core`.
fn of_certificates(criterion: &mut Criterion) {
    criterion.bench_function("certificates/account_id", |bencher| {
        bencher.iter(|| certificates::account_id(Algorithm::Ed25519, black_box(&[9; 32])));
    });
}
