"""Copies in immuDB, which deletes nothing: found in the order of its transactions, marked by entries.

immuDB numbers its transactions in the order in which they are committed, so what was seen up to a
number is complete, whatever dies and whichever clock is wrong. A cursor, kept as an entry, is only a
hint: all copies up to it are marked or parked.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import grpc
import msgspec
from immudb.grpc import schema_pb2

from federation.batch import Tier
from federation.immudb_session import ConditionFailed, ImmudbSession, absent
from federation.limits import COPIES_A_ROUND_MAX
from persist.immudb_tier import ImmudbTier
from persist.record import Record, Rejection
from reconcile.copies import CopyRef, Kind, Page

CURSOR_KEY: Final = b"reconcile:cursor"
#: One request for transactions without their values.
TRANSACTIONS_A_LOOK: Final = 100
LOOKS_MAX: Final = 50
#: So many transactions without copies are passed before the cursor is worth an entry of its own.
PASSED_MIN: Final = 1_000
MARK_PREFIX: Final[dict[Kind, str]] = {
    "transaction": "reconciled",
    "rejection": "reconciled-rejection",
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

    def page(self, after: str) -> Page:
        """The unmarked copies of the next transactions; one transaction is never parted."""
        number = int(after) if after else self._cursor()
        started_at, clean_to, had_copies = number, number, False
        found: list[CopyRef] = []
        more = True
        for _ in range(LOOKS_MAX):
            transactions = self._transactions(number + 1)
            if not transactions:
                more = False
                break
            for transaction, refs in transactions:
                unmarked = [ref for ref in refs if not self._is_done(ref)]
                had_copies = had_copies or bool(refs)
                found += unmarked
                number = transaction
                if not found:
                    clean_to = number
                if len(found) >= COPIES_A_ROUND_MAX:
                    break
            if len(found) >= COPIES_A_ROUND_MAX:
                break
        # Only what lies behind the cursor without a gap may move it.
        known = started_at if not after else self._cursor()
        if known == started_at and (
            (had_copies and clean_to > known) or clean_to - known >= PASSED_MIN
        ):
            self._do(lambda session: session.set({CURSOR_KEY: _encoded(clean_to)}, []))
        return Page(found, str(number), more)

    def read(self, ref: CopyRef) -> tuple[Record, bytes] | Rejection | None:
        """A verified read."""
        return self._tier.fetch_as(ref.kind, ref.transaction_id)

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

    def _cursor(self) -> int:
        found = self._do(lambda session: session.get(CURSOR_KEY))
        return 0 if found is None else msgspec.json.decode(found.value, type=_Cursor).transaction

    def _is_done(self, ref: CopyRef) -> bool:
        keys = (_mark_key(ref), _park_key(ref))
        return any(self._do(lambda session, key=key: session.get(key)) for key in keys)  # type: ignore[misc]

    def _transactions(self, first: int) -> list[tuple[int, list[CopyRef]]]:
        """Number and copies of the next transactions."""
        request = schema_pb2.TxScanRequest(initialTx=first, limit=TRANSACTIONS_A_LOOK)

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


def _encoded(transaction: int) -> bytes:
    return msgspec.json.encode(_Cursor(transaction))


def _ref(key: bytes) -> CopyRef | None:
    kind, _, transaction_id = key.removeprefix(VALUE_PREFIX).decode(errors="replace").partition(":")
    if kind not in MARK_PREFIX:
        return None
    return msgspec.convert({"kind": kind, "transaction_id": transaction_id}, CopyRef)


def _note(ref: CopyRef, now_ms: int, **more: str) -> bytes:
    return msgspec.json.encode({"transaction_id": ref.transaction_id, "at_ms": now_ms, **more})


def _mark_key(ref: CopyRef) -> bytes:
    return f"{MARK_PREFIX[ref.kind]}:{ref.transaction_id}".encode()


def _park_key(ref: CopyRef) -> bytes:
    return f"parked:{ref.kind}:{ref.transaction_id}".encode()
