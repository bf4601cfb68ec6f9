"""No payload of a state breaks Step Functions' quota, however many vote with however long signatures."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from voting.electorates import SigningElectorate

import flag_rust
from dispatch.batching import pack as batches_of
from dispatch.batching import read_messages
from dpos.voting import collect_votes
from federation.batch import Batch, Group, Item, Receipt, Tier
from federation.breaker import BreakerState
from federation.limits import (
    BATCH_ITEMS_MAX,
    CONTENT_BYTES_MAX,
    INBOX_MESSAGE_BYTES_MAX,
    OBJECT_IDS_MAX,
    PIPELINE_BYTES_MAX,
)
from federation.regions import CONTINENTS
from persist.record import Record, Rejection
from persist.tier import Entry, Inserted, Part, TierUnavailable, store_group
from pop.place import PlaceLimits, prove_places
from reward.split import reward_groups
from send.city_dag_handler import pack
from shard.grouping import group_by_continent

ED25519, ML_DSA = "Ed25519", "ML-DSA-65"
REWARD = 1_000
#: As long as the registry allows.
LONG_NAME = "n" * 60
#: What Lambda's service integration says of a call beside its payload: versions, headers, ids.
CALL_BYTES = 1_500

ELECTORATES: dict[str, list[Any]] = {
    "7 Ed25519": [ED25519] * 7,
    "20 Ed25519": [ED25519] * 20,
    "1 ML-DSA-65": [ML_DSA],
    "7 ML-DSA-65": [ML_DSA] * 7,
    "6 Ed25519 and 1 ML-DSA-65": [ED25519] * 6 + [ML_DSA],
}


class Down:
    """A tier that can't be reached."""

    def insert(self, continent: str, records: Sequence[Entry]) -> Inserted:
        raise TierUnavailable("down" * 50)

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        raise TierUnavailable("down" * 50)

    def fetch(self, transaction_id: str, continent: str | None) -> Entry | Rejection | None:
        raise TierUnavailable("down")

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        return {}

    def breakers(self) -> list[BreakerState]:
        return []

    def health(self) -> list[Part]:
        return []


class Conflicting(Down):
    """A tier that knows of a conflict for each, and goes away before it has recorded any."""

    def insert(self, continent: str, records: Sequence[Entry]) -> Inserted:
        return Inserted({}, frozenset(one.transaction_id for one, _ in records))


class Up(Down):
    """A tier that takes all."""

    def insert(self, continent: str, records: Sequence[Entry]) -> Inserted:
        return Inserted({one.transaction_id: one for one, _ in records}, frozenset())

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        return {one.transaction_id: one for one in rejections}


@pytest.fixture(scope="module", params=list(ELECTORATES))
def electorate(request: pytest.FixtureRequest) -> SigningElectorate:
    return SigningElectorate(ELECTORATES[request.param], name=LONG_NAME)


def fullest(groups: Any, *items: Item) -> Batch:
    """The largest batch of what these items' messages make, through `send` and `dispatch`."""
    now_ms = time.time_ns() // 1_000_000
    envelopes = [
        msgspec.structs.replace(
            item.envelope,
            wrapped_key=groups.wrapped_keys[item.envelope.sealed.key_id],
            accepted_at_ms=now_ms,
            request_id="c6af9ac6-7b61-11e6-9a41-93e8deadbeef",
        )
        for item in items
    ]
    records: list[dict[str, Any]] = [
        {"messageId": str(n), "receiptHandle": str(n), "body": body, "attributes": {}}
        for n, body in enumerate(pack(envelopes))
    ]
    messages, unreadable = read_messages(records)
    assert unreadable == []
    return max(batches_of(messages), key=lambda one: len(msgspec.json.encode(one)))


def small(groups: Any, count: int = BATCH_ITEMS_MAX, content_bytes: int = 0) -> Batch:
    account = groups.account("SouthAmerica")
    content = {"message": "m" * content_bytes}
    return fullest(groups, *(groups.item(account, n, content=content) for n in range(count)))


def size_bytes(payload: Any) -> int:
    """As Python's own encoder writes it on Lambda: with white space, and what isn't ASCII escaped."""
    return len(json.dumps(msgspec.to_builtins(payload)))


def payloads(batch: Batch, electorate: SigningElectorate) -> Iterator[tuple[str, int, Any]]:
    """Each state's input or result by name, through the real stages, as JSON between states."""
    placed, _ = prove_places(batch, PlaceLimits(), {})
    yield "pop", CALL_BYTES + size_bytes(placed), placed
    voted = collect_votes(placed, electorate.delegates, electorate)
    yield "dpos", CALL_BYTES + size_bytes(voted), voted
    sharded = group_by_continent(msgspec.convert(msgspec.to_builtins(voted), Batch))
    yield "shard", CALL_BYTES + size_bytes(sharded), sharded
    weights = {one.delegate_id: one.stake for one in electorate.delegates.delegates}
    grouped = reward_groups(sharded, weights, REWARD)
    yield "reward", CALL_BYTES + size_bytes(grouped), grouped
    receipts: list[Receipt] = []
    tiers: list[tuple[Tier, Any]] = [
        ("atlas", Down()),
        ("dynamodb", Conflicting()),
        ("immudb", Up()),
    ]
    for group in grouped.groups:
        waiting = msgspec.to_builtins(group)
        for tier, store in tiers:
            called = {**waiting, "action": "store"}
            yield f"{tier} input", size_bytes(called), called
            persisted = store_group(msgspec.convert(waiting, Group), tier, store)
            yield f"{tier} result", CALL_BYTES + size_bytes(persisted), persisted
            left = msgspec.to_builtins(persisted.unavailable)
            waiting = {**waiting, "outcome": persisted.outcome, "items": left}
            yield f"{tier} output", size_bytes(waiting), waiting
            receipts += persisted.receipts
    yield "receipts", size_bytes({"receipts": receipts, "stored_all": True}), receipts


def checked(batch: Batch, electorate: SigningElectorate) -> dict[str, Any]:
    """The stages' payloads by name, none above the quota."""
    found = {}
    for name, size, payload in payloads(batch, electorate):
        assert size <= PIPELINE_BYTES_MAX, name
        found[name] = payload
    ids = [one.envelope.header.transaction_id for one in batch.items]
    assert [one.envelope.header.transaction_id for one in found["dpos"].items] == ids
    assert Counter(one.transaction_id for one in found["receipts"]) == Counter(set(ids))
    return found


def check_votes(items: Sequence[Item], electorate: SigningElectorate) -> None:
    """Whoever is final is so by the votes that it carries, and by nothing else."""
    stakes = {one.delegate_id: one.stake for one in electorate.delegates.delegates}
    proven = electorate.proving.proven(items)
    for item in items:
        flag_rust.check(item.flags)
        assert item.outcome == "accepted"
        assert item.stake == sum(stakes[name] for name, _ in item.votes)
        assert item.final is (item.envelope.header.transaction_id in proven)
        assert bool(item.flags & flag_rust.FINAL) is item.final
        assert bool(item.flags & flag_rust.VOTED) is bool(item.votes)
        assert sum(amount for _, amount in item.rewards) == (REWARD if item.final else 0)
        assert {name for name, _ in item.rewards} == {name for name, _ in item.votes if item.final}


def rewarded(found: dict[str, Any]) -> list[Item]:
    return [item for group in found["reward"].groups for item in group.items]


def test_a_hundred_small_items_pass_with_as_many_votes_as_have_room(
    groups: Any, electorate: SigningElectorate
) -> None:
    batch = small(groups)
    assert len(batch.items) == BATCH_ITEMS_MAX
    items = rewarded(checked(batch, electorate))
    check_votes(items, electorate)
    assert any(item.final for item in items)


def test_a_batch_as_full_as_batches_get_passes(groups: Any, electorate: SigningElectorate) -> None:
    batch = small(groups, content_bytes=180)
    assert len(batch.items) >= BATCH_ITEMS_MAX - 5
    assert len(msgspec.json.encode(batch)) > INBOX_MESSAGE_BYTES_MAX
    check_votes(rewarded(checked(batch, electorate)), electorate)


def test_items_of_the_maximum_size_pass(groups: Any, electorate: SigningElectorate) -> None:
    account = groups.account("SouthAmerica")
    objects = [f"{n:064x}" for n in range(OBJECT_IDS_MAX)]
    content = {"message": "m" * (CONTENT_BYTES_MAX - 100)}
    batch = fullest(
        groups,
        *(
            groups.item(account, n, content=content, reads=objects, writes=objects)
            for n in range(20)
        ),
    )
    items = rewarded(checked(batch, electorate))
    check_votes(items, electorate)
    assert all(item.final for item in items)


def test_groups_that_each_take_a_copy_of_a_wrapped_key_pass(
    groups: Any, electorate: SigningElectorate
) -> None:
    accounts = [groups.account(one.value) for one in CONTINENTS]
    batch = fullest(
        groups, *(groups.item(accounts[n % len(accounts)], n) for n in range(BATCH_ITEMS_MAX))
    )
    found = checked(batch, electorate)
    assert len(found["reward"].groups) == len(CONTINENTS)
    check_votes(rewarded(found), electorate)


@pytest.mark.parametrize(("voters", "content_bytes"), [(7, 180), (20, 0)])
def test_without_the_budget_the_same_votes_would_break_the_quota(
    groups: Any, voters: int, content_bytes: int
) -> None:
    """So that the tests above can't pass by votes that are too small."""
    electorate = SigningElectorate([ED25519] * voters, name=LONG_NAME)
    batch, _ = prove_places(small(groups, content_bytes=content_bytes), PlaceLimits(), {})
    collect_votes(batch, electorate.delegates, electorate)
    every = [
        msgspec.structs.replace(item, votes=electorate.text(kept))
        for item, kept in zip(batch.items, electorate.kept, strict=True)
    ]
    assert size_bytes(msgspec.structs.replace(batch, items=every)) > PIPELINE_BYTES_MAX


def test_pending_records_stay_below_the_quota_up_to_their_outcome(
    groups: Any, electorate: SigningElectorate
) -> None:
    gathered = msgspec.structs.replace(
        small(groups),
        items=[
            msgspec.structs.replace(one, continent="SouthAmerica", shard=1)
            for one in small(groups).items
        ],
    )
    entries = [f"{one.envelope.header.transaction_id}:{2**43}" for one in gathered.items]
    grouped = checked(gathered, electorate)["reward"]
    called = {"action": "finish", "continent": "a", "entries": entries, "grouped": grouped}
    assert size_bytes(called) <= PIPELINE_BYTES_MAX
