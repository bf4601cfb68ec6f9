"""Records of DynamoDB and immuDB: bound to their transaction, one KMS call a batch, keys rotate."""

import os
from collections.abc import Iterator
from typing import Any

import aws_encryption_sdk
import boto3
import botocore.client
import pytest
from aws_encryption_sdk.identifiers import Algorithm, CommitmentPolicy
from moto import mock_aws

from federation.limits import BATCH_ITEMS_MAX
from persist.customer_keys import CustomerKeys
from persist.kms_encryption import ALGORITHM, KmsEncryption
from persist.record import RecordDamaged
from persist.tier import TierUnavailable

ID = "a" * 64
OTHER_ID = "b" * 64
SEALED = b"sealed content"
REGION = "eu-central-1"


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A mocked KMS."""
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws():
        yield boto3.client("kms")


@pytest.fixture
def key_arns(kms: Any) -> dict[str, str]:
    """A key each for two continents."""
    return {one: _key(kms) for one in ("Europe", "Asia")}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations that AWS was asked for, in their order."""
    asked: list[str] = []
    original = botocore.client.BaseClient._make_api_call

    def counted(client: Any, operation: str, arguments: Any) -> Any:
        asked.append(operation)
        return original(client, operation, arguments)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", counted)
    return asked


def _key(kms: Any, **options: Any) -> str:
    return str(kms.create_key(**options)["KeyMetadata"]["Arn"])


def test_a_batch_costs_one_kms_call_to_write_and_one_to_read(
    key_arns: dict[str, str], calls: list[str]
) -> None:
    writer, reader = KmsEncryption(key_arns), KmsEncryption(key_arns)
    ids = [f"{n:064x}" for n in range(BATCH_ITEMS_MAX)]
    batch = [writer.encrypt("Europe", one, SEALED) for one in ids]
    assert calls == ["GenerateDataKey"]
    for one, ciphertext in zip(ids, batch, strict=True):
        assert reader.decrypt("Europe", one, ciphertext) == SEALED
    assert calls == ["GenerateDataKey", "Decrypt"]
    assert len(set(batch)) == len(batch)


def test_ciphertexts_exchanged_between_two_transactions_are_refused(
    key_arns: dict[str, str], calls: list[str]
) -> None:
    encryption = KmsEncryption(key_arns)
    ciphertext = encryption.encrypt("Europe", ID, SEALED)
    calls.clear()
    with pytest.raises(RecordDamaged, match="ContextRefused"):
        encryption.decrypt("Europe", OTHER_ID, ciphertext)
    assert calls == []


def test_a_message_with_another_transaction_s_id_written_into_it_is_refused(
    key_arns: dict[str, str],
) -> None:
    encryption = KmsEncryption(key_arns)
    ciphertext = encryption.encrypt("Europe", ID, SEALED)
    assert ciphertext.count(ID.encode()) == 1
    edited = ciphertext.replace(ID.encode(), OTHER_ID.encode())
    with pytest.raises(RecordDamaged, match="on decrypting"):
        encryption.decrypt("Europe", OTHER_ID, edited)


def test_ciphertext_of_one_continent_is_refused_as_another_s(key_arns: dict[str, str]) -> None:
    encryption = KmsEncryption(key_arns)
    ciphertext = encryption.encrypt("Europe", ID, SEALED)
    with pytest.raises(RecordDamaged):
        encryption.decrypt("Asia", ID, ciphertext)
    edited = ciphertext.replace(b"Europe", b"Africa")
    with pytest.raises((RecordDamaged, TierUnavailable)):
        KmsEncryption({**key_arns, "Africa": key_arns["Europe"]}).decrypt("Africa", ID, edited)


@pytest.mark.parametrize("position", [0, 5, 100, -1])
def test_edited_ciphertext_is_damaged_or_refused_by_kms(
    key_arns: dict[str, str], position: int
) -> None:
    encryption = KmsEncryption(key_arns)
    ciphertext = bytearray(encryption.encrypt("Europe", ID, SEALED))
    ciphertext[position] ^= 1
    with pytest.raises((RecordDamaged, TierUnavailable)):
        encryption.decrypt("Europe", ID, bytes(ciphertext))


def test_a_message_without_key_commitment_is_refused(key_arns: dict[str, str]) -> None:
    client = aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=CommitmentPolicy.FORBID_ENCRYPT_ALLOW_DECRYPT
    )
    ciphertext, _ = client.encrypt(
        source=SEALED,
        key_provider=_provider(key_arns["Europe"]),
        algorithm=Algorithm.AES_256_GCM_IV12_TAG16_HKDF_SHA256,
        encryption_context={"continent": "Europe", "schema": "love-record-v1"},
    )
    with pytest.raises(RecordDamaged):
        KmsEncryption(key_arns).decrypt("Europe", ID, ciphertext)


def test_a_record_from_before_the_id_was_in_its_context_is_still_read(
    key_arns: dict[str, str],
) -> None:
    client = aws_encryption_sdk.EncryptionSDKClient(
        commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT
    )
    for schema, readable in (("love-record-v1", True), ("love-record-v2", False)):
        ciphertext, _ = client.encrypt(
            source=SEALED,
            key_provider=_provider(key_arns["Europe"]),
            algorithm=ALGORITHM,
            encryption_context={"continent": "Europe", "schema": schema},
        )
        encryption = KmsEncryption(key_arns)
        if readable:
            assert encryption.decrypt("Europe", ID, ciphertext) == SEALED
        else:
            with pytest.raises(RecordDamaged, match="ContextRefused"):
                encryption.decrypt("Europe", ID, ciphertext)


def test_after_a_rotation_old_and_new_records_open_and_new_ones_use_the_new_key(
    kms: Any, key_arns: dict[str, str]
) -> None:
    old = KmsEncryption(key_arns).encrypt("Europe", ID, SEALED)
    new_arn = _key(kms)
    rotated = KmsEncryption({**key_arns, "Europe": [new_arn, key_arns["Europe"]]})
    new = rotated.encrypt("Europe", OTHER_ID, SEALED)
    assert rotated.decrypt("Europe", ID, old) == SEALED
    assert rotated.decrypt("Europe", OTHER_ID, new) == SEALED
    assert new_arn.encode() in new
    assert key_arns["Europe"].encode() not in new
    with pytest.raises(TierUnavailable):
        KmsEncryption(key_arns).decrypt("Europe", OTHER_ID, new)


def test_a_process_that_has_not_heard_of_a_rotation_learns_of_it_from_the_record(
    kms: Any, key_arns: dict[str, str]
) -> None:
    new_arn = _key(kms)
    new = KmsEncryption({"Europe": new_arn}).encrypt("Europe", ID, SEALED)

    class Late(CustomerKeys):
        def renewed(self, continent: str, known: Any) -> tuple[str, ...]:
            return (new_arn, *known)

    assert KmsEncryption(Late(key_arns)).decrypt("Europe", ID, new) == SEALED


def _provider(arn: str) -> Any:
    return aws_encryption_sdk.StrictAwsKmsMasterKeyProvider(key_ids=[arn])
