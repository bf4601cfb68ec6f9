"""TLS 1.3, X25519MLKEM768 and ML-DSA-65 on MongoDB's wire, as OpenSSL 3.5 of a Linux distribution has them.

FIPS 203 (ML-KEM), FIPS 204 (ML-DSA), RFC 9881 (ML-DSA in X.509), RFC 8446 (TLS 1.3).
"""

import json
import time
from typing import Any

import pymongo
import pytest

from lovectl.pki import TransportPki
from lovectl.servers import FerretDbServer

pytestmark = pytest.mark.pqtls

SETTLING_S = 30.0
HYBRID = "X25519MLKEM768"


def test_the_handshake_is_tls_1_3_with_ml_kem_and_an_ml_dsa_certificate(
    trixie: Any, terminator: Any
) -> None:
    seen = trixie.s_client(terminator.port).stdout
    assert "New, TLSv1.3" in seen
    assert f"Negotiated TLS1.3 group: {HYBRID}" in seen
    assert "Peer signature type: mldsa65" in seen
    assert "PKEY: ML-DSA-65, 15616 (bit); sigalg: ML-DSA-65" in seen
    assert "Verification: OK" in seen
    # The server asks for the client's certificate, and by ML-DSA-65 only.
    assert "\nRequested Signature Algorithms: id-ml-dsa-65\n" in seen


def test_the_handler_of_persist_writes_and_reads_over_it(
    trixie: Any, terminator: Any, ferretdb: FerretDbServer
) -> None:
    before = len(terminator.told())
    answer = _handler(trixie, terminator, "client")
    assert answer.get("found") == {"_id": "a", "amount": 7}, answer
    assert answer["openssl"].startswith("OpenSSL 3.5")
    with pymongo.MongoClient(ferretdb.uri) as plain:
        found = plain["love_currency_db"]["post_quantum"].find_one({"_id": "a"})
    assert found == {"_id": "a", "amount": 7}
    # As the server saw it.
    told = _told_beyond(terminator, before)
    expected = {"version": "TLSv1.3", "group": HYBRID, "subject": "/CN=love-client"}
    assert all(each == expected for each in told), told


@pytest.mark.parametrize(
    ("client", "alert"), [(None, "certificate required"), ("foreign", "unknown ca")]
)
def test_without_a_certificate_of_the_ca_the_server_ends_the_handshake(
    trixie: Any, terminator: Any, foreign_pki: TransportPki, client: str | None, alert: str
) -> None:
    before = len(terminator.told())
    refused = trixie.s_client(terminator.port, client=client)
    assert refused.returncode != 0
    assert f"alert {alert}" in refused.stderr
    assert all("refused" in each for each in _told_beyond(terminator, before))


@pytest.mark.parametrize("client", ["-", "foreign"])
def test_the_handler_of_persist_is_refused_without_a_certificate_of_the_ca(
    trixie: Any, terminator: Any, foreign_pki: TransportPki, client: str
) -> None:
    before = len(terminator.told())
    assert "error" in _handler(trixie, terminator, client)
    assert all("refused" in each for each in _told_beyond(terminator, before))


@pytest.mark.parametrize("groups", ["X25519", "P-256", "X25519:P-256:P-384"])
def test_a_client_of_elliptic_curves_alone_is_refused(
    trixie: Any, terminator: Any, groups: str
) -> None:
    refused = trixie.s_client(terminator.port, "-groups", groups)
    assert refused.returncode != 0
    assert "alert handshake failure" in refused.stderr


def test_a_client_of_tls_1_2_is_refused(trixie: Any, terminator: Any) -> None:
    refused = trixie.s_client(terminator.port, "-tls1_2")
    assert refused.returncode != 0
    assert "alert protocol version" in refused.stderr


def test_a_client_that_takes_no_ml_dsa_signature_is_refused(trixie: Any, terminator: Any) -> None:
    refused = trixie.s_client(terminator.port, "-sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256")
    assert refused.returncode != 0
    assert "alert handshake failure" in refused.stderr


def test_a_client_refuses_a_server_of_a_foreign_ca(
    trixie: Any, terminator: Any, foreign_pki: TransportPki
) -> None:
    refused = trixie.s_client(terminator.port, "-CAfile", f"{trixie.inside}/other/ca.pem")
    assert refused.returncode != 0
    assert "certificate verify failed" in refused.stderr


def _handler(trixie: Any, terminator: Any, client: str) -> dict[str, Any]:
    result = trixie.run(
        *("python3", f"{trixie.inside}/client.py", str(terminator.port), trixie.inside, client),
        environment={
            "PYTHONPATH": f"{trixie.inside}/packages",
            "OPENSSL_CONF": f"{trixie.inside}/openssl.cnf",
        },
    )
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def _told_beyond(terminator: Any, before: int) -> list[dict[str, Any]]:
    """What the server has said of new connections, as soon as it has said anything."""
    deadline_s = time.monotonic() + SETTLING_S
    while time.monotonic() < deadline_s:
        told: list[dict[str, Any]] = terminator.told()[before:]
        if told:
            return told
        time.sleep(0.05)
    raise AssertionError("the server said nothing")
