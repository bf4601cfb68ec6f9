"""From pending to final: which records lack votes, and what becomes of them when they are collected."""

import hashlib
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

import msgspec

import flag_rust
from federation.batch import Batch, Group, Item
from federation.limits import (
    BATCH_ITEMS_MAX,
    PENDING_SCAN_MAX,
    RECONCILE_BATCH_BYTES_MAX,
    RETRY_PERIOD_MIN_MAX,
    SPURIOUS_AGE_MS,
)
from federation.transaction import Envelope, Sealed
from persist.finality import Finality, PendingEntry
from persist.record import Record, RecordDamaged, Sealing, check_header
from persist.tier import NONCE_CONFLICT, TierUnavailable
from reconcile.electorate import Electorate
from reconcile.stored import Stored

MINUTE_MS: Final = 60_000
#: The period between two tries doubles as its age, in so many minutes, does.
AGE_A_PERIOD: Final = 10
#: What this storing, and this vote, say anew.
_SAID_ANEW: Final = (
    flag_rust.VOTED
    | flag_rust.FINAL
    | flag_rust.REWARDED
    | flag_rust.STORED_ATLAS
    | flag_rust.STORED_DYNAMODB
    | flag_rust.STORED_IMMUDB
    | flag_rust.RECONCILED
)


class _Cursor(msgspec.Struct, frozen=True):
    """How far a run has come: from its start to the end of the names, then from their begin to it.

    A run is bounded, so where it starts is by chance: else what has the lowest names would be looked
    at in each run, and the rest, when there is very much, in none.
    """

    start: str
    #: None until something was seen.
    last: str | None = None

    def behind(self, last: str | None) -> "_Cursor":
        """The cursor when this was seen too."""
        return self if last is None else _Cursor(self.start, last)

    @property
    def is_round_the_end(self) -> bool:
        """Whether the names from the start on are seen already."""
        return self.last is not None and self.last <= self.start


class PendingStore(Protocol):
    """One continent's cluster, as far as late finality goes. All of it may be repeated.

    Each method raises `persist.tier.TierUnavailable` if the cluster can't be reached.
    """

    def entries(self, after: str, limit: int) -> list[str]:
        """Ids of work entries, in their order, behind `after`."""
        ...

    def oldest_ms(self) -> int | None:
        """Since when the oldest entry waits."""
        ...

    def records(self, transaction_ids: Collection[str]) -> Stored:
        """The stored records with their sealed content, as they were stored."""
        ...

    def settled(self, transaction_ids: Collection[str]) -> set[str]:
        """Those whose finality is known."""
        ...

    def settle(self, outcomes: Sequence[Finality]) -> None:
        """Insert outcomes; one that is known already stays."""
        ...

    def remove(self, entry_ids: Collection[str]) -> None:
        """Delete work entries."""
        ...


class Gathered(msgspec.Struct, frozen=True):
    """A batch to collect votes for.

    Attributes
    ----------
    entries : list of entry ids
        The work entries of its items.
    after : str
        Where the next round goes on.
    more : bool
        There are entries behind it.
    oldest_ms : int or None
        Since when the oldest entry waits; told in the first round.
    removed : int
        Entries without any work left.
    damaged : list of transaction ids
        Their records can't be read, or are not what their senders signed; they stay as they are. And
        what lies among the work entries and is none.
    """

    batch: Batch
    entries: list[str]
    after: str
    more: bool
    oldest_ms: int | None = None
    removed: int = 0
    damaged: list[str] = []


class Finished(msgspec.Struct, frozen=True):
    """What came of a batch; `answered` if any delegate said anything, so that a next try makes sense."""

    final: int
    rejected: int
    pending: int
    answered: bool


def gather(
    store: PendingStore, batch_id: str, now_ms: int, after: str = "", *, all_due: bool = False
) -> Gathered:
    """The next batch of records that lack votes, within the limits of a state's payload.

    Parameters
    ----------
    after : str
        The `after` of the round before; empty for the first.
    all_due : bool
        Leave none out for its age, as an operator wants it.

    Raises
    ------
    TierUnavailable
    """
    cursor = msgspec.json.decode(after, type=_Cursor) if after else _Cursor(_random_name())
    names, is_all = _names_behind(store, cursor)
    oldest_ms = None if after else _oldest_ms(store, names)
    chosen: list[PendingEntry] = []
    damaged: list[str] = []
    seen = 0
    for name in names:
        seen += 1
        entry = PendingEntry.named(name)
        if entry is None:
            damaged.append(name)
        elif all_due or is_due(entry, now_ms):
            chosen.append(entry)
        if len(chosen) == BATCH_ITEMS_MAX:
            break
    ids = {entry.transaction_id for entry in chosen}
    # In this order: whoever inserted an outcome before we look is seen.
    records = store.records(ids) if ids else Stored({})
    settled = store.settled(ids) if ids else set()
    taken = _Taken(batch_id)
    done: list[str] = []
    last, full = names[seen - 1] if seen else None, False
    for n, entry in enumerate(chosen):
        found = records.whole.get(entry.transaction_id)
        if entry.transaction_id in records.damaged:
            # Whether it is settled doesn't matter then: somebody has to look at it.
            damaged.append(entry.transaction_id)
        elif found is None:
            # The record may be under way; long after, its attempt has certainly ended without it.
            if now_ms - entry.since_ms > SPURIOUS_AGE_MS:
                done.append(entry.entry_id)
        elif found[0].final or entry.transaction_id in settled:
            done.append(entry.entry_id)
        else:
            try:
                check_header(found[0])
                fits = taken.add(entry, *found)
            except (RecordDamaged, msgspec.DecodeError, msgspec.ValidationError):
                damaged.append(entry.transaction_id)
                continue
            if not fits:
                last, full = chosen[n - 1].entry_id, True
                break
    if done:
        store.remove(done)
    return Gathered(
        batch=taken.batch(),
        entries=taken.entries,
        after=msgspec.json.encode(cursor.behind(last)).decode(),
        more=full or seen < len(names) or not is_all,
        oldest_ms=oldest_ms,
        removed=len(done),
        damaged=damaged,
    )


def _names_behind(store: PendingStore, cursor: _Cursor) -> tuple[list[str], bool]:
    """The next names of a run, and whether these are its last."""
    names: list[str] = []
    if not cursor.is_round_the_end:
        names = store.entries(
            cursor.start if cursor.last is None else cursor.last, PENDING_SCAN_MAX
        )
    room = PENDING_SCAN_MAX - len(names)
    if not room:
        return names, False
    behind = cursor.last if cursor.is_round_the_end and cursor.last is not None else ""
    first = store.entries(behind, room)
    up_to_start = [name for name in first if name <= cursor.start]
    return names + up_to_start, len(up_to_start) < room


def _random_name() -> str:
    # Ids are hashes, so that a random one lies anywhere among them.
    return secrets.token_hex(32)


def _oldest_ms(store: PendingStore, names: Sequence[str]) -> int | None:
    """Since when the oldest waits; of these names, if there are too many to ask for all of them."""
    try:
        return store.oldest_ms()
    except TierUnavailable:
        # It is for a metric alone, and must not keep the run from its work.
        entries = filter(None, map(PendingEntry.named, names))
        return min((one.since_ms for one in entries), default=None)


def finish(
    store: PendingStore,
    groups: Sequence[Group],
    entries: Collection[str],
    electorate: Electorate,
    now_ms: int,
) -> Finished:
    """Write down what became final, or never can be, then remove the work entries of those.

    Votes are verified again: `final` is what the delegates' keys prove, not what a stage says.

    Raises
    ------
    TierUnavailable
        Perhaps after the outcomes were inserted: the next run finds them and removes the entries.
    """
    items = [item for group in groups for item in group.items]
    proven = electorate.proven(items)
    outcomes: list[Finality] = []
    for item in items:
        transaction_id = item.envelope.header.transaction_id
        if transaction_id in proven:
            voters, stake = proven[transaction_id]
            votes = [vote for vote in item.votes if vote[0] in voters]
            outcomes.append(
                Finality(
                    transaction_id, "final", electorate.epoch, votes, stake, item.rewards, now_ms
                )
            )
        elif item.outcome == "rejected" and item.reason == NONCE_CONFLICT:
            outcomes.append(
                Finality(transaction_id, "rejected", electorate.epoch, [], 0, [], now_ms)
            )
    if outcomes:
        store.settle(outcomes)
        known = {one.transaction_id for one in outcomes}
        store.remove([one for one in entries if one.split(":", 1)[0] in known])
    rejected = sum(one.outcome == "rejected" for one in outcomes)
    return Finished(
        final=len(outcomes) - rejected,
        rejected=rejected,
        pending=len(items) - len(outcomes),
        answered=any(item.votes or item.outcome == "rejected" for item in items),
    )


def is_due(entry: PendingEntry, now_ms: int) -> bool:
    """Whether this minute's run tries it: each minute at first, the more seldom the older it is.

    An entry is never changed, so its age alone decides, and its id which of the minutes: old ones
    are spread evenly over the runs. The minutes between two tries double: so each try of a longer
    period is one of the shorter too, and growing older never skips it.

    Examples
    --------
    >>> is_due(PendingEntry("ab", since_ms=0), now_ms=5 * MINUTE_MS)
    True
    """
    age_min = max(0, now_ms - entry.since_ms) // MINUTE_MS
    # Powers of two, so that a period that grows never steps over the minute it was waiting for.
    doublings = (1 + age_min // AGE_A_PERIOD).bit_length() - 1
    period_min = min(RETRY_PERIOD_MIN_MAX, 1 << doublings)
    phase = int.from_bytes(hashlib.sha256(entry.transaction_id.encode()).digest()[:4], "big")
    return (now_ms // MINUTE_MS + phase) % period_min == 0


def item_of(record: Record, sealing: Sealing) -> Item:
    """The item that a record was stored from, its votes and rewards to be found anew."""
    return Item(
        envelope=Envelope(
            header=record.header,
            algorithm=record.algorithm,
            public_key=record.public_key,
            signature=record.signature,
            sealed=Sealed(sealing.key_id, sealing.ciphertext),
            accepted_at_ms=record.accepted_at_ms,
            request_id=record.request_id,
            home_continent=record.home_continent,
        ),
        flags=record.flags & ~_SAID_ANEW,
        place=record.place,
        continent=record.continent,
        shard=record.shard,
        cross_shard=record.cross_shard,
    )


class _Taken:
    """A batch that grows until it is full."""

    def __init__(self, batch_id: str) -> None:
        self._batch_id = batch_id
        self._keys: dict[str, str] = {}
        self._items: dict[str, Item] = {}
        self._size_bytes = 0
        self.entries: list[str] = []

    def add(self, entry: PendingEntry, record: Record, sealed: bytes) -> bool:
        """Whether it fits. An item whose second entry this is takes no more room."""
        if record.transaction_id not in self._items:
            sealing = msgspec.json.decode(sealed, type=Sealing)
            item = item_of(record, sealing)
            known = self._keys.get(sealing.key_id)
            size_bytes = len(msgspec.json.encode(item))
            if known is None:
                size_bytes += len(sealing.key_id) + len(sealing.wrapped_key)
            clash = known not in (None, sealing.wrapped_key)
            if self._items and (clash or self._size_bytes + size_bytes > RECONCILE_BATCH_BYTES_MAX):
                return False
            self._items[record.transaction_id] = item
            self._keys[sealing.key_id] = sealing.wrapped_key
            self._size_bytes += size_bytes
        self.entries.append(entry.entry_id)
        return True

    def batch(self) -> Batch:
        """What was added, whole."""
        keys: Mapping[str, str] = self._keys
        return Batch(self._batch_id, dict(keys), list(self._items.values()))
