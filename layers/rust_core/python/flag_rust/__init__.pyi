from typing import Final

from typing_extensions import Buffer

__all__ = [
    "FINAL",
    "PLACED",
    "RECONCILED",
    "REWARDED",
    "SHARDED",
    "STORED_ATLAS",
    "STORED_DYNAMODB",
    "STORED_IMMUDB",
    "VERIFIED",
    "VOTED",
    "FlagError",
    "check",
    "count",
    "first_impossible",
    "from_names",
    "merge",
    "merge_into",
    "names",
]

VERIFIED: Final[int]
PLACED: Final[int]
VOTED: Final[int]
FINAL: Final[int]
SHARDED: Final[int]
REWARDED: Final[int]
STORED_ATLAS: Final[int]
STORED_DYNAMODB: Final[int]
STORED_IMMUDB: Final[int]
RECONCILED: Final[int]

class FlagError(ValueError):
    """The set of flags can't be: it has an unknown bit, or a flag without the one it needs."""

def merge(left: int, right: int) -> int:
    """What two observers know together: bitwise OR."""

def merge_into(target: Buffer, other: Buffer) -> int:
    """Merge each entry of `other` into the one of `target`, in place.

    Threads may merge into one target at the same time: no flag is lost. A plain assignment to an
    entry that is being merged may be.

    Parameters
    ----------
    target : buffer of uint32, shape (n,)
        Writable.
    other : buffer of uint32, shape (n,)
        May be the very memory of `target`, which changes nothing, but not overlap it.

    Returns
    -------
    int
        How many entries of `target` grew.

    Raises
    ------
    ValueError
        Names the argument that is no contiguous, aligned buffer of native uint32, read-only as the
        target, of another length, or overlapping.
    """

def first_impossible(flags: Buffer) -> int | None:
    """Index of the first set in a buffer of uint32 for which `check` raises; none if all can be.

    Raises
    ------
    ValueError
        It is no contiguous, aligned buffer of native uint32.
    """

def count(flags: Buffer, mask: int) -> int:
    """How many sets in a buffer of uint32 have all flags of `mask`.

    Raises
    ------
    FlagError
        `mask` has an unknown bit.
    ValueError
        `flags` is no contiguous, aligned buffer of native uint32.
    """

def check(flags: int) -> None:
    """Raise `FlagError` if `flags` can't be (rewarded but not voted, reconciled but not in Atlas …)."""

def names(flags: int) -> list[str]:
    """Names of the flags set, lowest bit first, such as `["verified", "stored:atlas"]`."""

def from_names(names: list[str]) -> int:
    """The inverse of `names`; raises `FlagError` for an unknown name."""
