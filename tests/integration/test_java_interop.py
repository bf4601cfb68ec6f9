"""A document that `persist` wrote is read by MongoDB's Java driver, which shares no code with ours."""

import json
import subprocess
from base64 import b64decode
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12

from federation.regions import CONTINENTS
from federation.routing import start_router
from lovectl import binaries
from lovectl.processes import inherited_environment
from lovectl.servers import session_arguments
from persist.atlas import AtlasSettings, AtlasTier
from persist.atlas_documents import record_in
from persist.field_encryption import KEY_VAULT_NAMESPACE, aws_credentials
from persist.key_rotation import KeyVault
from persist.record import open_content
from persist.tier import store_group

SOURCE = Path(__file__).parent / "java_reader"
DATABASE, TRANSACTIONS = "love_currency_db", "transactions"
NOTE = "from Python, by way of Java"
JAVA_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def command() -> list[str]:
    """Runs the reader; built from Maven Central once."""
    return binaries.java_program("java-reader", "Reader", SOURCE)


@pytest.fixture
def key_arn(kms: Any) -> str:
    """The customer key of all continents here."""
    return str(kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"])


@pytest.fixture
def store(ferretdb: Any, key_arn: str, tmp_path: Path) -> AtlasTier:
    """Tier 1, as `persist` has it."""
    uri = f"mongodb://127.0.0.1:{ferretdb.port}/?tls=true&directConnection=true"
    router = start_router(
        {
            "MONGO_URI_PROVIDER": "environment",
            **{f"MONGO_URI_{one.name}": uri for one in CONTINENTS},
            "MONGO_CA_PEM": ferretdb.pki.ca_file.read_text(),
            "MONGO_CLIENT_PEM": ferretdb.pki.client_pem_file.read_text(),
        }
    )
    arns = msgspec.json.encode({one.value: key_arn for one in CONTINENTS}).decode()
    return AtlasTier(
        AtlasSettings(
            kms_key_arns=arns,
            persist_timeout_ms=2_000,
            persist_slow_ms=2_000,
            cold_timeout_ms=3_000,
        ),
        router,
        tmp_path,
    )


@pytest.fixture
def environment(ferretdb: Any, tmp_path: Path) -> dict[str, str]:
    """What the reader has to know."""
    key = serialization.load_pem_private_key(ferretdb.pki.client_key_file.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(ferretdb.pki.client_certificate_file.read_bytes())
    bundle = tmp_path / "client.p12"
    bundle.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"client", key, certificate, None, serialization.BestAvailableEncryption(b"reader")
        )
    )
    return {
        **inherited_environment(),
        "MONGO_URI": f"mongodb://127.0.0.1:{ferretdb.port}/?directConnection=true",
        "MONGO_NAMESPACE": f"{DATABASE}.{TRANSACTIONS}",
        "KEY_VAULT": KEY_VAULT_NAMESPACE,
        "CA_PEM": str(ferretdb.pki.ca_file),
        "CLIENT_PKCS12": str(bundle),
        "CLIENT_PASSWORD": "reader",
        "AWS_ACCESS_KEY_ID": session_arguments()["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": session_arguments()["aws_secret_access_key"],
    }


def test_java_reads_what_persist_wrote_and_reads_it_still_after_a_rotation(
    command: list[str],
    store: AtlasTier,
    environment: dict[str, str],
    groups: Any,
    ferretdb: Any,
    kms: Any,
) -> None:
    item = groups.item(content={"note": NOTE})
    transaction_id = item.envelope.header.transaction_id
    (receipt,) = store_group(groups.group(item), "atlas", store).receipts
    assert receipt.status == "stored"

    sealed = _read(command, environment, transaction_id)
    # Field encryption is open now; inside lies what `send` sealed, which Java can't open.
    assert json.loads(sealed)["ciphertext"] == item.envelope.sealed.ciphertext
    assert NOTE.encode() not in sealed
    with pymongo.MongoClient[dict[str, Any]](ferretdb.uri) as client:
        document = client[DATABASE][TRANSACTIONS].find_one({"_id": transaction_id})
        assert document is not None
        assert sealed not in document["content"]
        content = open_content(record_in(document), sealed, groups.private_keys)
        assert content["note"] == NOTE

        new_arn = kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"]
        with KeyVault(client, aws_credentials()) as vault:
            assert vault.rewrap("Europe", new_arn) >= 1
    assert _read(command, environment, transaction_id) == sealed


def _read(command: list[str], environment: dict[str, str], transaction_id: str) -> bytes:
    done = subprocess.run(
        command,
        env={**environment, "DOCUMENT_ID": transaction_id},
        capture_output=True,
        text=True,
        timeout=JAVA_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return b64decode(done.stdout.strip().splitlines()[-1])
