"""Copies in memory, their homes, and a function that dies at a write."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from federation.batch import Tier
from persist.finality import Finality
from persist.record import Record, Rejection, record_of, rejection_of
from persist.tier import Inserted, TierUnavailable
from reconcile.copies import CopyRef, Moved, Page, move
from reconcile.electorate import Electorate
from reconcile.stored import Stored

NOW_MS = 1_000_000


class Died(Exception):
    """The function is gone."""


class Deaths:
    """Counts writes, and ends the function before or after one of them."""

    def __init__(self) -> None:
        self.at: int | None = None
        self.after_write = True

    def write(self, write: Callable[[], object]) -> None:
        if self.at == 0 and not self.after_write:
            raise Died
        write()
        if self.at == 0:
            raise Died
        if self.at is not None:
            self.at -= 1


class MemorySource:
    """A fallback tier in memory."""

    tier: Tier = "dynamodb"

    def __init__(self, deaths: Deaths, page_size: int = 3) -> None:
        self.copies: dict[CopyRef, tuple[Record, bytes] | Rejection] = {}
        self.marks: dict[CopyRef, int] = {}
        self.parked: dict[CopyRef, str] = {}
        self.unreadable: set[CopyRef] = set()
        self._deaths = deaths
        self._page_size = page_size

    def page(self, after: str, goes_on: Callable[[], bool]) -> Page:
        names = {f"{ref.kind}#{ref.transaction_id}": ref for ref in self.copies}
        waiting = [
            name
            for name, ref in sorted(names.items())
            if name > after and ref not in self.marks and ref not in self.parked
        ]
        taken = waiting[: self._page_size]
        last = taken[-1] if taken else after
        return Page([names[one] for one in taken], last, len(waiting) > len(taken))

    def pause(self, after: str) -> None:
        raise AssertionError(after)

    def read(self, ref: CopyRef) -> tuple[Record, bytes] | Rejection | None:
        if ref in self.unreadable:
            raise TierUnavailable("KMS is away")
        return self.copies.get(ref)

    def mark(self, refs: Sequence[CopyRef], now_ms: int) -> None:
        for ref in refs:
            self._deaths.write(lambda ref=ref: self.marks.setdefault(ref, now_ms))

    def park(self, ref: CopyRef, reason: str, now_ms: int) -> None:
        self._deaths.write(lambda: self.parked.setdefault(ref, reason))


class MemoryHome:
    """The home clusters in memory."""

    def __init__(self, deaths: Deaths) -> None:
        self.stored: dict[str, tuple[Record, bytes]] = {}
        self.rejected: dict[str, Rejection] = {}
        self.finality: dict[str, Finality] = {}
        self.down: set[str] = set()
        self.damaged: set[str] = set()
        self._deaths = deaths

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        self._knock(continent)
        stored, conflicts = {}, set()
        for record, sealed in records:
            holders = {(one.sender, one.nonce): one for one, _ in self.stored.values()}
            holder = holders.get((record.sender, record.nonce), record)
            if holder.transaction_id != record.transaction_id:
                conflicts.add(record.transaction_id)
                continue
            self._deaths.write(
                lambda record=record, sealed=sealed: self.stored.setdefault(
                    record.transaction_id, (record, sealed)
                )
            )
            if record.transaction_id not in self.damaged:
                stored[record.transaction_id] = self.stored[record.transaction_id][0]
        return Inserted(stored, frozenset(conflicts))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        self._knock(continent)
        kept: dict[str, Record | Rejection] = {}
        for one in rejections:
            if one.transaction_id in self.stored:
                kept[one.transaction_id] = self.stored[one.transaction_id][0]
                continue
            if one.transaction_id in self.damaged:
                continue
            self._deaths.write(lambda one=one: self.rejected.setdefault(one.transaction_id, one))
            kept[one.transaction_id] = self.rejected[one.transaction_id]
        return kept

    def records(self, continent: str, transaction_ids: Collection[str]) -> Stored:
        self._knock(continent)
        return Stored(
            {
                one: self.stored[one]
                for one in transaction_ids
                if one in self.stored and one not in self.damaged
            },
            {one: "damaged" for one in transaction_ids if one in self.damaged},
        )

    def outcomes(self, continent: str, transaction_ids: Collection[str]) -> Mapping[str, str]:
        self._knock(continent)
        return {one: self.finality[one].outcome for one in transaction_ids if one in self.finality}

    def settle(self, continent: str, outcomes: Sequence[Finality]) -> None:
        self._knock(continent)
        for one in outcomes:
            self._deaths.write(lambda one=one: self.finality.setdefault(one.transaction_id, one))

    def _knock(self, continent: str) -> None:
        if continent in self.down:
            raise TierUnavailable(f"{continent} is down")


class Bench:
    """A tier with copies, and their homes."""

    def __init__(self, groups: Any) -> None:
        self.groups = groups
        self.deaths = Deaths()
        self.source, self.home = MemorySource(self.deaths), MemoryHome(self.deaths)
        self.asked_for_delegates = 0

    def electorate(self) -> Electorate | None:
        """None can be read, as most copies go home without them."""
        self.asked_for_delegates += 1
        return None

    def copy(self, item: Any = None, continent: str = "Europe") -> CopyRef:
        """A copy as the tier stored it."""
        if item is None:
            item = self.groups.item(self.groups.account(continent))
        record, sealed = self.record(item, "dynamodb")
        ref = CopyRef("transaction", record.transaction_id)
        self.source.copies[ref] = (record, sealed)
        return ref

    def record(self, item: Any, tier: Tier) -> tuple[Record, bytes]:
        return record_of(item, item.continent, self.groups.wrapped_keys, tier, 7)

    def rejection(self) -> CopyRef:
        item = self.groups.item()
        one = rejection_of(item, "too_fast", item.continent, "dynamodb", 7)
        ref = CopyRef("rejection", one.transaction_id)
        self.source.copies[ref] = one
        return ref

    def run(self, goes_on: Callable[[], bool] = lambda: True) -> list[Moved]:
        """All rounds of one run."""
        after, rounds = "", []
        while True:
            rounds.append(
                move(
                    self.source,
                    self.home,
                    NOW_MS,
                    after,
                    electorate=self.electorate,
                    goes_on=goes_on,
                )
            )
            if not rounds[-1].more:
                return rounds
            after = rounds[-1].after
