"""Rendezvous hashing (highest random weight; Thaler and Ravishankar, 1998).

Each shard's weight for an account is BLAKE2b-64 over continent, account and shard number; the
heaviest shard has the account. When the number of shards grows by one, only the accounts that the
new shard wins move.
"""

import functools
from hashlib import blake2b
from typing import Final

from federation.limits import SHARDS_PER_CONTINENT
from federation.regions import CONTINENTS, Continent

#: Accounts whose shard an execution environment remembers.
REMEMBERED_MAX: Final = 65_536


@functools.lru_cache(REMEMBERED_MAX)
def shard_of(continent: str, account: str, shards: int = SHARDS_PER_CONTINENT) -> int:
    """The shard of an account in a continent, 0 ≤ shard < `shards`.

    Examples
    --------
    >>> shard_of("Europe", "ab" * 32) == shard_of("Europe", "ab" * 32)
    True
    """
    return max(range(shards), key=lambda shard: _weight(f"{continent}\0{account}\0{shard}"))


def continent_of_last_resort(account: str) -> Continent:
    """The continent that records what has neither certificate continent nor place: its rejection."""
    return max(CONTINENTS, key=lambda continent: _weight(f"{account}\0{continent.value}"))


def _weight(text: str) -> bytes:
    return blake2b(text.encode(), digest_size=8).digest()
