"""Each server of the local stack starts, refuses strangers where it should, and stops."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import grpc
import pymongo
import pytest
from botocore.exceptions import ClientError
from immudb.client import ImmudbClient
from pymongo.errors import PyMongoError

from lovectl.errors import ServerFailed
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, accepts_connections, free_ports
from lovectl.server_process import Server
from lovectl.servers import (
    DynamoDbLocalServer,
    FerretDbServer,
    ImmuDbServer,
    MiniStackServer,
    ToxiproxyServer,
    mongo_uri,
)

SELECTION_MS = 2000


def test_a_client_with_the_federation_s_certificate_reads_what_it_wrote(
    ferretdb: FerretDbServer,
) -> None:
    with pymongo.MongoClient(ferretdb.uri, serverSelectionTimeoutMS=SELECTION_MS) as client:
        client["love_currency_db"]["probe"].insert_one({"_id": "a", "amount": 3})
        assert client["love_currency_db"]["probe"].find_one({"_id": "a"})["amount"] == 3


def test_mongo_refuses_a_client_without_certificate(ferretdb: FerretDbServer) -> None:
    with (
        pymongo.MongoClient(
            f"mongodb://{LOOPBACK}:{ferretdb.port}/",
            tls=True,
            tlsCAFile=str(ferretdb.pki.ca_file),
            serverSelectionTimeoutMS=SELECTION_MS,
        ) as client,
        pytest.raises(PyMongoError),
    ):
        client.admin.command("ping")


def test_mongo_refuses_a_client_of_a_foreign_ca(
    ferretdb: FerretDbServer, foreign_pki: TransportPki
) -> None:
    with (
        pymongo.MongoClient(
            f"mongodb://{LOOPBACK}:{ferretdb.port}/",
            tls=True,
            tlsCAFile=str(ferretdb.pki.ca_file),
            tlsCertificateKeyFile=str(foreign_pki.client_pem_file),
            serverSelectionTimeoutMS=SELECTION_MS,
        ) as client,
        pytest.raises(PyMongoError),
    ):
        client.admin.command("ping")


def test_mongo_refuses_a_clear_connection(ferretdb: FerretDbServer) -> None:
    with (
        pymongo.MongoClient(
            f"mongodb://{LOOPBACK}:{ferretdb.port}/", serverSelectionTimeoutMS=SELECTION_MS
        ) as client,
        pytest.raises(PyMongoError),
    ):
        client.admin.command("ping")


def test_an_acknowledged_document_survives_a_kill_of_mongo(ferretdb: FerretDbServer) -> None:
    with pymongo.MongoClient(ferretdb.uri, serverSelectionTimeoutMS=SELECTION_MS) as client:
        client["love_currency_db"]["probe"].insert_one({"_id": "kept"})
    ferretdb.kill()
    assert not accepts_connections(ferretdb.port)
    ferretdb.start()
    with pymongo.MongoClient(ferretdb.uri, serverSelectionTimeoutMS=SELECTION_MS) as client:
        assert client["love_currency_db"]["probe"].find_one({"_id": "kept"}) is not None


def test_immudb_serves_over_tls_and_keeps_a_value_over_a_kill(immudb: ImmuDbServer) -> None:
    client = _immudb_client(immudb, immudb.pki)
    client.login(immudb.username, immudb.password)
    client.verifiedSet(b"transaction:1", b"stored")
    immudb.kill()
    immudb.start()
    client = _immudb_client(immudb, immudb.pki)
    client.login(immudb.username, immudb.password)
    assert client.verifiedGet(b"transaction:1").value == b"stored"


def test_immudb_refuses_a_wrong_password(immudb: ImmuDbServer) -> None:
    client = _immudb_client(immudb, immudb.pki)
    with pytest.raises(grpc.RpcError):
        client.login(immudb.username, "Wrong-Password-1")


def test_immudb_refuses_a_client_of_a_foreign_ca(
    immudb: ImmuDbServer, foreign_pki: TransportPki
) -> None:
    client = _immudb_client(immudb, foreign_pki)
    with pytest.raises(grpc.RpcError):
        client.login(immudb.username, immudb.password)


def test_dynamodb_local_keeps_a_condition(dynamodb_local: DynamoDbLocalServer) -> None:
    client = dynamodb_local.client()
    client.create_table(
        TableName="probe",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    once = {
        "TableName": "probe",
        "Item": {"pk": {"S": "a"}},
        "ConditionExpression": "attribute_not_exists(pk)",
    }
    client.put_item(**once)
    with pytest.raises(ClientError, match="ConditionalCheckFailed"):
        client.put_item(**once)


def test_ministack_serves_over_tls_of_our_ca_only(
    ministack: MiniStackServer, foreign_pki: TransportPki
) -> None:
    assert ministack.client("sts").get_caller_identity()["Account"]
    with (
        socket.create_connection((LOOPBACK, ministack.port), timeout=5) as connection,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context(cafile=str(foreign_pki.ca_file)).wrap_socket(
            connection, server_hostname=LOOPBACK
        )


@pytest.mark.parametrize("name", ["ferretdb", "immudb", "dynamodb_local", "ministack", "toxiproxy"])
def test_a_server_listens_on_loopback_only(name: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue(name)
    listening = _listening_addresses(server.port)
    assert listening
    assert all(address.startswith("127.") for address in listening)


def test_a_store_behind_a_proxy_goes_down_and_comes_back(
    ferretdb: FerretDbServer,
    toxiproxy: ToxiproxyServer,
    proxied: Callable[[str, int], int],
) -> None:
    port = proxied("mongo-probe", ferretdb.port)
    with pymongo.MongoClient(
        mongo_uri(port, ferretdb.pki), serverSelectionTimeoutMS=300, timeoutMS=600
    ) as client:
        assert client.admin.command("ping")["ok"]
        toxiproxy.api.down("mongo-probe")
        with pytest.raises(PyMongoError):
            client.admin.command("ping")
        toxiproxy.api.up("mongo-probe")
        assert client.admin.command("ping")["ok"]
        toxiproxy.api.toxic("mongo-probe", "timeout", timeout=0)
        with pytest.raises(PyMongoError):
            client.admin.command("ping")
        toxiproxy.api.reset()
        assert client.admin.command("ping")["ok"]


def test_a_server_that_ends_at_start_is_told_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "broken.log"
    server = Server("broken", ["/bin/sh", "-c", "echo no disk >&2; exit 3"], log, lambda: False)
    with pytest.raises(ServerFailed, match=r"(?s)broken ended.*no disk"):
        server.start()


def test_a_server_that_does_not_serve_in_time_is_stopped(tmp_path: Path) -> None:
    server = Server("mute", ["/bin/sleep", "60"], tmp_path / "mute.log", lambda: False)
    server.launch()
    identity = server.identity
    with pytest.raises(ServerFailed, match="was not ready"):
        server.wait_ready(timeout_s=0.2)
    assert identity is not None
    assert not identity.is_running()


def test_stopping_a_server_frees_its_port(tmp_path: Path, transport_pki: TransportPki) -> None:
    port = free_ports(1)[0]
    server = FerretDbServer("short", tmp_path / "short", port, transport_pki)
    server.start()
    assert accepts_connections(port)
    server.stop()
    assert not accepts_connections(port)
    assert not server.is_running()


def _immudb_client(server: ImmuDbServer, pki: TransportPki) -> ImmudbClient:
    """immudb-py opens only a clear channel; give it a secure one."""
    credentials = grpc.ssl_channel_credentials(
        server.pki.ca_file.read_bytes(),
        pki.client_key_file.read_bytes(),
        pki.client_certificate_file.read_bytes(),
    )
    client = ImmudbClient(server.address)
    client.channel.close()
    client.channel = grpc.secure_channel(server.address, credentials)
    client._stub = _stub(client.channel)
    return client


def _stub(channel: grpc.Channel) -> object:
    from immudb.grpc.schema_pb2_grpc import ImmuServiceStub

    return ImmuServiceStub(channel)


def _listening_addresses(port: int) -> list[str]:
    """Local addresses in LISTEN state on this port, from /proc/net/tcp and tcp6 (proc(5))."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            address, hex_port = fields[1].split(":")
            if fields[3] == "0A" and int(hex_port, 16) == port:
                last = bytes.fromhex(address[-8:])[::-1]
                found.append(".".join(str(byte) for byte in last))
    return found
