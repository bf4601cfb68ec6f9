//! Whatever the network does and whoever lies: what is called final is, rivals never both, all in time.

use crate::network::{Conditions, LIMITS, Partition, Simulated, ms, simulate};
use crate::nodes::{EPOCH, LIARS, Node, ballot, message};
use ed25519_zebra::Signature;
use rand::RngExt;
use rand::rngs::StdRng;
use rust_core::collector::{Ballot, Collected, Collector, Limits};
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::sleep;

const SEEDS: u64 = 100;
/// Of each collector.
const COLLECTIONS: usize = 6;
const NONCES: u64 = 4;

/// What all simulations together have shown, so that none proves its rules on nothing.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    finals: usize,
    not_finals: usize,
    ends_by_deadline: usize,
    early_ends: usize,
    garbage: usize,
    hedged: usize,
    resting: usize,
    double_votes: usize,
    hopeless: usize,
    forged: usize,
}

/// How many lie: a federation bears less than a third of the stake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Liars {
    LessThanAThird,
    AnyNumber,
}

#[test]
fn with_less_than_a_third_lying_no_two_rivals_are_final_whatever_the_network_does() {
    let mut seen = Seen::default();
    for seed in seeds() {
        explore(seed, Liars::LessThanAThird, &mut seen);
    }
    println!("{seen:?}");
    if seeds() != (0..SEEDS) {
        return; // one world need not show everything
    }
    let Seen { finals, not_finals, ends_by_deadline, early_ends, garbage, hedged, resting, .. } = seen;
    let Seen { double_votes, hopeless, forged, .. } = seen;
    let all = [finals, not_finals, ends_by_deadline, early_ends, garbage, hedged, resting];
    assert!(all.into_iter().chain([double_votes, hopeless, forged]).all(|count| count > 10), "{seen:?}");
}

#[test]
fn however_many_lie_what_is_called_final_has_verified_votes_of_two_thirds_and_the_call_ends_in_time() {
    let mut seen = Seen::default();
    for seed in seeds() {
        explore(seed, Liars::AnyNumber, &mut seen);
    }
    println!("{seen:?}");
    assert!(seeds() != (0..SEEDS) || seen.finals > 10 && seen.not_finals > seen.finals, "{seen:?}");
}

#[test]
fn a_seed_tells_all_that_happens() {
    let trace = |seed| explore(seed, Liars::LessThanAThird, &mut Seen::default());
    for seed in 0..8 {
        assert_eq!(trace(seed), trace(seed), "seed {seed}");
        assert_ne!(trace(seed), trace(seed + 1), "seed {seed}");
    }
}

/// All, or the one in LOVE_SEED.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("LOVE_SEED").map(|seed| seed.parse().expect("LOVE_SEED is a number")) {
        Ok(seed) => seed..seed + 1,
        Err(_) => 0..SEEDS,
    }
}

/// What two collectors saw of one simulated world: its log, and each collection in the order of its end.
type Trace = (Vec<(u128, usize, u32, &'static str)>, Vec<String>);

fn explore(seed: u64, liars: Liars, seen: &mut Seen) -> Trace {
    simulate(async {
        let network = some_world(seed, liars);
        // In half of the worlds cold lines have no more time than others: then the deadline is exact.
        let cold_deadline = if seed.is_multiple_of(2) { LIMITS.deadline } else { LIMITS.cold_deadline };
        let limits = Limits { cold_deadline, ..LIMITS };
        let collectors = [network.collector(), network.collector()];
        let work = collectors.each_ref().map(|one| collect_often(&network, one, limits, seed));
        let [one, other] = work;
        let (one, other) = tokio::join!(one, other);
        let mut finals: BTreeMap<([u8; 32], u64), BTreeSet<[u8; 32]>> = BTreeMap::new();
        let mut told = Vec::new();
        for (ballots, collected, took) in one.into_iter().chain(other) {
            check(seed, &network, &ballots, &collected);
            assert!(took <= cold_deadline, "seed {seed}: {took:?}");
            count(seen, &network, &collected, took == cold_deadline);
            for (ballot, outcome) in ballots.iter().zip(&collected.outcomes) {
                if outcome.is_final {
                    finals.entry((ballot.sender, ballot.nonce)).or_default().insert(ballot.transaction_id);
                }
            }
            told.push(format!("{took:?} {collected:?}"));
        }
        if liars == Liars::LessThanAThird {
            assert!(finals.values().all(|rivals| rivals.len() == 1), "seed {seed}: rivals are both final");
        }
        (network.log(), told)
    })
}

/// Nodes, lines, partitions and liars by chance.
fn some_world(seed: u64, liars: Liars) -> Simulated {
    use rand::SeedableRng;
    let mut chance = StdRng::seed_from_u64(seed ^ 0x10fe);
    let mut nodes: Vec<Node> = (0..chance.random_range(4..10))
        .map(|number| Node::new(number, chance.random_range(1..10), chance.random_bool(0.4)))
        .collect();
    let total: u64 = nodes.iter().map(|node| node.stake).sum();
    let mut lying = 0;
    let liar_rate = if liars == Liars::AnyNumber { chance.random_range(0.0..0.9) } else { 0.5 };
    for node in &mut nodes {
        let is_borne = liars == Liars::AnyNumber || 3 * (lying + node.stake) < total;
        if is_borne && chance.random_bool(liar_rate) {
            node.behaviour = LIARS[chance.random_range(0..LIARS.len())];
            lying += node.stake;
        }
    }
    let count = nodes.len();
    let network = Simulated::new(nodes, seed);
    let is_rough = chance.random_bool(0.7);
    for number in 0..count {
        let slowest_ms = if is_rough { chance.random_range(2..70) } else { 10 };
        network.set_conditions(
            [number],
            &Conditions {
                delay_ms: 1..slowest_ms,
                loss: if is_rough { chance.random_range(0.0..0.3) } else { 0.0 },
                repetition: chance.random_range(0.0..0.5),
                is_refused: is_rough && chance.random_bool(0.05),
                dead_attempt: (is_rough && chance.random_bool(0.1)).then_some(0),
            },
        );
    }
    for _ in 0..chance.random_range(0..4) {
        let from_ms = chance.random_range(0..2_000);
        network.partition(Partition {
            nodes: (0..count).filter(|_| chance.random_bool(0.5)).collect(),
            during_ms: from_ms..from_ms + chance.random_range(10..1_000),
        });
    }
    network
}

async fn collect_often(
    network: &Simulated,
    collector: &Collector<Simulated>,
    limits: Limits,
    seed: u64,
) -> Vec<(Vec<Ballot>, Collected, std::time::Duration)> {
    let mut runs = Vec::new();
    for _ in 0..COLLECTIONS {
        let ballots: Vec<Ballot> = network.chance(|chance| {
            let count = chance.random_range(1..5);
            let mut some = || ballot(seed as u8, chance.random_range(0..NONCES), chance.random_range(0..3));
            (0..count).map(|_| some()).collect()
        });
        let run = network.collect_within(collector, &ballots, limits).await;
        runs.push((ballots, run.collected, run.took));
        sleep(ms(network.chance(|chance| chance.random_range(0..500)))).await;
    }
    runs
}

/// Each outcome by itself: its votes verify, they are worth what it says, and proofs hit only liars.
fn check(seed: u64, network: &Simulated, ballots: &[Ballot], collected: &Collected) {
    assert_eq!((ballots.len(), network.len()), (collected.outcomes.len(), collected.reports.len()));
    for (ballot, outcome) in ballots.iter().zip(&collected.outcomes) {
        let mut voters = BTreeSet::new();
        let mut stake = 0;
        for (name, signature) in &outcome.votes {
            assert!(voters.insert(name), "seed {seed}: {name} counts twice");
            let node = network.node_named(name).expect("a known delegate");
            let signature = Signature::from_slice(signature).expect("a signature");
            let verified = node.public_key().verify(&signature, &message(EPOCH, ballot));
            assert!(verified.is_ok(), "seed {seed}: a vote of {name} does not verify");
            stake += u128::from(node.stake);
        }
        assert_eq!(outcome.stake, stake, "seed {seed}");
        assert_eq!(outcome.is_final, 3 * stake >= 2 * network.total_stake(), "seed {seed}");
        assert!(stake + outcome.locked_stake <= network.total_stake(), "seed {seed}");
        for name in &outcome.refused {
            let node = network.node_named(name).expect("a known delegate");
            assert!(!node.is_honest(), "seed {seed}: the honest {name} is refused");
        }
        for proof in &outcome.double_votes {
            let node = network.node_named(&proof.delegate_id).expect("a known delegate");
            assert!(!node.is_honest(), "seed {seed}: a proof against the honest {}", proof.delegate_id);
            assert_ne!(proof.votes[0].0, proof.votes[1].0);
            for (transaction_id, signature) in &proof.votes {
                let (sender, nonce) = (proof.sender, proof.nonce);
                let voted = Ballot { transaction_id: *transaction_id, sender, nonce, ..ballot.clone() };
                let signature = Signature::from_slice(signature).expect("a signature");
                assert!(node.public_key().verify(&signature, &message(EPOCH, &voted)).is_ok());
            }
        }
    }
}

fn count(seen: &mut Seen, network: &Simulated, collected: &Collected, is_at_deadline: bool) {
    for outcome in &collected.outcomes {
        seen.finals += usize::from(outcome.is_final);
        seen.not_finals += usize::from(!outcome.is_final);
        seen.double_votes += outcome.double_votes.len();
        seen.hopeless += usize::from(3 * outcome.locked_stake > network.total_stake());
        seen.forged += outcome.refused.len();
    }
    let told = |what| collected.reports.iter().filter(|report| report.outcome == what).count();
    seen.ends_by_deadline += usize::from(is_at_deadline);
    seen.early_ends += usize::from(!is_at_deadline);
    seen.garbage += told("garbage");
    seen.resting += told("resting");
    seen.hedged += collected.reports.iter().filter(|report| report.attempts > 1).count();
}
