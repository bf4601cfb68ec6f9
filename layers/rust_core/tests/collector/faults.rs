//! What delay, loss, dead lines, partitions and hanging nodes cost: exact times, and who is asked.

use crate::network::{Conditions, LIMITS, ROUND_TRIP, Simulated, ms, simulate};
use crate::nodes::{Behaviour, ballot};
use tokio::time::sleep;

const LIGHT: std::ops::Range<usize> = 0..4;
const FULL: std::ops::Range<usize> = 4..7;
/// When slow nodes are no longer waited for alone, and when they are asked again.
const PATIENCE: std::time::Duration = ms(20);
const HEDGE: std::time::Duration = ms(40);
/// How long a node that failed is left alone.
const REST: std::time::Duration = ms(2_000);

fn refused() -> Conditions {
    Conditions { is_refused: true, ..Conditions::default() }
}

fn slow(way_ms: u64) -> Conditions {
    Conditions { delay_ms: way_ms..way_ms + 1, ..Conditions::default() }
}

#[test]
fn light_nodes_that_answer_make_a_quorum_without_the_full_ones() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.collector();
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        assert_eq!(run.took, ROUND_TRIP);
        assert_eq!(run.stake(), 12);
        assert_eq!(run.told(), [&["answered"; 4][..], &["not_asked"; 3]].concat());
    });
}

#[test]
fn nobody_waits_for_more_than_a_quorum() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.set_conditions([3], &slow(30));
        network.set_conditions(4..5, &slow(8));
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        // Three light ones after 10 ms; patience ends after 20; the other full ones take 10 more.
        assert_eq!(run.took, PATIENCE + ROUND_TRIP);
        assert_eq!(run.told()[3], "pending");
        assert_eq!(run.told()[4], "pending");
    });
}

#[test]
fn a_light_node_that_hangs_costs_patience_once_and_nothing_from_then_on() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.cut([0], ms(60_000));
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        assert_eq!(run.took, PATIENCE + ROUND_TRIP);
        for nonce in 2..60 {
            let run = network.collect(&collector, &[ballot(1, nonce, 0)]).await;
            assert!(run.is_final());
            assert_eq!(run.took, ROUND_TRIP, "nonce {nonce}");
        }
    });
}

#[test]
fn a_light_node_that_refuses_connections_costs_no_wait() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.set_conditions([0], &refused());
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        // The refusal takes half a round trip; then the full nodes are asked.
        assert!(run.is_final());
        assert_eq!(run.took, ROUND_TRIP / 2 + ROUND_TRIP);
        assert_eq!(run.told()[0], "unreachable");
    });
}

#[test]
fn without_light_nodes_the_full_ones_say_what_they_can_and_it_is_not_final() {
    simulate(async {
        let network = Simulated::stack();
        network.set_conditions(LIGHT, &refused());
        let collector = network.collector();
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(!run.is_final());
        assert_eq!(run.stake(), 3);
        // Nobody is left to wait for.
        assert_eq!(run.took, ROUND_TRIP / 2 + ROUND_TRIP);
    });
}

#[test]
fn the_deadline_is_the_end_and_what_came_until_then_is_the_answer() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.cut([0, 1, 4, 5, 6], ms(60_000));
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(!run.is_final());
        assert_eq!(run.stake(), 6);
        assert_eq!(run.took, LIMITS.deadline);
        assert_eq!(run.told()[0], "pending");
        assert_eq!(run.attempts(), [2, 2, 1, 1, 2, 2, 2]);
    });
}

#[test]
fn an_answer_before_the_deadline_counts_and_one_after_it_does_not() {
    simulate(async {
        for (way_ms, is_final) in [(39, true), (41, false)] {
            let network = Simulated::stack();
            let collector = network.warm_collector().await;
            network.set_conditions(0..7, &slow(way_ms));
            let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
            assert_eq!(run.is_final(), is_final, "{way_ms}");
            assert!(run.took <= LIMITS.deadline);
        }
    });
}

#[test]
fn connections_are_waited_for_while_those_that_stand_are_no_quorum() {
    simulate(async {
        let network = Simulated::stack();
        network.set_conditions(0..7, &slow(300));
        let collector = network.collector();
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        assert_eq!(run.took, ms(600));
        // Warm now, so that the deadline is the short one.
        let run = network.collect(&collector, &[ballot(1, 2, 0)]).await;
        assert!(!run.is_final());
        assert_eq!(run.took, LIMITS.deadline);
    });
}

#[test]
fn a_second_attempt_goes_another_way_and_is_enough() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        // Full nodes are down, and one light node's connection has died without a word.
        network.set_conditions(FULL, &refused());
        network.set_conditions([2], &Conditions { dead_attempt: Some(0), ..Conditions::default() });
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        assert_eq!(run.took, HEDGE + ROUND_TRIP);
        assert_eq!(run.attempts()[..4], [1, 1, 2, 1]);
    });
}

#[test]
fn a_node_that_answered_one_of_two_attempts_has_not_failed() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.set_conditions(FULL, &refused());
        for nonce in 1..20 {
            network.set_conditions([2], &Conditions { dead_attempt: Some(0), ..Conditions::default() });
            let run = network.collect(&collector, &[ballot(1, nonce, 0)]).await;
            assert!(run.is_final(), "nonce {nonce}");
            assert_eq!(run.attempts()[2], 2);
            // The first attempt has its time-out, of which nothing is to be learnt.
            sleep(LIMITS.deadline).await;
        }
    });
}

#[test]
fn a_moment_in_which_nobody_could_be_reached_does_not_cost_the_next_batch() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.cut(0..7, LIMITS.deadline);
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert_eq!((run.is_final(), run.stake(), run.took), (false, 0, LIMITS.deadline));
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final(), "{:?}", run.told());
        assert_eq!(run.took, ROUND_TRIP);
    });
}

#[test]
fn a_network_that_is_down_costs_no_wait_until_a_call_finds_it_up_again() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.cut(0..7, ms(10_000));
        // Calls that fail open the breakers; until then each collection has its deadline.
        for _ in 0..4 {
            let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
            assert!(run.took <= LIMITS.deadline);
        }
        sleep(LIMITS.cold_deadline).await;
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert_eq!((run.took, run.told()), (ms(0), vec!["resting"; 7]));
        sleep(ms(10_000)).await;
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert!(run.is_final());
        assert_eq!(run.took, ROUND_TRIP);
    });
}

#[test]
fn after_its_rest_a_node_is_tried_by_one_collection_and_not_by_those_beside_it() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.cut([0], ms(3_600_000));
        for nonce in 1..3 {
            network.collect(&collector, &[ballot(1, nonce, 0)]).await;
            sleep(LIMITS.cold_deadline).await;
        }
        sleep(REST).await;
        let before = network.log().len();
        let (one, other) = ([ballot(1, 8, 0)], [ballot(1, 9, 0)]);
        let runs = tokio::join!(network.collect(&collector, &one), network.collect(&collector, &other));
        assert!(runs.0.is_final() && runs.1.is_final());
        let asked = network.log().split_off(before);
        assert_eq!(asked.iter().filter(|(_, node, _, what)| (*node, *what) == (0, "asked")).count(), 1);
    });
}

#[test]
fn a_node_that_came_back_is_connected_beside_the_others_though_that_takes_longer_than_a_vote() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.set_conditions([0], &refused());
        network.collect(&collector, &[ballot(1, 1, 0)]).await;
        // It is back; handshakes make its first answer late.
        network.set_conditions([0], &slow(60));
        let run = network.collect(&collector, &[ballot(1, 2, 0)]).await;
        assert!(run.is_final());
        sleep(ms(200)).await;
        network.set_conditions([0], &Conditions::default());
        let run = network.collect(&collector, &[ballot(1, 3, 0)]).await;
        assert_eq!(run.told()[0], "answered");
        // It counts as quick again: the full nodes have their rest.
        sleep(ms(200)).await;
        let run = network.collect(&collector, &[ballot(1, 4, 0)]).await;
        assert_eq!(run.told(), [&["answered"; 4][..], &["not_asked"; 3]].concat());
    });
}

#[test]
fn nodes_that_never_answered_are_not_waited_for_twice_as_new_ones() {
    simulate(async {
        let network = Simulated::stack();
        network.cut(0..7, ms(60_000));
        let collector = network.collector();
        let took = network.collect(&collector, &[ballot(1, 1, 0)]).await.took;
        assert_eq!(took, LIMITS.cold_deadline);
        sleep(ms(1)).await;
        let run = network.collect(&collector, &[ballot(1, 2, 0)]).await;
        assert_eq!(run.took, LIMITS.deadline);
    });
}

#[test]
fn a_lost_answer_leaves_the_vote_and_the_next_collection_gets_the_same() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        // Requests arrive; then the way back is cut.
        network.partition(crate::network::Partition { nodes: (0..7).collect(), during_ms: 18..90 });
        let ours = [ballot(1, 1, 0)];
        let run = network.collect(&collector, &ours).await;
        assert_eq!((run.is_final(), run.stake()), (false, 0));
        let rival = network.collect(&collector, &[ballot(1, 1, 1)]).await;
        assert!(!rival.is_final());
        assert!(3 * rival.collected.outcomes[0].locked_stake > network.total_stake());
        assert!(network.collect(&collector, &ours).await.is_final());
    });
}

#[test]
fn a_nonce_that_more_than_a_third_has_promised_away_is_waited_for_no_longer() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.set_behaviour([0, 1], Behaviour::ClaimsLocks);
        network.set_conditions([2, 3], &slow(35));
        let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
        assert_eq!(run.took, ROUND_TRIP);
        assert_eq!((run.is_final(), run.collected.outcomes[0].locked_stake), (false, 6));
    });
}

#[test]
fn rivals_in_one_batch_are_decided_each_by_itself() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        let batch = [ballot(1, 1, 0), ballot(1, 1, 1), ballot(2, 1, 0), ballot(1, 1, 0)];
        let run = network.collect(&collector, &batch).await;
        let finals: Vec<_> = run.collected.outcomes.iter().map(|one| one.is_final).collect();
        assert_eq!(finals, [true, false, true, true]);
        assert_eq!(run.collected.outcomes[1].locked_stake, 12);
        assert_eq!(run.took, ROUND_TRIP);
    });
}

#[test]
fn an_empty_batch_and_an_electorate_of_nobody_are_no_error() {
    simulate(async {
        let network = Simulated::stack();
        let run = network.collect(&network.collector(), &[]).await;
        assert_eq!((run.took, run.told()), (ms(0), vec!["not_asked"; 7]));
        assert!(network.log().is_empty());
        let nobody = Simulated::new(Vec::new(), 0);
        let run = nobody.collect(&nobody.collector(), &[ballot(1, 1, 0)]).await;
        assert!(!run.is_final());
        assert_eq!(run.took, ms(0));
    });
}
