"""A transaction's progress only ever grows, and impossible progress is an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flag_rust

BITS = [
    flag_rust.VERIFIED,
    flag_rust.PLACED,
    flag_rust.VOTED,
    flag_rust.FINAL,
    flag_rust.SHARDED,
    flag_rust.REWARDED,
    flag_rust.STORED_ATLAS,
    flag_rust.STORED_DYNAMODB,
    flag_rust.STORED_IMMUDB,
    flag_rust.RECONCILED,
]
flag_sets = st.integers(0, sum(BITS))


@given(flag_sets, flag_sets, flag_sets)
def test_merging_is_a_join(a: int, b: int, c: int) -> None:
    merge = flag_rust.merge
    assert merge(a, b) == merge(b, a) == a | b
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == merge(a, 0) == a


@given(flag_sets)
def test_names_tell_the_whole_set(flags: int) -> None:
    names = flag_rust.names(flags)
    assert flag_rust.from_names(names) == flags
    assert len(names) == flags.bit_count()


@pytest.mark.parametrize(
    "flags",
    [
        flag_rust.REWARDED,
        flag_rust.FINAL | flag_rust.VERIFIED,
        flag_rust.VOTED,
        flag_rust.RECONCILED | flag_rust.STORED_IMMUDB,
        1 << 10,
    ],
)
def test_impossible_progress_is_an_error(flags: int) -> None:
    with pytest.raises(flag_rust.FlagError):
        flag_rust.check(flags)


def test_the_whole_way_is_legal() -> None:
    flag_rust.check(sum(BITS))
    flag_rust.check(0)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(flag_rust.FlagError, match="nonsense"):
        flag_rust.from_names(["verified", "nonsense"])
