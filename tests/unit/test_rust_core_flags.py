"""A transaction's progress only ever grows, and impossible progress is an error."""

import ctypes
import random
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
#: Three arrays of one length.
triples = st.lists(st.tuples(flag_sets, flag_sets, flag_sets), max_size=60).map(
    lambda rows: tuple(
        array("I", column) for column in (zip(*rows, strict=True) if rows else [[]] * 3)
    )
)
MANY = 1_000_000
FOREIGN: Any = (
    ctypes.c_uint32.__ctype_be__ if sys.byteorder == "little" else ctypes.c_uint32.__ctype_le__
) * 2


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


def merged(*arrays: "array[int]") -> "array[int]":
    """All of them merged into a copy of the first."""
    target = arrays[0][:]
    for other in arrays[1:]:
        flag_rust.merge_into(target, other)
    return target


@given(triples)
def test_merging_arrays_is_a_join_and_merges_each_entry(
    arrays: "tuple[array[int], array[int], array[int]]",
) -> None:
    a, b, c = arrays
    assert merged(a, b) == array("I", map(flag_rust.merge, a, b))
    assert merged(a, b) == merged(b, a)
    assert merged(merged(a, b), c) == merged(a, merged(b, c))
    assert merged(a, a) == merged(a, array("I", bytes(4 * len(a)))) == a


@given(triples)
def test_merging_tells_how_many_entries_grew(
    arrays: "tuple[array[int], array[int], array[int]]",
) -> None:
    before, other, _ = arrays
    target = before[:]
    grown = flag_rust.merge_into(target, other)
    assert grown == sum(x != y for x, y in zip(before, target, strict=True))
    assert flag_rust.merge_into(target, other) == 0
    assert flag_rust.merge_into(target, target) == 0


@given(st.lists(st.integers(0, 2 * sum(BITS)), max_size=60), flag_sets)
def test_arrays_are_looked_through_as_single_sets_are(all_flags: list[int], mask: int) -> None:
    def is_impossible(flags: int) -> bool:
        try:
            flag_rust.check(flags)
        except flag_rust.FlagError:
            return True
        return False

    flags = array("I", all_flags)
    wanted = next((index for index, one in enumerate(flags) if is_impossible(one)), None)
    assert flag_rust.first_impossible(flags) == wanted
    assert flag_rust.count(flags, mask) == sum(one & mask == mask for one in flags)


def test_a_million_entries_are_merged_in_their_own_memory() -> None:
    source = random.Random(1)
    target = array("I", source.choices(range(1024), k=MANY))
    other = array("I", source.choices(range(1024), k=MANY))
    wanted = array("I", map(int.__or__, target, other))
    address = target.buffer_info()
    grown = sum(map(int.__ne__, target, wanted))
    assert flag_rust.merge_into(target, other) == grown
    assert (target, target.buffer_info()) == (wanted, address)
    assert flag_rust.count(target, flag_rust.PLACED) == sum(one & 2 == 2 for one in wanted)
    legal = array("I", [sum(BITS)]) * MANY
    assert flag_rust.first_impossible(legal) is None
    legal[-1] = flag_rust.FINAL
    assert flag_rust.first_impossible(legal) == MANY - 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: memoryview(bytearray(8)).cast("I"),
        lambda: memoryview(array("I", [9, 0, 0]))[1:],
        lambda: (ctypes.c_uint32 * 2)(),
        lambda: memoryview(bytearray(8)).cast("@I"),
    ],
)
def test_any_buffer_of_native_words_will_do(make: Callable[[], Any]) -> None:
    target = make()
    assert flag_rust.merge_into(target, array("I", [0, 3])) == 1
    assert list(target) == [0, 3]
    read_only = memoryview(bytes(target)).cast("I")
    assert flag_rust.count(read_only, 3) == 1
    assert flag_rust.merge_into(array("I", [1, 1]), read_only) == 1


def test_no_entries_are_no_error() -> None:
    assert flag_rust.merge_into(array("I"), memoryview(b"").cast("I")) == 0
    assert flag_rust.first_impossible(array("I")) is None
    assert flag_rust.count(array("I"), 0) == 0


NOT_WORDS = [
    (None, "no buffer of native uint32"),
    ([1, 2], "no buffer of native uint32"),
    (bytearray(8), "no buffer of native uint32"),
    (array("i", [1, 2]), "no buffer of native uint32"),
    (array("Q", [1, 2]), "no buffer of native uint32"),
    (array("f", [1, 2]), "no buffer of native uint32"),
    (FOREIGN(1, 2), "no buffer of native uint32"),
    (memoryview(array("I", [1, 2, 3, 4]))[::2], "not contiguous in one dimension"),
    (memoryview(array("I", [1, 2]))[::-1], "not contiguous in one dimension"),
    (memoryview(bytearray(8)).cast("I", (2, 1)), "not contiguous in one dimension"),
    (memoryview(bytearray(4)).cast("I", ()), "no buffer of native uint32"),
    (memoryview(bytearray(9))[1:].cast("I"), "not begin at a multiple of 4"),
]


@pytest.mark.parametrize(("bad", "rule"), NOT_WORDS)
def test_what_is_no_array_of_words_is_refused_by_name(bad: Any, rule: str) -> None:
    good = array("I", [1, 2])
    calls: dict[str, Callable[[], object]] = {
        "target": lambda: flag_rust.merge_into(bad, good),
        "other": lambda: flag_rust.merge_into(good, bad),
        "flags": lambda: flag_rust.count(bad, 1),
        "flags ": lambda: flag_rust.first_impossible(bad),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=f"^{name.strip()} .*{rule}"):
            call()
    assert good == array("I", [1, 2])


def test_a_target_is_writable_as_long_as_the_other_and_does_not_overlap_it() -> None:
    words = array("I", [1, 2, 3])
    with pytest.raises(ValueError, match=r"^target is read-only"):
        flag_rust.merge_into(memoryview(words).toreadonly(), words)
    with pytest.raises(ValueError, match=r"^other has 2 entries, but target 3"):
        flag_rust.merge_into(words, words[:2])
    whole = memoryview(words)
    for target, other in ((whole[1:], whole[:-1]), (whole[:-1], whole[1:])):
        with pytest.raises(ValueError, match=r"^other overlaps target"):
            flag_rust.merge_into(target, other)
    assert flag_rust.merge_into(whole[:1], whole[1:2]) == 1
    assert list(words) == [3, 2, 3]


def test_a_mask_of_unknown_flags_is_an_error() -> None:
    with pytest.raises(flag_rust.FlagError, match="0x400"):
        flag_rust.count(array("I", [1]), 1 << 10)


@contextmanager
def ticking() -> Iterator[Callable[[], int]]:
    """A thread that counts whenever it gets the GIL, which nobody is forced to let go of."""
    ticks, done = [0], threading.Event()

    def tick() -> None:
        while not done.is_set():
            ticks[0] += 1
            time.sleep(0)

    interval_s = sys.getswitchinterval()
    thread = threading.Thread(target=tick)
    thread.start()
    sys.setswitchinterval(1000)
    try:
        yield lambda: ticks[0]
    finally:
        sys.setswitchinterval(interval_s)
        done.set()
        thread.join()


@pytest.mark.parametrize(
    "call",
    [
        lambda words: flag_rust.merge_into(words, words),
        lambda words: flag_rust.count(words, 1),
        lambda words: flag_rust.first_impossible(words),
    ],
)
def test_another_python_thread_advances_meanwhile(call: Callable[[Any], object]) -> None:
    words = array("I", [1]) * MANY
    with ticking() as ticks:
        before = ticks()
        # The system decides when the other thread runs; without the GIL it never could.
        for _ in range(1000):
            call(words)
            if ticks() > before:
                break
        assert ticks() > before


def test_an_array_can_not_be_resized_while_it_is_merged() -> None:
    target, other = array("I", [0]) * MANY, array("I", [1]) * MANY
    done = threading.Event()
    refused: list[BufferError] = []

    def resize() -> None:
        while not done.is_set():
            try:
                target.append(0)
                target.pop()
            except BufferError as error:
                refused.append(error)
            time.sleep(0)

    thread = threading.Thread(target=resize)
    thread.start()
    try:
        for _ in range(1000):
            # Between two calls it may be longer by one for a moment.
            if len(target) == MANY:
                flag_rust.merge_into(target, other)
            if refused:
                break
    finally:
        done.set()
        thread.join()
    assert refused
    assert target == other


def test_threads_that_merge_into_one_array_lose_no_flag() -> None:
    target = array("I", [0]) * MANY
    grown: list[int] = []
    threads = [
        threading.Thread(
            target=lambda bit=bit: grown.append(
                flag_rust.merge_into(target, array("I", [bit]) * MANY)
            )
        )
        for bit in BITS[:4]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert grown == [MANY] * 4
    assert target == array("I", [sum(BITS[:4])]) * MANY
