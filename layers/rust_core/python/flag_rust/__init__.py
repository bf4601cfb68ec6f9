"""How far a transaction has come, as a bit set that only ever grows.

Merging is a join (bitwise OR): in any order and any number of times it comes to the same, so two
reports about one transaction need no order.

Many sets are kept in an array of unsigned 32-bit integers: anything with the buffer protocol
(PEP 3118), such as `array.array("I")`, `memoryview.cast("I")` or a NumPy array of `uint32`. Arrays are neither
copied nor locked: the functions work in the array's own memory, without the GIL.

Examples
--------
>>> import flag_rust
>>> flag_rust.names(flag_rust.merge(flag_rust.VERIFIED, flag_rust.PLACED))
['verified', 'placed']

>>> from array import array
>>> here = array("I", [flag_rust.VERIFIED, flag_rust.VERIFIED])
>>> there = array("I", [flag_rust.PLACED, 0])
>>> flag_rust.merge_into(here, there)
1
>>> flag_rust.count(here, flag_rust.VERIFIED | flag_rust.PLACED)
1
>>> here[1] = flag_rust.FINAL
>>> flag_rust.first_impossible(here)
1
"""

from rust_core._native import flag_rust as _native

FINAL = _native.FINAL
PLACED = _native.PLACED
RECONCILED = _native.RECONCILED
REWARDED = _native.REWARDED
SHARDED = _native.SHARDED
STORED_ATLAS = _native.STORED_ATLAS
STORED_DYNAMODB = _native.STORED_DYNAMODB
STORED_IMMUDB = _native.STORED_IMMUDB
VERIFIED = _native.VERIFIED
VOTED = _native.VOTED
FlagError = _native.FlagError
check = _native.check
count = _native.count
first_impossible = _native.first_impossible
from_names = _native.from_names
merge = _native.merge
merge_into = _native.merge_into
names = _native.names

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
