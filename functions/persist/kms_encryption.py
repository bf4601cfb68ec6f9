"""The AWS Encryption SDK around sealed content, for the tiers that have no encryption of their own.

A data key out of KMS serves a continent for a few minutes (caching materials manager), so a batch of
100 costs one KMS call; each record's own encryption context, with its transaction's id, is added and
checked by `RecordContext`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aws_encryption_sdk
import botocore.session
from aws_encryption_sdk.exceptions import DecryptKeyError
from aws_encryption_sdk.identifiers import Algorithm
from aws_encryption_sdk.key_providers.kms import MRKAwareStrictAwsKmsMasterKeyProvider
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.exceptions import InvalidTag

from federation.audit import record_key_use
from federation.breaker import BreakerState, StoreBreakers
from federation.limits import (
    RECORD_KEY_LIFETIME_S,
    RECORD_KEY_USES_MAX,
    RECORD_KEYS_MAX,
)
from persist.customer_keys import CustomerKeys
from persist.kms_guard import KmsGuard
from persist.record import RecordDamaged
from persist.record_context import RecordContext
from persist.tier import TierUnavailable

#: With key commitment, without a signature of its own: content is signed by its sender already.
ALGORITHM: Final = Algorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
HTTP_ERROR: Final = 400
TIMEOUT_S: Final = 1.0


class KmsEncryption:
    """Encrypts under a continent's first KMS key, decrypts under any of them.

    Parameters
    ----------
    keys : CustomerKeys, or a mapping of continent to key ARN
    timeout_s : float
        For a call of KMS, and for its connection.
    breakers : callable
        Makes the breakers of a continent's keys, which is called `kms/Europe`.
    """

    def __init__(
        self,
        keys: CustomerKeys | Mapping[str, str | Sequence[str]],
        timeout_s: float = TIMEOUT_S,
        breakers: Callable[[str], StoreBreakers] = StoreBreakers,
    ) -> None:
        self._keys = keys if isinstance(keys, CustomerKeys) else CustomerKeys(keys)
        self._client = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=aws_encryption_sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        self._timeout_s = timeout_s
        self._make_breakers = breakers
        self._breakers: dict[str, StoreBreakers] = {}
        self._managers: dict[tuple[str, ...], Any] = {}

    def breakers(self) -> list[BreakerState]:
        """How the breakers of the keys that were used are."""
        return [one.writes.state() for one in self._breakers.values()]

    def encrypt(self, continent: str, transaction_id: str, plaintext: bytes) -> bytes:
        """Ciphertext with its wrapped data key and its encryption context in front.

        Raises
        ------
        TierUnavailable
            KMS can't be reached, or refuses.
        """
        shared = self._manager(continent, self._keys.of(continent)[:1])
        try:
            ciphertext, _ = self._client.encrypt(
                source=plaintext,
                materials_manager=RecordContext(shared, continent, transaction_id),
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
        """The plaintext, if it was encrypted as this transaction's content for this continent.

        Raises
        ------
        TierUnavailable
            KMS can't be reached, or refuses.
        RecordDamaged
            The ciphertext is not what was written, or not this record's.
        """
        try:
            key_arns = self._keys.of(continent)
        except KeyError:
            raise RecordDamaged(transaction_id, f"there is no continent {continent!r}") from None
        try:
            return self._decrypted(key_arns, continent, transaction_id, ciphertext)
        except DecryptKeyError as error:
            renewed = self._keys.renewed(continent, key_arns)
            if renewed is None:
                raise TierUnavailable(f"KMS of {continent}: {type(error).__name__}") from error
        try:
            return self._decrypted(renewed, continent, transaction_id, ciphertext)
        except DecryptKeyError as error:
            raise TierUnavailable(f"KMS of {continent}: {type(error).__name__}") from error

    def _decrypted(
        self, key_arns: tuple[str, ...], continent: str, transaction_id: str, ciphertext: bytes
    ) -> bytes:
        manager = RecordContext(self._manager(continent, key_arns), continent, transaction_id)
        try:
            plaintext, _ = self._client.decrypt(source=ciphertext, materials_manager=manager)
        except (BotoCoreError, ClientError) as error:
            raise TierUnavailable(f"KMS of {continent}: {type(error).__name__}") from error
        except DecryptKeyError:
            raise
        except (InvalidTag, ValueError, aws_encryption_sdk.AWSEncryptionSDKClientError) as error:
            raise RecordDamaged(transaction_id, f"{type(error).__name__} on decrypting") from error
        return bytes(plaintext)

    def _manager(self, continent: str, key_arns: tuple[str, ...]) -> Any:
        """The shared manager of these keys; it wraps data keys under each of them."""
        if key_arns not in self._managers:
            session = botocore.session.get_session()
            session.set_default_client_config(
                Config(
                    connect_timeout=self._timeout_s,
                    read_timeout=self._timeout_s,
                    retries={"total_max_attempts": 1},
                )
            )
            session.register("after-call.kms", _record_key_use)
            if continent not in self._breakers:
                self._breakers[continent] = self._make_breakers(f"kms/{continent}")
            KmsGuard(self._breakers[continent]).watch(session)
            # A record that was wrapped in another Region opens with the replica in ours.
            provider = MRKAwareStrictAwsKmsMasterKeyProvider(
                key_ids=list(key_arns), botocore_session=session
            )
            self._managers[key_arns] = aws_encryption_sdk.CachingCryptoMaterialsManager(
                cache=aws_encryption_sdk.LocalCryptoMaterialsCache(RECORD_KEYS_MAX),
                max_age=RECORD_KEY_LIFETIME_S,
                max_messages_encrypted=RECORD_KEY_USES_MAX,
                master_key_provider=provider,
            )
        return self._managers[key_arns]


def _record_key_use(**call: Any) -> None:
    """Write down what KMS did; botocore tells of each call that was answered (`after-call`)."""
    refused = "" if call["http_response"].status_code < HTTP_ERROR else " refused"
    record_key_use(
        source="persist",
        key=call["parsed"].get("KeyId") or "unknown",
        purpose=f"KMS {call['model'].name}{refused}",
        subject="persist",
    )
