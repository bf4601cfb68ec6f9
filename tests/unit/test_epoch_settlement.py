"""An epoch's rewards are settled exactly, uptime is what was voted, changes are what was asked for."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

import federation_dag
from federation.limits import PPM
from federation.registry import (
    NO_PREVIOUS,
    Candidate,
    Delegation,
    Evidence,
    Registry,
    RegistryError,
)
from lovectl.ledger import Entry, EpochEntries, entry_of, of_epoch, settle, uptime_ppm, with_outcome
from lovectl.registry_changes import (
    next_registry,
    parse_candidate,
    parse_delegation,
    parse_seats,
)
from reward.split import split

#: Two light delegates that are a quorum together, and a full one without which one of them is none.
NAMES = {"a": ("city", 4), "b": ("city", 4), "f": ("global", 2)}
KEYS = {name: Ed25519PrivateKey.generate() for name in NAMES}
SENDER = "5" * 64
HOLDER = "a" * 64


def candidate(name: str, stake: int, level: Any = "city") -> Candidate:
    key = KEYS.get(name, Ed25519PrivateKey.generate()).public_key().public_bytes_raw()
    return Candidate(name, level, "Rome", "localhost:1", "Ed25519", b64encode(key).decode(), stake)


REGISTRY = Registry(
    epoch=3,
    previous=NO_PREVIOUS,
    seats={"city": 2, "global": 1},
    candidates=[candidate(name, stake, level) for name, (level, stake) in NAMES.items()],
)


def vote(name: str, transaction_id: str, nonce: int, epoch: int = 3) -> tuple[str, str]:
    message = federation_dag.vote_message(
        epoch, bytes.fromhex(transaction_id), bytes.fromhex(SENDER), nonce
    )
    return name, b64encode(KEYS[name].sign(message)).decode()


def entry(
    n: int, voters: str, rewards: Any = (), epoch: int = 3, nonce: int | None = None
) -> Entry:
    transaction_id, used = f"{n:064x}", n if nonce is None else nonce
    votes = tuple(vote(name, transaction_id, used, epoch) for name in voters)
    return Entry(transaction_id, SENDER, used, True, votes, tuple(rewards))


def proof_against(name: str, epoch: int = 3, forged: bool = False) -> Evidence:
    ids = ("e" * 64, "f" * 64)
    signatures = [vote(name, one, 77, epoch)[1] for one in ids]
    if forged:
        signatures[1] = signatures[0]
    return Evidence(name, epoch, SENDER, 77, ids, (signatures[0], signatures[1]))


WEIGHTS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.tuples(st.integers(0, 10**12), st.integers(0, PPM)).map(lambda one: one[0] * one[1]),
    max_size=9,
)


@given(st.integers(0, 10**9), WEIGHTS)
def test_a_split_by_stake_and_uptime_is_exact_and_nobody_without_weight_gets_any(
    amount: int, weights: dict[str, int]
) -> None:
    given_ = split(amount, weights, "t")
    total = sum(weights.values())
    assert sum(share for _, share in given_) == (amount if total else 0)
    for name, share in given_:
        assert share > 0
        # No more than a unit away from the exact share.
        assert abs(share * total - amount * weights[name]) < total


REWARDS = st.lists(
    st.dictionaries(st.sampled_from("abf"), st.integers(1, 1_000), max_size=3), max_size=8
)


@settings(deadline=None)
@given(REWARDS, st.sets(st.sampled_from("abf")))
def test_a_settlement_gives_all_that_was_earned_and_nothing_to_a_double_voter(
    rewards: list[dict[str, int]], guilty: set[str]
) -> None:
    entries = [
        Entry(f"{n:064x}", SENDER, n, True, (), tuple(one.items())) for n, one in enumerate(rewards)
    ]
    epoch = EpochEntries(REGISTRY, entries, {}, [], [])
    settled = settle(epoch, [proof_against(name) for name in sorted(guilty)])
    earned = sum(amount for one in rewards for amount in one.values())
    assert sum(settled.earned.values()) == earned
    assert sum(settled.due.values()) + settled.unassigned == earned
    assert sum(settled.forfeited.values()) == sum(
        amount for one in rewards for name, amount in one.items() if name in guilty
    )
    assert not guilty & settled.due.keys()
    assert all(settled.due[name] >= settled.earned[name] for name in settled.due)
    assert settled.unassigned == 0 or not settled.due


def test_a_forged_proof_takes_nobody_s_reward() -> None:
    epoch = of_epoch([entry(1, "ab", [("a", 5), ("b", 5)])], REGISTRY)
    with pytest.raises(RegistryError) as caught:
        settle(epoch, [proof_against("a", forged=True)])
    assert caught.value.reason == "bad_evidence"


def test_a_proof_of_another_epoch_takes_nothing_in_this_one() -> None:
    epoch = of_epoch([entry(1, "ab", [("a", 5), ("b", 5)])], REGISTRY)
    assert settle(epoch, [proof_against("a", epoch=2)]).due == {"a": 5, "b": 5}


def test_an_entry_belongs_to_the_epoch_that_its_votes_were_signed_in() -> None:
    mine, other = entry(1, "ab", [("a", 5)]), entry(2, "ab", [("a", 7)], epoch=2)
    nobody = msgspec.structs.replace(entry(3, "", [("a", 9)]), votes=(("a", "no base64!"),))
    found = of_epoch([mine, other, nobody], REGISTRY)
    assert found.entries == [mine]
    assert found.unproved == [other.transaction_id, nobody.transaction_id]
    assert settle(found, []).earned == {"a": 5}


def test_a_double_vote_that_lies_in_the_stores_is_found_and_loses_the_epoch() -> None:
    entries = [
        entry(1, "ab", [("a", 6), ("b", 4)]),
        entry(2, "af", [("a", 3), ("f", 7)], nonce=1),
        entry(3, "ab", [("a", 1), ("b", 2)]),
    ]
    found = of_epoch(entries, REGISTRY)
    assert [one.delegate_id for one in found.double_votes] == ["a"]
    settled = settle(found, [])
    assert settled.forfeited == {"a": 10}
    assert settled.earned == {"a": 10, "b": 6, "f": 7}
    assert sum(settled.due.values()) == 23
    assert settled.due.keys() == {"b", "f"}


def test_uptime_counts_a_full_node_only_where_the_light_ones_fall_short() -> None:
    found = of_epoch([entry(1, "ab"), entry(2, "ab"), entry(3, "af"), entry(4, "bf")], REGISTRY)
    assert uptime_ppm(found) == {"a": 750_000, "b": 750_000, "f": PPM}
    assert uptime_ppm(of_epoch([entry(1, "ab")], REGISTRY)) == {"a": PPM, "b": PPM}
    # Both light ones are down for none: 4 of 10 was never final without the full one.
    assert uptime_ppm(of_epoch([], REGISTRY)) == {}


def test_a_vote_that_does_not_hold_is_no_uptime() -> None:
    one = entry(1, "ab")
    forged = msgspec.structs.replace(one, votes=(one.votes[0], ("b", one.votes[0][1])))
    assert uptime_ppm(of_epoch([forged], REGISTRY))["b"] == 0


def test_records_of_all_tiers_read_alike() -> None:
    record = {
        "transaction_id": "1" * 64,
        "sender": SENDER,
        "nonce": 1,
        "final": True,
        "votes": [["a", "AA=="]],
        "rewards": [["a", 3]],
    }
    atlas = {
        **record,
        "votes": [{"delegate_id": "a", "signature": "AA=="}],
        "rewards": [{"delegate_id": "a", "amount": 3}],
    }
    assert entry_of(record) == entry_of(atlas)
    assert entry_of(record).rewards == (("a", 3),)


def test_what_became_final_later_counts_with_its_later_votes_and_rewards() -> None:
    whole = entry(1, "ab", [("a", 5), ("b", 5)])
    pending = msgspec.structs.replace(whole, final=False, votes=whole.votes[:1], rewards=())
    outcome = {
        "outcome": "final",
        "votes": [{"delegate_id": a, "signature": b} for a, b in whole.votes],
        "rewards": [{"delegate_id": a, "amount": b} for a, b in whole.rewards],
    }
    assert with_outcome(pending, outcome) == whole
    assert with_outcome(pending, {**outcome, "outcome": "rejected"}) == pending
    assert with_outcome(whole, {**outcome, "rewards": []}) == whole
    assert settle(of_epoch([with_outcome(pending, outcome)], REGISTRY), []).due == {"a": 5, "b": 5}


def test_a_change_holds_what_was_asked_for_and_else_what_was() -> None:
    lent = next_registry(REGISTRY, delegate=[parse_delegation(f"{HOLDER}:a:5")])
    assert lent.epoch == REGISTRY.epoch + 1
    assert lent.previous == REGISTRY.digest
    assert lent.stakes()["a"] == 9
    more = next_registry(
        lent,
        add=[candidate("c", 7)],
        seats=parse_seats("city=3"),
        undelegate=[Delegation(HOLDER, "a", 5)],
        uptime_ppm={"a": 1},
        evidence=[proof_against("b")],
    )
    assert {one["delegate_id"] for one in more.delegates()} == {"a", "b", "c", "f"}
    assert more.delegations == []
    assert more.uptime_ppm == {"a": 1}
    less = next_registry(more, remove=["b", "a"], evidence=[proof_against("b")])
    assert {one.delegate_id for one in less.candidates} == {"c", "f"}
    assert less.evidence == []
    assert less.uptime_ppm == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"remove": ["nobody"]}, "nobody"),
        ({"undelegate": [Delegation(HOLDER, "a", 1)]}, "less than that"),
    ],
)
def test_a_change_that_can_t_be_names_why(change: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        next_registry(REGISTRY, **change)


def test_a_change_to_a_registry_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(RegistryError) as caught:
        next_registry(REGISTRY, delegate=[Delegation(HOLDER, "nobody", 1)])
    assert caught.value.reason == "unknown_delegate"


@pytest.mark.parametrize("text", ["", "a:b", f"{HOLDER}:a:0", f"{HOLDER}:a:x", "xyz:a:1"])
def test_a_delegation_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_delegation(text)


@pytest.mark.parametrize("text", ["city", "village=1", "city=-1", "city=101"])
def test_seats_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_seats(text)


def test_a_candidate_reads_as_it_is_listed() -> None:
    [row] = [one for one in REGISTRY.delegates() if one["delegate_id"] == "a"]
    assert parse_candidate(msgspec.json.encode(row)) == REGISTRY.candidates[0]
    with pytest.raises(ValueError, match="stake"):
        parse_candidate(msgspec.json.encode({**row, "stake": -1}))
