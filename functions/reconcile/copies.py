"""Moves copies home: what a fallback tier stored while the home cluster was away, exactly once."""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Final, Literal, Protocol

import msgspec

import flag_rust
from federation.batch import Tier
from persist.record import STORED_FLAG, Record, RecordDamaged, Rejection, check_header
from persist.tier import NONCE_CONFLICT, Inserted, TierUnavailable

DAMAGED: Final = "record_damaged"
#: The home holds something else under the copy's id.
DIFFERS: Final = "home_copy_differs"

Kind = Literal["transaction", "rejection"]


class CopyRef(msgspec.Struct, frozen=True):
    """Names a copy in its tier."""

    kind: Kind
    transaction_id: str


class Page(msgspec.Struct, frozen=True):
    """Copies that are not marked, as far as one look went; `after` is where the next goes on."""

    copies: list[CopyRef]
    after: str
    more: bool


class CopySource(Protocol):
    """A fallback tier. All of it may be repeated; each method may raise TierUnavailable."""

    @property
    def tier(self) -> Tier: ...

    def page(self, after: str) -> Page:
        """The next unmarked copies, bounded."""
        ...

    def read(self, ref: CopyRef) -> tuple[Record, bytes] | Rejection | None:
        """A copy with its sealed content, decrypted from the tier's encryption.

        Raises
        ------
        RecordDamaged
        """
        ...

    def mark(self, refs: Sequence[CopyRef], now_ms: int) -> None:
        """Their home copies are proved: from now on these count for nothing."""
        ...

    def park(self, ref: CopyRef, reason: str, now_ms: int) -> None:
        """Somebody has to look at this copy; it is kept, and not tried again."""
        ...


class Home(Protocol):
    """The home clusters; each method may raise TierUnavailable."""

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """As `persist` inserts, into the home cluster and no other."""
        ...

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """As `persist` records rejections."""
        ...

    def records(
        self, continent: str, transaction_ids: Collection[str]
    ) -> Mapping[str, tuple[Record, bytes]]:
        """What lies in the home cluster, read anew and decrypted."""
        ...


class Moved(msgspec.Struct, frozen=True):
    """What one look came to; `left` copies wait for their home, `parked` ones for somebody."""

    moved: int
    left: int
    parked: dict[str, str]
    after: str
    more: bool
    ran_out_of_time: bool = False


def move(
    source: CopySource, home: Home, now_ms: int, after: str = "", *, goes_on: Callable[[], bool]
) -> Moved:
    """Copy a page of unmarked copies home, prove each there by reading it back, then mark them.

    A copy is marked only when its home copy was read; whatever dies before leaves it unmarked, and
    the next run finds its home copy there already.

    Parameters
    ----------
    goes_on : callable
        Whether there is time for another continent.

    Raises
    ------
    TierUnavailable
        The source can't be reached.
    """
    page = source.page(after)
    records: defaultdict[str, list[tuple[Record, bytes]]] = defaultdict(list)
    rejections: defaultdict[str, list[Rejection]] = defaultdict(list)
    parked: dict[CopyRef, str] = {}
    left = 0
    for ref in page.copies:
        try:
            found = source.read(ref)
            if found is None:
                raise RecordDamaged(ref.transaction_id, "it is gone")  # noqa: TRY301
            if isinstance(found, Rejection):
                rejections[found.continent].append(found)
            else:
                _check(ref, found[0])
                records[found[0].continent].append(found)
        except (RecordDamaged, msgspec.ValidationError, msgspec.DecodeError):
            parked[ref] = DAMAGED
        except TierUnavailable:
            # Its key can't be used now, or the tier has gone: others may do better.
            left += 1
    done: list[CopyRef] = []
    out_of_time = False
    for continent in sorted({*records, *rejections}):
        if not goes_on():
            out_of_time = True
            break
        try:
            moved, refused = _move_home(
                home, continent, records[continent], rejections[continent], now_ms
            )
        except TierUnavailable:
            continue
        done += moved
        parked.update(refused)
    if done:
        source.mark(done, now_ms)
    for ref, reason in parked.items():
        source.park(ref, reason, now_ms)
    return Moved(
        moved=len(done),
        left=len(page.copies) - len(done) - len(parked),
        parked={ref.transaction_id: reason for ref, reason in parked.items()},
        after=page.after,
        more=page.more,
        ran_out_of_time=out_of_time,
    )


def _move_home(
    home: Home,
    continent: str,
    records: Sequence[tuple[Record, bytes]],
    rejections: Sequence[Rejection],
    now_ms: int,
) -> tuple[list[CopyRef], dict[CopyRef, str]]:
    """The copies that have a proved home copy now, and those that can't have one."""
    done: list[CopyRef] = []
    refused: dict[CopyRef, str] = {}
    if records:
        inserted = home.insert(
            continent, [(_at_home(record, now_ms), sealed) for record, sealed in records]
        )
        there = home.records(continent, inserted.stored.keys())
        for record, sealed in records:
            ref = CopyRef("transaction", record.transaction_id)
            if record.transaction_id in inserted.conflicts:
                refused[ref] = NONCE_CONFLICT
            elif record.transaction_id in there:
                if _is_home_copy(record, sealed, *there[record.transaction_id]):
                    done.append(ref)
                else:
                    refused[ref] = DIFFERS
    if rejections:
        here = [
            msgspec.structs.replace(one, tier="atlas", stored_at_ms=now_ms, cluster=None)
            for one in rejections
        ]
        kept = home.reject(continent, here)
        for one in rejections:
            if one.transaction_id in kept:
                ref = CopyRef("rejection", one.transaction_id)
                if kept[one.transaction_id].header == one.header:
                    done.append(ref)
                else:
                    refused[ref] = DIFFERS
    return done, refused


def _at_home(record: Record, now_ms: int) -> Record:
    flags = flag_rust.merge(record.flags, STORED_FLAG["atlas"] | flag_rust.RECONCILED)
    return msgspec.structs.replace(
        record, tier="atlas", stored_at_ms=now_ms, cluster=None, flags=flags
    )


def _is_home_copy(record: Record, sealed: bytes, there: Record, sealed_there: bytes) -> bool:
    """Whether what was read back is what was copied.

    The home may have had the transaction before, by a message that came twice or an answer that was
    lost: then it was perhaps sealed anew and has other votes. That it is the same transaction its
    id and its sender's signature say.
    """
    if not there.flags & flag_rust.RECONCILED:
        try:
            check_header(there)
        except RecordDamaged:
            return False
        return there.header == record.header
    return digest(record, sealed) == digest(there, sealed_there)


def digest(record: Record, sealed: bytes) -> bytes:
    """SHA-256 over all of a record that has to be the same wherever it lies."""
    kept = [
        record.header,
        record.algorithm,
        record.public_key,
        record.signature,
        record.accepted_at_ms,
        record.request_id,
        record.home_continent,
        record.continent,
        record.place,
        record.votes,
        record.stake,
        record.final,
        record.rewards,
    ]
    return sha256(msgspec.json.encode(kept) + b"\0" + sealed).digest()


def _check(ref: CopyRef, record: Record) -> None:
    if not ref.transaction_id == record.transaction_id == record.header.transaction_id:
        raise RecordDamaged(ref.transaction_id, "another record lies in its place")
    check_header(record)
