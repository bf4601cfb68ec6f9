"""Gives each record an encryption context of its own, without a KMS call for each.

AWS Encryption SDK message format, version 2: the encryption context stands in the message's header,
which the key derived for that message authenticates. KMS is asked for data keys under the part of
the context that all records of a continent share, so that a cache of data keys serves them all.
"""

from collections.abc import Mapping
from typing import Final

from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.materials_managers import (
    DecryptionMaterials,
    DecryptionMaterialsRequest,
    EncryptionMaterials,
    EncryptionMaterialsRequest,
)
from aws_encryption_sdk.materials_managers.base import CryptoMaterialsManager

SCHEMA: Final = "love-record-v2"
#: Records from before the context held the transaction's id; their ids are bound by the seal alone.
SCHEMA_WITHOUT_ID: Final = "love-record-v1"


class ContextRefused(AWSEncryptionSDKClientError):  # type: ignore[misc]
    """A message's encryption context is not that of the record it lies in."""


class RecordContext(CryptoMaterialsManager):  # type: ignore[misc]
    """A materials manager for one record, around the one that all of its continent share.

    Parameters
    ----------
    shared : CryptoMaterialsManager
        Is asked under the context without the transaction's id.
    """

    def __init__(self, shared: CryptoMaterialsManager, continent: str, transaction_id: str) -> None:
        self._shared = shared
        self._continent = continent
        self._transaction_id = transaction_id

    def get_encryption_materials(self, request: EncryptionMaterialsRequest) -> EncryptionMaterials:
        """Shared materials, whose context is completed by the transaction's id."""
        request.encryption_context = _shared_context(self._continent, SCHEMA)
        materials = self._shared.get_encryption_materials(request)
        return EncryptionMaterials(
            algorithm=materials.algorithm,
            data_encryption_key=materials.data_encryption_key,
            encrypted_data_keys=materials.encrypted_data_keys,
            encryption_context={
                **materials.encryption_context,
                "transaction_id": self._transaction_id,
            },
            signing_key=materials.signing_key,
        )

    def decrypt_materials(self, request: DecryptionMaterialsRequest) -> DecryptionMaterials:
        """Shared materials, if the header's context is this record's; else KMS isn't even asked.

        Raises
        ------
        ContextRefused
        """
        request.encryption_context = self._checked(request.encryption_context)
        return self._shared.decrypt_materials(request)

    def _checked(self, context: Mapping[str, str]) -> dict[str, str]:
        shared = _shared_context(self._continent, SCHEMA)
        if context == {**shared, "transaction_id": self._transaction_id}:
            return shared
        old = _shared_context(self._continent, SCHEMA_WITHOUT_ID)
        if context == old:
            return old
        raise ContextRefused("the encryption context is not this record's")


def _shared_context(continent: str, schema: str) -> dict[str, str]:
    return {"continent": continent, "schema": schema}
