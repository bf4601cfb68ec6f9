"""The AWS Encryption SDK around sealed content, for the tiers that have no encryption of their own.

A data key out of KMS serves a continent for a few minutes (caching materials manager): the
encryption context is the same for a whole continent, since the manager would miss with every other
context. The ids of a record are bound to its content by the inner seal, and checked after reading.
"""

from collections.abc import Mapping
from typing import Any, Final

import aws_encryption_sdk
import botocore.session
from aws_encryption_sdk.exceptions import DecryptKeyError
from aws_encryption_sdk.identifiers import Algorithm
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.exceptions import InvalidTag

from federation.audit import record_key_use
from persist.record import RecordDamaged
from persist.tier import TierUnavailable

SCHEMA: Final = "love-record-v1"
#: With key commitment, without a signature of its own: content is signed by its sender already.
ALGORITHM: Final = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
DATA_KEY_LIFETIME_S: Final = 300.0
DATA_KEY_MESSAGES_MAX: Final = 2**20
DATA_KEYS_MAX: Final = 100
KMS_TIMEOUT_S: Final = 1.0
HTTP_ERROR: Final = 400


class KmsEncryption:
    """Encrypts under a continent's KMS key.

    Parameters
    ----------
    key_arns : mapping of continent to KMS key ARN
    """

    def __init__(self, key_arns: Mapping[str, str]) -> None:
        self._key_arns = key_arns
        self._client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=aws_encryption_sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        self._managers: dict[str, Any] = {}

    def encrypt(self, continent: str, plaintext: bytes) -> bytes:
        """Ciphertext with its wrapped data key in front.

        Raises
        ------
        TierUnavailable
            KMS can't be reached.
        """
        try:
            ciphertext, _ = self._client.encrypt(
                source=plaintext,
                materials_manager=self._manager(continent),
                encryption_context=_context(continent),
                algorithm=ALGORITHM,
            )
        except (
            BotoCoreError,
            ClientError,
            aws_encryption_sdk.AWSEncryptionSDKClientError,
        ) as error:
            raise TierUnavailable(f"KMS of {continent}: {type(error).__name__}") from error
        return bytes(ciphertext)

    def decrypt(self, continent: str, transaction_id: str, ciphertext: bytes) -> bytes:
        """The plaintext of this transaction's content, if it was encrypted for this continent.

        Raises
        ------
        TierUnavailable
            KMS can't be reached, or refuses.
        RecordDamaged
            The ciphertext is not what was written.
        """
        try:
            plaintext, header = self._client.decrypt(
                source=ciphertext, materials_manager=self._manager(continent)
            )
        except (BotoCoreError, ClientError, DecryptKeyError) as error:
            raise TierUnavailable(f"KMS of {continent}: {type(error).__name__}") from error
        except (InvalidTag, ValueError, aws_encryption_sdk.AWSEncryptionSDKClientError) as error:
            raise RecordDamaged(transaction_id, f"{type(error).__name__} on decrypting") from error
        if not _context(continent).items() <= header.encryption_context.items():
            raise RecordDamaged(transaction_id, "another encryption context")
        return bytes(plaintext)

    def _manager(self, continent: str) -> Any:
        if continent not in self._managers:
            session = botocore.session.get_session()
            session.set_default_client_config(
                Config(
                    connect_timeout=KMS_TIMEOUT_S,
                    read_timeout=KMS_TIMEOUT_S,
                    retries={"total_max_attempts": 2},
                )
            )
            session.register("after-call.kms", _record_key_use)
            provider = aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(
                key_ids=[self._key_arns[continent]], botocore_session=session
            )
            self._managers[continent] = aws_encryption_sdk.CachingCryptoMaterialsManager(
                cache=aws_encryption_sdk.LocalCryptoMaterialsCache(DATA_KEYS_MAX),
                max_age=DATA_KEY_LIFETIME_S,
                max_messages_encrypted=DATA_KEY_MESSAGES_MAX,
                master_key_provider=provider,
            )
        return self._managers[continent]


def _record_key_use(**call: Any) -> None:
    """Write down what KMS did; botocore tells of each call that was answered (`after-call`)."""
    refused = "" if call["http_response"].status_code < HTTP_ERROR else " refused"
    record_key_use(
        source="persist",
        key=call["parsed"].get("KeyId") or "unknown",
        purpose=f"KMS {call['model'].name}{refused}",
        subject="persist",
    )


def _context(continent: str) -> dict[str, str]:
    return {"continent": continent, "schema": SCHEMA}
