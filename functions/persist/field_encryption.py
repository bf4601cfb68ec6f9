"""Client-Side Field Level Encryption with one data key a continent, under that region's KMS key."""

import asyncio
import contextlib
import os
from typing import Any, Final, Self
from urllib.parse import urlsplit

import msgspec
from bson.binary import STANDARD, Binary
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient
from pymongo.asynchronous.encryption import AsyncClientEncryption
from pymongo.encryption_options import AutoEncryptionOpts
from pymongo.encryption_shared import Algorithm
from pymongo.errors import DuplicateKeyError

from federation.audit import record_key_use

KEY_VAULT_DATABASE: Final = "encryption"
KEY_VAULT: Final = "__keyVault"
#: Name to data key, insert-only: the first key of a name wins, so processes may race. (A unique
#: index on the vault's alternate names would have to be partial, which not every server has.)
KEY_NAMES: Final = "keyNames"

#: How long an unwrapped data key is kept before KMS is asked again.
DATA_KEY_LIFETIME_MS: Final = 300_000


class FieldKeys(msgspec.Struct, frozen=True):
    """Which data key, under which KMS key."""

    name: str
    kms_key_arn: str
    credentials: dict[str, str]

    @property
    def region(self) -> str:
        """The region in the KMS key's ARN."""
        return self.kms_key_arn.split(":")[3]


class FieldEncryption:
    """Encrypts values under one data key; make it by `await FieldEncryption.new(client, keys)`."""

    def __init__(
        self, encryption: AsyncClientEncryption[Any], key_id: Binary, keys: FieldKeys
    ) -> None:
        self._encryption = encryption
        self._key_id = key_id
        self._keys = keys

    @classmethod
    async def new(cls, client: AsyncMongoClient[dict[str, Any]], keys: FieldKeys) -> Self:
        """Find the data key of that name, or make it; `client` reaches the key vault."""
        encryption: AsyncClientEncryption[Any] = AsyncClientEncryption(
            {"aws": keys.credentials},
            f"{KEY_VAULT_DATABASE}.{KEY_VAULT}",
            client,
            CodecOptions(uuid_representation=STANDARD),
            kms_tls_options=_kms_tls(),
            key_expiration_ms=DATA_KEY_LIFETIME_MS,
        )
        names = client[KEY_VAULT_DATABASE][KEY_NAMES]
        known = await names.find_one({"_id": keys.name})
        if known is None:
            master_key = {"region": keys.region, "key": keys.kms_key_arn, **_kms_endpoint()}
            key_id = await encryption.create_data_key("aws", master_key=master_key)
            await _record(keys, "make data key")
            # If another process was first, our key stays unused.
            with contextlib.suppress(DuplicateKeyError):
                await names.insert_one({"_id": keys.name, "key_id": key_id})
            known = await names.find_one({"_id": keys.name})
            assert known is not None
        made = cls(encryption, Binary(known["key_id"], 4), keys)
        # KMS unwraps the data key now, while there is time, not within the first write.
        await made.encrypt(b"")
        await _record(keys, "unwrap data key")
        return made

    async def encrypt(self, value: bytes) -> Binary:
        """Randomised: equal values don't look equal."""
        algorithm = Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random
        return await self._encryption.encrypt(value, algorithm, key_id=self._key_id)

    def decryption_options(self) -> AutoEncryptionOpts:
        """Makes a client decrypt by itself what it reads."""
        return AutoEncryptionOpts(
            {"aws": self._keys.credentials},
            f"{KEY_VAULT_DATABASE}.{KEY_VAULT}",
            bypass_auto_encryption=True,
            kms_tls_options=_kms_tls(),
            key_expiration_ms=DATA_KEY_LIFETIME_MS,
        )

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


def _kms_endpoint() -> dict[str, str]:
    """host:port of another KMS than the region's own, as boto3 would take it."""
    url = os.environ.get("AWS_ENDPOINT_URL_KMS") or os.environ.get("AWS_ENDPOINT_URL")
    return {"endpoint": urlsplit(url).netloc} if url else {}


def _kms_tls() -> dict[str, Any]:
    bundle = os.environ.get("AWS_CA_BUNDLE")
    return {"aws": {"tlsCAFile": bundle}} if bundle else {}
