//! Nodes that lie: none of it counts, none of it ends a collection, and what proves it is kept.

use crate::network::{LIMITS, ROUND_TRIP, Simulated, simulate};
use crate::nodes::{Behaviour, LIARS, ballot};

/// The lies by which an answer is not what was asked for.
fn is_garbage(behaviour: Behaviour) -> bool {
    use Behaviour::*;
    !matches!(behaviour, SignsEverything | Forges | HidesItsEpoch | ClaimsLocks | RefusesCalls)
}

#[test]
fn one_light_node_that_lies_in_any_way_is_made_up_for_by_a_full_node() {
    for behaviour in LIARS.into_iter().filter(|one| *one != Behaviour::SignsEverything) {
        simulate(async {
            let network = Simulated::stack();
            let collector = network.warm_collector().await;
            network.set_behaviour([1], behaviour);
            let run = network.collect(&collector, &[ballot(1, 1, 0), ballot(1, 2, 0)]).await;
            for outcome in &run.collected.outcomes {
                assert!(outcome.is_final, "{behaviour:?}");
                assert!(outcome.votes.iter().all(|(name, _)| name != "node-1"), "{behaviour:?}");
            }
            assert_eq!(run.took, 2 * ROUND_TRIP, "{behaviour:?}");
            let told = match behaviour {
                Behaviour::RefusesCalls => "refused",
                behaviour if is_garbage(behaviour) => "garbage",
                _ => "answered",
            };
            assert_eq!(run.told()[1], told, "{behaviour:?}");
        });
    }
}

#[test]
fn lies_of_two_light_nodes_never_pass_for_a_quorum_and_never_end_the_collection() {
    for behaviour in LIARS {
        // A true signature counts, of whomever; and locks that are claimed are believed.
        if matches!(behaviour, Behaviour::SignsEverything | Behaviour::ClaimsLocks) {
            continue;
        }
        simulate(async {
            let network = Simulated::stack();
            let collector = network.warm_collector().await;
            network.set_behaviour([0, 1], behaviour);
            let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
            assert!(!run.is_final(), "{behaviour:?}");
            // Both honest light nodes, and all full ones, who were asked for what was missing.
            assert_eq!(run.stake(), 9, "{behaviour:?}");
        });
    }
}

#[test]
fn a_node_that_answers_what_nobody_asked_is_left_alone_at_once() {
    for behaviour in LIARS.into_iter().filter(|one| is_garbage(*one)) {
        simulate(async {
            let network = Simulated::stack();
            let collector = network.warm_collector().await;
            network.set_behaviour([1], behaviour);
            network.collect(&collector, &[ballot(1, 1, 0)]).await;
            let run = network.collect(&collector, &[ballot(1, 2, 0)]).await;
            assert_eq!(run.told()[1], "resting", "{behaviour:?}");
            assert!(run.is_final());
            assert_eq!(run.took, ROUND_TRIP, "{behaviour:?}");
        });
    }
}

#[test]
fn a_node_that_signs_both_of_two_rivals_counts_for_neither_and_is_told_on() {
    simulate(async {
        let network = Simulated::stack();
        let collector = network.warm_collector().await;
        network.set_behaviour([1], Behaviour::SignsEverything);
        let run = network.collect(&collector, &[ballot(1, 1, 0), ballot(1, 1, 1)]).await;
        let [ours, rival] = &run.collected.outcomes[..] else { panic!("two ballots") };
        assert_eq!((ours.is_final, ours.stake), (true, 10), "three light nodes and the first full one");
        assert_eq!((rival.is_final, rival.stake), (false, 0));
        for outcome in [ours, rival] {
            assert_eq!(outcome.refused, ["node-1"]);
            assert_eq!(outcome.double_votes.len(), 1);
            assert_eq!(outcome.double_votes[0].delegate_id, "node-1");
        }
    });
}

#[test]
fn two_collectors_and_two_liars_short_of_a_third_never_make_rivals_final() {
    simulate(async {
        let network = Simulated::stack();
        let (one, other) = (network.warm_collector().await, network.warm_collector().await);
        // One light node and one full: 4 of 15.
        network.set_behaviour([1, 5], Behaviour::SignsEverything);
        for nonce in 0..50 {
            // Who is quicker where is left to chance.
            let conditions = crate::network::Conditions { delay_ms: 1..12, ..Default::default() };
            network.set_conditions(0..7, &conditions);
            let (ours, rival) = ([ballot(1, nonce, 0)], [ballot(1, nonce, 1)]);
            let (ours, rival) = tokio::join!(network.collect(&one, &ours), network.collect(&other, &rival));
            assert!(!(ours.is_final() && rival.is_final()), "nonce {nonce}");
            assert!(ours.took <= LIMITS.deadline && rival.took <= LIMITS.deadline);
        }
    });
}

#[test]
fn a_full_node_that_lies_makes_nothing_final() {
    for behaviour in LIARS {
        simulate(async {
            let network = Simulated::stack();
            let collector = network.warm_collector().await;
            network.cut([0], LIMITS.cold_deadline);
            network.set_behaviour([4, 5, 6], behaviour);
            let run = network.collect(&collector, &[ballot(1, 1, 0)]).await;
            // What it signs truly, though it would sign anything, is its vote.
            assert_eq!(run.is_final(), behaviour == Behaviour::SignsEverything, "{behaviour:?}");
            assert!(run.took <= LIMITS.deadline);
        });
    }
}
