"""The servers of the local stack, each with how it is started and how a client reaches it."""

import http.client
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from lovectl import binaries
from lovectl.paths import private_directory
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, accepts_connections
from lovectl.server_process import Server

#: MiniStack takes any credentials; these are no secret.
LOCAL_ACCESS_KEY: Final = "test"
LOCAL_SECRET_KEY: Final = "test"  # noqa: S105
LOCAL_REGION: Final = "eu-central-1"
_READ_TIMEOUT_S: Final = 2.0


class FerretDbServer(Server):
    """One MongoDB-compatible server that admits only clients with a certificate of the CA."""

    def __init__(
        self, name: str, directory: Path, port: int, pki: TransportPki, log: Path | None = None
    ) -> None:
        self.port = port
        self.pki = pki
        self.directory = private_directory(directory)
        super().__init__(
            name,
            [
                str(binaries.ferretdb()),
                "-data",
                str(directory),
                "-listen",
                f"{LOOPBACK}:{port}",
                "-tls-cert",
                str(pki.server_certificate_file),
                "-tls-key",
                str(pki.server_key_file),
                "-tls-client-ca",
                str(pki.ca_file),
            ],
            log or directory.with_suffix(".log"),
            partial(accepts_connections, port),
        )

    @property
    def uri(self) -> str:
        """A connection string with the files of CA and client certificate in it."""
        return mongo_uri(self.port, self.pki)


def mongo_uri(port: int, pki: TransportPki) -> str:
    """A PyMongo connection string to this port of loopback, complete with its TLS files."""
    options = {
        "tls": "true",
        "tlsCAFile": str(pki.ca_file),
        "tlsCertificateKeyFile": str(pki.client_pem_file),
        "directConnection": "true",
    }
    return f"mongodb://{LOOPBACK}:{port}/?{urlencode(options)}"


class ImmuDbServer(Server):
    """immuDB with server TLS; user `immudb`.

    With `--mtls` immuDB checks a client's certificate only if one is given, so a client
    without one gets as far as the password: clients are to come through a `FrontServer`.
    """

    username: Final = "immudb"
    database: Final = "defaultdb"

    def __init__(
        self,
        directory: Path,
        port: int,
        pki: TransportPki,
        password: str,
        log: Path | None = None,
        name: str = "immudb",
    ) -> None:
        self.port = port
        self.pki = pki
        self.password = password
        self.address = f"{LOOPBACK}:{port}"
        private_directory(directory)
        super().__init__(
            name,
            [
                str(binaries.immudb()),
                "--dir",
                str(directory),
                "--address",
                LOOPBACK,
                "--port",
                str(port),
                "--mtls",
                "--certificate",
                str(pki.server_certificate_file),
                "--pkey",
                str(pki.server_key_file),
                "--clientcas",
                str(pki.ca_file),
                "--auth",
                # By default 100; a session that was not closed counts for three minutes.
                "--max-sessions=1000",
                # Listeners that nobody needs, on fixed ports.
                "--metrics-server=false",
                "--pgsql-server=false",
                "--web-server=false",
            ],
            log or directory.with_suffix(".log"),
            partial(accepts_connections, port),
            # By the environment, since anybody may read a command line.
            {"IMMUDB_ADMIN_PASSWORD": password},
        )


class FrontServer(Server):
    """Stands before a store that serves TLS: TLS 1.3 and a client certificate, or no connection.

    Parameters
    ----------
    port, store_port : int
        Where clients come to, and where the store is.
    pki : TransportPki
        Of the clients; also of the store, unless that has another.
    hybrid_only : bool
        Refuse the key exchanges that a quantum computer would break.
    """

    def __init__(
        self,
        name: str,
        port: int,
        store_port: int,
        pki: TransportPki,
        log: Path,
        *,
        store_pki: TransportPki | None = None,
        hybrid_only: bool = False,
    ) -> None:
        self.port = port
        self.pki = pki
        self.address = f"{LOOPBACK}:{port}"
        store = store_pki or pki
        super().__init__(
            name,
            [
                str(binaries.front()),
                "-listen",
                self.address,
                "-cert",
                str(pki.server_certificate_file),
                "-key",
                str(pki.server_key_file),
                "-client-ca",
                str(pki.ca_file),
                "-store",
                f"{LOOPBACK}:{store_port}",
                "-store-ca",
                str(store.ca_file),
                "-store-cert",
                str(store.certificate_file("front")),
                "-store-key",
                str(store.key_file("front")),
                *(["-hybrid-only"] if hybrid_only else []),
            ],
            log,
            partial(accepts_connections, port),
        )


class DynamoDbLocalServer(Server):
    """DynamoDB Local, faithful on conditions and transactions."""

    def __init__(self, directory: Path, port: int, log: Path | None = None) -> None:
        self.port = port
        self.endpoint_url = f"http://{LOOPBACK}:{port}"
        private_directory(directory)
        super().__init__(
            "dynamodb-local",
            [*binaries.dynamodb_local(), str(port), str(directory)],
            log or directory.with_suffix(".log"),
            partial(accepts_connections, port),
        )

    def client(self, service: str = "dynamodb", **options: Any) -> Any:
        """A boto3 client of it."""
        return aws_client(service, self.endpoint_url, None, **options)


class MiniStackServer(Server):
    """MiniStack, the local AWS, over TLS.

    Parameters
    ----------
    environment : mapping, optional
        Added to its environment; the handlers it runs inherit all of it.
    """

    def __init__(
        self,
        directory: Path,
        port: int,
        pki: TransportPki,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.port = port
        self.pki = pki
        self.endpoint_url = f"https://{LOOPBACK}:{port}"
        temporary = private_directory(directory / "tmp")
        super().__init__(
            "ministack",
            [sys.executable, "-m", "lovectl.local_aws"],
            log or directory / "ministack.log",
            self._is_healthy,
            {
                "BIND_HOST": LOOPBACK,
                "MINISTACK_HOST": LOOPBACK,
                "GATEWAY_PORT": str(port),
                "USE_SSL": "1",
                "MINISTACK_SSL_CERT": str(pki.server_certificate_file),
                "MINISTACK_SSL_KEY": str(pki.server_key_file),
                "MINISTACK_REGION": LOCAL_REGION,
                "AWS_DEFAULT_REGION": LOCAL_REGION,
                "AWS_ACCESS_KEY_ID": LOCAL_ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": LOCAL_SECRET_KEY,
                "AWS_ENDPOINT_URL": self.endpoint_url,
                "AWS_CA_BUNDLE": str(pki.ca_file),
                "AWS_EC2_METADATA_DISABLED": "true",
                "LAMBDA_EXECUTOR": "local",
                # Policies are enforced: a handler has the rights of its role, and no others.
                "AUTH": "true",
                "PERSIST_STATE": "0",
                # Handlers stay warm for as long as a test session takes.
                "LAMBDA_WARM_TTL_SECONDS": "7200",
                # Its own scratch space, and that of the handlers: goes with the stack.
                "TMPDIR": str(temporary),
                "S3_DATA_DIR": str(directory / "s3"),
                "PYTHONUNBUFFERED": "1",
                **(environment or {}),
            },
            directory,
        )

    def client(self, service: str, **options: Any) -> Any:
        """A boto3 client of one of its services."""
        return aws_client(service, self.endpoint_url, self.pki.ca_file, **options)

    def session_arguments(self) -> dict[str, Any]:
        """Keyword arguments for `boto3.Session`."""
        return session_arguments()

    def _is_healthy(self) -> bool:
        if not accepts_connections(self.port):
            return False
        context = ssl.create_default_context(cafile=str(self.pki.ca_file))
        connection = http.client.HTTPSConnection(
            LOOPBACK, self.port, timeout=_READ_TIMEOUT_S, context=context
        )
        try:
            connection.request("GET", "/_ministack/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class ToxiproxyServer(Server):
    """Toxiproxy; `api` adds proxies and breaks them."""

    def __init__(self, port: int, log: Path) -> None:
        from lovectl.toxiproxy import Toxiproxy

        self.port = port
        self.api = Toxiproxy(port)
        super().__init__(
            "toxiproxy",
            [str(binaries.toxiproxy()), "-host", LOOPBACK, "-port", str(port)],
            log,
            partial(accepts_connections, port),
            {"LOG_LEVEL": "info"},
        )


class IssuerServer(Server):
    """The token issuer's key server; `keys_file` holds what it serves, see `lovectl.issuer`."""

    def __init__(self, keys_file: Path, port: int, pki: TransportPki, log: Path) -> None:
        self.port = port
        self.keys_file = keys_file
        super().__init__(
            "issuer",
            [
                sys.executable,
                "-m",
                "lovectl.issuer",
                "--keys",
                str(keys_file),
                "--port",
                str(port),
                "--certificate",
                str(pki.server_certificate_file),
                "--key",
                str(pki.server_key_file),
            ],
            log,
            partial(accepts_connections, port),
        )


class NodeServer(Server):
    """One delegate, from the package `love_node`.

    Parameters
    ----------
    config_file : Path
        JSON; see nodes/README.md.
    before : sequence of str
        Put before the module on the interpreter's command line: a simulation's wrong clock.
    """

    def __init__(
        self,
        delegate_id: str,
        config_file: Path,
        port: int,
        log: Path,
        before: Sequence[str] = (),
    ) -> None:
        self.port = port
        super().__init__(
            delegate_id,
            [sys.executable, *before, "-m", "love_node", "--config", str(config_file)],
            log,
            partial(accepts_connections, port),
        )


def start_together(servers: list[Server], began: Callable[[Server], None] | None = None) -> None:
    """Launch all, then wait until all serve; if one fails, all of them are stopped."""
    try:
        for server in servers:
            server.launch()
            if began is not None:
                began(server)
        for server in servers:
            server.wait_ready()
    except BaseException:
        for server in servers:
            server.stop()
        raise


def session_arguments() -> dict[str, Any]:
    """Keyword arguments for a `boto3.Session` of the local AWS."""
    return {
        "aws_access_key_id": LOCAL_ACCESS_KEY,
        "aws_secret_access_key": LOCAL_SECRET_KEY,
        "region_name": LOCAL_REGION,
    }


def aws_client(service: str, endpoint_url: str, ca_file: Path | None, **options: Any) -> Any:
    """A boto3 client of an emulator at `endpoint_url`; `config` in `options` is merged."""
    import boto3
    from botocore.config import Config

    # StartSyncExecution would go to sync-127.0.0.1 otherwise.
    config = Config(inject_host_prefix=False, retries={"total_max_attempts": 2})
    if "config" in options:
        config = config.merge(options.pop("config"))
    session: Any = boto3.Session(**session_arguments())  # the service's name is no literal here
    return session.client(
        service,
        endpoint_url=endpoint_url,
        verify=str(ca_file) if ca_file else None,
        config=config,
        **options,
    )
