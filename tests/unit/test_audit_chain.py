"""Whatever is edited, deleted, swapped or cut off in an audit trail is found, and named."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import federation_dag
from federation.audit_chain import (
    HEAD_KEY,
    START,
    EntryDamaged,
    Head,
    append,
    entry_hash,
    entry_key,
    event_key,
    head_value,
    read_entry,
)
from federation.immudb_session import Found, ProofFailed, RecordCorrupted
from lovectl.audit_verify import Verdict, verify


class Trail:
    """A trail in memory, as the writer would have made it."""

    def __init__(self, count: int, tag: str = "event") -> None:
        self.values: dict[bytes, bytes] = {}
        self.revisions: dict[bytes, int] = {}
        self.corrupted: set[bytes] = set()
        self.head = START
        self.extend([{"id": f"{tag}-{n}", "data": {"reason": "none"}} for n in range(1, count + 1)])

    def extend(self, events: list[dict[str, Any]]) -> None:
        appended = append(self.head, events)
        for entry, stored in appended.entries:
            self.values[entry_key(entry.sequence)] = stored
            self.values[event_key(entry.event_id)] = str(entry.sequence).encode()
        self.head = appended.head
        self.values[HEAD_KEY] = head_value(self.head)

    def get(self, key: bytes) -> Found | None:
        if key in self.corrupted:
            raise RecordCorrupted("value length or digest mismatch")
        value = self.values.get(key)
        return None if value is None else Found(value, 1, self.revisions.get(key, 1))

    def event_id_of(self, sequence: int) -> str:
        for key, value in self.values.items():
            if key.startswith(b"event:") and value == str(sequence).encode():
                return key.removeprefix(b"event:").decode()
        return ""

    def event_of(self, sequence: int) -> dict[str, Any]:
        return read_entry(self.values[entry_key(sequence)]).event

    def rewrite(self, sequence: int, **changes: Any) -> None:
        entry = msgspec.json.decode(self.values[entry_key(sequence)])
        text = msgspec.json.encode({**entry, **changes})
        self.values[entry_key(sequence)] = federation_dag.canonicalize(text)


def named(verdict: Verdict) -> list[int]:
    return [n for one in verdict.findings for n in range(one.sequence, one.through + 1)]


def problems(verdict: Verdict) -> dict[int, str]:
    return {one.sequence: one.problem for one in verdict.findings}


COUNTS = st.integers(1, 12)
#: `printf 'love-currency/audit-entry/v1\n{"event":{"id":"a"},"previous_hash":"00…","sequence":1}' | sha256sum`
KNOWN_HASH = "db686faa20b7ba64ce9c427960740e8fa36d57e8b8fac9b5be677ac59136aa5e"


@st.composite
def places(draw: st.DrawFn) -> tuple[Trail, int]:
    """A trail, and one of its entries."""
    count = draw(COUNTS)
    return Trail(count), draw(st.integers(1, count))


def test_a_trail_without_entries_is_whole() -> None:
    assert verify(Trail(0)) == Verdict(START, ())


@given(COUNTS)
def test_a_trail_as_it_was_written_is_whole(count: int) -> None:
    trail = Trail(count)
    assert verify(trail) == Verdict(trail.head, ())
    assert verify(trail, anchor=trail.head).clean


def test_the_hash_of_an_entry_is_that_of_no_other_use_of_its_bytes() -> None:
    [(_, stored)] = append(START, [{"id": "a"}]).entries
    assert stored == (b'{"event":{"id":"a"},"previous_hash":"' + b"0" * 64 + b'","sequence":1}')
    assert entry_hash(stored) == KNOWN_HASH


@given(places(), st.binary(min_size=1, max_size=4), st.integers(0, 10**6))
def test_any_other_bytes_in_an_entry_are_found_and_only_that_entry_is_named(
    place: tuple[Trail, int], noise: bytes, offset: int
) -> None:
    trail, sequence = place
    key = entry_key(sequence)
    before = trail.values[key]
    at = offset % len(before)
    trail.values[key] = before[:at] + noise + before[at + len(noise) :]
    if trail.values[key] != before:
        assert named(verify(trail)) == [sequence]
    else:
        assert verify(trail).clean


@given(places())
def test_an_entry_with_another_event_is_named(place: tuple[Trail, int]) -> None:
    trail, sequence = place
    trail.rewrite(sequence, event={**trail.event_of(sequence), "data": {"reason": "other"}})
    assert problems(verify(trail)) == {sequence: "changed"}


@given(places())
def test_an_entry_with_another_link_is_named_and_not_the_one_before(
    place: tuple[Trail, int],
) -> None:
    trail, sequence = place
    trail.rewrite(sequence, previous_hash="f" * 64)
    assert problems(verify(trail)) == {sequence: "changed"}


@given(places())
def test_an_entry_that_the_store_calls_corrupted_is_named_with_its_event(
    place: tuple[Trail, int],
) -> None:
    trail, sequence = place
    trail.corrupted.add(entry_key(sequence))
    [finding] = verify(trail).findings
    assert (finding.sequence, finding.event_id) == (sequence, f"event-{sequence}")


@given(places())
def test_an_entry_that_was_written_again_is_named_though_all_links_hold(
    place: tuple[Trail, int],
) -> None:
    trail, sequence = place
    trail.revisions[entry_key(sequence)] = 2
    assert problems(verify(trail)) == {sequence: "changed"}


@given(places())
def test_a_deleted_entry_is_missing(place: tuple[Trail, int]) -> None:
    trail, sequence = place
    del trail.values[entry_key(sequence)]
    assert problems(verify(trail)) == {sequence: "missing"}


@given(COUNTS.filter(lambda count: count > 1), st.data())
def test_two_entries_in_each_other_s_place_are_both_named(count: int, data: st.DataObject) -> None:
    trail = Trail(count)
    first = data.draw(st.integers(1, count - 1))
    second = data.draw(st.integers(first + 1, count))
    one, other = entry_key(first), entry_key(second)
    trail.values[one], trail.values[other] = trail.values[other], trail.values[one]
    assert problems(verify(trail)) == {first: "out_of_order", second: "out_of_order"}


@given(COUNTS.filter(lambda count: count > 1), st.data())
def test_a_cut_off_tail_is_found_by_its_head_or_by_the_anchor(
    count: int, data: st.DataObject
) -> None:
    whole = Trail(count)
    left = data.draw(st.integers(0, count - 1))
    cut = Trail(left)
    assert verify(cut).clean  # nothing in it tells
    verdict = verify(cut, anchor=whole.head)
    assert named(verdict) == list(range(left + 1, count + 1))
    assert {one.problem for one in verdict.findings} == {"missing"}
    cut.values[HEAD_KEY] = whole.values[HEAD_KEY]
    assert named(verify(cut)) == list(range(left + 1, count + 1))


@given(COUNTS, COUNTS)
def test_another_history_is_found_by_the_anchor(count: int, other_count: int) -> None:
    anchor = Trail(count).head
    other = Trail(other_count, "other")
    assert not verify(other, anchor).clean


def test_another_history_is_found_by_the_store_s_proof_and_looked_through_all_the_same() -> None:
    class Exchanged(Trail):
        def get(self, key: bytes) -> Found | None:
            raise ProofFailed("its proof doesn't hold")

    verdict = verify(Exchanged(2), None, lambda: Trail(3))
    assert (problems(verdict), verdict.head.sequence) == ({0: "other_history"}, 3)
    verdict = verify(Exchanged(2), Trail(5).head, lambda: Trail(3))
    assert problems(verdict) == {0: "other_history", 4: "missing"}


@given(places())
def test_an_event_that_is_in_the_trail_twice_is_named(place: tuple[Trail, int]) -> None:
    trail, sequence = place
    trail.extend([trail.event_of(sequence)])
    assert problems(verify(trail)) == {sequence: "doubled"}


def test_a_new_start_is_named() -> None:
    trail = Trail(0)
    trail.head = Head(0, "1" * 64)
    trail.extend([{"id": "a"}, {"id": "b"}])
    assert problems(verify(trail)) == {1: "changed"}


def test_an_event_that_the_index_lacks_is_named() -> None:
    trail = Trail(3)
    del trail.values[event_key("event-2")]
    assert problems(verify(trail)) == {2: "changed"}


def test_entries_behind_the_head_are_named() -> None:
    trail = Trail(3)
    head = trail.values[HEAD_KEY]
    trail.extend([{"id": "later"}])
    trail.values[HEAD_KEY] = head
    assert problems(verify(trail)) == {4: "behind_head"}


@pytest.mark.parametrize("head", [b"nonsense", None])
def test_without_a_head_the_end_is_looked_for(head: bytes | None) -> None:
    trail = Trail(3)
    if head is None:
        del trail.values[HEAD_KEY]
    else:
        trail.values[HEAD_KEY] = head
    trail.rewrite(1, event={"id": "event-1"})
    verdict = verify(trail)
    assert set(problems(verdict)) == {0, 1}
    assert verdict.head == trail.head


@pytest.mark.parametrize("looks", range(1, 12))
def test_at_whatever_look_an_entry_is_appended_it_is_no_fault(looks: int) -> None:
    class Growing(Trail):
        looks_left = looks

        def get(self, key: bytes) -> Found | None:
            self.looks_left -= 1
            if self.looks_left == 0:
                self.extend([{"id": "later", "data": {}}])
            return super().get(key)

    assert verify(Growing(2)).findings == ()


def test_what_is_appended_while_it_is_verified_is_no_fault() -> None:
    class Growing(Trail):
        grown = False

        def get(self, key: bytes) -> Found | None:
            found = super().get(key)
            if key == HEAD_KEY and not self.grown:
                self.grown = True
                self.extend([{"id": "meanwhile"}])
            return found

    trail = Growing(2)
    assert verify(trail) == Verdict(trail.head, ())
    assert trail.head.sequence == 3


@pytest.mark.parametrize("stored", [b"", b"[]", b'{"sequence":1}', b"\xff", b'{"sequence":"1"}'])
def test_what_is_no_entry_is_refused(stored: bytes) -> None:
    with pytest.raises(EntryDamaged):
        read_entry(stored)
