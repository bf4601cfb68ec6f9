"""Pending records become final, or are told never to, whatever dies on the way."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from voting.electorates import SigningElectorate
from voting.late import REWARD, LateDelegates

from dpos.voting import collect_votes
from federation.batch import rejected
from federation.limits import (
    BATCH_ITEMS_MAX,
    PIPELINE_BYTES_MAX,
    RETRY_PERIOD_MIN_MAX,
    SPURIOUS_AGE_MS,
)
from persist.finality import Finality, PendingEntry, entry_of, with_finality
from persist.record import Record, record_of
from persist.tier import TierUnavailable
from reconcile import pending
from reconcile.pending import MINUTE_MS, finish, gather, is_due
from reconcile.stored import Stored
from reward.split import reward_groups
from shard.grouping import group_by_continent

NOW_MS = 10 * SPURIOUS_AGE_MS


class Died(Exception):
    """The function is gone."""


class MemoryCluster:
    """A cluster in memory; `dies_at` is the number of the write that ends the function."""

    def __init__(self) -> None:
        self.stored: dict[str, tuple[Record, bytes]] = {}
        self.waiting: dict[str, PendingEntry] = {}
        self.outcomes: dict[str, Finality] = {}
        self.damaged: set[str] = set()
        self.strange: set[str] = set()
        self.dies_at: int | None = None
        self.dies_after_write = True

    def put(self, groups: Any, item: Any, stored_at_ms: int = NOW_MS) -> str:
        """Store a record as `persist` does, the work entry first."""
        record, sealed = record_of(item, "Europe", groups.wrapped_keys, "atlas", stored_at_ms)
        entry = entry_of(record)
        self.waiting[entry.entry_id] = entry
        self.stored[record.transaction_id] = (record, sealed)
        return record.transaction_id

    def entries(self, after: str, limit: int) -> list[str]:
        return [one for one in sorted({*self.waiting, *self.strange}) if one > after][:limit]

    def oldest_ms(self) -> int | None:
        return min((one.since_ms for one in self.waiting.values()), default=None)

    def records(self, transaction_ids: Collection[str]) -> Stored:
        return Stored(
            {one: self.stored[one] for one in transaction_ids if one in self.stored},
            {one: "damaged" for one in transaction_ids if one in self.damaged},
        )

    def settled(self, transaction_ids: Collection[str]) -> set[str]:
        return set(transaction_ids) & self.outcomes.keys()

    def settle(self, outcomes: Sequence[Finality]) -> None:
        for one in outcomes:
            self._write(lambda one=one: self.outcomes.setdefault(one.transaction_id, one))

    def remove(self, entry_ids: Collection[str]) -> None:
        for one in sorted(entry_ids):
            self._write(lambda one=one: self.waiting.pop(one, None))

    def _write(self, write: Callable[[], object]) -> None:
        if self.dies_at == 0 and not self.dies_after_write:
            raise Died
        write()
        if self.dies_at == 0:
            raise Died
        if self.dies_at is not None:
            self.dies_at -= 1


def waiting_item(groups: Any, **changes: Any) -> Any:
    return groups.item(**{"votes": [], "rewards": [], "flags": 3, "shard": None, **changes})


def run(
    cluster: MemoryCluster, delegates: LateDelegates, voters: int = 3, now_ms: int = NOW_MS
) -> list[Any]:
    """All rounds of one run of the state machine; what each finished with."""
    after, finished = "", []
    while True:
        gathered = gather(cluster, "batch", now_ms, after)
        if gathered.batch.items:
            grouped = delegates.stages(gathered.batch, voters)
            finished.append(
                finish(cluster, grouped.groups, gathered.entries, delegates.electorate, now_ms)
            )
        if not gathered.more:
            return finished
        after = gathered.after


@pytest.fixture(scope="module")
def delegates() -> LateDelegates:
    return LateDelegates()


def test_a_pending_record_becomes_final_when_its_votes_come(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    name = cluster.put(groups, waiting_item(groups))
    run(cluster, delegates)
    record = with_finality(cluster.stored[name][0], cluster.outcomes[name])
    assert record.receipt().final
    assert len(record.votes) == 3
    assert sum(amount for _, amount in record.rewards) == REWARD
    assert cluster.waiting == {}


def test_without_a_quorum_a_record_stays_pending_and_nothing_grows(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    cluster.put(groups, waiting_item(groups))
    for voters in (0, 1, 1, 0):
        assert run(cluster, delegates, voters)[0].answered == (voters > 0)
    assert cluster.outcomes == {}
    assert len(cluster.waiting) == 1


@pytest.mark.parametrize(
    "strange", ["0", "~", "ab", ":5", "ab:", "ab:x", "ab:-5", "ab:1:2", "ab:٣"]
)
def test_what_is_no_work_entry_is_told_and_holds_up_no_other(
    groups: Any, delegates: LateDelegates, strange: str
) -> None:
    cluster = MemoryCluster()
    names = [cluster.put(groups, waiting_item(groups)) for _ in range(3)]
    cluster.strange.add(strange)
    assert gather(cluster, "batch", NOW_MS).damaged == [strange]
    run(cluster, delegates)
    assert {*names} == {*cluster.outcomes}
    assert cluster.waiting == {}


@given(st.text(st.characters(exclude_characters=":"), min_size=1), st.integers(0, 10**15 - 1))
def test_a_work_entry_is_all_in_its_name(transaction_id: str, since_ms: int) -> None:
    entry = PendingEntry(transaction_id, since_ms)
    assert PendingEntry.named(entry.entry_id) == entry


def test_votes_that_do_not_verify_make_nothing_final_whatever_a_stage_says(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    cluster.put(groups, waiting_item(groups))
    gathered = gather(cluster, "batch", NOW_MS)
    forged = LateDelegates().stages(gathered.batch)
    assert forged.groups[0].items[0].final
    done = finish(cluster, forged.groups, gathered.entries, delegates.electorate, NOW_MS)
    assert (done.final, done.pending) == (0, 1)
    other_epoch = LateDelegates(epoch=2)
    other_epoch.keys = delegates.keys
    late = other_epoch.stages(gathered.batch)
    finish(cluster, late.groups, gathered.entries, delegates.electorate, NOW_MS)
    assert cluster.outcomes == {}
    assert len(cluster.waiting) == 1


def test_a_record_whose_nonce_is_promised_away_is_rejected_for_good(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    name = cluster.put(groups, waiting_item(groups))
    gathered = gather(cluster, "batch", NOW_MS)
    grouped = delegates.stages(gathered.batch, voters=0)
    [group] = grouped.groups
    lost = msgspec.structs.replace(group, items=[rejected(group.items[0], "nonce_conflict")])
    finish(cluster, [lost], gathered.entries, delegates.electorate, NOW_MS)
    receipt = with_finality(cluster.stored[name][0], cluster.outcomes[name]).receipt()
    assert (receipt.status, receipt.reason, receipt.final) == ("rejected", "nonce_conflict", False)
    assert cluster.waiting == {}


def test_no_other_rejection_ends_a_stored_transaction(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    cluster.put(groups, waiting_item(groups))
    gathered = gather(cluster, "batch", NOW_MS)
    [group] = delegates.stages(gathered.batch, voters=0).groups
    refused = msgspec.structs.replace(group, items=[rejected(group.items[0], "bad_signature")])
    finish(cluster, [refused], gathered.entries, delegates.electorate, NOW_MS)
    assert cluster.outcomes == {}
    assert len(cluster.waiting) == 1


def test_a_damaged_record_is_named_and_asked_for_no_votes(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    name = cluster.put(groups, waiting_item(groups))
    record, sealed = cluster.stored[name]
    cluster.stored[name] = (msgspec.structs.replace(record, nonce=record.nonce + 1), sealed)
    gathered = gather(cluster, "batch", NOW_MS)
    assert gathered.damaged == [name]
    assert gathered.batch.items == []


def test_a_record_that_cannot_be_read_is_named_and_the_others_get_their_votes(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    names = [cluster.put(groups, waiting_item(groups)) for _ in range(3)]
    del cluster.stored[names[0]]
    cluster.damaged = {names[0]}
    gathered = gather(cluster, "batch", NOW_MS)
    assert gathered.damaged == [names[0]]
    run(cluster, delegates)
    assert cluster.outcomes.keys() == set(names[1:])


def test_a_batch_is_whole_sealed_content_and_wrapped_keys_too(groups: Any) -> None:
    cluster = MemoryCluster()
    item = waiting_item(groups)
    cluster.put(groups, item)
    batch = gather(cluster, "batch", NOW_MS).batch
    key_id = item.envelope.sealed.key_id
    assert batch.wrapped_keys == {key_id: groups.wrapped_keys[key_id]}
    assert batch.items[0].envelope == item.envelope


def test_rounds_stay_below_the_payload_of_a_state_and_leave_nothing_out(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    content = {"message": "m" * 6_000}
    for _ in range(BATCH_ITEMS_MAX // 2):
        cluster.put(groups, waiting_item(groups, content=content))
    after, rounds, seen = "", 0, []
    while True:
        gathered = gather(cluster, "batch", NOW_MS, after)
        voted = delegates.stages(gathered.batch)
        assert len(msgspec.json.encode([voted, gathered.entries])) < PIPELINE_BYTES_MAX
        seen += gathered.entries
        rounds, after = rounds + 1, gathered.after
        if not gathered.more:
            break
    assert rounds > 1
    assert sorted(seen) == sorted(cluster.waiting)


@settings(deadline=None)
@given(
    names=st.sets(st.text("0123456789abcdef", min_size=1, max_size=3)),
    start=st.text("0123456789abcdef", min_size=1, max_size=3),
    scanned=st.integers(1, 7),
    chosen=st.integers(1, 5),
)
def test_a_run_sees_everything_once_wherever_it_starts(
    names: set[str], start: str, scanned: int, chosen: int
) -> None:
    cluster = MemoryCluster()
    # No entry has a record: all are looked at, and stay, since they aren't old.
    cluster.waiting = {
        entry.entry_id: entry for entry in (PendingEntry(name, NOW_MS) for name in names)
    }
    looked_at: list[str] = []
    cluster.records = lambda ids: looked_at.extend(ids) or Stored({})  # type: ignore[method-assign, func-returns-value]
    after = ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pending, "PENDING_SCAN_MAX", scanned)
        patch.setattr(pending, "BATCH_ITEMS_MAX", chosen)
        patch.setattr(pending.secrets, "token_hex", lambda size: start)
        for _ in range(2 * len(names) + 2):
            gathered = gather(cluster, "batch", NOW_MS, after, all_due=True)
            if not gathered.more:
                break
            after = gathered.after
    assert not gathered.more
    assert sorted(looked_at) == sorted(names)


def test_runs_start_anywhere_so_that_more_than_one_can_see_is_seen_by_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending, "PENDING_SCAN_MAX", 10)
    cluster = MemoryCluster()
    for n in range(200):
        entry = PendingEntry(hashlib.sha256(bytes([n])).hexdigest(), NOW_MS)
        cluster.waiting[entry.entry_id] = entry
    looked_at: set[str] = set()
    cluster.records = lambda ids: looked_at.update(ids) or Stored({})  # type: ignore[method-assign, func-returns-value]
    for _ in range(1_000):
        gather(cluster, "batch", NOW_MS, all_due=True)
    assert len(looked_at) == 200


def test_a_look_for_the_oldest_that_takes_too_long_keeps_the_run_from_nothing(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster = MemoryCluster()
    name = cluster.put(groups, waiting_item(groups), NOW_MS - 5)

    def too_many() -> int | None:
        raise TierUnavailable("time-out")

    cluster.oldest_ms = too_many  # type: ignore[method-assign]
    assert gather(cluster, "batch", NOW_MS, all_due=True).oldest_ms == NOW_MS - 5
    run(cluster, delegates)
    assert name in cluster.outcomes


def test_votes_that_have_no_room_in_a_batch_are_collected_by_later_runs(groups: Any) -> None:
    electorate = SigningElectorate(["ML-DSA-65"] * 7)
    weights = {one.delegate_id: one.stake for one in electorate.delegates.delegates}
    cluster = MemoryCluster()
    names = {cluster.put(groups, waiting_item(groups)) for _ in range(20)}
    settled = []
    while cluster.waiting:
        gathered = gather(cluster, "batch", NOW_MS, all_due=True)
        voted = collect_votes(gathered.batch, electorate.delegates, electorate)
        grouped = reward_groups(group_by_continent(voted), weights, REWARD)
        payload = [msgspec.to_builtins(grouped), gathered.entries]
        assert len(json.dumps(payload)) < PIPELINE_BYTES_MAX
        done = finish(cluster, grouped.groups, gathered.entries, electorate.proving, NOW_MS)
        assert done.final > 0
        settled.append(done.final)
    assert len(settled) > 1
    assert {name for name, one in cluster.outcomes.items() if one.outcome == "final"} == names


def test_more_entries_than_one_scan_are_all_reached(
    groups: Any, delegates: LateDelegates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending, "PENDING_SCAN_MAX", 3)
    cluster = MemoryCluster()
    names = [cluster.put(groups, waiting_item(groups)) for _ in range(10)]
    run(cluster, delegates)
    assert cluster.outcomes.keys() == set(names)
    assert cluster.waiting == {}


def test_an_entry_without_its_record_is_kept_while_that_may_come_and_then_removed() -> None:
    cluster = MemoryCluster()
    entry = PendingEntry("ab" * 32, NOW_MS)
    cluster.waiting[entry.entry_id] = entry
    gather(cluster, "batch", NOW_MS + SPURIOUS_AGE_MS, all_due=True)
    assert cluster.waiting
    assert gather(cluster, "batch", NOW_MS + SPURIOUS_AGE_MS + 1, all_due=True).removed == 1
    assert cluster.waiting == {}


def test_two_attempts_to_store_one_transaction_are_one_item_and_both_entries_go(
    groups: Any, delegates: LateDelegates
) -> None:
    cluster, item = MemoryCluster(), waiting_item(groups)
    cluster.put(groups, item, NOW_MS - 5)
    cluster.put(groups, item, NOW_MS)
    gathered = gather(cluster, "batch", NOW_MS)
    assert len(gathered.batch.items) == 1
    run(cluster, delegates)
    assert cluster.waiting == {}


@given(age_min=st.integers(0, 100_000), name=st.binary(min_size=32, max_size=32))
def test_an_old_entry_is_tried_seldom_but_never_given_up(age_min: int, name: bytes) -> None:
    entry = PendingEntry(name.hex(), 0)
    tries = sum(
        is_due(entry, (age_min + minute) * MINUTE_MS) for minute in range(2 * RETRY_PERIOD_MIN_MAX)
    )
    assert tries >= 1
    if age_min > 10 * RETRY_PERIOD_MIN_MAX:
        assert tries == 2


@settings(max_examples=150)
@given(data=st.data())
def test_a_run_that_dies_after_any_write_is_made_good_by_the_next(
    groups: Any, delegates: LateDelegates, data: st.DataObject
) -> None:
    cluster = MemoryCluster()
    names = [cluster.put(groups, waiting_item(groups)) for _ in range(data.draw(st.integers(1, 4)))]
    for dies_at in data.draw(st.lists(st.integers(0, 7), max_size=3)):
        cluster.dies_at = dies_at
        cluster.dies_after_write = data.draw(st.booleans())
        try:
            run(cluster, delegates)
        except Died:
            unsettled = {one for one in names if one not in cluster.outcomes}
            # Nothing that is still to be done is ever without its entry.
            assert unsettled <= {one.transaction_id for one in cluster.waiting.values()}
    cluster.dies_at = None
    first = dict(cluster.outcomes)
    run(cluster, delegates)
    assert cluster.outcomes.keys() == set(names)
    assert first.items() <= cluster.outcomes.items()
    assert cluster.waiting == {}


def test_two_runs_at_once_leave_one_outcome_each(groups: Any, delegates: LateDelegates) -> None:
    cluster = MemoryCluster()
    names = [cluster.put(groups, waiting_item(groups)) for _ in range(5)]
    one, other = (gather(cluster, batch, NOW_MS) for batch in ("one", "other"))
    for gathered, voters in ((one, 2), (other, 3)):
        grouped = delegates.stages(gathered.batch, voters)
        finish(cluster, grouped.groups, gathered.entries, delegates.electorate, NOW_MS)
    assert cluster.outcomes.keys() == set(names)
    assert {len(outcome.votes) for outcome in cluster.outcomes.values()} == {2}
    assert cluster.waiting == {}
