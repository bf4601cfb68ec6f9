"""What is known of a stored transaction's votes later than the transaction itself.

A record is insert-only, so one that was stored before it was final is not changed. A work entry in
`pending` lets `reconcile` find it; what becomes of it is a document of its own in `finality`. A work
entry is no data: it is inserted before its record, so that a crash leaves at worst an entry without
a record, and deleted when there is nothing left to do.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

import flag_rust
from persist.record import Record
from persist.tier import NONCE_CONFLICT

PENDING: Final = "pending"
FINALITY: Final = "finality"
#: As many as Unix milliseconds have in the next 30,000 years.
_DIGITS: Final = re.compile(r"[0-9]{1,15}")


class PendingEntry(msgspec.Struct, frozen=True):
    """A work entry: this transaction was about to be stored, and was not final.

    Each attempt to store has an entry of its own, so that an old one without a record is certainly
    of an attempt that has ended, and may be deleted.
    """

    transaction_id: str
    since_ms: int

    @property
    def entry_id(self) -> str:
        """Its `_id`: the same attempt, repeated, is the same entry."""
        return f"{self.transaction_id}:{self.since_ms}"

    @classmethod
    def named(cls, entry_id: str) -> "PendingEntry | None":
        """The entry with this `_id`, which says all of it; None if it is no entry's.

        Examples
        --------
        >>> PendingEntry.named("ab:12")
        PendingEntry(transaction_id='ab', since_ms=12)
        >>> PendingEntry.named("ab") is None
        True
        """
        transaction_id, _, since_ms = entry_id.partition(":")
        entry = cls(transaction_id, int(since_ms)) if _DIGITS.fullmatch(since_ms) else None
        return entry if entry is not None and transaction_id else None

    def document(self) -> dict[str, Any]:
        """As it lies in `pending`."""
        return {"_id": self.entry_id, **msgspec.to_builtins(self)}


class Finality(msgspec.Struct, frozen=True):
    """The outcome of a vote that ended after its transaction was stored; the first one stays.

    Attributes
    ----------
    outcome : str
        `final`, or `rejected`: its nonce is promised to another transaction for ever.
    epoch : int
        Of the delegates under whose keys the votes verify.
    votes : list of (delegate_id, base64 signature)
    """

    transaction_id: str
    outcome: Literal["final", "rejected"]
    epoch: int
    votes: list[tuple[str, str]]
    stake: int
    rewards: list[tuple[str, int]]
    at_ms: int


def entry_of(record: Record) -> PendingEntry:
    """The work entry to be inserted before this record."""
    return PendingEntry(record.transaction_id, record.stored_at_ms)


def with_finality(record: Record, finality: Finality | None) -> Record:
    """The record as a reader may see it, once its votes are known."""
    if finality is None or record.final:
        return record
    if finality.outcome == "rejected":
        return msgspec.structs.replace(record, refused=NONCE_CONFLICT)
    flags = flag_rust.merge(record.flags, flag_rust.VOTED | flag_rust.FINAL)
    return msgspec.structs.replace(
        record,
        final=True,
        votes=finality.votes,
        stake=finality.stake,
        rewards=finality.rewards,
        flags=flag_rust.merge(flags, flag_rust.REWARDED) if finality.rewards else flags,
    )


def finality_in(document: Mapping[str, Any], pairs: Mapping[str, tuple[str, str]]) -> Finality:
    """The outcome out of a document of `finality`, whose pairs are documents."""
    fields = dict(document)
    for name, members in pairs.items():
        fields[name] = [[pair[member] for member in members] for pair in fields[name]]
    return msgspec.convert(fields, Finality)
