from typing import Final

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
    "from_names",
    "merge",
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

def check(flags: int) -> None:
    """Raise `FlagError` if `flags` can't be (rewarded but not voted, reconciled but not in Atlas …)."""

def names(flags: int) -> list[str]:
    """Names of the flags set, lowest bit first, such as `["verified", "stored:atlas"]`."""

def from_names(names: list[str]) -> int:
    """The inverse of `names`; raises `FlagError` for an unknown name."""
