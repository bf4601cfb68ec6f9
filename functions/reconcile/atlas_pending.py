"""Late finality in a continent's Atlas cluster: work entries, records, outcomes."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TypeVar

from pymongo.errors import BulkWriteError

from persist.atlas import AtlasTier
from persist.atlas_documents import document_fields, entry_in, only_duplicates
from persist.encryption_schema import TRANSACTIONS
from persist.finality import FINALITY, PENDING, Finality
from persist.motor_db_handler import Document, MotorDBHandler
from persist.record import Record, RecordDamaged
from persist.tier import ContentDamaged
from reconcile.stored import Stored

Result = TypeVar("Result")


class AtlasPending:
    """One cluster.

    Parameters
    ----------
    timeout_ms : int
        For each operation; nobody waits for this as for a transaction.
    """

    def __init__(self, tier: AtlasTier, continent: str, timeout_ms: int) -> None:
        self._tier = tier
        self._continent = continent
        self._timeout_ms = timeout_ms

    def entries(self, after: str, limit: int) -> list[str]:
        """By the index on `_id`."""
        query, only_ids = {"_id": {"$gt": after}}, {"_id": 1}
        found = self._do(
            lambda cluster: cluster.find(PENDING, query, only_ids, limit=limit, sort="_id")
        )
        return [one["_id"] for one in found]

    def oldest_ms(self) -> int | None:
        """The first by time."""
        # What has no such number is told of when its `_id` is read.
        query = {"since_ms": {"$gt": 0}}
        found = self._do(lambda cluster: cluster.find(PENDING, query, limit=1, sort="since_ms"))
        return int(found[0]["since_ms"]) if found else None

    def records(self, transaction_ids: Collection[str]) -> Stored:
        """With their content decrypted from CSFLE; it stays sealed."""
        whole: dict[str, tuple[Record, bytes]] = {}
        damaged: dict[str, str] = {}
        # The driver decrypts an answer whole or not at all: halves of it tell who is at fault.
        parts = [sorted(transaction_ids)]
        while parts:
            names = parts.pop()
            try:
                found = self._documents(names)
            except ContentDamaged as error:
                middle = len(names) // 2
                if middle:
                    parts += [names[:middle], names[middle:]]
                else:
                    damaged[names[0]] = error.detail
                continue
            for one in found:
                try:
                    whole[one["_id"]] = entry_in(one)
                except RecordDamaged as error:
                    damaged[one["_id"]] = error.detail
        return Stored(whole, damaged)

    def settled(self, transaction_ids: Collection[str]) -> set[str]:
        """Ids only."""
        query = {"_id": {"$in": sorted(transaction_ids)}}
        return {
            one["_id"]
            for one in self._do(lambda cluster: cluster.find(FINALITY, query, {"_id": 1}))
        }

    def outcomes(self, transaction_ids: Collection[str]) -> dict[str, str]:
        """Without their votes, by majority read; what is no outcome is given as it lies there."""
        query = {"_id": {"$in": sorted(transaction_ids)}}
        found = self._do(lambda cluster: cluster.find(FINALITY, query, {"outcome": 1}))
        return {one["_id"]: str(one.get("outcome")) for one in found}

    def settle(self, outcomes: Sequence[Finality]) -> None:
        """Insert-only."""
        documents = [{"_id": one.transaction_id, **document_fields(one)} for one in outcomes]

        async def insert(cluster: MotorDBHandler) -> None:
            try:
                await cluster.insert_many(FINALITY, documents)
            except BulkWriteError as error:
                only_duplicates(error)

        self._do(insert)

    def remove(self, entry_ids: Collection[str]) -> None:
        """All at once; those that are gone already do no harm."""
        query = {"_id": {"$in": sorted(entry_ids)}}
        self._do(lambda cluster: cluster.delete_many(PENDING, query))

    def _documents(self, names: Sequence[str]) -> list[Document]:
        query = {"_id": {"$in": names}}
        return self._do(lambda cluster: cluster.find(TRANSACTIONS, query))

    def _do(self, work: Callable[[MotorDBHandler], Awaitable[Result]]) -> Result:
        return self._tier.at(self._continent, work, self._timeout_ms)
