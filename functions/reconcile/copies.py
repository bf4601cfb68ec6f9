"""Moves copies home: what a fallback tier stored while the home cluster was away, exactly once."""

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from typing import Final, Literal, Protocol

import msgspec

import flag_rust
from federation.batch import Tier
from federation.regions import CONTINENTS
from persist.record import (
    STORED_FLAG,
    Record,
    RecordDamaged,
    Rejection,
    Sealing,
    check_header,
)
from persist.tier import NONCE_CONFLICT, Inserted, TierUnavailable
from reconcile.electorate import Electorate
from reconcile.home_finality import FinalityHome, HomeFinality
from reconcile.stored import Stored

DAMAGED: Final = "record_damaged"
#: The home holds something else under the copy's id.
DIFFERS: Final = "home_copy_differs"

#: A gap is a place in a tier's log that can't be read: whatever lay there can't be named.
Kind = Literal["transaction", "rejection", "gap"]
_CONTINENTS: Final = frozenset(one.value for one in CONTINENTS)


class CopyRef(msgspec.Struct, frozen=True):
    """Names a copy in its tier; of a gap, `transaction_id` is the number of the tier's own."""

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

    def page(self, after: str, goes_on: Callable[[], bool]) -> Page:
        """The next unmarked copies, bounded; what takes longer than `goes_on` goes on in the next."""
        ...

    def pause(self, after: str) -> None:
        """A run ends here though there is more: the next one may begin where this one ends."""
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


class Home(FinalityHome, Protocol):
    """The home clusters; each method may raise TierUnavailable."""

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """As `persist` inserts, into the home cluster and no other."""
        ...

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """As `persist` records rejections; one that isn't given back can't be read there."""
        ...

    def records(self, continent: str, transaction_ids: Collection[str]) -> Stored:
        """What lies in the home cluster, read anew and decrypted."""
        ...


class Moved(msgspec.Struct, frozen=True):
    """What one look came to; `left` copies wait for their home, `parked` ones for somebody.

    Attributes
    ----------
    homes_away : int
        So many continents' clusters could not be reached.
    unproved : list of transaction ids
        Of those that are left: final, while their home knows of no votes, and their own don't prove it.
    """

    moved: int
    left: int
    parked: dict[str, str]
    after: str
    more: bool
    ran_out_of_time: bool = False
    homes_away: int = 0
    unproved: list[str] = []


def move(
    source: CopySource,
    home: Home,
    now_ms: int,
    after: str = "",
    *,
    electorate: Callable[[], Electorate | None],
    goes_on: Callable[[], bool],
    reads_on: Callable[[], bool] = lambda: True,
) -> Moved:
    """Copy a page of unmarked copies home, prove each there by reading it back, then mark them.

    A copy is marked only when its home copy was read, and if it is final, when its home knows that
    it is; whatever dies before leaves it unmarked, and the next run finds its home copy there already.

    Parameters
    ----------
    electorate : callable
        The delegates of now, None while they can't be read: then copies that need them are left.
        Called only if one does.
    goes_on : callable
        Whether there is time for another continent.
    reads_on : callable, optional
        Whether there is time to look for copies and to read another one.

    Raises
    ------
    TierUnavailable
        The source can't be reached.
    """
    page = source.page(after, reads_on)
    records: defaultdict[str, list[tuple[Record, bytes]]] = defaultdict(list)
    rejections: defaultdict[str, list[Rejection]] = defaultdict(list)
    parked: dict[CopyRef, str] = {}
    out_of_time = False
    # In any order: what takes its time to fail must not stand before the same others in each run.
    for ref in random.sample(page.copies, len(page.copies)):
        if not reads_on():
            out_of_time = True
            break
        try:
            found = source.read(ref)
            if found is None:
                raise RecordDamaged(ref.transaction_id, "it is gone")  # noqa: TRY301
            if isinstance(found, Rejection):
                _check_rejection(ref, found)
                rejections[found.continent].append(found)
            else:
                _check(ref, found[0])
                records[found[0].continent].append(found)
        except (RecordDamaged, msgspec.ValidationError, msgspec.DecodeError):
            parked[ref] = DAMAGED
        except TierUnavailable:
            # Its key can't be used now, or the tier has gone: others may do better.
            continue
    moving = _Moving(home, HomeFinality(home, electorate, now_ms, goes_on), now_ms)
    homes_away = 0
    homes = sorted({*records, *rejections})
    for continent in random.sample(homes, len(homes)):
        if not goes_on():
            out_of_time = True
            break
        try:
            moving.move_home(continent, records[continent], rejections[continent])
        except TierUnavailable:
            homes_away += 1
    parked.update(moving.refused)
    if moving.done:
        source.mark(moving.done, now_ms)
    for ref, reason in parked.items():
        source.park(ref, reason, now_ms)
    return Moved(
        moved=len(moving.done),
        left=len(page.copies) - len(moving.done) - len(parked),
        parked={ref.transaction_id: reason for ref, reason in parked.items()},
        after=page.after,
        more=page.more,
        ran_out_of_time=out_of_time,
        homes_away=homes_away,
        unproved=moving.unproved,
    )


class _Moving:
    """One look's copies on their way home.

    Attributes
    ----------
    done : list of CopyRef
        Those that have a proved home copy now.
    refused : mapping of CopyRef to reason
        Those that can't have one.
    unproved : list of transaction ids
        Those in neither whose votes don't prove what they were told to be.
    """

    def __init__(self, home: Home, finality: HomeFinality, now_ms: int) -> None:
        self._home = home
        self._finality = finality
        self._now_ms = now_ms
        self.done: list[CopyRef] = []
        self.refused: dict[CopyRef, str] = {}
        self.unproved: list[str] = []

    def move_home(
        self,
        continent: str,
        records: Sequence[tuple[Record, bytes]],
        rejections: Sequence[Rejection],
    ) -> None:
        """All of one continent's.

        Raises
        ------
        TierUnavailable
            Its cluster can't be reached; what was proved before counts.
        """
        if records:
            untold = self._move_records(continent, records)
            self._tell(continent, untold)
        if rejections:
            self._move_rejections(continent, rejections)

    def _move_records(
        self, continent: str, records: Sequence[tuple[Record, bytes]]
    ) -> list[Record]:
        """Insert and prove them; gives those that are final while their home record isn't."""
        given = [(_at_home(record, self._now_ms), sealed) for record, sealed in records]
        inserted = self._home.insert(continent, given)
        # All of them: one that is neither stored nor in conflict lies there damaged.
        there = self._home.records(continent, [record.transaction_id for record, _ in records])
        untold: list[Record] = []
        for (record, sealed), (here, _) in zip(records, given, strict=True):
            name = record.transaction_id
            ref = CopyRef("transaction", name)
            if name in inserted.conflicts:
                self.refused[ref] = NONCE_CONFLICT
            elif name in there.damaged:
                self.refused[ref] = DIFFERS
            elif name in there.whole:
                was_absent = inserted.stored.get(name) == here
                if not _is_home_copy(record, sealed, *there.whole[name], was_absent=was_absent):
                    self.refused[ref] = DIFFERS
                elif record.final and not there.whole[name][0].final:
                    untold.append(record)
                else:
                    self.done.append(ref)
        return untold

    def _tell(self, continent: str, untold: Sequence[Record]) -> None:
        """Their finality is in their votes only, which go with the copy: the home learns it first."""
        learned = self._finality.learn(continent, untold)
        self.unproved += learned.unproved
        for record in untold:
            ref = CopyRef("transaction", record.transaction_id)
            match learned.outcomes.get(record.transaction_id):
                case "final":
                    self.done.append(ref)
                case "rejected":
                    # The first outcome stays, and the copy contradicts it: somebody was told final.
                    self.refused[ref] = NONCE_CONFLICT
                case str():
                    self.refused[ref] = DIFFERS

    def _move_rejections(self, continent: str, rejections: Sequence[Rejection]) -> None:
        rejected = [
            msgspec.structs.replace(one, tier="atlas", stored_at_ms=self._now_ms, cluster=None)
            for one in rejections
        ]
        kept = self._home.reject(continent, rejected)
        for one in rejections:
            ref = CopyRef("rejection", one.transaction_id)
            known = kept.get(one.transaction_id)
            if known is not None and known.header == one.header:
                self.done.append(ref)
            else:
                self.refused[ref] = DIFFERS


def _at_home(record: Record, now_ms: int) -> Record:
    flags = flag_rust.merge(record.flags, STORED_FLAG["atlas"] | flag_rust.RECONCILED)
    return msgspec.structs.replace(
        record, tier="atlas", stored_at_ms=now_ms, cluster=None, flags=flags
    )


def _is_home_copy(
    record: Record, sealed: bytes, there: Record, sealed_there: bytes, *, was_absent: bool
) -> bool:
    """Whether what was read back is what was copied.

    Only what this very move inserted (`was_absent`) has to be the same in all. The home may have had
    the transaction before, by a message that came twice, by an answer that was lost, or out of
    another tier: then it was perhaps sealed anew and has other votes. That it is the same
    transaction its id and its sender's signature say.
    """
    if was_absent:
        return digest(record, sealed) == digest(there, sealed_there)
    try:
        check_header(there)
        msgspec.json.decode(sealed_there, type=Sealing)
    except (RecordDamaged, msgspec.ValidationError, msgspec.DecodeError):
        return False
    return there.header == record.header


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
    _check_continent(ref, record.continent)
    try:
        flag_rust.merge(record.flags, STORED_FLAG["atlas"])
    except (flag_rust.FlagError, OverflowError) as error:
        raise RecordDamaged(ref.transaction_id, str(error)) from error
    check_header(record)


def _check_rejection(ref: CopyRef, one: Rejection) -> None:
    if not ref.transaction_id == one.transaction_id == one.header.transaction_id:
        raise RecordDamaged(ref.transaction_id, "another rejection lies in its place")
    _check_continent(ref, one.continent)


def _check_continent(ref: CopyRef, continent: str) -> None:
    if continent not in _CONTINENTS:
        raise RecordDamaged(ref.transaction_id, f"there is no continent {continent!r}")
