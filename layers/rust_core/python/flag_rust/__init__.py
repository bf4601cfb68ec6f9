"""How far a transaction has come, as a bit set that only ever grows.

Examples
--------
>>> import flag_rust
>>> flag_rust.names(flag_rust.merge(flag_rust.VERIFIED, flag_rust.PLACED))
['verified', 'placed']
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
from_names = _native.from_names
merge = _native.merge
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
    "from_names",
    "merge",
    "names",
]
