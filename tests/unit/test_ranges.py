"""The descent over ranges of ids: it finds exactly where two nodes differ, and no lie leads it astray."""

import bisect
import hashlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from love_node.ranges import (
    ENTRY_BYTES,
    ID_BYTES,
    LISTED_MAX,
    PREFIXES_MAX,
    REQUESTS_MAX,
    BadRanges,
    Difference,
    Range,
    differences,
)

Kept = dict[bytes, bytes]


class Node:
    """What one node keeps, in memory."""

    def __init__(self, kept: Kept) -> None:
        self._entries = sorted(a + b for a, b in kept.items())
        self.asked: list[int] = []

    def entries(self, prefix: bytes) -> list[bytes]:
        first = bisect.bisect_left(self._entries, prefix)
        last = bisect.bisect_right(self._entries, prefix.ljust(ENTRY_BYTES, b"\xff"))
        return self._entries[first:last]

    def summary(self, prefix: bytes) -> Range:
        return Range.of(self.entries(prefix))

    def ranges(self, prefixes: Sequence[bytes]) -> list[Range]:
        self.asked.append(len(prefixes))
        return [self.summary(one) for one in prefixes]


def found(here: Node, there: Node) -> list[Difference]:
    return list(differences(here.summary, here.entries, there.ranges))


def true_differences(a: Kept, b: Kept) -> set[Difference]:
    return {
        Difference(one, a.get(one), b.get(one))
        for one in a.keys() | b.keys()
        if a.get(one) != b.get(one)
    }


def _id(number: int, prefix: bytes) -> bytes:
    return (prefix + hashlib.sha256(number.to_bytes(8, "big")).digest())[:ID_BYTES]


def _kept(seed: int, size: int, prefix: bytes, voters: bytes) -> Kept:
    return {_id(seed + n, prefix): voters for n in range(size)}


#: Parts that two nodes have or not: ids at random, and ids that crowd under a prefix of any length,
#: as somebody who chooses them could make them.
PARTS = st.lists(
    st.tuples(
        st.builds(
            _kept,
            st.integers(0, 2**32),
            st.integers(0, 600),
            st.sampled_from([b"", b"", b"\x07", b"\x07\x01", b"\xff" * 9, bytes(30)]),
            st.sampled_from([bytes(32), b"\1" * 32]),
        ),
        st.sampled_from(["here", "there", "both", "both"]),
    ),
    max_size=8,
)


@given(PARTS)
@settings(max_examples=60, deadline=None)
def test_the_descent_finds_exactly_the_symmetric_difference(parts: list[tuple[Kept, str]]) -> None:
    here = {k: v for part, where in parts if where != "there" for k, v in part.items()}
    there = {k: v for part, where in parts if where != "here" for k, v in part.items()}
    # Of some that both have, not the same delegates have voted.
    for one in [*here][::50]:
        if one in there:
            there[one] = b"\2" * 32
    listed = found(Node(here), Node(there))
    assert len(listed) == len(set(listed))
    assert set(listed) == true_differences(here, there)


@given(st.integers(0, 2**32), st.sets(st.integers(0, 2_999), max_size=20))
@settings(max_examples=8, deadline=None)
def test_a_few_missing_of_thousands_under_one_prefix_are_found_by_few_requests(
    seed: int, missing: set[int]
) -> None:
    ids = [_id(seed + n, b"\x01\x02") for n in range(3_000)]
    there = Node(dict.fromkeys(ids, bytes(32)))
    here = Node({one: bytes(32) for n, one in enumerate(ids) if n not in missing})
    assert {one.transaction_id for one in found(here, there)} == {ids[n] for n in missing}
    assert len(there.asked) <= 4
    assert max(there.asked) <= PREFIXES_MAX


def test_two_nodes_with_the_same_need_one_request() -> None:
    kept = {_id(n, b""): bytes(32) for n in range(2_000)}
    there = Node(kept)
    assert found(Node(dict(kept)), there) == []
    assert there.asked == [256]


ONE = _id(1, b"\0") + bytes(32)
TWO = _id(2, b"\0") + bytes(32)


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda whole: [], id="no range at all"),
        pytest.param(
            lambda whole: [Range(1, b"d" * 32, ONE), *whole[1:]], id="a digest of something else"
        ),
        pytest.param(
            lambda whole: [Range.of(sorted([ONE, TWO], reverse=True)), *whole[1:]], id="no order"
        ),
        pytest.param(lambda whole: [Range.of([ONE, ONE]), *whole[1:]], id="the same twice"),
        pytest.param(lambda whole: [whole[0], Range.of([ONE]), *whole[2:]], id="another range's"),
        pytest.param(
            lambda whole: [Range(1, Range.of([ONE[:40]]).digest, ONE[:40]), *whole[1:]],
            id="half an entry",
        ),
        pytest.param(
            lambda whole: [Range(LISTED_MAX + 1, b"short", b""), *whole[1:]], id="a short digest"
        ),
    ],
)
def test_an_answer_that_contradicts_itself_ends_the_comparison(
    lie: Callable[[list[Range]], list[Range]],
) -> None:
    here = Node({})
    with pytest.raises(BadRanges):
        list(
            differences(here.summary, here.entries, lambda asked: lie([Range.of([])] * len(asked)))
        )


@pytest.mark.parametrize("deepest", [4, ID_BYTES - 1, ID_BYTES])
def test_a_peer_that_invents_differences_without_end_is_left(deepest: int) -> None:
    requests = 0

    def ask(prefixes: Sequence[bytes]) -> list[Range]:
        nonlocal requests
        requests += 1
        invented = Range(2**60, requests.to_bytes(32, "big"), b"")
        return [invented if len(one) < deepest else Range.of([]) for one in prefixes]

    here = Node({})
    assert list(differences(here.summary, here.entries, ask)) == []
    assert requests == REQUESTS_MAX


def test_a_range_of_one_id_can_not_hold_many() -> None:
    here = Node({})
    many = Range(2**60, b"d" * 32, b"")
    with pytest.raises(BadRanges):
        list(differences(here.summary, here.entries, lambda prefixes: [many] * len(prefixes)))
