"""What each tier can do, and how a group is written to one."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from federation.batch import Group, Item, Persisted, Receipt, Tier
from federation.breaker import BreakerState, calling_as
from federation.errors import FederationError
from federation.limits import WRITE_TIMEOUTS_MAX
from federation.transaction import Header
from persist.readers import NoncesUnavailable, ReadForbidden, Share
from persist.record import (
    Inconsistent,
    Record,
    RecordDamaged,
    Rejection,
    Sealing,
    check_header,
    open_content,
    record_of,
    rejection_of,
    sealed_record,
    unsigned,
)

NONCE_CONFLICT = "nonce_conflict"
INCONSISTENT = "inconsistent"
RECORD_DAMAGED = "record_damaged"
CONTESTED = "a transaction that isn't final holds the nonce of one that is"


class TierUnavailable(FederationError):
    """The store can't be reached, or did not confirm in time."""

    def __init__(self, detail: str) -> None:
        super().__init__("tier_unavailable", detail)


class ContentDamaged(TierUnavailable):
    """The store is well, and says itself that what it holds here is not what was written.

    To whoever writes it is as a store that does not confirm; another try won't help.
    """


class Inserted(msgspec.Struct, frozen=True):
    """What a store says of the records it was given; ids that are in none are unavailable.

    Attributes
    ----------
    stored : mapping of transaction id to Record
        The record that lies in the store: this one, or the same transaction's from before.
    conflicts : set of transaction ids
        Another transaction holds their (sender, nonce).
    contested : set of transaction ids
        Those of the conflicts that are final, while the holder isn't, as far as this store knows.
    """

    stored: Mapping[str, Record]
    conflicts: frozenset[str]
    contested: frozenset[str] = frozenset()


class Allowance:
    """The time that the calls of one write have together, so that their own limits don't add up.

    Parameters
    ----------
    store : str
        What is said to be too slow.
    timeout_s : float
        One call's limit: no call begins after a few times as long.
    connecting_s : float
        To connect, if there is no connection yet.
    """

    def __init__(self, store: str, timeout_s: float, connecting_s: float = 0.0) -> None:
        self._store = store
        self._ends_s = time.monotonic() + WRITE_TIMEOUTS_MAX * timeout_s + connecting_s

    def left_s(self) -> float:
        """Seconds that are left, more than none.

        Raises
        ------
        TierUnavailable
            None are left.
        """
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TierUnavailable(f"{self._store}: no time is left for the rest")
        return left_s


#: A record, and its sealed content.
Entry = tuple[Record, bytes]


class Part(msgspec.Struct, frozen=True):
    """One store of a tier, as it is seen from this execution environment.

    Attributes
    ----------
    part : str
        The continent of a cluster, or the tier's name; `kms/…` for a customer key, which is not
        asked: its `state` is what the last use of it said.
    reason : str or None
        Why it is down.
    breaker : BreakerState
        Of the breaker that guards its writes.
    """

    part: str
    state: Literal["up", "down"]
    reason: str | None
    breaker: BreakerState


class TierStore(Protocol):
    """One tier. Writes are insert-only, so any of them may be repeated."""

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """Store records with their sealed content.

        Raises
        ------
        TierUnavailable
            Nothing is known to be stored.
        """
        ...

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """Record rejections; gives what holds for each id, ids that are left out are unavailable.

        That is this rejection, the one recorded before, or the record of a transaction that was
        stored before: what is final is not taken back because a repetition was refused.

        Raises
        ------
        TierUnavailable
            Nothing is known to be recorded.
        """
        ...

    def fetch(
        self, transaction_id: str, continent: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        """The record and its sealed content, or the rejection; looks in `continent` first."""
        ...

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        """Write each continent's record where no transaction lies, and give what lies there then.

        What is written so is never read as a transaction, and is gone or overwritten later.
        """
        ...

    def breakers(self) -> list[BreakerState]:
        """How the breakers of its writes are; asks no store."""
        ...

    def health(self) -> list[Part]:
        """Whether each store of the tier answers, and how its breaker is."""
        ...


def reject_in_chunks(
    rejections: Sequence[Rejection],
    chunk_max: int,
    reject: Callable[[dict[str, Rejection], dict[str, Record | Rejection]], None],
) -> dict[str, Record | Rejection]:
    """What holds for each id, as far as `reject` came; of two rejections of an id the first counts.

    Parameters
    ----------
    reject : callable
        Takes a chunk of rejections and moves what it knows to hold into the second mapping, also
        when it fails.

    Raises
    ------
    TierUnavailable
        Nothing is known to be recorded.
    """
    unique: dict[str, Rejection] = {}
    for one in rejections:
        unique.setdefault(one.transaction_id, one)
    order, kept = list(unique), dict[str, Record | Rejection]()
    for start in range(0, len(order), chunk_max):
        try:
            reject({one: unique[one] for one in order[start : start + chunk_max]}, kept)
        except TierUnavailable:
            if not kept:
                raise
            break  # what is recorded has its receipt; the rest goes to the next tier
    return kept


def ask(store: TierStore) -> list[Part]:
    """Whether each store of the tier answers; as a reader, so that no breaker of money is moved."""
    try:
        with calling_as("read"):
            return store.health()
    except TierUnavailable as error:
        # It did not even say which of its stores fails.
        return [Part(one.name, "down", error.detail, one) for one in store.breakers()]


def ping(store: TierStore) -> None:
    """Raise TierUnavailable unless every store of the tier answers."""
    down = stores_down(ask(store))
    if down:
        raise TierUnavailable("; ".join(str(one.reason) for one in down))


def stores_down(parts: Sequence[Part]) -> list[Part]:
    """Those that are down, without keys: a data key in memory may serve on."""
    return [one for one in parts if one.state == "down" and not one.part.startswith("kms/")]


def part_of(breaker: BreakerState) -> Part:
    """What is known of a store that isn't asked: what its breaker says."""
    state: Literal["up", "down"] = "up" if breaker.state == "closed" else "down"
    return Part(breaker.name, state, breaker.why or None, breaker)


def asked_part(part: str, ask: Callable[[], object], breaker: Callable[[], BreakerState]) -> Part:
    """What a store that is asked now says: `ask` raises TierUnavailable if it doesn't answer."""
    reason = None
    try:
        ask()
    except TierUnavailable as error:
        reason = error.detail
    return Part(part, "up" if reason is None else "down", reason, breaker())


def store_group(group: Group, tier: Tier, store: TierStore) -> Persisted:
    """Write a group to one tier: each item is stored, or its rejection recorded, or unavailable.

    What is final by its votes is never rejected because a record that can't be final any more holds
    its nonce here: it is unavailable, so that the next tier takes it.
    """
    now_ms = time.time_ns() // 1_000_000
    records: list[tuple[Record, bytes]] = []
    reasons: dict[str, str] = {}
    for item in group.items:
        if item.outcome == "rejected":
            reasons[_id(item)] = item.reason or "rejected"
            continue
        try:
            records.append(record_of(item, group.continent, group.wrapped_keys, tier, now_ms))
        except Inconsistent as error:
            reasons[_id(item)] = error.reason
    # What couldn't be verified after reading is not written in the first place.
    refused = dict.fromkeys(unsigned(records), INCONSISTENT)
    records = [entry for entry in records if entry[0].transaction_id not in refused]
    # A transaction may be in a batch twice: it is rejected only if no copy of it was accepted.
    for record, _ in records:
        reasons.pop(record.transaction_id, None)
    reasons.update(refused)
    receipts: dict[str, Receipt] = {}
    why: str | None = None
    try:
        # What is final takes its nonce before what isn't.
        for wave in _waves(sorted(records, key=lambda entry: not entry[0].final)):
            inserted = store.insert(group.continent, wave)
            receipts.update({one: known.receipt() for one, known in inserted.stored.items()})
            lost = inserted.conflicts - inserted.contested
            reasons.update(dict.fromkeys(lost, NONCE_CONFLICT))
            why = CONTESTED if inserted.contested else why
            if len(inserted.stored) + len(inserted.conflicts) < len(wave):
                # A later wave holds the same nonces: it must not overtake what isn't stored.
                why = "not confirmed"
                break
        rejections = [
            rejection_of(item, reasons[_id(item)], group.continent, tier, now_ms)
            for item in group.items
            if _id(item) in reasons and _id(item) not in receipts
        ]
        if rejections:
            kept = store.reject(group.continent, rejections)
            receipts.update({one: known.receipt() for one, known in kept.items()})
    except TierUnavailable as error:
        why = error.detail
    unavailable = [
        # A conflict that only this tier knows of must not be lost with it.
        _with_reason(item, reasons.get(_id(item)))
        for item in group.items
        if _id(item) not in receipts
    ]
    return Persisted(
        outcome="unavailable" if unavailable else "stored",
        reason=why or ("not confirmed" if unavailable else None),
        receipts=list(receipts.values()),
        unavailable=unavailable,
    )


def fetch(
    transaction_id: str,
    continent: str | None,
    store: TierStore,
    private_keys: Mapping[str, str],
    share: Callable[[Header], Share],
    opening: Callable[[str], object] = lambda key_id: None,
) -> dict[str, Any]:
    """A transaction for the API's read path: as much of it as the reader may see.

    A damaged record is `unavailable` with reason `record_damaged`: another tier may have it whole.

    Parameters
    ----------
    share : callable
        Decides by the header: `content` opens it, `sealed` gives the record as it lies there; what
        it raises is answered as `forbidden`, or as `unavailable` if it can't decide now.
    opening : callable
        Told the id of the sealing key before that key opens the content.
    """
    try:
        with calling_as("read"):
            found = store.fetch(transaction_id, continent)
        return _found(found, transaction_id, private_keys, share, opening)
    except (TierUnavailable, NoncesUnavailable) as error:
        return {"outcome": "unavailable", "reason": error.detail}
    except ReadForbidden as error:
        return {"outcome": "forbidden", "reason": error.reason, "detail": error.detail}
    except (RecordDamaged, msgspec.ValidationError, msgspec.DecodeError):
        return {"outcome": "unavailable", "reason": RECORD_DAMAGED}


def _found(
    found: tuple[Record, bytes] | Rejection | None,
    transaction_id: str,
    private_keys: Mapping[str, str],
    share: Callable[[Header], Share],
    opening: Callable[[str], object],
) -> dict[str, Any]:
    if found is None:
        return {"outcome": "absent"}
    record = found if isinstance(found, Rejection) else found[0]
    if not record.transaction_id == record.header.transaction_id == transaction_id:
        raise RecordDamaged(transaction_id, "another record lies in its place")
    if isinstance(record, Record):
        # A changed header must not decide who may read.
        check_header(record)
    shared = share(record.header)
    answer: dict[str, Any] = {"outcome": "found"}
    if isinstance(found, Rejection):
        answer.update(place=None, rewards=[], content=None)
    elif shared == "content":
        opening(msgspec.json.decode(found[1], type=Sealing).private_key_id)
        content = open_content(found[0], found[1], private_keys)
        answer.update(place=found[0].place, rewards=found[0].rewards, content=content)
    else:
        answer.update(sealed_record(found[0], found[1]))
    answer.update(receipt=record.receipt(), header=record.header)
    built: dict[str, Any] = msgspec.to_builtins(answer)
    return built


def _waves(records: Sequence[tuple[Record, bytes]]) -> list[list[tuple[Record, bytes]]]:
    """Records in their order, so parted that no two of a wave share sender and nonce."""
    waves: list[list[tuple[Record, bytes]]] = []
    used: list[set[tuple[str, int]]] = []
    for entry in records:
        nonce = (entry[0].sender, entry[0].nonce)
        for wave, taken in zip(waves, used, strict=True):
            if nonce not in taken:
                wave.append(entry)
                taken.add(nonce)
                break
        else:
            waves.append([entry])
            used.append({nonce})
    return waves


def _id(item: Item) -> str:
    return item.envelope.header.transaction_id


def _with_reason(item: Item, reason: str | None) -> Item:
    if reason is None or item.outcome == "rejected":
        return item
    return msgspec.structs.replace(item, outcome="rejected", reason=reason)
