"""What is post-quantum on the wire: key exchange X25519MLKEM768 and ML-DSA-65 certificates (FIPS 203, 204).

A handshake with both, on MongoDB's wire protocol, needs an OpenSSL of 3.5 or newer at both ends:
that inside the wheel of `cryptography`, which PyMongo uses by pyOpenSSL. `tests/pqtls` does the same
with the OpenSSL of a Linux distribution.
"""

import json
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pymongo
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, mldsa
from OpenSSL import SSL
from pymongo.errors import ServerSelectionTimeoutError

from federation.aws_clients import dynamodb_client
from federation.immudb_channel import open_channel
from lovectl.delegates import NODES, make_delegates
from lovectl.paths import REPOSITORY
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, accepts_connections, free_ports
from lovectl.server_process import Server
from lovectl.servers import FerretDbServer, FrontServer, ImmuDbServer, MiniStackServer, NodeServer

OPENSSL_CONF = REPOSITORY / "infrastructure" / "mongod" / "openssl.cnf"
TERMINATOR = Path(__file__).with_name("post_quantum_terminator.py")
HYBRID = "X25519MLKEM768"
SELECTION_MS = 3_000
SETTLING_S = 30.0
TIMEOUT_S = 10.0


@pytest.fixture(scope="module")
def quantum_pki(server_directory: Path) -> TransportPki:
    """A CA of ML-DSA-65, and certificates with keys of ML-DSA-65."""
    return TransportPki.create(server_directory / "pq", mldsa.MLDSA65PrivateKey.generate())


@pytest.fixture(scope="module")
def foreign_quantum_pki(server_directory: Path) -> TransportPki:
    """The same of a CA that no server trusts."""
    return TransportPki.create(server_directory / "pq-foreign", mldsa.MLDSA65PrivateKey.generate())


class Terminator(Server):
    """Post-quantum TLS before FerretDB; `told()` gives what it said of each handshake."""

    def __init__(self, port: int, pki: TransportPki, store: FerretDbServer, log: Path) -> None:
        self.port = port
        command = [sys.executable, str(TERMINATOR), "--port", str(port)]
        command += ["--certificate-key-file", str(pki.both_file("server"))]
        command += ["--ca-file", str(pki.ca_file)]
        command += ["--store-socket", str(store.directory / "ferretdb.socket")]
        environment = {"OPENSSL_CONF": str(OPENSSL_CONF)}
        super().__init__("terminator", command, log, lambda: accepts_connections(port), environment)

    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture(scope="module")
def terminator(
    ferretdb: FerretDbServer, quantum_pki: TransportPki, server_directory: Path
) -> Iterator[Terminator]:
    server = Terminator(
        free_ports(1)[0], quantum_pki, ferretdb, server_directory / "terminator.log"
    )
    server.start()
    yield server
    server.stop()


def _mongo(
    port: int, ca_file: Path, client_file: Path | None
) -> pymongo.MongoClient[dict[str, Any]]:
    shown = {} if client_file is None else {"tlsCertificateKeyFile": str(client_file)}
    return pymongo.MongoClient(
        f"mongodb://{LOOPBACK}:{port}/?directConnection=true",
        tls=True,
        tlsCAFile=str(ca_file),
        serverSelectionTimeoutMS=SELECTION_MS,
        **shown,
    )


def test_mongodb_is_spoken_over_tls_1_3_with_ml_kem_and_ml_dsa(
    terminator: Terminator, quantum_pki: TransportPki
) -> None:
    documents = [{"_id": n, "note": "ñ" * 40_000} for n in range(5)]
    with _mongo(terminator.port, quantum_pki.ca_file, quantum_pki.client_pem_file) as client:
        assert client.admin.command("hello")["isWritablePrimary"]
        client["love_currency_db"]["post_quantum"].insert_many(documents)
        assert list(client["love_currency_db"]["post_quantum"].find()) == documents
    # As the server saw it …
    seen = [told for told in terminator.told() if "refused" not in told]
    expected = {"version": "TLSv1.3", "group": HYBRID, "peer_key": "MLDSA65PublicKey"}
    assert seen
    assert all(told == expected for told in seen)
    # … and as a client sees it.
    with _connected(terminator.port, quantum_pki) as connection:
        certificate = connection.get_peer_certificate()
        assert certificate is not None
        x509 = certificate.to_cryptography()
        assert (connection.get_protocol_version_name(), connection.get_group_name()) == (
            "TLSv1.3",
            HYBRID,
        )
        assert isinstance(x509.public_key(), mldsa.MLDSA65PublicKey)
        assert x509.signature_algorithm_oid.dotted_string == "2.16.840.1.101.3.4.3.18"


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("none", "peer did not return a certificate"),
        ("foreign", "certificate verify failed"),
        # The server asks for ML-DSA only, so a client has nothing else to show.
        ("ecdsa", "peer did not return a certificate"),
    ],
)
def test_without_the_right_ml_dsa_certificate_nobody_is_let_in(
    terminator: Terminator,
    quantum_pki: TransportPki,
    foreign_quantum_pki: TransportPki,
    transport_pki: TransportPki,
    shown: str,
    reason: str,
) -> None:
    files = {
        "none": None,
        "foreign": foreign_quantum_pki.client_pem_file,
        "ecdsa": transport_pki.client_pem_file,
    }
    before = len(terminator.told())
    with (
        _mongo(terminator.port, quantum_pki.ca_file, files[shown]) as client,
        pytest.raises(ServerSelectionTimeoutError),
    ):
        client.admin.command("hello")
    told = terminator.told()[before:]
    # A refusal of an earlier client may be told late; an admission there must not be.
    assert all("refused" in each for each in told), told
    assert any(reason in each["refused"] for each in told), told


def test_a_client_that_knows_only_elliptic_curves_is_refused(
    terminator: Terminator, quantum_pki: TransportPki
) -> None:
    with (
        pytest.raises(SSL.Error, match="handshake failure"),
        _connected(terminator.port, quantum_pki, curve=ec.SECP256R1()),
    ):
        pass


def test_a_client_of_tls_1_2_is_refused(terminator: Terminator, quantum_pki: TransportPki) -> None:
    with (
        pytest.raises(SSL.Error, match="protocol version"),
        _connected(terminator.port, quantum_pki, version_max=SSL.TLS1_2_VERSION),
    ):
        pass


def test_a_client_of_the_ml_dsa_ca_refuses_a_server_with_an_ecdsa_certificate(
    ferretdb: FerretDbServer, quantum_pki: TransportPki
) -> None:
    with (
        _mongo(ferretdb.port, quantum_pki.ca_file, quantum_pki.client_pem_file) as client,
        pytest.raises(ServerSelectionTimeoutError, match="certificate verify failed"),
    ):
        client.admin.command("hello")


def test_every_server_of_ours_takes_the_hybrid_key_exchange(
    ferretdb: FerretDbServer,
    immudb: ImmuDbServer,
    immudb_front: FrontServer,
    transport_pki: TransportPki,
    tmp_path: Path,
) -> None:
    delegate = make_delegates(tmp_path / "nodes", free_ports(len(NODES)), transport_pki)[0]
    node = NodeServer("node", delegate.config_file, delegate.port, tmp_path / "node.log")
    node.start()
    try:
        for server in (ferretdb, immudb, immudb_front, node):
            with _connected(server.port, transport_pki, protocol=b"h2") as connection:
                facts = connection.get_protocol_version_name(), connection.get_group_name()
                assert facts == ("TLSv1.3", HYBRID), server.name
    finally:
        node.stop()


def test_functions_reach_immudb_by_the_hybrid_key_exchange_alone(
    immudb: ImmuDbServer, immudb_access: dict[str, str], transport_pki: TransportPki, tmp_path: Path
) -> None:
    log = tmp_path / "front.log"
    front = FrontServer(
        "front", free_ports(1)[0], immudb.port, transport_pki, log, hybrid_only=True
    )
    front.start()
    try:
        with open_channel({**immudb_access, "address": front.address}) as channel:
            grpc.channel_ready_future(channel).result(TIMEOUT_S)
            assert _admitted(log)[0]["group"] == HYBRID
        with (
            pytest.raises(SSL.Error, match="handshake failure"),
            _connected(front.port, transport_pki, curve=ec.SECP256R1(), protocol=b"h2"),
        ):
            pass
    finally:
        front.stop()


def test_functions_reach_dynamodb_by_what_their_interpreter_s_openssl_can(
    ministack: MiniStackServer,
    transport_pki: TransportPki,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    key_arns: dict[str, str],
) -> None:
    log = tmp_path / "front.log"
    front = FrontServer("front", free_ports(1)[0], ministack.port, transport_pki, log)
    front.start()
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"https://{front.address}")
        monkeypatch.setenv("DYNAMODB_CLIENT_CERTIFICATE_FILE", str(transport_pki.client_pem_file))
        dynamodb_client(10_000, 10_000).list_tables()
    finally:
        front.stop()
    assert _admitted(log)[0]["version"] == "TLS 1.3"
    # boto3 and PyMongo's async client use Python's own `ssl`.
    modern = ssl.OPENSSL_VERSION_INFO >= (3, 5)
    assert _admitted(log)[0]["group"] == (HYBRID if modern else "X25519")


def _admitted(log: Path) -> list[dict[str, str]]:
    """What a front has said of those it let in, as soon as it has."""
    deadline_s = time.monotonic() + SETTLING_S
    while time.monotonic() < deadline_s:
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        admitted = [line for line in lines if line["msg"] == "admitted"]
        if admitted:
            return admitted
        time.sleep(0.05)
    raise AssertionError("nobody was admitted")


class _connected:
    """A handshake by pyOpenSSL, and a byte asked for: only then a refusal has come to us."""

    def __init__(
        self,
        port: int,
        pki: TransportPki,
        *,
        curve: ec.EllipticCurve | None = None,
        version_max: int | None = None,
        protocol: bytes | None = None,
    ) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.load_verify_locations(str(pki.ca_file))
        context.set_verify(SSL.VERIFY_PEER, lambda *known: bool(known[-1]))
        context.use_certificate_chain_file(str(pki.client_pem_file))
        context.use_privatekey_file(str(pki.client_pem_file))
        if curve is not None:
            context.set_tmp_ecdh(curve)
        if version_max is not None:
            context.set_max_proto_version(version_max)
        if protocol is not None:
            context.set_alpn_protos([protocol])
        self._socket = socket.create_connection((LOOPBACK, port), timeout=TIMEOUT_S)
        # pyOpenSSL wants to be asked again on a socket with a time limit; one without waits.
        self._socket.settimeout(None)
        self.connection = SSL.Connection(context, self._socket)
        self.connection.set_connect_state()

    def __enter__(self) -> SSL.Connection:
        try:
            self.connection.do_handshake()
        except BaseException:
            self._socket.close()
            raise
        return self.connection

    def __exit__(self, *failure: object) -> None:
        self._socket.close()
