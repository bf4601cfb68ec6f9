"""Opens stored contents as an independent reader does: with the stores' own libraries and the keys.

MongoDB Client-Side Field Level Encryption by PyMongo's explicit decryption; AWS Encryption SDK
message format 2 with a KMS master key; the hybrid seal inside by `unsealing`. No code of the
functions takes part.
"""

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

import aws_encryption_sdk
from aws_encryption_sdk.key_providers.base import MasterKeyProvider
from aws_encryption_sdk.key_providers.kms import KMSMasterKey
from aws_encryption_sdk.materials_managers import DecryptionMaterialsRequest
from aws_encryption_sdk.materials_managers.base import CryptoMaterialsManager
from aws_encryption_sdk.materials_managers.default import DefaultCryptoMaterialsManager
from bson.binary import STANDARD, Binary
from bson.codec_options import CodecOptions
from pymongo import MongoClient
from pymongo.encryption import ClientEncryption

from lovectl.chaos.unsealing import unseal

KEY_VAULT: Final = "encryption.__keyVault"
#: Is in a message's context, but not in what KMS is asked under: see docs/security.md.
_ID: Final = "transaction_id"


class Keys:
    """What opens contents.

    Parameters
    ----------
    kms : boto3 KMS client
        Not through a proxy.
    customer_keys : mapping of continent to key ARNs
    sealing : mapping of key id to base64 private key
        The secret `love/sealing`.
    credentials : mapping
        Of AWS, as libmongocrypt wants them.
    kms_ca_file : str
        PEM of the CA of the local KMS.
    """

    def __init__(
        self,
        kms: Any,
        customer_keys: Mapping[str, list[str]],
        sealing: Mapping[str, str],
        credentials: Mapping[str, str],
        kms_ca_file: str,
    ) -> None:
        self.sealing = sealing
        self._credentials = dict(credentials)
        self._kms_ca_file = kms_ca_file
        self._sdk = aws_encryption_sdk.EncryptionSDKClient(
            commitment_policy=aws_encryption_sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
        )
        self._managers = {
            continent: [_Remembering(KMSMasterKey(client=kms, key_id=arn)) for arn in arns]
            for continent, arns in customer_keys.items()
        }

    def field_encryption(self, client: MongoClient[dict[str, Any]]) -> ClientEncryption[Any]:
        """PyMongo's explicit decryption with the key vault of this cluster; close it after use."""
        return ClientEncryption(
            {"aws": self._credentials},
            KEY_VAULT,
            client,
            CodecOptions(uuid_representation=STANDARD),
            kms_tls_options={"aws": {"tlsCAFile": self._kms_ca_file}},
        )

    def open_field(
        self, encryption: ClientEncryption[Any], content: Any, ids: tuple[str, str]
    ) -> Any:
        """The clear content of an Atlas document; raises what the libraries raise."""
        if not isinstance(content, Binary):
            raise TypeError(f"content is {type(content).__name__}, not encrypted")
        return self._unsealed(bytes(encryption.decrypt(content)), ids)

    def open_message(self, continent: str, content: bytes, ids: tuple[str, str]) -> Any:
        """The clear content of a record of DynamoDB or immuDB; raises what the libraries raise."""
        failure: Exception = KeyError(f"no KMS key of {continent!r}")
        for manager in self._managers.get(continent, ()):
            try:
                sealed, header = self._sdk.decrypt(source=content, materials_manager=manager)
            except aws_encryption_sdk.AWSEncryptionSDKClientError as error:
                failure = error
                continue
            named = header.encryption_context.get(_ID)
            if named != ids[0]:
                raise ValueError(f"it was encrypted for transaction {named}")
            return self._unsealed(bytes(sealed), ids)
        raise failure

    def _unsealed(self, sealed: bytes, ids: tuple[str, str]) -> Any:
        seal = json.loads(sealed)
        key_id = str(seal["key_id"]).rsplit(".", 1)[0]
        content = unseal(
            b64decode(self.sealing[key_id]),
            b64decode(seal["wrapped_key"]),
            b64decode(seal["ciphertext"]),
            # Transaction id and sender: bound to the content by the seal.
            b"".join(map(bytes.fromhex, ids)),
        )
        return json.loads(content)


class _Remembering(CryptoMaterialsManager):  # type: ignore[misc]
    """Asks KMS once for each wrapped data key: a batch shares one, each record has its own context."""

    def __init__(self, provider: MasterKeyProvider) -> None:
        self._inner = DefaultCryptoMaterialsManager(master_key_provider=provider)
        self._known: dict[tuple[bytes, ...], Any] = {}

    def get_encryption_materials(self, request: Any) -> Any:
        """A reader encrypts nothing."""
        raise NotImplementedError

    def decrypt_materials(self, request: DecryptionMaterialsRequest) -> Any:
        """The data key, from KMS under the context that all records of a continent share."""
        wrapped = tuple(sorted(one.encrypted_data_key for one in request.encrypted_data_keys))
        if wrapped not in self._known:
            shared = {
                name: value for name, value in request.encryption_context.items() if name != _ID
            }
            request.encryption_context = shared
            self._known[wrapped] = self._inner.decrypt_materials(request)
        return self._known[wrapped]
