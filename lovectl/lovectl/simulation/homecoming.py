"""After an outage: `reconcile` runs until every transaction is final; and which copies count."""

import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from lovectl.access import Access
from lovectl.checker import ImmudbAccess, Stores, dynamodb_records, immudb_found, read_copies
from lovectl.client import ApiError, Client
from lovectl.reconcile import reconcile
from lovectl.sending import READS_AT_ONCE, Accepted, Progress
from lovectl.verdict import Copy

#: Marks of copies that were brought home: an attribute in DynamoDB, an entry in immuDB.
DYNAMODB_MARK: Final = "reconciled_at_ms"
IMMUDB_MARK: Final = "reconciled:"


@dataclass(frozen=True)
class Recovery:
    """Ids that the API calls stored and final, how often reconcile ran for it, and for how long."""

    final: set[str]
    runs: int
    seconds: float


def reconcile_until(
    access: Access, accepted: Sequence[Accepted], timeout_s: float, progress: Progress | None
) -> Recovery:
    """Run reconcile until nothing lies in a fallback and the API says that all is final, or time is up."""
    began_s = time.monotonic()
    ids = {one.transaction_id for one in accepted}
    final: set[str] = set()
    runs = 0
    with access.client() as client:
        while True:
            left = [one for one in accepted if one.transaction_id not in final]
            found = _final(client, left)
            final |= found
            if progress is not None:
                progress(len(found))
            seconds = time.monotonic() - began_s
            done = len(final) == len(ids) and not _away(access.stores, ids)
            if done or seconds > timeout_s:
                return Recovery(final, runs, round(seconds, 1))
            reconcile(access)
            runs += 1


def live_copies(stores: Stores) -> list[Copy]:
    """The copies that count as money: those that reconcile has marked as brought home don't."""
    copies = read_copies(stores)
    in_immudb = [one.transaction_id for one in copies if one.tier == "immudb"]
    marked = {
        "dynamodb": {
            one["pk"]["S"].partition("#")[2]
            for one in dynamodb_records(stores)
            if DYNAMODB_MARK in one
        },
        "immudb": _marked_in_immudb(stores.immudb, in_immudb),
    }
    return [one for one in copies if one.transaction_id not in marked.get(one.tier, ())]


def _away(stores: Stores, ids: Collection[str]) -> bool:
    """Whether any of these lies elsewhere than at home."""
    return any(one.tier != "atlas" and one.transaction_id in ids for one in live_copies(stores))


def _marked_in_immudb(access: ImmudbAccess, transaction_ids: Sequence[str]) -> set[str]:
    keys = [f"{IMMUDB_MARK}{one}".encode() for one in transaction_ids]
    marked = set()
    for one, found in zip(transaction_ids, immudb_found(access, keys), strict=True):
        if isinstance(found, Exception):
            raise found
        if found is not None:
            marked.add(one)
    return marked


def _final(client: Client, accepted: Sequence[Accepted]) -> set[str]:
    def look(one: Accepted) -> str | None:
        try:
            answer = client.read(one.account, one.transaction_id)
        except ApiError as error:
            if 0 < error.status < 500:
                raise
            return None
        receipt = (answer or {}).get("receipt", {})
        is_final = receipt.get("status") == "stored" and receipt.get("final")
        return one.transaction_id if is_final else None

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return {one for one in pool.map(look, accepted) if one is not None}
