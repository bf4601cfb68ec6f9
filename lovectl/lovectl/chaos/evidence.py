"""What lies in the stores, as plain data that a judge can compare with a history."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

Tier = Literal["atlas", "dynamodb", "immudb"]

#: The marks by which `reconcile` says that a copy's home has it: then it is no second copy.
RECONCILED_FIELDS: Final = ("reconciled_at_ms", "reconciled")


class StoredCopy(msgspec.Struct, frozen=True):
    """One stored transaction, as another client read it straight from a store.

    Attributes
    ----------
    place : str
        The continent of the cluster that it lies in; empty in the tiers that have no clusters.
    continent : str
        The home that the record itself names.
    content : dict or None
        As an independent reader opened it; None if that failed, then `unopened` says why.
    reconciled : bool
        It is marked as brought home.
    """

    tier: Tier
    place: str
    transaction_id: str
    sender: str
    nonce: int
    continent: str
    header: dict[str, Any]
    algorithm: str
    public_key: str
    signature: str
    votes: list[tuple[str, str]]
    stake: int
    final: bool
    rewards: list[tuple[str, int]]
    shard: int | None
    stored_at_ms: int
    cluster: str | None = None
    content: dict[str, Any] | None = None
    unopened: str = ""
    reconciled: bool = False


class StoredRejection(msgspec.Struct, frozen=True):
    """A recorded rejection."""

    tier: Tier
    place: str
    transaction_id: str
    sender: str
    reason: str


class Damage(msgspec.Struct, frozen=True):
    """Something in a store that can't even be read as a record."""

    tier: Tier
    place: str
    what: str


class Evidence(msgspec.Struct, frozen=True):
    """All that was found."""

    copies: list[StoredCopy]
    rejections: list[StoredRejection] = []
    damage: list[Damage] = []


class DelegateKey(msgspec.Struct, frozen=True):
    """What a judge knows of a delegate; the key is raw bytes."""

    delegate_id: str
    algorithm: str
    public_key: bytes
    stake: int


class Federation(msgspec.Struct, frozen=True):
    """Who may vote in an epoch, and what one final transaction pays in milli-LOVE."""

    epoch: int
    delegates: Mapping[str, DelegateKey]
    reward: int

    @property
    def total_stake(self) -> int:
        """All stake, whether it votes or not."""
        return sum(one.stake for one in self.delegates.values())
