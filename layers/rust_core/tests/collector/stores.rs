//! Batches for full nodes to keep: acknowledged by whom, how soon, and none the worse for the others.

use crate::network::{Conditions, ROUND_TRIP, Simulated, ms, simulate};
use crate::nodes::{ballot, store_request};
use tokio::time::{Instant, sleep};

const FULL: std::ops::Range<usize> = 4..7;

fn slow(way_ms: u64) -> Conditions {
    Conditions { delay_ms: way_ms..way_ms + 1, ..Conditions::default() }
}

#[test]
fn the_first_that_keeps_it_is_enough_and_the_others_still_get_it() {
    simulate(async {
        let network = Simulated::stack();
        network.set_conditions([4, 6], &slow(200));
        let collector = network.collector();
        let began_at = Instant::now();
        let kept_by = collector.store(store_request("one", 3), ms(80)).await;
        assert_eq!((kept_by, began_at.elapsed()), (vec!["node-5".to_owned()], ROUND_TRIP));
        sleep(ms(1_000)).await;
        for number in FULL {
            assert_eq!(network.node(number).kept_batches, ["one"]);
        }
        assert!((0..4).all(|number| network.node(number).kept_batches.is_empty()));
    });
}

#[test]
fn full_nodes_that_hang_are_waited_for_until_the_deadline() {
    simulate(async {
        let network = Simulated::stack();
        network.cut(FULL, ms(60_000));
        let collector = network.collector();
        let began_at = Instant::now();
        assert!(collector.store(store_request("one", 3), ms(80)).await.is_empty());
        assert_eq!(began_at.elapsed(), ms(80));
    });
}

#[test]
fn full_nodes_that_refuse_connections_are_not_waited_for() {
    simulate(async {
        let network = Simulated::stack();
        network.set_conditions(FULL, &Conditions { is_refused: true, ..Conditions::default() });
        let collector = network.collector();
        for took in [ROUND_TRIP / 2, ROUND_TRIP / 2, ms(0)] {
            let began_at = Instant::now();
            assert!(collector.store(store_request("one", 3), ms(80)).await.is_empty());
            assert_eq!(began_at.elapsed(), took);
        }
    });
}

#[test]
fn who_keeps_less_than_all_of_it_does_not_stand_for_it() {
    simulate(async {
        let network = Simulated::stack();
        network.node(4).keeps_at_most = 2;
        network.set_conditions([5, 6], &slow(20));
        let kept_by = network.collector().store(store_request("one", 3), ms(80)).await;
        assert_eq!(kept_by, ["node-5", "node-6"]);
    });
}

#[test]
fn a_batch_to_keep_that_nobody_took_does_not_keep_anybody_from_voting() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.cut(FULL, ms(60_000));
        collector.store(store_request("one", 3), ms(80)).await;
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        assert_eq!(run.took, ROUND_TRIP);
    });
}
