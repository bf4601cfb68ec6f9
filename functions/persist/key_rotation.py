"""Rotates the data keys in one cluster's key vault: wraps them anew, or starts a new one.

A data key (BSON UUID) encrypts documents; a KMS key wraps data keys. Wrapping anew
(`rewrapManyDataKey`, MongoDB Client-Side Encryption specification) leaves data keys as they are, so
each document goes on being readable, and processes that hold an unwrapped key don't notice. A new data
key encrypts what is written from then on; older documents name the one that encrypted them.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from bson.binary import UUID_SUBTYPE, Binary
from pymongo import MongoClient, ReturnDocument
from pymongo.encryption import ClientEncryption
from pymongo.errors import PyMongoError

from federation.errors import FederationError
from persist.customer_keys import key_identity, region_of
from persist.encryption_schema import ALGORITHM
from persist.field_encryption import (
    KEY_NAMES,
    KEY_VAULT,
    KEY_VAULT_DATABASE,
    FieldKeys,
    alternate_name,
    data_key_name,
)

Document = dict[str, Any]


class RotationFailed(FederationError):
    """A data key could not be rotated; the one before it goes on being used."""

    def __init__(self, detail: str) -> None:
        super().__init__("rotation_failed", detail)


class KeyVault:
    """The key vault of one cluster; use it as a context manager.

    Parameters
    ----------
    client : MongoClient
        Reaches the cluster; it stays open.
    credentials : mapping
        Of AWS, as libmongocrypt wants them; they must reach old and new KMS keys.
    kms_ca_file : str
        As in `FieldKeys`.
    """

    def __init__(
        self, client: MongoClient[Document], credentials: Mapping[str, str], kms_ca_file: str = ""
    ) -> None:
        self._client = client
        self._credentials = dict(credentials)
        self._kms_ca_file = kms_ca_file
        self._keys = client[KEY_VAULT_DATABASE][KEY_VAULT]
        self._names = client[KEY_VAULT_DATABASE][KEY_NAMES]
        self._encryption = self._fresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._encryption.close()

    def data_keys(self, continent: str) -> list[Binary]:
        """Ids of all data keys of the continent that this vault holds, retired ones too."""
        name = data_key_name(continent)
        current = self._names.find_one({"_id": name})
        found = [
            one["_id"]
            for one in self._keys.find({}, {"keyAltNames": 1}).sort("creationDate", 1)
            if any(alias.startswith(f"{name}/") for alias in one.get("keyAltNames", ()))
            or (current is not None and one["_id"] == current["key_id"])
        ]
        return [Binary(one, UUID_SUBTYPE) for one in found]

    def rewrap(self, continent: str, kms_key_arn: str) -> int:
        """Wrap all data keys of the continent under this KMS key; gives how many there were.

        A key that is wrapped under it already is wrapped anew, so that KMS' newest key material
        does it. If the ARN is that of the same multi-Region key in another Region, only the way
        to KMS changes, and no KMS needs to be reached: that is what to do when a Region is down.

        Raises
        ------
        RotationFailed
            A key doesn't open any more.
        pymongo.errors.PyMongoError
            The cluster or KMS can't be reached; what was wrapped anew stays so.
        """
        ids = self.data_keys(continent)
        others: list[Binary] = []
        moved: dict[Binary, Mapping[str, Any]] = {}
        for key_id in ids:
            before = self._master_key(key_id)
            if _moved(before["key"], kms_key_arn):
                moved[key_id] = before
                self._keys.update_one(
                    {"_id": key_id},
                    {
                        "$set": {
                            "masterKey": {"provider": "aws", **_master_key(before, kms_key_arn)}
                        },
                        "$currentDate": {"updateDate": True},
                    },
                )
            else:
                others.append(key_id)
        if others:
            self._encryption.rewrap_many_data_key(
                {"_id": {"$in": others}},
                provider="aws",
                master_key=_master_key(self._master_key(others[0]), kms_key_arn),
            )
        try:
            self._check(ids, kms_key_arn)
        except (PyMongoError, RotationFailed):
            # The way to KMS was changed unproved: an ARN that names no replica closes the vault.
            for key_id, known in moved.items():
                self._keys.update_one({"_id": key_id}, {"$set": {"masterKey": known}})
            raise
        return len(ids)

    def start_data_key(self, continent: str, kms_key_arn: str) -> Binary | None:
        """Make a new data key for what is written from now on; `None` if the vault knows none yet.

        Processes notice within `DATA_KEY_NAME_TTL_S`; until then they write with the one before.

        Raises
        ------
        RotationFailed
            Another rotation was quicker.
        pymongo.errors.PyMongoError
            The cluster or KMS can't be reached.
        """
        name = data_key_name(continent)
        current = self._names.find_one({"_id": name})
        if current is None:
            return None
        generation = current.get("generation", 1) + 1
        before = self._master_key(current["key_id"])
        key_id = self._encryption.create_data_key(
            "aws",
            master_key=_master_key(before, kms_key_arn),
            key_alt_names=[alternate_name(name, generation)],
        )
        replaced = self._names.find_one_and_update(
            {"_id": name, "key_id": current["key_id"]},
            {"$set": {"key_id": key_id, "generation": generation}},
            return_document=ReturnDocument.AFTER,
        )
        if replaced is None:  # the key that we made stays unused
            raise RotationFailed(f"{name}: another rotation gave it a new data key just now")
        return Binary(key_id, UUID_SUBTYPE)

    def _master_key(self, key_id: Binary) -> dict[str, Any]:
        found = self._keys.find_one({"_id": key_id}, {"masterKey": 1})
        if found is None:
            raise RotationFailed(f"data key {key_id.hex()} is gone")
        master_key: dict[str, Any] = found["masterKey"]
        return master_key

    def _check(self, ids: Sequence[Binary], kms_key_arn: str) -> None:
        """Each data key opens, by a client that has none of them in its cache."""
        for key_id in ids:
            if self._master_key(key_id)["key"] != kms_key_arn:
                raise RotationFailed(f"data key {key_id.hex()} is under another KMS key")
        with self._fresh() as encryption:
            for key_id in ids:
                encryption.encrypt(b"", ALGORITHM, key_id=key_id)

    def _fresh(self) -> ClientEncryption[Any]:
        keys = FieldKeys("", "", self._credentials, kms_ca_file=self._kms_ca_file)
        return ClientEncryption(**keys.encryption_arguments(self._client))


def _moved(before: str, after: str) -> bool:
    return before != after and key_identity(before) == key_identity(after)


def _master_key(before: Mapping[str, Any], kms_key_arn: str) -> dict[str, Any]:
    """The new entry of the vault; an endpoint that isn't the Region's own is kept."""
    after = {"region": region_of(kms_key_arn), "key": kms_key_arn}
    endpoint = before.get("endpoint", "")
    if endpoint and ".amazonaws.com" not in endpoint:
        after["endpoint"] = endpoint
    return after
