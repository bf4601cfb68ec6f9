"""Ranges of transaction ids: their digests, and the descent that finds where two nodes differ.

A range is all ids with one prefix; its digest is SHA-256 over its entries in ascending order. Ranges
that differ are asked for in 256 parts, until they are few enough to be listed (a Merkle tree whose
leaves are as deep as they need to be, so that chosen ids can't make one of them large).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

ID_BYTES: Final = 32
#: A transaction id and the digest of its voters.
ENTRY_BYTES: Final = 64
#: A range of at most so many entries is answered with them.
LISTED_MAX: Final = 128
#: In one request; with LISTED_MAX it keeps an answer below 2.2 MB.
PREFIXES_MAX: Final = 256
#: Of one comparison: a peer that invents differences is left after so many; the next one goes on.
REQUESTS_MAX: Final = 1_024

#: Where a comparison begins.
TOP: Final = tuple(bytes([first]) for first in range(256))


@dataclass(frozen=True)
class Range:
    """What is kept in a range; `entries` is empty if they are more than LISTED_MAX."""

    count: int
    digest: bytes
    entries: bytes

    @classmethod
    def of(cls, entries: Sequence[bytes]) -> "Range":
        """Of all entries of a range, ascending."""
        if not entries:
            return cls(0, b"", b"")
        whole = b"".join(entries)
        listed = whole if len(entries) <= LISTED_MAX else b""
        return cls(len(entries), hashlib.sha256(whole).digest(), listed)


class BadRanges(Exception):
    """A peer's answer contradicts itself."""


class Difference(NamedTuple):
    """A transaction id of which two nodes have not the same; None is that it is not kept there."""

    transaction_id: bytes
    here: bytes | None
    there: bytes | None


def differences(
    summary: Callable[[bytes], Range],
    entries: Callable[[bytes], Sequence[bytes]],
    ask: Callable[[Sequence[bytes]], Sequence[Range]],
    top: Sequence[bytes] = TOP,
) -> Iterator[Difference]:
    """Compare what is kept here with what a peer keeps.

    Parameters
    ----------
    summary, entries : callable
        What is here in the range of a prefix.
    ask : callable
        The peer's ranges for at most PREFIXES_MAX prefixes, in their order.
    top : sequence of bytes
        The prefixes to begin with, in this order.

    Raises
    ------
    BadRanges
        What was found before is true nevertheless.
    """
    waiting = list(reversed(top))
    for _ in range(REQUESTS_MAX):
        if not waiting:
            return
        prefixes = [waiting.pop() for _ in range(min(PREFIXES_MAX, len(waiting)))]
        theirs = ask(prefixes)
        if len(theirs) != len(prefixes):
            raise BadRanges(f"{len(theirs)} ranges for {len(prefixes)} prefixes")
        for prefix, there in zip(prefixes, theirs, strict=True):
            check_range(prefix, there)
            here = summary(prefix)
            if here.digest == there.digest:
                continue
            if there.count > LISTED_MAX:
                waiting.extend(prefix + bytes([last]) for last in range(255, -1, -1))
            else:
                yield from _compared(entries(prefix), _split(there.entries))


def check_range(prefix: bytes, one: Range) -> None:
    """Hold a peer's range against itself.

    Raises
    ------
    BadRanges
    """
    if one.count > LISTED_MAX:
        if len(prefix) >= ID_BYTES or len(one.digest) != hashlib.sha256().digest_size:
            raise BadRanges(f"prefix {prefix.hex()}: too many entries, or no digest")
        return
    entries = _split(one.entries)
    in_order = all(a[:ID_BYTES] < b[:ID_BYTES] for a, b in pairwise(entries))
    whole = all(len(each) == ENTRY_BYTES and each.startswith(prefix) for each in entries)
    if not (in_order and whole and Range.of(entries) == one):
        raise BadRanges(f"prefix {prefix.hex()}: entries that are not of it, or another digest")


def _split(entries: bytes) -> list[bytes]:
    return [entries[at : at + ENTRY_BYTES] for at in range(0, len(entries), ENTRY_BYTES)]


def _compared(here: Sequence[bytes], there: Sequence[bytes]) -> Iterator[Difference]:
    ours, theirs = _by_id(here), _by_id(there)
    for transaction_id in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(transaction_id), theirs.get(transaction_id)
        if a != b:
            yield Difference(transaction_id, a, b)


def _by_id(entries: Sequence[bytes]) -> Mapping[bytes, bytes]:
    return {each[:ID_BYTES]: each[ID_BYTES:] for each in entries}
