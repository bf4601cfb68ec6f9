"""CRUD on one MongoDB database; `content` is encrypted on its way in and decrypted on its way out.

The name is from the time of Motor, which reached its end of life in May 2026; underneath is
PyMongo's AsyncMongoClient. Encryption is MongoDB's Client-Side Field Level Encryption: explicit on
writing (or automatic, where MongoDB's library for it is there), automatic on reading. `SyncDBHandler`
is the same for programs without an event loop; each reads what the other wrote.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from persist.encryption_schema import ENCRYPTED_FIELD
from persist.field_encryption import FieldEncryption, FieldKeys, encrypts, searchable

Document = dict[str, Any]


class MotorDBHandler:
    """One database of one cluster; make it by `await MotorDBHandler.new(uri, db)`.

    Examples
    --------
    >>> handler = await MotorDBHandler.new(uri, "love_currency_db")  # doctest: +SKIP
    >>> await handler.insert_one("notes", {"_id": 1})  # doctest: +SKIP
    >>> await handler.find_one("notes", {"_id": 1})  # doctest: +SKIP
    {'_id': 1}
    """

    def __init__(
        self,
        clients: tuple[AsyncMongoClient[Document], AsyncMongoClient[Document]],
        database: AsyncDatabase[Document],
        encryption: FieldEncryption | None,
    ) -> None:
        self._client, self._vault_client = clients
        self._database = database
        self._encryption = encryption

    @classmethod
    async def new(
        cls,
        uri: str,
        database: str,
        *,
        keys: FieldKeys | None = None,
        **options: Any,
    ) -> Self:
        """Connect, and prove that the server answers.

        Parameters
        ----------
        keys : FieldKeys, optional
            Where the data key is and under which KMS key; without it nothing is encrypted.
        **options
            Of AsyncMongoClient, such as time-outs and TLS files.

        Raises
        ------
        pymongo.errors.PyMongoError
            The server or the KMS can't be reached.
        """
        plain: AsyncMongoClient[Document] = AsyncMongoClient(uri, **options)
        try:
            await plain.admin.command("ping")
            if keys is None:
                client, encryption = plain, None
            else:
                encryption = await FieldEncryption.new(plain, keys)
                client = AsyncMongoClient(
                    uri,
                    auto_encryption_opts=keys.client_options(encryption.key_id, database),
                    **options,
                )
        except BaseException:
            await plain.close()
            raise
        # What was read may prove that something is stored: it must not be rolled back either.
        chosen = client.get_database(
            database, write_concern=WriteConcern(w="majority"), read_concern=ReadConcern("majority")
        )
        return cls((client, plain), chosen, encryption)

    async def insert_one(self, collection: str, document: Mapping[str, Any]) -> Any:
        """Insert; gives the `_id`."""
        encrypted = await self._encrypted(document)
        return (await self._database[collection].insert_one(encrypted)).inserted_id

    async def insert_many(
        self, collection: str, documents: Sequence[Mapping[str, Any]], *, ordered: bool = False
    ) -> list[Any]:
        """Insert all that can be; raises BulkWriteError naming those that can't."""
        encrypted = [await self._encrypted(document) for document in documents]
        result = await self._database[collection].insert_many(encrypted, ordered=ordered)
        return list(result.inserted_ids)

    async def find_one(
        self, collection: str, query: Mapping[str, Any], projection: Sequence[str] | None = None
    ) -> Document | None:
        """The first match, decrypted."""
        return await self._database[collection].find_one(searchable(query), projection)

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        projection: Mapping[str, int] | None = None,
        limit: int = 0,
        sort: str | None = None,
    ) -> list[Document]:
        """All matches, decrypted; in ascending order of field `sort`, if one is given."""
        cursor = self._database[collection].find(searchable(query), projection).limit(limit)
        return await (cursor if sort is None else cursor.sort(sort, 1)).to_list()

    async def update_one(
        self, collection: str, query: Mapping[str, Any], values: Mapping[str, Any]
    ) -> int:
        """Set `values` on the first match; gives how many were changed."""
        encrypted = await self._encrypted(values)
        result = await self._database[collection].update_one(searchable(query), {"$set": encrypted})
        return result.modified_count

    async def replace_one(
        self, collection: str, query: Mapping[str, Any], document: Mapping[str, Any]
    ) -> int:
        """Put `document` in the place of the first match; gives how many were replaced."""
        encrypted = await self._encrypted(document)
        result = await self._database[collection].replace_one(searchable(query), encrypted)
        return result.modified_count

    async def delete_one(self, collection: str, query: Mapping[str, Any]) -> int:
        """Delete the first match; gives how many were deleted."""
        return (await self._database[collection].delete_one(searchable(query))).deleted_count

    async def delete_many(self, collection: str, query: Mapping[str, Any]) -> int:
        """Delete all matches; gives how many were deleted."""
        return (await self._database[collection].delete_many(searchable(query))).deleted_count

    async def count(self, collection: str, query: Mapping[str, Any]) -> int:
        """How many match."""
        return await self._database[collection].count_documents(searchable(query))

    async def create_unique_index(self, collection: str, *fields: str) -> None:
        """Make sure that no two documents share these fields."""
        await self._database[collection].create_index([(one, 1) for one in fields], unique=True)

    async def ping(self) -> None:
        """Raise PyMongoError unless the server answers."""
        await self._client.admin.command("ping")

    async def close(self) -> None:
        """Give the connections back."""
        if self._encryption is not None:
            await self._encryption.close()
        await self._client.close()
        await self._vault_client.close()

    async def _encrypted(self, document: Mapping[str, Any]) -> Document:
        if self._encryption is None or not encrypts(self._encryption.keys, document):
            return dict(document)
        ciphertext = await self._encryption.encrypt(document[ENCRYPTED_FIELD])
        return {**document, ENCRYPTED_FIELD: ciphertext}
