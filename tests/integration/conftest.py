"""Real servers for the integration tests, each started once a session on free ports of loopback.

`ferretdb`, `immudb`, `immudb_front`, `dynamodb_local`, `ministack`: each is a `lovectl.server_process.Server`, which a
test may `kill()`, `pause()`, `resume()` and `restart()` on the same port and data; a test that
breaks one mends it. `toxiproxy` adds proxies by `.api.add(name, listen_port, upstream_port)`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from federation.regions import CONTINENTS
from lovectl.paths import private_directory
from lovectl.pki import TransportPki
from lovectl.processes import free_ports
from lovectl.servers import (
    LOCAL_REGION,
    DynamoDbLocalServer,
    FerretDbServer,
    FrontServer,
    ImmuDbServer,
    MiniStackServer,
    ToxiproxyServer,
    session_arguments,
)

IMMUDB_PASSWORD = "Correct-Horse-1"
#: As reconcile waits for a cluster.
RECONCILE_TIMEOUT_MS = 3_000


@pytest.fixture(scope="session")
def server_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the servers keep data and logs."""
    return private_directory(tmp_path_factory.mktemp("servers"))


@pytest.fixture(scope="session")
def transport_pki(server_directory: Path) -> TransportPki:
    """The CA, server and client certificates of every connection (PEM files)."""
    return TransportPki.create(server_directory / "tls")


@pytest.fixture(scope="session")
def foreign_pki(server_directory: Path) -> TransportPki:
    """Certificates of a CA that no server trusts."""
    return TransportPki.create(server_directory / "foreign-tls")


@pytest.fixture(scope="session")
def ferretdb(server_directory: Path, transport_pki: TransportPki) -> Iterator[FerretDbServer]:
    """One MongoDB-compatible server; `.uri` has the TLS files in it, `.port` its port."""
    server = FerretDbServer(
        "ferretdb", server_directory / "ferretdb", free_ports(1)[0], transport_pki
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def immudb(server_directory: Path, transport_pki: TransportPki) -> Iterator[ImmuDbServer]:
    """immuDB over TLS; `.username`, `.password`, `.database`; clients come by `immudb_front`."""
    server = ImmuDbServer(
        server_directory / "immudb", free_ports(1)[0], transport_pki, IMMUDB_PASSWORD
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def immudb_front(server_directory: Path, immudb: ImmuDbServer) -> Iterator[FrontServer]:
    """What demands a client certificate before immuDB; `.address`, `.port`."""
    server = FrontServer(
        "front-immudb",
        free_ports(1)[0],
        immudb.port,
        immudb.pki,
        server_directory / "front-immudb.log",
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def immudb_access(immudb: ImmuDbServer, immudb_front: FrontServer) -> dict[str, str]:
    """What the secret `love/immudb` holds."""
    return {
        "address": immudb_front.address,
        "username": immudb.username,
        "password": immudb.password,
        "database": immudb.database,
        "server_ca_pem": immudb.pki.ca_file.read_text(),
        "client_pem": immudb.pki.client_pem_file.read_text(),
    }


@pytest.fixture(scope="session")
def dynamodb_local(server_directory: Path) -> Iterator[DynamoDbLocalServer]:
    """DynamoDB Local; `.client()` and `.endpoint_url`."""
    server = DynamoDbLocalServer(server_directory / "dynamodb-local", free_ports(1)[0])
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def ministack(server_directory: Path, transport_pki: TransportPki) -> Iterator[MiniStackServer]:
    """The local AWS over TLS; `.client("kms")`, `.endpoint_url`, `.pki.ca_file` its CA."""
    directory = private_directory(server_directory / "ministack")
    server = MiniStackServer(directory, free_ports(1)[0], transport_pki)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def kms(ministack: MiniStackServer) -> Iterator[Any]:
    """A client of the local KMS; code under test reaches it as a function would, by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", ministack.endpoint_url)
        patch.setenv("AWS_CA_BUNDLE", str(ministack.pki.ca_file))
        patch.setenv("AWS_ACCESS_KEY_ID", session_arguments()["aws_access_key_id"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", session_arguments()["aws_secret_access_key"])
        patch.setenv("AWS_DEFAULT_REGION", LOCAL_REGION)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield ministack.client("kms")


@pytest.fixture(scope="module")
def key_arns(kms: Any) -> dict[str, str]:
    """Each continent's KMS key on the local AWS."""
    return {one.value: kms.create_key()["KeyMetadata"]["Arn"] for one in CONTINENTS}


@pytest.fixture(scope="session")
def toxiproxy(server_directory: Path) -> Iterator[ToxiproxyServer]:
    """The faulty network; add a proxy by `proxied`, or by `.api.add`."""
    server = ToxiproxyServer(free_ports(1)[0], server_directory / "toxiproxy.log")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def proxied(toxiproxy: ToxiproxyServer) -> Iterator[Callable[[str, int], int]]:
    """`proxied("mongo", server.port)` gives the port of a new proxy in front; well again after."""
    added: list[str] = []

    def add(name: str, upstream_port: int) -> int:
        port = free_ports(1)[0]
        toxiproxy.api.add(name, port, upstream_port)
        added.append(name)
        return port

    yield add
    for name in added:
        toxiproxy.api.remove(name)


@pytest.fixture(scope="module")
def patient_atlas(
    ferretdb: Any, key_arns: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The Atlas tier on one FerretDB for all continents, as `reconcile` waits for it."""
    import msgspec
    from one_cluster import router_to

    from persist.atlas import AtlasSettings, AtlasTier

    router = router_to(
        ferretdb.port, ferretdb.pki.ca_file.read_text(), ferretdb.pki.client_pem_file.read_text()
    )
    settings = AtlasSettings(
        kms_key_arns=msgspec.json.encode(key_arns).decode(),
        persist_timeout_ms=RECONCILE_TIMEOUT_MS,
    )
    return AtlasTier(settings, router, tmp_path_factory.mktemp("atlas"))
