"""Copies in immuDB, which deletes nothing: found in the order of its transactions, marked by entries.

immuDB numbers its transactions in the order in which they are committed, so what was seen up to a
number is complete, whatever dies and whichever clock is wrong. A cursor, kept as an entry, is only a
hint: all copies up to it are marked or parked. Where copies can't go home for long, it stands; then
a second one says where the last run ended, so that those behind have their turn.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import grpc
import msgspec
from immudb.grpc import schema_pb2

from federation.batch import Tier
from federation.immudb_session import ConditionFailed, ImmudbSession, absent
from federation.limits import COPIES_A_ROUND_MAX
from persist.immudb_tier import ImmudbTier, Unproved
from persist.record import Record, RecordDamaged, Rejection
from persist.tier import ContentDamaged
from reconcile.copies import CopyRef, Kind, Page

CURSOR_KEY: Final = b"reconcile:cursor"
#: Where a run ended before it was through; 0 once one was.
PAUSE_KEY: Final = b"reconcile:pause"
#: Written and read to find out whether a proof fails for one entry, or for all.
WITNESS_KEY: Final = b"reconcile:witness"
#: One request for transactions without their values.
TRANSACTIONS_A_LOOK: Final = 100
LOOKS_MAX: Final = 50
#: So many transactions without copies are passed before the cursor is worth an entry of its own.
PASSED_MIN: Final = 1_000
MARK_PREFIX: Final[dict[Kind, str]] = {
    "transaction": "reconciled",
    "rejection": "reconciled-rejection",
    # It is only ever parked.
    "gap": "reconciled-gap",
}
#: immuDB puts this byte before the key of a value in its transactions.
VALUE_PREFIX: Final = b"\x00"

Result = TypeVar("Result")


class _Cursor(msgspec.Struct, frozen=True):
    transaction: int


class ImmudbCopies:
    """All continents' copies."""

    tier: Tier = "immudb"

    def __init__(self, tier: ImmudbTier) -> None:
        self._tier = tier

    def page(self, after: str, goes_on: Callable[[], bool]) -> Page:
        """The unmarked copies of the next transactions; one transaction is never parted.

        At least one transaction is looked at, however little time there is.
        """
        known = self._number(CURSOR_KEY)
        number = int(after) if after else max(known, self._number(PAUSE_KEY))
        started_at, clean_to, had_copies = number, number, False
        found: list[CopyRef] = []
        more, looks = True, 0
        while more and looks < LOOKS_MAX and len(found) < COPIES_A_ROUND_MAX:
            if looks and not goes_on():
                break
            transactions = self._transactions(number + 1)
            looks, more = looks + 1, bool(transactions)
            for transaction, refs in transactions:
                unmarked = [ref for ref in refs if not self._is_done(ref)]
                had_copies = had_copies or bool(refs)
                found += unmarked
                number = transaction
                if not found:
                    clean_to = number
                if len(found) >= COPIES_A_ROUND_MAX or not goes_on():
                    break
        # Only what lies behind the cursor without a gap may move it.
        if known == started_at and (
            (had_copies and clean_to > known) or clean_to - known >= PASSED_MIN
        ):
            self._set_number(CURSOR_KEY, clean_to)
        if not more and self._number(PAUSE_KEY):
            # From here on the next run has nothing to go on with: it begins at the cursor.
            self._set_number(PAUSE_KEY, 0)
        return Page(found, str(number), more)

    def pause(self, after: str) -> None:
        """The next run goes on there, and the one behind the end begins at the cursor again."""
        self._set_number(PAUSE_KEY, int(after))

    def read(self, ref: CopyRef) -> tuple[Record, bytes] | Rejection | None:
        """A verified read; an entry whose proof fails is damaged, if another one's holds."""
        if ref.kind == "gap":
            raise RecordDamaged(ref.transaction_id, "immuDB can't read this transaction of its own")
        try:
            return self._tier.fetch_as(ref.kind, ref.transaction_id)
        except Unproved as error:
            self._prove_another(ref)
            raise RecordDamaged(ref.transaction_id, error.detail) from error

    def mark(self, refs: Sequence[CopyRef], now_ms: int) -> None:
        """An entry each, in one transaction; if another run was here meanwhile, one by one."""
        entries = {_mark_key(ref): _note(ref, now_ms) for ref in refs}
        try:
            self._do(lambda session: session.set(entries, [absent(key) for key in entries]))
        except ConditionFailed:
            for key, value in entries.items():
                self._set_once(key, value)

    def park(self, ref: CopyRef, reason: str, now_ms: int) -> None:
        """An entry with the reason."""
        self._set_once(_park_key(ref), _note(ref, now_ms, reason=reason))

    def _number(self, key: bytes) -> int:
        """A cursor; one that is damaged is as none, for it is but a hint."""
        try:
            found = self._do(lambda session: session.get(key))
            value = None if found is None else msgspec.json.decode(found.value, type=_Cursor)
        except (ContentDamaged, msgspec.DecodeError):
            return 0
        return 0 if value is None else value.transaction

    def _set_number(self, key: bytes, transaction: int) -> None:
        value = msgspec.json.encode(_Cursor(transaction))
        self._do(lambda session: session.set({key: value}, []))

    def _is_done(self, ref: CopyRef) -> bool:
        return self._exists(_mark_key(ref)) or self._exists(_park_key(ref))

    def _exists(self, key: bytes) -> bool:
        try:
            return self._do(lambda session: session.get(key)) is not None
        except ContentDamaged:
            # What a mark says stands in its key.
            return True

    def _prove_another(self, ref: CopyRef) -> None:
        """Raise TierUnavailable unless what is written now is proved to follow the history seen."""
        value = msgspec.json.encode({"transaction_id": ref.transaction_id})
        self._do(lambda session: session.set({WITNESS_KEY: value}, []))
        self._do(lambda session: session.get(WITNESS_KEY))

    def _transactions(self, first: int) -> list[tuple[int, list[CopyRef]]]:
        """Number and copies of the next transactions, or the first of them as a gap."""
        limit = TRANSACTIONS_A_LOOK
        while True:
            try:
                return self._scanned(first, limit)
            except ContentDamaged:
                # One that is damaged spoils the whole answer: those before it come first.
                if limit == 1:
                    return [(first, [CopyRef("gap", str(first))])]
                limit //= 2

    def _scanned(self, first: int, limit: int) -> list[tuple[int, list[CopyRef]]]:
        request = schema_pb2.TxScanRequest(initialTx=first, limit=limit)

        def scan(client: Any) -> Any:
            try:
                return client.stub.TxScan(request).txs
            except grpc.RpcError as error:
                if "tx not found" in str(error.details()):
                    return []
                raise

        found = self._do(lambda session: session.call(scan))
        return [
            (int(one.header.id), [ref for entry in one.entries if (ref := _ref(entry.key))])
            for one in found
        ]

    def _set_once(self, key: bytes, value: bytes) -> None:
        try:
            self._do(lambda session: session.set({key: value}, [absent(key)]))
        except ConditionFailed:
            return

    def _do(self, work: Callable[[ImmudbSession], Result]) -> Result:
        return self._tier.within_session(work)


def _ref(key: bytes) -> CopyRef | None:
    kind, _, transaction_id = key.removeprefix(VALUE_PREFIX).decode(errors="replace").partition(":")
    if kind not in ("transaction", "rejection"):
        return None
    return msgspec.convert({"kind": kind, "transaction_id": transaction_id}, CopyRef)


def _note(ref: CopyRef, now_ms: int, **more: str) -> bytes:
    return msgspec.json.encode({"transaction_id": ref.transaction_id, "at_ms": now_ms, **more})


def _mark_key(ref: CopyRef) -> bytes:
    return f"{MARK_PREFIX[ref.kind]}:{ref.transaction_id}".encode()


def _park_key(ref: CopyRef) -> bytes:
    return f"parked:{ref.kind}:{ref.transaction_id}".encode()
