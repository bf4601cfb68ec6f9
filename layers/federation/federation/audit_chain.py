"""The form of the audit trail: each entry holds the hash of the one before (RFC 8785, FIPS 180-4).

Entry n is the canonical JSON of `{"event", "previous_hash", "sequence"}`. Its hash is SHA-256 over a
tag and these bytes, so that it can't be taken for the hash of anything else. Nothing of this knows
where the entries are kept.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

import federation_dag
from federation.errors import FederationError

#: Before the bytes of an entry when they are hashed; another form of entry gets another tag.
HASH_TAG: Final = b"love-currency/audit-entry/v1\n"
HEAD_KEY: Final = b"head"
ENTRY_PREFIX: Final = b"entry:"
EVENT_PREFIX: Final = b"event:"
_SEQUENCE_DIGITS: Final = 16


class EntryDamaged(FederationError):
    """The bytes are no entry of an audit trail; the message says why."""

    def __init__(self, why: str) -> None:
        super().__init__("entry_damaged", why)


class Head(msgspec.Struct, frozen=True):
    """The last entry of a chain.

    Attributes
    ----------
    sequence : int
        0 for a chain without entries; the first entry is 1.
    hash : str
        64 hex digits: of that entry.
    """

    sequence: int
    hash: str


#: What the first entry follows.
START: Final = Head(0, "0" * 64)


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry: an event (CloudEvents 1.0) in its place."""

    sequence: int
    previous_hash: str
    event: dict[str, Any]

    @property
    def event_id(self) -> str:
        """The id of its event."""
        return str(self.event.get("id", ""))


class Appended(msgspec.Struct, frozen=True):
    """New entries of a chain, and what is its head with them.

    Attributes
    ----------
    entries : list of (Entry, bytes)
        Each with the bytes that are stored and hashed.
    """

    entries: list[tuple[Entry, bytes]]
    head: Head


def append(head: Head, events: Iterable[Mapping[str, Any]]) -> Appended:
    """The entries of `events`, in their order, behind `head`.

    Raises
    ------
    federation_dag.CanonicalError
        An event is not I-JSON (RFC 7493).

    Examples
    --------
    >>> append(START, [{"id": "a"}]).head.sequence
    1
    """
    entries = []
    for event in events:
        entry = Entry(head.sequence + 1, head.hash, dict(event))
        stored = federation_dag.canonicalize(msgspec.json.encode(entry))
        entries.append((entry, stored))
        head = Head(entry.sequence, entry_hash(stored))
    return Appended(entries, head)


def entry_hash(stored: bytes) -> str:
    """64 hex digits: the hash of an entry as it is stored."""
    return hashlib.sha256(HASH_TAG + stored).hexdigest()


def read_entry(stored: bytes) -> Entry:
    """The entry in these bytes.

    Raises
    ------
    EntryDamaged
        They are not JSON of this form.
    """
    try:
        return msgspec.json.decode(stored, type=Entry)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EntryDamaged(f"it is no entry: {error}") from None


def read_head(stored: bytes) -> Head:
    """The head in these bytes.

    Raises
    ------
    EntryDamaged
        They are not JSON of this form.
    """
    try:
        return msgspec.json.decode(stored, type=Head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EntryDamaged(f"it is no head: {error}") from None


def head_value(head: Head) -> bytes:
    """A head as it is stored."""
    return federation_dag.canonicalize(msgspec.json.encode(head))


def entry_key(sequence: int) -> bytes:
    """Where an entry is kept: keys sort as their entries do."""
    return ENTRY_PREFIX + f"{sequence:0{_SEQUENCE_DIGITS}d}".encode()


def event_key(event_id: str) -> bytes:
    """Where the sequence of an event is kept, so that no event is appended twice."""
    return EVENT_PREFIX + event_id.encode()
