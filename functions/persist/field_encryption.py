"""Client-Side Field Level Encryption with one data key a continent, under that region's KMS key.

What the asynchronous and the synchronous handler share is here, then the asynchronous half.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

import msgspec
from bson.binary import STANDARD, UUID_SUBTYPE, Binary
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient
from pymongo.asynchronous.encryption import AsyncClientEncryption
from pymongo.encryption_options import AutoEncryptionOpts
from pymongo.errors import DuplicateKeyError, PyMongoError

from federation.audit import record_key_use
from federation.errors import InvalidField
from federation.limits import DATA_KEY_LIFETIME_MS, DATA_KEY_NAME_TTL_S
from persist.customer_keys import region_of
from persist.encryption_schema import ALGORITHM, ENCRYPTED_FIELD, schema_map

KEY_VAULT_DATABASE: Final = "encryption"
KEY_VAULT: Final = "__keyVault"
KEY_VAULT_NAMESPACE: Final = f"{KEY_VAULT_DATABASE}.{KEY_VAULT}"
#: Name to data key: the first key of a name wins, so processes may race; later only a rotation
#: changes it. (A unique index on the vault's alternate names would have to be partial, which not
#: every server has.)
KEY_NAMES: Final = "keyNames"

CsfleMode = Literal["explicit", "automatic"]


def data_key_name(continent: str) -> str:
    """The name of the continent's data key in `KEY_NAMES`, and the start of its alternate names."""
    return f"content-{continent}"


class FieldKeys(msgspec.Struct, frozen=True):
    """Which data key, under which KMS key, and who encrypts.

    Attributes
    ----------
    mode : str
        `explicit`: the handler encrypts `content`. `automatic`: the driver does, by the schema of
        `encryption_schema`; that takes MongoDB's library crypt_shared (Atlas, Enterprise).
    crypt_shared_path : str
        Where that library is; empty where the system finds it.
    kms_ca_file : str
        The CA of the KMS, if that is another one than the environment (`AWS_CA_BUNDLE`) or the
        system names.
    """

    name: str
    kms_key_arn: str
    credentials: dict[str, str]
    mode: CsfleMode = "explicit"
    crypt_shared_path: str = ""
    kms_ca_file: str = ""

    @property
    def region(self) -> str:
        """The region in the KMS key's ARN."""
        return region_of(self.kms_key_arn)

    def vault_arguments(self) -> dict[str, Any]:
        """What every client of the key vault is made with."""
        return {
            "kms_providers": {"aws": self.credentials},
            "key_vault_namespace": KEY_VAULT_NAMESPACE,
            "kms_tls_options": _kms_tls(self.kms_ca_file),
            "key_expiration_ms": DATA_KEY_LIFETIME_MS,
        }

    def encryption_arguments(self, client: Any) -> dict[str, Any]:
        """What a `ClientEncryption`, asynchronous or not, is made with."""
        return {
            **self.vault_arguments(),
            "key_vault_client": client,
            "codec_options": CodecOptions(uuid_representation=STANDARD),
        }

    def master_key(self) -> dict[str, str]:
        """What the key vault keeps of the KMS key: with it any driver finds the way to KMS."""
        return {"region": self.region, "key": self.kms_key_arn, **kms_endpoint()}

    def data_key_arguments(self, generation: int) -> dict[str, Any]:
        """What `create_data_key` is called with."""
        return {
            "kms_provider": "aws",
            "master_key": self.master_key(),
            "key_alt_names": [alternate_name(self.name, generation)],
        }

    def client_options(self, key_id: Binary, database: str) -> AutoEncryptionOpts:
        """Makes a client decrypt by itself what it reads, and encrypt too if the mode says so."""
        if self.mode == "explicit":
            return AutoEncryptionOpts(**self.vault_arguments(), bypass_auto_encryption=True)
        return AutoEncryptionOpts(
            **self.vault_arguments(),
            schema_map=schema_map(key_id, database),
            crypt_shared_lib_path=self.crypt_shared_path or None,
            # Without it PyMongo would start a daemon (mongocryptd) that isn't there either.
            crypt_shared_lib_required=True,
        )


def alternate_name(name: str, generation: int) -> str:
    """For people and other tools: which data key of this name it is.

    Two processes may make the first one at the same moment. Both keys stay, so their names differ: the
    vault's index on alternate names would refuse the second, and a driver can't rewrap two alike.
    """
    return f"{name}/{generation}/{secrets.token_hex(4)}"


def encrypts(keys: FieldKeys | None, document: Mapping[str, Any]) -> bool:
    """Whether the handler itself has to encrypt `content` of what is about to be written.

    Raises
    ------
    InvalidField
        A part of `content` is set: its clear text would lie beside the encrypted rest.
    """
    for name in document:
        if name.startswith(f"{ENCRYPTED_FIELD}."):
            raise InvalidField(name, "is encrypted as a whole; set all of `content`")
    return keys is not None and keys.mode == "explicit" and ENCRYPTED_FIELD in document


def searchable(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """The query, unless it looks for values of `content`.

    Raises
    ------
    InvalidField
        It would find nothing, since equal values are encrypted differently.
    """
    for name, value in query.items():
        if name.split(".")[0] == ENCRYPTED_FIELD and value not in (
            {"$exists": True},
            {"$exists": False},
        ):
            raise InvalidField(name, "is encrypted at random, so that it can't be searched")
    return query


class FieldEncryption:
    """Encrypts values under one data key; make it by `await FieldEncryption.new(client, keys)`."""

    def __init__(
        self,
        encryption: AsyncClientEncryption[Any],
        names: Any,
        key_id: Binary,
        keys: FieldKeys,
    ) -> None:
        self._encryption = encryption
        self._names = names
        self.key_id = key_id
        self.keys = keys
        self._named_s = time.monotonic()

    @classmethod
    async def new(cls, client: AsyncMongoClient[dict[str, Any]], keys: FieldKeys) -> Self:
        """Find the data key of that name, or make it; `client` reaches the key vault."""
        encryption: AsyncClientEncryption[Any] = AsyncClientEncryption(
            **keys.encryption_arguments(client)
        )
        names = client[KEY_VAULT_DATABASE][KEY_NAMES]
        known = await names.find_one({"_id": keys.name})
        if known is None:
            key_id = await encryption.create_data_key(**keys.data_key_arguments(1))
            await _record(keys, "make data key")
            # If another process was first, our key stays unused: `persist` may delete nothing.
            with contextlib.suppress(DuplicateKeyError):
                await names.insert_one({"_id": keys.name, "key_id": key_id, "generation": 1})
            known = await names.find_one({"_id": keys.name})
            assert known is not None
        made = cls(encryption, names, Binary(known["key_id"], UUID_SUBTYPE), keys)
        # KMS unwraps the data key now, while there is time, not within the first write.
        await made.encrypt(b"")
        await _record(keys, "unwrap data key")
        return made

    async def encrypt(self, value: bytes) -> Binary:
        """Randomised: equal values don't look equal."""
        if time.monotonic() - self._named_s >= DATA_KEY_NAME_TTL_S:
            await self._read_name()
        return await self._encryption.encrypt(value, ALGORITHM, key_id=self.key_id)

    async def _read_name(self) -> None:
        """A rotation may have given the name to a new data key; the one we know works too."""
        self._named_s = time.monotonic()
        try:
            known = await self._names.find_one({"_id": self.keys.name})
        except PyMongoError:
            return
        if known is not None:
            self.key_id = Binary(known["key_id"], UUID_SUBTYPE)

    async def close(self) -> None:
        """Give the connections back."""
        await self._encryption.close()


async def _record(keys: FieldKeys, purpose: str) -> None:
    """Write the use of the KMS key down, beside the work of others on this loop."""
    await asyncio.to_thread(
        record_key_use,
        source="persist",
        key=keys.kms_key_arn,
        purpose=f"{purpose} {keys.name}",
        subject="persist",
    )


_sessions: list[Any] = []


def aws_credentials() -> dict[str, str]:
    """The function's own credentials, as libmongocrypt wants them."""
    import botocore.session

    if not _sessions:
        _sessions.append(botocore.session.get_session())
    found = _sessions[0].get_credentials()
    if found is None:
        raise RuntimeError("there are no AWS credentials in this environment")
    frozen = found.get_frozen_credentials()
    credentials = {
        "accessKeyId": str(frozen.access_key),
        "secretAccessKey": str(frozen.secret_key),
    }
    if frozen.token:
        credentials["sessionToken"] = frozen.token
    return credentials


def kms_endpoint() -> dict[str, str]:
    """host:port of another KMS than the region's own, as boto3 would take it."""
    url = os.environ.get("AWS_ENDPOINT_URL_KMS") or os.environ.get("AWS_ENDPOINT_URL")
    return {"endpoint": urlsplit(url).netloc} if url else {}


def _kms_tls(ca_file: str) -> dict[str, Any]:
    bundle = ca_file or os.environ.get("AWS_CA_BUNDLE")
    return {"aws": {"tlsCAFile": bundle}} if bundle else {}
