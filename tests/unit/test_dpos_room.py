"""Which votes a batch takes along: all while they have room, else those that make something final."""

from collections.abc import Sequence

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dpos.delegates import Delegate, Delegates
from dpos.room import Vote, votes_with_room
from federation.batch import Batch, Item
from federation.limits import PIPELINE_BYTES_MAX
from federation.transaction import Envelope, Header, Position, Sealed

#: Two of them alone break the quota, one has room.
HUGE_BYTES = 2 * PIPELINE_BYTES_MAX // 5
ED25519_BYTES, ML_DSA_BYTES = 64, 3_309


def item(number: int) -> Item:
    header = Header(
        1, f"{number:064x}", "a" * 64, "b" * 64, 1, number, Position(0, 0, 1, 0), [], []
    )
    return Item(Envelope(header, "Ed25519", "", "", Sealed("k", ""), 0, "r", "Asia"))


def delegates(stakes: Sequence[int]) -> Delegates:
    members = (Delegate(f"d{n}", "city", "", "", b"", stake) for n, stake in enumerate(stakes))
    return Delegates(1, tuple(members), "", "", "")


def taken(signatures: Sequence[Sequence[tuple[str, int]]], elected: Delegates) -> list[list[str]]:
    """Who is taken along of (name, bytes of the signature)."""
    batch = Batch("b", {"k": "K"}, [item(n) for n in range(len(signatures))])
    votes: list[list[Vote]] = votes_with_room(
        batch, [[(name, bytes(size)) for name, size in one] for one in signatures], elected
    )
    filled = msgspec.structs.replace(
        batch,
        items=[
            msgspec.structs.replace(one, votes=mine)
            for one, mine in zip(batch.items, votes, strict=True)
        ],
    )
    assert len(msgspec.json.encode(filled)) <= PIPELINE_BYTES_MAX
    return [[name for name, _ in one] for one in votes]


def test_while_there_is_room_every_vote_is_kept() -> None:
    names = [(f"d{n}", ML_DSA_BYTES) for n in range(7)]
    assert taken([names], delegates([1] * 7)) == [[name for name, _ in names]]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=9), st.data())
def test_without_room_a_quorum_is_kept_and_nobody_superfluous(
    stakes: list[int], data: st.DataObject
) -> None:
    elected = delegates(stakes)
    voters = data.draw(st.sets(st.integers(0, len(stakes) - 1), min_size=1))
    # The second item's votes are so large that not all have room.
    votes = [(f"d{n}", data.draw(st.sampled_from([ED25519_BYTES, ML_DSA_BYTES]))) for n in voters]
    kept, _ = taken([votes, [("d0", PIPELINE_BYTES_MAX)]], elected)
    weights = [stakes[int(name[1:])] for name in kept]
    if not elected.is_quorum(sum(stakes[n] for n in voters)):
        assert kept == [name for name, _ in votes]
        return
    assert elected.is_quorum(sum(weights))
    assert not any(elected.is_quorum(sum(weights) - one) for one in weights)


def test_short_signatures_are_kept_before_long_ones_that_are_worth_as_much() -> None:
    votes = [("d0", ML_DSA_BYTES), *((f"d{n}", ED25519_BYTES) for n in range(1, 4))]
    kept = taken([votes] * 60, delegates([1] * 4))
    assert kept == [["d1", "d2", "d3"]] * 60


def test_of_equal_votes_no_delegate_is_always_left_out() -> None:
    kept = taken([[(f"d{n}", 600) for n in range(4)]] * 90, delegates([1] * 4))
    quorums = {tuple(one) for one in kept if one}
    assert {len(one) for one in quorums} == {3}
    assert {name for one in quorums for name in one} == {"d0", "d1", "d2", "d3"}
    assert len(quorums) > 1


def test_what_becomes_final_comes_before_what_lacks_a_quorum() -> None:
    elected = delegates([1, 2])
    assert taken([[("d0", HUGE_BYTES)], [("d1", HUGE_BYTES)]], elected) == [[], ["d1"]]


def test_an_item_whose_votes_have_no_room_goes_without_and_holds_up_no_other() -> None:
    elected = delegates([1])
    large, small = [("d0", PIPELINE_BYTES_MAX)], [("d0", ED25519_BYTES)]
    assert taken([small, large, small], elected) == [["d0"], [], ["d0"]]
