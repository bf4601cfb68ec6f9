"""The batch that every stage takes and gives, and the receipts it ends in."""

from typing import Literal

import msgspec

from federation.transaction import Envelope

Outcome = Literal["accepted", "rejected"]
Tier = Literal["atlas", "dynamodb", "immudb"]
TIERS: tuple[Tier, ...] = ("atlas", "dynamodb", "immudb")


class Place(msgspec.Struct, frozen=True):
    """Proof of Place: the nearest city of a position; `distance_m` is the way to its centre."""

    status: Literal["populated", "unpopulated"]
    city: str
    country: str
    continent: str
    h3_cell: str
    distance_m: int


class Item(msgspec.Struct, frozen=True):
    """One transaction and what the stages have said of it so far.

    Attributes
    ----------
    outcome, reason
        `rejected` carries a reason code; a rejected item travels on, so that `persist` records it.
    flags : int
        The bit set of `flag_rust`.
    layer : int
        Items of one layer touch no common object (`resolve_object_deps`).
    votes : list of (delegate_id, base64 signature)
    stake : int
        Stake of the verified votes; `final` when it is ≥ 2/3 of all stake.
    rewards : list of (delegate_id, amount in milli-LOVE)
    """

    envelope: Envelope
    outcome: Outcome = "accepted"
    reason: str | None = None
    flags: int = 0
    place: Place | None = None
    layer: int = 0
    votes: list[tuple[str, str]] = []
    stake: int = 0
    final: bool = False
    continent: str | None = None
    shard: int | None = None
    cross_shard: bool = False
    rewards: list[tuple[str, int]] = []


class Batch(msgspec.Struct, frozen=True):
    """Transactions that go through the pipeline together; each wrapped content key is kept once."""

    batch_id: str
    wrapped_keys: dict[str, str]
    items: list[Item]


class InboxMessage(msgspec.Struct, frozen=True):
    """What lies in the inbox: envelopes that were posted together, each wrapped key once.

    One message for many transactions keeps the inbox quick (SQS gives ten messages at a time) and
    is acknowledged only when every one of them has a receipt.
    """

    wrapped_keys: dict[str, str]
    envelopes: list[Envelope]


class Group(msgspec.Struct, frozen=True):
    """The items of a batch that belong to one continent's store."""

    batch_id: str
    continent: str
    wrapped_keys: dict[str, str]
    items: list[Item]


class Grouped(msgspec.Struct, frozen=True):
    """A batch after `shard`; `rewards` sums the items' rewards by delegate."""

    batch_id: str
    groups: list[Group]
    rewards: list[tuple[str, int]] = []


class Receipt(msgspec.Struct, frozen=True):
    """Proof that a transaction, or its rejection, is recorded in a tier.

    Attributes
    ----------
    continent : str
        The home continent, whose keys encrypt the record.
    cluster : str or None
        The Atlas cluster that it lies in, if that is another continent's (`ALLOW_CROSS_REGION`).
    """

    transaction_id: str
    status: Literal["stored", "rejected"]
    reason: str | None
    tier: Tier
    continent: str
    shard: int | None
    final: bool
    stored_at_ms: int
    cluster: str | None = None


class Persisted(msgspec.Struct, frozen=True):
    """What one tier did with a group; `unavailable` items go on to the next tier."""

    outcome: Literal["stored", "unavailable"]
    reason: str | None
    receipts: list[Receipt]
    unavailable: list[Item]


def rejected(item: Item, reason: str) -> Item:
    """The item, rejected; the first reason stays."""
    if item.outcome == "rejected":
        return item
    return msgspec.structs.replace(item, outcome="rejected", reason=reason)
