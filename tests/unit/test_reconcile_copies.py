"""Copies go home exactly once, whatever dies on the way; nothing is marked that isn't proved there."""

import contextlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from copying.memory import NOW_MS, Bench, Died
from hypothesis import given, settings
from hypothesis import strategies as st

from persist.record import Record
from persist.tier import Inserted
from reconcile.copies import DAMAGED, DIFFERS, digest, move


@pytest.fixture
def bench(groups: Any) -> Bench:
    return Bench(groups)


def test_a_copy_goes_home_as_it_is_and_is_marked(bench: Bench) -> None:
    ref = bench.copy()
    bench.run()
    record, sealed = bench.home.stored[ref.transaction_id]
    copy, sealed_copy = bench.source.copies[ref]  # type: ignore[misc]
    assert digest(record, sealed) == digest(copy, sealed_copy)
    assert record.receipt().tier == "atlas"
    assert bench.source.marks == {ref: NOW_MS}


def test_a_rejection_goes_home_too(bench: Bench) -> None:
    ref = bench.rejection()
    bench.run()
    assert bench.home.rejected[ref.transaction_id].reason == "too_fast"
    assert bench.home.rejected[ref.transaction_id].tier == "atlas"
    assert ref in bench.source.marks


def test_a_home_that_is_down_keeps_its_copies_unmarked_and_the_others_move(bench: Bench) -> None:
    here, there = bench.copy(continent="Africa"), bench.copy(continent="Asia")
    bench.home.down = {"Africa"}
    assert sum(one.left for one in bench.run()) == 1
    assert bench.source.marks.keys() == {there}
    bench.home.down = set()
    bench.run()
    assert bench.source.marks.keys() == {here, there}


def test_a_copy_whose_key_is_away_waits(bench: Bench) -> None:
    ref = bench.copy()
    bench.source.unreadable = {ref}
    assert bench.run()[0].left == 1
    assert not bench.source.marks
    assert not bench.source.parked


def test_a_copy_whose_nonce_another_holds_at_home_is_parked_not_dropped(bench: Bench) -> None:
    sender = bench.groups.account()
    holder = bench.groups.item(sender, 4)
    bench.home.stored["holder"] = bench.record(holder, "atlas")
    ref = bench.copy(bench.groups.item(sender, 4))
    [moved] = bench.run()
    assert moved.parked == {ref.transaction_id: "nonce_conflict"}
    assert bench.source.parked == {ref: "nonce_conflict"}
    assert ref in bench.source.copies


def test_a_damaged_copy_is_parked_and_never_written(bench: Bench) -> None:
    ref = bench.copy()
    record, sealed = bench.source.copies[ref]  # type: ignore[misc]
    header = msgspec.structs.replace(record.header, amount=6)
    bench.source.copies[ref] = (msgspec.structs.replace(record, header=header), sealed)
    bench.run()
    assert bench.source.parked == {ref: DAMAGED}
    assert bench.home.stored == {}


def test_a_home_copy_that_reads_back_otherwise_is_not_trusted(bench: Bench) -> None:
    ref = bench.copy()
    insert = bench.home.insert

    def wrong(continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        return insert(continent, [(record, sealed + b" ") for record, sealed in records])

    bench.home.insert = wrong  # type: ignore[method-assign]
    bench.run()
    assert bench.source.parked == {ref: DIFFERS}
    assert not bench.source.marks


def test_what_the_home_had_already_is_the_home_copy_though_it_was_sealed_anew(
    bench: Bench,
) -> None:
    # Written at home, reported failed, written to the next tier; or posted twice.
    item = bench.groups.item()
    ref = bench.copy(item)
    again = msgspec.structs.replace(item, votes=[("node-2", "b3RoZXI=")])
    bench.home.stored[ref.transaction_id] = bench.record(again, "atlas")
    bench.run()
    assert ref in bench.source.marks
    record, _ = bench.home.stored[ref.transaction_id]
    assert record.votes == [("node-2", "b3RoZXI=")]


def test_the_second_copy_of_a_transaction_is_marked_though_its_votes_differ(bench: Bench) -> None:
    # DynamoDB took it and its answer was lost; the message came again, and immuDB took it.
    item = bench.groups.item()
    ref = bench.copy(item)
    bench.run()
    first = bench.home.stored[ref.transaction_id]
    again = msgspec.structs.replace(item, votes=[("node-2", "b3RoZXI=")], rewards=[])
    del bench.source.marks[ref]
    bench.source.copies[ref] = bench.record(again, "immudb")
    later_ms = NOW_MS + 1
    moved = move(
        bench.source,
        bench.home,
        later_ms,
        electorate=bench.electorate,
        goes_on=lambda: True,
    )
    assert (moved.moved, moved.parked) == (1, {})
    assert bench.source.marks == {ref: later_ms}
    assert bench.home.stored[ref.transaction_id] == first


def test_a_home_record_without_content_is_no_home_copy(bench: Bench) -> None:
    item = bench.groups.item()
    ref = bench.copy(item)
    record, _ = bench.record(item, "atlas")
    bench.home.stored[ref.transaction_id] = (record, b"")
    bench.run()
    assert bench.source.parked == {ref: DIFFERS}


def test_a_damaged_home_record_parks_its_own_copy_only(bench: Bench) -> None:
    refs = [bench.copy() for _ in range(3)]
    refs.append(bench.rejection())
    culprits = {refs[1], refs[3]}
    for ref in culprits:
        bench.home.damaged.add(ref.transaction_id)
    bench.run()
    assert bench.source.parked == dict.fromkeys(culprits, DIFFERS)
    assert bench.source.marks.keys() == set(refs) - culprits


@pytest.mark.parametrize("changes", [{"continent": "Atlantis"}, {"flags": 1 << 40}, {"flags": -1}])
def test_a_copy_that_no_home_could_take_is_parked_and_the_others_move(
    bench: Bench, changes: dict[str, Any]
) -> None:
    odd, well = bench.copy(), bench.copy()
    record, sealed = bench.source.copies[odd]  # type: ignore[misc]
    bench.source.copies[odd] = (msgspec.structs.replace(record, **changes), sealed)
    bench.run()
    assert bench.source.parked == {odd: DAMAGED}
    assert bench.source.marks.keys() == {well}


def test_newer_copies_move_though_a_whole_page_of_older_ones_cannot_be_read(bench: Bench) -> None:
    refs = [bench.copy() for _ in range(8)]
    oldest = sorted(refs, key=lambda ref: ref.transaction_id)[:4]
    bench.source.unreadable = set(oldest)
    rounds = bench.run()
    assert (rounds[0].moved, rounds[0].left, rounds[0].homes_away) == (0, 3, 0)
    assert bench.source.marks.keys() == set(refs) - set(oldest)


def test_reading_ends_with_its_time_and_what_was_read_goes_home(bench: Bench) -> None:
    for _ in range(3):
        bench.copy()
    calls = iter([True, True, False])
    moved = move(
        bench.source,
        bench.home,
        NOW_MS,
        electorate=bench.electorate,
        goes_on=lambda: True,
        reads_on=lambda: next(calls),
    )
    assert moved.ran_out_of_time
    assert (moved.moved, moved.left) == (2, 1)


def test_homes_that_are_away_are_counted(bench: Bench) -> None:
    bench.copy(continent="Africa")
    bench.copy(continent="Asia")
    bench.home.down = {"Africa"}
    [moved] = bench.run()
    assert (moved.homes_away, moved.left) == (1, 1)


def test_a_round_without_time_leaves_the_rest_for_the_next(bench: Bench) -> None:
    bench.copy(continent="Africa")
    bench.copy(continent="Asia")
    calls = iter([True, False])
    moved = bench.run(lambda: next(calls))[0]
    assert moved.ran_out_of_time
    assert (moved.moved, moved.left) == (1, 1)


def test_a_digest_tells_every_difference_that_counts(bench: Bench) -> None:
    record, sealed = bench.record(bench.groups.item(), "atlas")
    other: dict[str, Any] = {
        "signature": "x",
        "votes": [],
        "rewards": [],
        "stake": 9,
        "final": not record.final,
        "accepted_at_ms": 2,
        "continent": "Asia",
    }
    seen = {digest(record, sealed), digest(record, sealed + b"!")}
    for name, value in other.items():
        seen.add(digest(msgspec.structs.replace(record, **{name: value}), sealed))
    assert len(seen) == len(other) + 2
    moved = msgspec.structs.replace(record, tier="immudb", stored_at_ms=99, flags=1)
    assert digest(moved, sealed) == digest(record, sealed)


@settings(max_examples=150)
@given(data=st.data())
def test_a_run_that_dies_at_any_write_leaves_one_home_copy_of_each_after_the_next(
    groups: Any, data: st.DataObject
) -> None:
    bench = Bench(groups)
    refs = [bench.copy(continent=data.draw(st.sampled_from(["Asia", "Africa"]))) for _ in range(4)]
    refs.append(bench.rejection())
    for at in data.draw(st.lists(st.integers(0, 10), max_size=4)):
        bench.deaths.at, bench.deaths.after_write = at, data.draw(st.booleans())
        bench.home.down = data.draw(st.sets(st.sampled_from(["Asia", "Africa"]), max_size=1))
        with contextlib.suppress(Died):
            bench.run()
        # A mark says that the home copy is there.
        at_home = bench.home.stored.keys() | bench.home.rejected.keys()
        assert {ref.transaction_id for ref in bench.source.marks} <= at_home
    bench.deaths.at, bench.home.down = None, set()
    bench.run()
    assert bench.source.marks.keys() == set(refs)
    assert len(bench.home.stored) == 4
    assert len(bench.home.rejected) == 1
    assert bench.source.parked == {}
