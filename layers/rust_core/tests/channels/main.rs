//! The real channels: what nodes and the network between can do to a connection costs one node's vote.

mod hosts;
#[path = "../collector/nodes.rs"]
#[expect(dead_code, reason = "what they say is the matter of `collector`; here it is how")]
mod nodes;

use hosts::{CLIENT, Federation, Hosts, Manner, collect, name, on_hosts};
use nodes::{ballot, store_request};
use rust_core::collector::channel::Channels;
use rust_core::collector::{Collected, Collector, Limits};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// As the stack's settings.
const LIMITS: Limits = Limits { deadline: ms(80), cold_deadline: ms(1_000) };
/// A node that failed is left alone for less.
const REST_OVER: Duration = ms(2_100);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

async fn warm(hosts: &Hosts, federation: &Federation) -> Collector<Channels> {
    let collector = hosts.collector(federation);
    let (warming, _) = collect(&collector, &[ballot(255, 0, 0)], LIMITS).await;
    assert!(warming.outcomes[0].is_final, "{warming:?}");
    collector
}

fn told(collected: &Collected) -> Vec<&'static str> {
    collected.reports.iter().map(|report| report.outcome).collect()
}

#[test]
fn votes_come_by_grpc_over_mutual_tls_and_connections_are_kept() {
    let federation = Arc::new(Federation::new());
    on_hosts(federation.clone(), async move |hosts| {
        let collector = warm(&hosts, &federation).await;
        for nonce in 0..20 {
            let batch: Vec<_> = (0..50).map(|sender| ballot(sender, nonce, 0)).collect();
            let (collected, took) = collect(&collector, &batch, LIMITS).await;
            assert!(collected.outcomes.iter().all(|outcome| outcome.is_final && outcome.stake >= 10));
            // A round trip and what TCP makes of a longer message; a handshake would be three more.
            assert!(took <= ms(10), "{took:?}");
            assert_eq!(told(&collected)[4..], ["not_asked"; 3]);
        }
    });
}

#[test]
fn a_host_that_misbehaves_costs_its_vote_and_is_asked_again_when_it_behaves() {
    let cases = [
        (Manner::Hangs, "pending"),
        (Manner::HangsInHandshake, "pending"),
        (Manner::BreaksOff, "unreachable"),
        (Manner::ResetsStream, "unreachable"),
        (Manner::Mumbles, "unreachable"),
        (Manner::IsPlain, "unreachable"),
        (Manner::Overstates, "garbage"),
        (Manner::Floods, "garbage"),
        (Manner::Babbles, "garbage"),
        (Manner::Refuses, "refused"),
    ];
    for (manner, outcome) in cases {
        let federation = Arc::new(Federation::new());
        on_hosts(federation.clone(), async move |hosts| {
            let collector = warm(&hosts, &federation).await;
            hosts.set(1, manner);
            sleep(ms(20)).await;
            for nonce in 0..10 {
                let (collected, took) = collect(&collector, &[ballot(1, nonce, 0)], LIMITS).await;
                let first = &collected.outcomes[0];
                assert!(first.is_final, "{manner:?} {nonce}: {:?}", told(&collected));
                assert!(first.votes.iter().all(|(voter, _)| *voter != name(1)), "{manner:?}");
                assert!(took < LIMITS.deadline, "{manner:?}: {took:?}");
                if nonce == 0 {
                    assert_eq!(told(&collected)[1], outcome, "{manner:?}");
                }
                sleep(ms(100)).await;
            }
            hosts.set(1, Manner::Answers);
            sleep(REST_OVER).await;
            // The first finds that it is back, perhaps too late for itself.
            collect(&collector, &[ballot(2, 0, 0)], LIMITS).await;
            sleep(ms(1_000)).await;
            let (collected, _) = collect(&collector, &[ballot(2, 1, 0)], LIMITS).await;
            assert_eq!(told(&collected)[1], "answered", "{manner:?}");
        });
    }
}

#[test]
fn connections_that_died_while_nobody_used_them_are_made_anew_within_the_same_call() {
    let federation = Arc::new(Federation::new());
    on_hosts(federation.clone(), async move |hosts| {
        let collector = warm(&hosts, &federation).await;
        for nonce in 0..5 {
            (0..7).for_each(|number| hosts.end_connections(number));
            sleep(ms(50)).await;
            let (collected, took) = collect(&collector, &[ballot(1, nonce, 0)], LIMITS).await;
            assert!(collected.outcomes[0].is_final, "{:?}", told(&collected));
            assert_eq!(told(&collected)[..4], ["answered"; 4]);
            assert!(took < LIMITS.deadline);
        }
    });
}

#[test]
fn a_partition_of_the_network_is_borne_and_over_when_it_is_over() {
    let federation = Arc::new(Federation::new());
    on_hosts(federation.clone(), async move |hosts| {
        let collector = warm(&hosts, &federation).await;
        turmoil::partition(CLIENT, name(0));
        for nonce in 0..5 {
            let (collected, took) = collect(&collector, &[ballot(1, nonce, 0)], LIMITS).await;
            assert!(collected.outcomes[0].is_final, "{:?}", told(&collected));
            assert!(took < LIMITS.deadline);
        }
        turmoil::partition(CLIENT, name(1));
        let (collected, took) = collect(&collector, &[ballot(2, 0, 0)], LIMITS).await;
        assert!(!collected.outcomes[0].is_final);
        assert_eq!(collected.outcomes[0].stake, 9);
        assert!(took <= LIMITS.cold_deadline, "{took:?}");
        turmoil::repair(CLIENT, name(0));
        turmoil::repair(CLIENT, name(1));
        sleep(REST_OVER).await;
        collect(&collector, &[ballot(2, 0, 0)], LIMITS).await;
        sleep(ms(1_000)).await;
        let (collected, _) = collect(&collector, &[ballot(2, 0, 0)], LIMITS).await;
        assert!(collected.outcomes[0].is_final);
        assert_eq!(told(&collected)[..4], ["answered"; 4]);
    });
}

#[test]
fn answers_that_were_held_up_and_come_all_at_once_harm_nothing() {
    let federation = Arc::new(Federation::new());
    on_hosts(federation.clone(), async move |hosts| {
        let collector = warm(&hosts, &federation).await;
        (0..7).for_each(|number| turmoil::hold(CLIENT, name(number)));
        let (collected, took) = collect(&collector, &[ballot(1, 0, 0)], LIMITS).await;
        assert_eq!((collected.outcomes[0].stake, took), (0, LIMITS.deadline));
        (0..7).for_each(|number| turmoil::release(CLIENT, name(number)));
        sleep(REST_OVER).await;
        // The same transaction: whoever signed it already signs it again, and counts once.
        let (collected, _) = collect(&collector, &[ballot(1, 0, 0)], LIMITS).await;
        assert!(collected.outcomes[0].is_final, "{:?}", told(&collected));
        assert!(collected.outcomes[0].double_votes.is_empty());
    });
}

#[test]
fn neither_a_client_nor_nodes_of_another_federation_are_believed() {
    let (ours, other) = (Arc::new(Federation::new()), Arc::new(Federation::new()));
    on_hosts(ours, async move |hosts| {
        let collector = hosts.collector(&other);
        let (collected, took) = collect(&collector, &[ballot(1, 0, 0)], LIMITS).await;
        assert_eq!(told(&collected), ["unreachable"; 7]);
        assert_eq!(collected.outcomes[0].stake, 0);
        assert!(took < LIMITS.cold_deadline);
    });
}

#[test]
fn full_nodes_keep_a_batch_by_grpc() {
    let federation = Arc::new(Federation::new());
    on_hosts(federation.clone(), async move |hosts| {
        let collector = hosts.collector(&federation);
        hosts.set(5, Manner::Hangs);
        hosts.set(6, Manner::BreaksOff);
        let began_at = Instant::now();
        assert_eq!(collector.store(store_request("one", 100), ms(80)).await, ["node-4"]);
        assert!(began_at.elapsed() < ms(80));
        assert_eq!(hosts.kept_batches(4), ["one"]);
        assert!((0..4).all(|number| hosts.kept_batches(number).is_empty()));
    });
}
