"""FerretDB behind post-quantum TLS that Debian trixie's OpenSSL 3.5 ends, in a chroot on loopback.

`make test-pqtls` makes the chroot. Nothing is mounted in it; what its programs need is copied in.
"""

import importlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import mldsa

from lovectl.paths import REPOSITORY, private_directory
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, accepts_connections, free_ports
from lovectl.server_process import Server
from lovectl.servers import FerretDbServer

OPENSSL_CONF = REPOSITORY / "infrastructure" / "mongod" / "openssl.cnf"
RUN_TIMEOUT_S = 60
#: MongoDB's driver, and what the handler of `persist` imports, by their names.
PACKAGES = (
    *("bson", "dns", "gridfs", "pymongo"),
    *("federation", "aws_lambda_powertools", "jmespath", "typing_extensions"),
    *("botocore", "dateutil", "six", "urllib3"),
)

HAPROXY = """
global
    log stdout format raw daemon
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend post_quantum
    bind 127.0.0.1:{port} ssl ssl-min-ver TLSv1.3 crt {here}/server-both.pem ca-file {here}/ca.pem verify required
    log global
    log-format '{{"version":"%[ssl_fc_protocol]","group":"%[ssl_fc_curve]","subject":"%[ssl_c_s_dn]"}}'
    error-log-format '{{"refused":"%[ssl_fc_err_str]"}}'
    default_backend store
backend store
    server ferretdb 127.0.0.1:{store_port} ssl sigalgs ECDSA+SHA256 verify required ca-file {here}/store/ca.pem \
verifyhost localhost crt {here}/store/front-both.pem
"""


class Trixie:
    """The chroot, with a directory of this test run's in it.

    Attributes
    ----------
    inside : str
        That directory as programs in the chroot see it.
    outside : Path
        The same directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside = "/love"
        self.outside = root / "love"

    def command(self, *arguments: str) -> list[str]:
        return ["chroot", str(self.root), *arguments]

    def run(
        self, *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **(environment or {})},
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            check=False,
        )

    def s_client(
        self, port: int, *options: str, client: str | None = "client"
    ) -> subprocess.CompletedProcess[str]:
        """`openssl s_client` with this client's certificate; ends when the server ends, or at once."""
        shown: Sequence[str] = ()
        if client is not None:
            shown = (
                "-cert",
                f"{self.inside}/{client}.pem",
                "-key",
                f"{self.inside}/{client}-key.pem",
            )
        return self.run(
            *("openssl", "s_client", "-connect", f"{LOOPBACK}:{port}"),
            *("-CAfile", f"{self.inside}/ca.pem", "-verify_return_error"),
            *("-verify_ip", LOOPBACK, "-ign_eof", *shown, *options),
            # Not MongoDB's protocol: a server that let us in ends the connection now.
            stdin="\0" * 16,
        )


@pytest.fixture(scope="session")
def trixie() -> Iterator[Trixie]:
    """Debian trixie, with the driver, the handler of `persist` and this run's keys in it."""
    root = os.environ.get("LOVE_TRIXIE")
    if root is None:
        pytest.fail("these tests are run by `make test-pqtls`")
    made = Trixie(Path(root))
    shutil.rmtree(made.outside, ignore_errors=True)
    private_directory(made.outside)
    try:
        _fill(made)
        yield made
    finally:
        shutil.rmtree(made.outside)


def _fill(trixie: Trixie) -> None:
    packages = trixie.outside / "packages"
    # Their compiled parts are for another Python, and none needs them; nobody calls AWS from here.
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "data")
    for name in PACKAGES:
        source = Path(str(importlib.import_module(name).__file__))
        if source.name == "__init__.py":
            shutil.copytree(source.parent, packages / name, ignore=ignored)
        else:
            shutil.copy(source, packages / source.name)
    shutil.copytree(REPOSITORY / "functions" / "persist", packages / "persist", ignore=ignored)
    shutil.copy(Path(__file__).with_name("client.py"), trixie.outside / "client.py")
    shutil.copy(OPENSSL_CONF, trixie.outside / "openssl.cnf")


@pytest.fixture(scope="session")
def quantum_pki(trixie: Trixie) -> TransportPki:
    """A CA of ML-DSA-65 with its certificates, in the chroot's directory."""
    return TransportPki.create(trixie.outside, mldsa.MLDSA65PrivateKey.generate())


@pytest.fixture(scope="session")
def foreign_pki(trixie: Trixie, quantum_pki: TransportPki) -> TransportPki:
    """The same of another CA; its client is there as `foreign`."""
    made = TransportPki.create(trixie.outside / "other", mldsa.MLDSA65PrivateKey.generate())
    for ending in (".pem", "-key.pem", "-both.pem"):
        shutil.copy(made.directory / f"client{ending}", trixie.outside / f"foreign{ending}")
    return made


@pytest.fixture(scope="session")
def store_pki(tmp_path_factory: pytest.TempPathFactory, trixie: Trixie) -> TransportPki:
    """The store's own CA, of elliptic curves as Go's TLS knows them."""
    return TransportPki.create(trixie.outside / "store")


@pytest.fixture(scope="session")
def ferretdb(
    tmp_path_factory: pytest.TempPathFactory, store_pki: TransportPki
) -> Iterator[FerretDbServer]:
    """The MongoDB-compatible store."""
    directory = private_directory(tmp_path_factory.mktemp("pqtls") / "ferretdb")
    server = FerretDbServer("ferretdb", directory, free_ports(1)[0], store_pki)
    server.start()
    yield server
    server.stop()


class Haproxy(Server):
    """Ends post-quantum TLS before the store.

    `openssl.cnf` decides which groups and signatures it takes from clients; HAProxy insists on a
    minimum version of its own, and the store, which is Go, has a certificate of ECDSA.
    """

    def __init__(self, trixie: Trixie, port: int, store_port: int, log: Path) -> None:
        self.port = port
        configuration = HAPROXY.format(port=port, store_port=store_port, here=trixie.inside)
        (trixie.outside / "haproxy.cfg").write_text(configuration)
        super().__init__(
            "haproxy",
            trixie.command("haproxy", "-db", "-f", f"{trixie.inside}/haproxy.cfg"),
            log,
            lambda: accepts_connections(port),
            {"OPENSSL_CONF": f"{trixie.inside}/openssl.cnf"},
        )

    def told(self) -> list[dict[str, Any]]:
        """What it said of each connection that has ended."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]


@pytest.fixture(scope="session")
def terminator(
    trixie: Trixie,
    quantum_pki: TransportPki,
    ferretdb: FerretDbServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Haproxy]:
    """HAProxy in the chroot, before FerretDB."""
    log = tmp_path_factory.mktemp("haproxy") / "haproxy.log"
    server = Haproxy(trixie, free_ports(1)[0], ferretdb.port, log)
    server.start()
    yield server
    server.stop()
