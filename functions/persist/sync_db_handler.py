"""`MotorDBHandler` for scripts and programs without an event loop: the same names, on MongoClient."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from bson.binary import UUID_SUBTYPE, Binary
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.encryption import ClientEncryption
from pymongo.errors import DuplicateKeyError, PyMongoError
from pymongo.read_concern import ReadConcern

from federation.limits import DATA_KEY_NAME_TTL_S
from persist.encryption_schema import ALGORITHM, ENCRYPTED_FIELD
from persist.field_encryption import (
    KEY_NAMES,
    KEY_VAULT_DATABASE,
    FieldKeys,
    encrypts,
    searchable,
)

Document = dict[str, Any]


class SyncFieldEncryption:
    """`FieldEncryption` on a MongoClient that reaches the key vault."""

    def __init__(self, client: MongoClient[Document], keys: FieldKeys) -> None:
        self.keys = keys
        self._encryption: ClientEncryption[Any] = ClientEncryption(
            **keys.encryption_arguments(client)
        )
        self._names = client[KEY_VAULT_DATABASE][KEY_NAMES]
        self.key_id = self._find_or_make()
        self._named_s = time.monotonic()

    def encrypt(self, value: bytes) -> Binary:
        """Randomised: equal values don't look equal."""
        if time.monotonic() - self._named_s >= DATA_KEY_NAME_TTL_S:
            self._read_name()
        return self._encryption.encrypt(value, ALGORITHM, key_id=self.key_id)

    def close(self) -> None:
        """Give the connections back."""
        self._encryption.close()

    def _find_or_make(self) -> Binary:
        known = self._names.find_one({"_id": self.keys.name})
        if known is None:
            key_id = self._encryption.create_data_key(**self.keys.data_key_arguments(1))
            # If another process was first, our key stays unused: `persist` may delete nothing.
            with contextlib.suppress(DuplicateKeyError):
                self._names.insert_one({"_id": self.keys.name, "key_id": key_id, "generation": 1})
            known = self._names.find_one({"_id": self.keys.name})
            assert known is not None
        return Binary(known["key_id"], UUID_SUBTYPE)

    def _read_name(self) -> None:
        self._named_s = time.monotonic()
        try:
            known = self._names.find_one({"_id": self.keys.name})
        except PyMongoError:
            return
        if known is not None:
            self.key_id = Binary(known["key_id"], UUID_SUBTYPE)


class SyncDBHandler:
    """One database of one cluster; make it by `SyncDBHandler.new(uri, db)`, close it by `with`.

    Examples
    --------
    >>> with SyncDBHandler.new(uri, "love_currency_db") as handler:  # doctest: +SKIP
    ...     handler.find_one("notes", {"_id": 1})
    {'_id': 1}
    """

    def __init__(
        self,
        clients: tuple[MongoClient[Document], MongoClient[Document]],
        database: Database[Document],
        encryption: SyncFieldEncryption | None,
    ) -> None:
        self._client, self._vault_client = clients
        self._database = database
        self._encryption = encryption

    @classmethod
    def new(cls, uri: str, database: str, *, keys: FieldKeys | None = None, **options: Any) -> Self:
        """Connect, and prove that the server answers; see `MotorDBHandler.new`.

        Raises
        ------
        pymongo.errors.PyMongoError
            The server or the KMS can't be reached.
        """
        plain: MongoClient[Document] = MongoClient(uri, **options)
        try:
            plain.admin.command("ping")
            if keys is None:
                client, encryption = plain, None
            else:
                encryption = SyncFieldEncryption(plain, keys)
                client = MongoClient(
                    uri,
                    auto_encryption_opts=keys.client_options(encryption.key_id, database),
                    **options,
                )
        except BaseException:
            plain.close()
            raise
        chosen = client.get_database(
            database, write_concern=WriteConcern(w="majority"), read_concern=ReadConcern("majority")
        )
        return cls((client, plain), chosen, encryption)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.close()

    def insert_one(self, collection: str, document: Mapping[str, Any]) -> Any:
        """Insert; gives the `_id`."""
        return self._database[collection].insert_one(self._encrypted(document)).inserted_id

    def insert_many(
        self, collection: str, documents: Sequence[Mapping[str, Any]], *, ordered: bool = False
    ) -> list[Any]:
        """Insert all that can be; raises BulkWriteError naming those that can't."""
        encrypted = [self._encrypted(document) for document in documents]
        return list(self._database[collection].insert_many(encrypted, ordered=ordered).inserted_ids)

    def find_one(
        self, collection: str, query: Mapping[str, Any], projection: Sequence[str] | None = None
    ) -> Document | None:
        """The first match, decrypted."""
        return self._database[collection].find_one(searchable(query), projection)

    def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        projection: Mapping[str, int] | None = None,
        limit: int = 0,
        sort: str | None = None,
    ) -> list[Document]:
        """All matches, decrypted; in ascending order of field `sort`, if one is given."""
        cursor = self._database[collection].find(searchable(query), projection).limit(limit)
        return list(cursor if sort is None else cursor.sort(sort, 1))

    def update_one(
        self, collection: str, query: Mapping[str, Any], values: Mapping[str, Any]
    ) -> int:
        """Set `values` on the first match; gives how many were changed."""
        update = {"$set": self._encrypted(values)}
        return self._database[collection].update_one(searchable(query), update).modified_count

    def replace_one(
        self, collection: str, query: Mapping[str, Any], document: Mapping[str, Any]
    ) -> int:
        """Put `document` in the place of the first match; gives how many were replaced."""
        encrypted = self._encrypted(document)
        return self._database[collection].replace_one(searchable(query), encrypted).modified_count

    def delete_one(self, collection: str, query: Mapping[str, Any]) -> int:
        """Delete the first match; gives how many were deleted."""
        return self._database[collection].delete_one(searchable(query)).deleted_count

    def delete_many(self, collection: str, query: Mapping[str, Any]) -> int:
        """Delete all matches; gives how many were deleted."""
        return self._database[collection].delete_many(searchable(query)).deleted_count

    def count(self, collection: str, query: Mapping[str, Any]) -> int:
        """How many match."""
        return self._database[collection].count_documents(searchable(query))

    def create_unique_index(self, collection: str, *fields: str) -> None:
        """Make sure that no two documents share these fields."""
        self._database[collection].create_index([(one, 1) for one in fields], unique=True)

    def ping(self) -> None:
        """Raise PyMongoError unless the server answers."""
        self._client.admin.command("ping")

    def close(self) -> None:
        """Give the connections back."""
        if self._encryption is not None:
            self._encryption.close()
        self._client.close()
        self._vault_client.close()

    def _encrypted(self, document: Mapping[str, Any]) -> Document:
        if self._encryption is None or not encrypts(self._encryption.keys, document):
            return dict(document)
        ciphertext = self._encryption.encrypt(document[ENCRYPTED_FIELD])
        return {**document, ENCRYPTED_FIELD: ciphertext}
