"""What was told to be final is final at home before its copy is marked, whatever dies on the way."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest
from botocore.exceptions import EndpointConnectionError
from copying.memory import NOW_MS, Bench, Died
from hypothesis import given, settings
from hypothesis import strategies as st
from voting.late import REWARD, STAKE, LateDelegates

from federation.batch import Batch
from federation.registry import RegistryError
from persist.finality import Finality, with_finality
from reconcile import app
from reconcile.copies import DIFFERS, CopyRef, Moved
from reconcile.electorate import Electorate


class Told(Bench):
    """A tier with final copies of transactions that are pending at home."""

    def __init__(self, groups: Any, delegates: LateDelegates) -> None:
        super().__init__(groups)
        self.delegates = delegates
        self.known: Electorate | None = delegates.electorate

    def electorate(self) -> Electorate | None:
        """Counted, and away if the test wants it."""
        self.asked_for_delegates += 1
        return self.known

    def told(self, continent: str = "Europe", **changes: Any) -> CopyRef:
        """Stored at home without votes, then in the tier with them; `changes` are of the copy."""
        item = self.groups.item(self.groups.account(continent), votes=[], rewards=[], flags=3)
        record, sealed = self.record(item, "atlas")
        self.home.stored[record.transaction_id] = (record, sealed)
        [group] = self.delegates.stages(Batch("b", self.groups.wrapped_keys, [item])).groups
        return self.copy(msgspec.structs.replace(group.items[0], **changes))

    def receipt(self, ref: CopyRef) -> Any:
        """As a read of the home tells it."""
        name = ref.transaction_id
        return with_finality(self.home.stored[name][0], self.home.finality.get(name)).receipt()


@pytest.fixture(scope="module")
def delegates() -> LateDelegates:
    return LateDelegates()


@pytest.fixture
def told(groups: Any, delegates: LateDelegates) -> Told:
    return Told(groups, delegates)


def final(ref: CopyRef, outcome: Any = "final") -> Finality:
    return Finality(ref.transaction_id, outcome, 1, [("first", "AA==")], 3, [], 5)


def test_the_home_learns_the_copys_votes_and_rewards_before_the_mark(told: Told) -> None:
    ref = told.told()
    assert not told.receipt(ref).final
    [moved] = told.run()
    copy, _ = told.source.copies[ref]  # type: ignore[misc]
    outcome = told.home.finality[ref.transaction_id]
    assert (outcome.outcome, outcome.epoch, outcome.at_ms) == ("final", 1, NOW_MS)
    assert (outcome.votes, outcome.stake) == (copy.votes, 3 * STAKE)
    assert outcome.rewards == copy.rewards
    assert sum(amount for _, amount in outcome.rewards) == REWARD
    assert told.receipt(ref).final
    assert told.source.marks == {ref: NOW_MS}
    assert (moved.moved, moved.left, moved.unproved) == (1, 0, [])


def test_delegates_are_read_only_if_a_home_needs_votes(told: Told) -> None:
    refs = [told.copy(), told.rejection(), told.told(), told.told()]
    known, without_votes = refs[2:]
    told.home.finality[known.transaction_id] = final(known)
    copy, sealed = told.source.copies[without_votes]  # type: ignore[misc]
    pending = msgspec.structs.replace(copy, votes=[], final=False)
    told.source.copies[without_votes] = (pending, sealed)
    told.run()
    assert told.asked_for_delegates == 0
    assert told.source.marks.keys() == set(refs)


def test_the_first_outcome_stays(told: Told) -> None:
    ref = told.told()
    told.home.finality[ref.transaction_id] = final(ref)
    told.run()
    assert told.home.finality == {ref.transaction_id: final(ref)}
    assert ref in told.source.marks


@pytest.mark.parametrize(("outcome", "reason"), [("rejected", "nonce_conflict"), ("?", DIFFERS)])
def test_a_copy_that_contradicts_its_home_is_parked(told: Told, outcome: str, reason: str) -> None:
    ref = told.told()
    told.home.finality[ref.transaction_id] = final(ref, outcome)
    told.run()
    assert told.source.parked == {ref: reason}
    assert told.home.finality == {ref.transaction_id: final(ref, outcome)}
    assert not told.source.marks


def test_an_outcome_that_another_run_inserts_meanwhile_is_the_one_that_counts(told: Told) -> None:
    ref = told.told()
    settle = told.home.settle

    def late(continent: str, outcomes: Sequence[Finality]) -> None:
        told.home.finality[ref.transaction_id] = final(ref, "rejected")
        settle(continent, outcomes)

    told.home.settle = late  # type: ignore[method-assign]
    told.run()
    assert told.source.parked == {ref: "nonce_conflict"}
    assert told.receipt(ref).status == "rejected"


def other_epoch(delegates: LateDelegates, votes: Any, item: Any) -> Any:
    later = LateDelegates(epoch=2)
    later.keys = delegates.keys
    return later.vote(item).votes


UNPROVED: Mapping[str, Any] = {
    "none": lambda delegates, votes, item: [],
    "too few": lambda delegates, votes, item: votes[:1],
    "of others": lambda delegates, votes, item: LateDelegates().vote(item).votes,
    "of another epoch": other_epoch,
    "damaged": lambda delegates, votes, item: [(name, "AAAA") for name, _ in votes],
    "no base64": lambda delegates, votes, item: [(name, "é" * 5) for name, _ in votes],
    "one delegate's": lambda delegates, votes, item: votes[:1] * 3,
}


@pytest.mark.parametrize("votes", UNPROVED)
def test_a_copy_whose_votes_prove_nothing_is_left_and_named_until_its_home_knows_more(
    told: Told, votes: str
) -> None:
    item = told.groups.item(votes=[], rewards=[], flags=3)
    ref = told.told()
    record, sealed = told.source.copies[ref]  # type: ignore[misc]
    item = msgspec.structs.replace(
        item, envelope=msgspec.structs.replace(item.envelope, header=record.header)
    )
    wrong = UNPROVED[votes](told.delegates, record.votes, item)
    told.source.copies[ref] = (msgspec.structs.replace(record, votes=wrong), sealed)
    other = told.told()
    for _ in range(2):
        rounds = told.run()
        assert [name for one in rounds for name in one.unproved] == [ref.transaction_id]
        assert sum(one.left for one in rounds) == 1
        assert told.source.marks.keys() == {other}
        assert told.home.finality.keys() == {other.transaction_id}
        assert not told.source.parked
    # The votes of its pending record came in: it is final, by a proof that the home has.
    told.home.finality[ref.transaction_id] = final(ref)
    assert told.run()[0].unproved == []
    assert told.source.marks.keys() == {ref, other}


def test_a_vote_that_does_not_verify_is_left_out_of_a_quorum(told: Told) -> None:
    ref = told.told()
    record, sealed = told.source.copies[ref]  # type: ignore[misc]
    votes = [*record.votes[:2], (record.votes[2][0], "?"), ("stranger", "AAAA")]
    told.source.copies[ref] = (msgspec.structs.replace(record, votes=votes), sealed)
    told.run()
    outcome = told.home.finality[ref.transaction_id]
    assert (outcome.votes, outcome.stake) == (votes[:2], 2 * STAKE)
    assert ref in told.source.marks


def test_without_delegates_only_the_copies_that_need_them_are_left(told: Told) -> None:
    ref, other, refusal = told.told(), told.copy(), told.rejection()
    told.known = None
    [moved] = told.run()
    assert (moved.moved, moved.left, moved.unproved, moved.homes_away) == (2, 1, [], 0)
    assert told.source.marks.keys() == {other, refusal}
    told.known = told.delegates.electorate
    told.run()
    assert told.source.marks.keys() == {ref, other, refusal}


@pytest.mark.parametrize("answers", [[True, False], [True, True, False]])
def test_a_look_without_time_tells_nothing_and_marks_what_needs_no_telling(
    told: Told, answers: list[bool]
) -> None:
    told.told()
    other = told.copy()
    calls = iter(answers)
    [moved] = told.run(lambda: next(calls))
    assert (moved.moved, moved.left) == (1, 1)
    assert told.source.marks.keys() == {other}
    assert not told.home.finality


@settings(max_examples=100)
@given(data=st.data())
def test_a_run_that_dies_at_any_write_forgets_no_finality(
    groups: Any, delegates: LateDelegates, data: st.DataObject
) -> None:
    told = Told(groups, delegates)
    refs = [told.told(data.draw(st.sampled_from(["Asia", "Africa"]))) for _ in range(4)]
    absent = told.copy()
    for at in data.draw(st.lists(st.integers(0, 10), max_size=4)):
        told.deaths.at, told.deaths.after_write = at, data.draw(st.booleans())
        told.home.down = data.draw(st.sets(st.sampled_from(["Asia", "Africa"]), max_size=1))
        told.known = data.draw(st.sampled_from([None, delegates.electorate]))
        with contextlib.suppress(Died):
            told.run()
        # A mark says that a read of the home tells what the copy told.
        assert all(told.receipt(ref).final for ref in refs if ref in told.source.marks)
    first = dict(told.home.finality)
    told.deaths.at, told.home.down, told.known = None, set(), delegates.electorate
    told.run()
    assert told.source.marks.keys() == {*refs, absent}
    assert all(told.receipt(ref).final for ref in refs)
    assert first.items() <= told.home.finality.items()
    assert told.source.parked == {}


@pytest.mark.parametrize(
    "error",
    [
        RegistryError("unreadable", "no"),
        EndpointConnectionError(endpoint_url="https://secrets.invalid"),
        ValueError("no JSON"),
    ],
)
def test_a_registry_that_cannot_be_read_is_asked_once_a_look_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = []

    def read(*_: Any) -> Any:
        asked.append(1)
        raise error

    def moves(*_: Any, electorate: Any, **__: Any) -> Moved:
        assert [electorate(), electorate()] == [None, None]
        return Moved(moved=1, left=1, parked={}, after="", more=False, unproved=["ab"])

    counted: dict[str, int] = {}
    monkeypatch.setattr(app, "read_delegates", read)
    monkeypatch.setattr(app, "move", moves)
    monkeypatch.setattr(app, "_count", lambda **values: counted.update(values))
    monkeypatch.setattr(app, "_copies", lambda *_: None)
    monkeypatch.setattr(app, "_atlas", lambda: None)
    monkeypatch.setattr(app, "_settings", lambda: app.Settings("", "", "", "", ""))
    answer = app._move(app.MoveRequest("dynamodb", "Asia"))
    assert (answer["outcome"], answer["unproved"]) == ("moved", ["ab"])
    assert counted["copies_left"] == 1
    assert asked == [1]
