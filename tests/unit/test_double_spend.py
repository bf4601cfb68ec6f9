"""The judges of the double-spend simulation: what they must see, they see."""

import json
import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
from lovectl.delegates import EPOCH, NODES, STAKES
from lovectl.simulation.ballots import rivals
from lovectl.simulation.collector import VoteLog, Voter, holds, vote_bytes
from lovectl.simulation.double import habits_of
from lovectl.simulation.double_spend import BYZANTINE, Schedule
from lovectl.simulation.evidence import confessed, core_proofs, find_proofs

KEY = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
VOTER = Voter("node-tokyo", KEY.public_key().public_bytes_raw(), 3)
HONEST = sorted(NODES.keys() - BYZANTINE.keys())


def test_rivals_share_sender_and_nonce_and_nothing_else() -> None:
    for first, second in rivals(25, random.Random(1)):
        assert (first.sender, first.nonce) == (second.sender, second.nonce)
        assert first.transaction_id != second.transaction_id
        one, other = json.loads(first.header), json.loads(second.header)
        assert one["recipient"] != other["recipient"]
        verified = federation_dag.verify_headers(
            [
                (each.algorithm, each.public_key, each.header, each.signature)
                for each in (first, second)
            ]
        )
        assert verified.reasons == [None, None]


def test_one_seed_gives_one_schedule() -> None:
    assert Schedule.of(3, 40, HONEST) == Schedule.of(3, 40, HONEST)
    assert Schedule.of(3, 40, HONEST) != Schedule.of(4, 40, HONEST)


def test_byzantine_stake_is_below_a_third_and_one_more_light_node_would_reach_it() -> None:
    stake = sum(STAKES[name] for name in BYZANTINE)
    assert 3 * stake < sum(STAKES.values()) <= 3 * (stake + STAKES["node-tokyo"])


def test_a_partition_gives_each_delegate_to_one_side() -> None:
    for cut in Schedule.of(5, 80, HONEST).cuts:
        hidden = [name for names in cut.unreachable.values() for name in names]
        assert sorted(hidden) == sorted(NODES)


def test_what_a_vote_signs_is_the_same_here_as_in_the_core() -> None:
    [(ballot, _)] = rivals(1, random.Random(2))
    assert vote_bytes(7, ballot) == federation_dag.vote_message(
        7, ballot.transaction_id, ballot.sender, ballot.nonce
    )


def test_two_votes_of_a_nonce_are_a_proof_and_a_changed_one_is_refuted() -> None:
    pairs = list(rivals(2, random.Random(3)))
    logs = [VoteLog(), VoteLog()]
    for half, log in enumerate(logs):
        ballot = pairs[0][half]
        signature = KEY.sign(vote_bytes(EPOCH, ballot))
        log.signatures[ballot.transaction_id] = {VOTER.delegate_id: signature}
    only = pairs[1][0]
    logs[0].signatures[only.transaction_id] = {VOTER.delegate_id: KEY.sign(vote_bytes(EPOCH, only))}
    [proof] = find_proofs(pairs, logs)
    assert proof.holds(VOTER.public_key, EPOCH)
    assert not proof.holds(VOTER.public_key, EPOCH + 1)
    assert not proof.holds(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), EPOCH)
    sender, nonce = pairs[0][0].sender, pairs[0][0].nonce
    assert core_proofs(pairs, logs, [VOTER], EPOCH) == {(VOTER.delegate_id, sender, nonce)}


def test_a_signature_of_another_message_does_not_hold() -> None:
    assert not holds(VOTER.public_key, b"a", KEY.sign(b"b"))


def test_a_confession_counts_nonces_with_two_transactions(tmp_path: Path) -> None:
    said = {"delegate_id": "node-tokyo", "sender": "s", "nonce": 1, "transaction_id": "a"}
    file = tmp_path / "confession"
    file.write_text("".join(json.dumps(one) + "\n" for one in (said, said, {**said, "nonce": 2})))
    assert confessed([file, tmp_path / "none"]) == {}
    with file.open("a") as more:
        more.write(json.dumps({**said, "transaction_id": "b"}) + "\n")
    assert confessed([file]) == {"node-tokyo": 1}


def test_an_unknown_habit_is_named() -> None:
    assert habits_of("double=2,garbage") == {"double": 2, "garbage": 1}
    with pytest.raises(ValueError, match="nice"):
        habits_of("nice=1")
