"""Each store hears nobody who has not proven a certificate of its CA, and our functions no stranger.

The three stores are FerretDB (for Atlas), immuDB and the local AWS' DynamoDB, the latter two behind
their fronts. TLS 1.3 is RFC 8446, where a server refuses a client's certificate by an alert.
"""

import contextlib
import datetime
import json
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from immudb.grpc import schema_pb2, schema_pb2_grpc

from federation.aws_clients import dynamodb_client
from federation.immudb_channel import open_channel
from federation.regions import CONTINENTS
from federation.route_providers import Routes
from federation.routing import Router, RouterSettings
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, free_ports
from lovectl.servers import FerretDbServer, FrontServer, ImmuDbServer, MiniStackServer
from persist.atlas import AtlasSettings, AtlasTier
from persist.dynamodb import DynamodbTier
from persist.immudb_tier import ImmudbTier
from persist.kms_encryption import KmsEncryption
from persist.tier import TierUnavailable, ping

TABLE = "mutual-tls"
TIMEOUT_MS = 2_000
#: What takes effect in time, but not at once, is waited for so long.
SETTLING_S = 30.0
#: A refusal comes by itself, if late on a busy machine; whoever is admitted is met with silence.
REFUSAL_S = 10.0
SILENCE_S = 0.5

#: What a client shows, and the alert that each store's answer must be.
STRANGERS = {
    "none": "CERTIFICATE_REQUIRED",
    "foreign": "UNKNOWN_CA",
    "expired": "CERTIFICATE_EXPIRED",
    "too-early": "CERTIFICATE_EXPIRED",
    "for-servers": "BAD_CERTIFICATE",
}


@dataclass
class Access:
    """What a function is given to reach its store; a test may change it."""

    ca_file: Path
    client_file: Path


@dataclass(frozen=True)
class Door:
    """A store's port as its clients see it, and the tier of `persist` that comes through it."""

    port: int
    protocol: str | None
    tier: Callable[[Access], Any]


@pytest.fixture(scope="module")
def client_files(transport_pki: TransportPki, foreign_pki: TransportPki) -> dict[str, Path | None]:
    """Certificate and key of each kind of client."""
    now = datetime.datetime.now(datetime.UTC)
    hour = datetime.timedelta(hours=1)
    client = ExtendedKeyUsageOID.CLIENT_AUTH
    return {
        "right": transport_pki.client_pem_file,
        "none": None,
        "foreign": foreign_pki.client_pem_file,
        "expired": transport_pki.issue(
            "expired", client, not_before=now - 2 * hour, not_after=now - hour
        ),
        "too-early": transport_pki.issue(
            "too-early", client, not_before=now + hour, not_after=now + 2 * hour
        ),
        "for-servers": transport_pki.both_file("server"),
    }


@pytest.fixture(scope="module")
def atlas(ferretdb: FerretDbServer, key_arns: dict[str, str], tmp_path_factory: Any) -> Door:
    """Tier 1: FerretDB, for a cluster of Atlas."""

    def tier(access: Access) -> AtlasTier:
        settings = AtlasSettings(
            kms_key_arns=msgspec.json.encode(key_arns).decode(),
            persist_timeout_ms=TIMEOUT_MS,
            cold_timeout_ms=3_000,
        )
        router = Router(_Routed(ferretdb.port, access), RouterSettings(mongo_uri_ttl_s=0))
        return AtlasTier(settings, router, tmp_path_factory.mktemp("atlas"))

    return Door(ferretdb.port, None, tier)


@dataclass(frozen=True)
class _Routed:
    """A provider of routes that reads the files anew each time, as one reads a secret."""

    port: int
    access: Access

    def read(self) -> Routes:
        uri = f"mongodb://{LOOPBACK}:{self.port}/?tls=true&directConnection=true"
        return Routes(
            {one.value: uri for one in CONTINENTS},
            self.access.ca_file.read_text(),
            self.access.client_file.read_text(),
        )


@pytest.fixture(scope="module")
def dynamodb_front(ministack: MiniStackServer, server_directory: Path) -> Iterator[FrontServer]:
    """What demands a client certificate before the local AWS' DynamoDB."""
    log = server_directory / "front-dynamodb.log"
    server = FrontServer("front-dynamodb", free_ports(1)[0], ministack.port, ministack.pki, log)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def dynamodb(
    ministack: MiniStackServer, dynamodb_front: FrontServer, key_arns: dict[str, str]
) -> Door:
    """Tier 2: the local AWS behind its front."""
    ministack.client("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def tier(access: Access) -> DynamodbTier:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"https://{dynamodb_front.address}")
            patch.setenv("AWS_CA_BUNDLE", str(access.ca_file))
            patch.setenv("DYNAMODB_CLIENT_CERTIFICATE_FILE", str(access.client_file))
            client = dynamodb_client(TIMEOUT_MS, TIMEOUT_MS)
        return DynamodbTier(client, TABLE, KmsEncryption(key_arns))

    return Door(dynamodb_front.port, "http/1.1", tier)


@pytest.fixture(scope="module")
def immudb_tier(
    immudb_front: FrontServer, immudb_access: dict[str, str], key_arns: dict[str, str]
) -> Door:
    """Tier 3: immuDB behind its front."""

    def tier(access: Access) -> ImmudbTier:
        def secret() -> dict[str, str]:
            return {
                **immudb_access,
                "server_ca_pem": access.ca_file.read_text(),
                "client_pem": access.client_file.read_text(),
            }

        timeout_s = TIMEOUT_MS / 1000
        return ImmudbTier(secret, KmsEncryption(key_arns), timeout_s, timeout_s)

    return Door(immudb_front.port, "h2", tier)


@pytest.fixture(params=["atlas", "dynamodb", "immudb_tier"])
def door(request: pytest.FixtureRequest) -> Door:
    """Each store in turn."""
    found: Door = request.getfixturevalue(request.param)
    return found


@pytest.mark.parametrize(("shown", "alert"), STRANGERS.items())
def test_a_store_refuses_a_stranger_at_the_handshake(
    door: Door,
    transport_pki: TransportPki,
    client_files: dict[str, Path | None],
    shown: str,
    alert: str,
) -> None:
    assert alert in _answer(door, transport_pki, client_files[shown])


def test_a_store_admits_the_right_certificate_over_tls_1_3(
    door: Door, transport_pki: TransportPki, client_files: dict[str, Path | None]
) -> None:
    answer = _answer(door, transport_pki, client_files["right"], wait_s=SILENCE_S)
    assert answer == "TLSv1.3"


def test_a_store_refuses_tls_1_2_though_the_certificate_is_right(
    door: Door, transport_pki: TransportPki, client_files: dict[str, Path | None]
) -> None:
    answer = _answer(door, transport_pki, client_files["right"], ssl.TLSVersion.TLSv1_2)
    assert "PROTOCOL_VERSION" in answer


def test_a_store_answers_nothing_in_clear(door: Door) -> None:
    with socket.create_connection((LOOPBACK, door.port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: store\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    # At most an alert: a TLS record of type 21 (RFC 8446 section 5.1).
    assert answer == b"" or (answer[0], len(answer)) == (21, 7)


def test_our_function_works_with_the_right_certificate(
    door: Door, transport_pki: TransportPki
) -> None:
    tier = door.tier(Access(transport_pki.ca_file, transport_pki.client_pem_file))
    ping(tier)


@pytest.mark.parametrize("shown", ["foreign", "expired"])
def test_a_function_with_another_certificate_finds_its_store_unavailable(
    door: Door, transport_pki: TransportPki, client_files: dict[str, Any], shown: str
) -> None:
    tier = door.tier(Access(transport_pki.ca_file, client_files[shown]))
    with pytest.raises(TierUnavailable):
        ping(tier)


def test_our_function_refuses_a_store_whose_certificate_is_of_a_foreign_ca(
    door: Door, transport_pki: TransportPki, foreign_pki: TransportPki
) -> None:
    tier = door.tier(Access(foreign_pki.ca_file, transport_pki.client_pem_file))
    with pytest.raises(TierUnavailable):
        ping(tier)


def test_a_new_certificate_is_used_without_a_restart(
    door: Door, transport_pki: TransportPki, client_files: dict[str, Any], tmp_path: Path
) -> None:
    held = tmp_path / "client.pem"
    shutil.copy(client_files["expired"], held)
    tier = door.tier(Access(transport_pki.ca_file, held))
    with pytest.raises(TierUnavailable):
        ping(tier)
    shutil.copy(client_files["right"], held)
    _until(lambda: _is_up(tier))


def test_immudb_alone_lets_the_password_in_without_certificate_and_its_front_does_not(
    immudb: ImmuDbServer, immudb_front: FrontServer, immudb_access: dict[str, str]
) -> None:
    credentials = grpc.ssl_channel_credentials(immudb_access["server_ca_pem"].encode())
    # This is why there is a front: `--mtls` checks a certificate only if one is given.
    with grpc.secure_channel(immudb.address, credentials) as channel:
        assert _logged_in(channel, immudb_access)
    with (
        grpc.secure_channel(immudb_front.address, credentials) as channel,
        pytest.raises(grpc.RpcError) as refused,
    ):
        _logged_in(channel, immudb_access)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    with open_channel(immudb_access) as channel:
        assert _logged_in(channel, immudb_access)


def test_a_wrong_password_is_refused_though_the_certificate_is_right(
    immudb_access: dict[str, str],
) -> None:
    with open_channel(immudb_access) as channel, pytest.raises(grpc.RpcError) as refused:
        _logged_in(channel, {**immudb_access, "password": "Wrong-Password-1"})
    assert "invalid user name or password" in str(refused.value.details())


def test_a_front_says_whom_it_refused_and_whom_it_let_in(
    immudb_front: FrontServer, transport_pki: TransportPki, client_files: dict[str, Any]
) -> None:
    door = Door(immudb_front.port, "h2", lambda access: None)
    seen = len(_lines(immudb_front.log))
    _answer(door, transport_pki, client_files["none"])
    _answer(door, transport_pki, client_files["right"], wait_s=SILENCE_S)
    _until(lambda: len(_lines(immudb_front.log)) >= seen + 2)
    refused, admitted = (_lines(immudb_front.log)[seen:])[:2]
    assert refused["msg"] == "refused"
    assert "didn't provide a certificate" in refused["reason"]
    assert refused["remote"].startswith(LOOPBACK)
    assert (admitted["msg"], admitted["subject"]) == ("admitted", "CN=love-client")
    assert (admitted["version"], admitted["protocol"]) == ("TLS 1.3", "h2")


def test_clients_that_say_nothing_keep_nobody_else_waiting(
    immudb_front: FrontServer, immudb_access: dict[str, str]
) -> None:
    with contextlib.ExitStack() as silent:
        for _ in range(50):
            silent.enter_context(socket.create_connection((LOOPBACK, immudb_front.port)))
        with open_channel(immudb_access) as channel:
            assert _logged_in(channel, immudb_access)


def test_a_front_passes_nobody_on_to_a_store_of_a_foreign_ca(
    immudb: ImmuDbServer,
    immudb_access: dict[str, str],
    transport_pki: TransportPki,
    foreign_pki: TransportPki,
    tmp_path: Path,
) -> None:
    log = tmp_path / "front.log"
    port = free_ports(1)[0]
    front = FrontServer("front", port, immudb.port, transport_pki, log, store_pki=foreign_pki)
    front.start()
    try:
        access = {**immudb_access, "address": front.address}
        with open_channel(access) as channel, pytest.raises(grpc.RpcError):
            _logged_in(channel, access)
    finally:
        front.stop()
    lines = [line for line in _lines(log) if line["msg"] == "store unreachable"]
    assert lines
    assert all("unknown authority" in line["reason"] for line in lines)


def test_a_front_takes_over_another_ca_without_a_restart(
    immudb: ImmuDbServer,
    immudb_access: dict[str, str],
    transport_pki: TransportPki,
    foreign_pki: TransportPki,
    tmp_path: Path,
) -> None:
    shutil.copytree(transport_pki.directory, tmp_path / "tls")
    pki = TransportPki(tmp_path / "tls")
    front = FrontServer(
        "front",
        free_ports(1)[0],
        immudb.port,
        pki,
        tmp_path / "front.log",
        store_pki=transport_pki,
    )
    front.start()
    old = {**immudb_access, "address": front.address}
    new = {**old, "client_pem": foreign_pki.client_pem_file.read_text()}
    try:
        with open_channel(old) as channel:
            assert _logged_in(channel, old)
        # In one step: a front never sees half a file.
        (tmp_path / "new.pem").write_bytes(foreign_pki.ca_file.read_bytes())
        (tmp_path / "new.pem").replace(pki.ca_file)
        with open_channel(old) as channel, pytest.raises(grpc.RpcError):
            _logged_in(channel, old)
        with open_channel(new) as channel:
            assert _logged_in(channel, new)
    finally:
        front.stop()


def _answer(
    door: Door,
    pki: TransportPki,
    client_file: Path | None,
    version_max: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    wait_s: float = REFUSAL_S,
) -> str:
    """The TLS version of an admitted client, or the alert it got, such as `UNKNOWN_CA`."""
    context = ssl.create_default_context(cafile=str(pki.ca_file))
    context.maximum_version = version_max
    if door.protocol is not None:
        context.set_alpn_protocols([door.protocol])
    if client_file is not None:
        context.load_cert_chain(client_file)
    with socket.create_connection((LOOPBACK, door.port), timeout=5) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=LOOPBACK) as client:
                assert client.selected_alpn_protocol() == door.protocol
                client.settimeout(wait_s)
                # In TLS 1.3 a client is done before the server has seen its certificate.
                with contextlib.suppress(TimeoutError):
                    client.recv(1)
                return str(client.version())
        except ssl.SSLError as error:
            return str(error.reason)


def _logged_in(channel: grpc.Channel, access: dict[str, str]) -> bool:
    stub = schema_pb2_grpc.ImmuServiceStub(channel)
    request = schema_pb2.OpenSessionRequest(
        username=access["username"].encode(),
        password=access["password"].encode(),
        databaseName=access["database"],
    )
    return bool(stub.OpenSession(request, timeout=5).sessionID)


def _lines(log: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def _is_up(tier: Any) -> bool:
    try:
        ping(tier)
    except TierUnavailable:
        return False
    return True


def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SETTLING_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to hold"
        time.sleep(0.05)
