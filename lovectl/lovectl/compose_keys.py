"""Makes the keys, certificates, secrets and settings that `compose.yaml` mounts.

Every service gets a directory of its own and sees no other. Compose mounts files as they are, and each
image runs as a user of its own: so files can be read by anybody who gets to them, and the directory
that holds all of it by its owner only.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from federation.regions import CONTINENTS
from lovectl.delegates import CONFIG_FILE, NODES, Delegate, genesis, give_registry
from lovectl.errors import StackError
from lovectl.paths import private_directory, write_private
from lovectl.pki import TransportPki, jwks
from lovectl.servers import ImmuDbServer
from lovectl.trust import AUDIT_DATABASE, DELEGATES_SECRET, Trust, delegates_secret, make_password

#: Beside `compose.yaml`, unless LOVE_KEYS names another.
DEFAULT_DIRECTORY: Final = Path(".cache") / "compose"
NODE_PORT: Final = 7400
METRICS_PORT: Final = 9464
IMMUDB_PORT: Final = 3322
#: Where a delegate's container has its settings, and where what it writes.
NODE_SETTINGS: Final = Path("/run/love")
NODE_DATA: Final = Path("/var/lib/love")
#: Members of the replica set; infrastructure/mongod/rs-initiate.js names them.
MONGO_MEMBERS: Final = ("mongo-1", "mongo-2", "mongo-3")
MONGO_DOMAIN: Final = "love.internal"
REPLICA_SET: Final = "love-europe"
MONGO_URI: Final = (
    "mongodb://"
    + ",".join(f"{member}.{MONGO_DOMAIN}" for member in MONGO_MEMBERS)
    + f"/?tls=true&replicaSet={REPLICA_SET}"
    "&authMechanism=MONGODB-X509&authSource=%24external"
)
ORGANISATION: Final = "Love Currency Federation"
TOKEN_ISSUER: Final = "https://issuer.love.example"  # noqa: S105
TOKEN_AUDIENCE: Final = "https://api.love.example"  # noqa: S105
TOKEN_KEY_ID: Final = "compose-1"  # noqa: S105
SEALING_KEY_ID: Final = "sealing-1"
SECRETS_FILE: Final = "secrets.json"
#: Digest of the first delegate registry: the deployment trusts it.
REGISTRY_PIN_FILE: Final = "registry-pin"
#: Keys that no container needs: the two CAs' and the token issuer's.
OFFLINE: Final = "offline"


class KeysExist(StackError):
    """The directory holds keys already, which running stores may depend on."""


def make_keys(directory: Path) -> list[str]:
    """Make everything that `compose.yaml` mounts, below `directory`; gives its services.

    Raises
    ------
    KeysExist
        The directory isn't empty. Keys are never replaced: the stores' volumes belong to them.
    """
    if directory.exists() and any(directory.iterdir()):
        raise KeysExist(f"{directory} is not empty; delete it, and the volumes, to begin anew")
    private_directory(directory)
    directory.chmod(0o700)
    offline = private_directory(directory / OFFLINE)
    pki = TransportPki.create(offline / "tls")
    trust = Trust.create(offline / "federation")
    password = make_password()
    delegates = _nodes(directory, pki)
    _mongo(directory, pki)
    _immudb(directory, pki, password)
    _api(directory, pki, trust, delegates, password)
    grafana = private_directory(directory / "grafana")
    write_private(grafana / "password", make_password())
    services = sorted(each.name for each in directory.iterdir() if each.name != OFFLINE)
    for service in services:
        _open_to_its_container(directory / service)
    return services


def _nodes(directory: Path, pki: TransportPki) -> list[Delegate]:
    """Each delegate's directory: its settings as its container sees them, its keys."""
    delegates = [
        Delegate(delegate_id, city, directory / delegate_id, NODE_PORT)
        for delegate_id, city in NODES.items()
    ]
    registry = genesis(delegates, _address)
    for delegate in delegates:
        name, home = delegate.delegate_id, delegate.directory
        delegate.write_files(pki, delegates)
        give_registry(home, [registry])
        pki.issue(f"{name}-server", ExtendedKeyUsageOID.SERVER_AUTH, hosts=[name])
        for kind, issued in (("server", f"{name}-server"), ("client", name)):
            _copy(pki.certificate_file(issued), home / f"{kind}.pem")
            _copy(pki.key_file(issued), home / f"{kind}-key.pem")
        _copy(pki.ca_file, home / "ca.pem")
        config = json.loads((home / CONFIG_FILE).read_bytes())
        write_private(home / CONFIG_FILE, json.dumps(_inside(config, delegate, pki), indent=2))
    return delegates


def _inside(config: dict[str, Any], delegate: Delegate, pki: TransportPki) -> dict[str, Any]:
    """A delegate's settings with the paths and addresses of its container.

    A path below its directory is a setting if the file is there by now, else what it will write.
    """
    own = {
        str(pki.server_certificate_file): str(NODE_SETTINGS / "server.pem"),
        str(pki.server_key_file): str(NODE_SETTINGS / "server-key.pem"),
        str(pki.certificate_file(delegate.delegate_id)): str(NODE_SETTINGS / "client.pem"),
        str(pki.key_file(delegate.delegate_id)): str(NODE_SETTINGS / "client-key.pem"),
        str(pki.ca_file): str(NODE_SETTINGS / "ca.pem"),
    }

    def moved(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        path = Path(value)
        if path.is_relative_to(delegate.directory):
            base = NODE_SETTINGS if path.exists() else NODE_DATA
            return str(base / path.relative_to(delegate.directory))
        return own.get(value, value)

    return {
        **{name: moved(value) for name, value in config.items()},
        "address": f"0.0.0.0:{NODE_PORT}",
        "http_address": f"0.0.0.0:{METRICS_PORT}",
        "delegates_public": [
            {**each, "address": _address(each["delegate_id"])}
            for each in config["delegates_public"]
        ],
    }


def _mongo(directory: Path, pki: TransportPki) -> None:
    """Each member's certificates (OU=members, so it has every right) and the operator's."""
    both = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)
    revoked = pki.revocation_list()
    for member in MONGO_MEMBERS:
        home = private_directory(directory / member)
        host = f"{member}.{MONGO_DOMAIN}"
        for kind in ("member", "cluster"):
            issued = pki.issue(
                f"{member}-{kind}", *both, hosts=[host], subject=_subject(member, "members")
            )
            _copy(issued, home / f"{kind}.pem")
        _copy(pki.ca_file, home / "ca.pem")
        write_private(home / "crl.pem", revoked)
    home = private_directory(directory / "mongo-operator")
    operator = pki.issue(
        "operator", ExtendedKeyUsageOID.CLIENT_AUTH, subject=_subject("operator", "clients")
    )
    _copy(operator, home / "operator.pem")
    _copy(pki.ca_file, home / "ca.pem")


def _immudb(directory: Path, pki: TransportPki, password: str) -> None:
    """immuDB's password and certificate, and its front's."""
    pki.issue("immudb", ExtendedKeyUsageOID.SERVER_AUTH, hosts=["immudb"])
    for service, names in {"immudb": ("immudb",), "immudb-front": ("immudb", "front")}.items():
        home = private_directory(directory / service)
        for name in names:
            _copy(pki.certificate_file(name), home / f"{name}.pem")
            _copy(pki.key_file(name), home / f"{name}-key.pem")
        _copy(pki.ca_file, home / "ca.pem")
    write_private(directory / "immudb" / "password", password)


def _api(
    directory: Path,
    pki: TransportPki,
    trust: Trust,
    delegates: list[Delegate],
    password: str,
) -> None:
    """The API's certificate, and the five secrets that `template.yaml` names."""
    home = private_directory(directory / "api")
    pki.issue("server", ExtendedKeyUsageOID.SERVER_AUTH, hosts=["api"])
    for name in ("server", "client"):
        for file in (pki.certificate_file(name), pki.key_file(name), pki.both_file(name)):
            _copy(file, home / file.name)
    _copy(pki.ca_file, home / "ca.pem")
    persist = pki.issue(
        "persist", ExtendedKeyUsageOID.CLIENT_AUTH, subject=_subject("persist", "clients")
    ).read_text()
    ca_pem, client_pem = pki.ca_file.read_text(), pki.client_pem_file.read_text()
    registry = genesis(delegates, _address)
    secrets = {
        "love/trust": {
            **trust.certificates(),
            "jwks": jwks(trust.token_key.public_key(), TOKEN_KEY_ID),
            "issuer": TOKEN_ISSUER,
            "audience": TOKEN_AUDIENCE,
            "sealing": trust.public_sealing_key(SEALING_KEY_ID),
        },
        "love/sealing": trust.private_sealing_keys(SEALING_KEY_ID),
        "love/mongo": {
            "uris": dict.fromkeys([each.value for each in CONTINENTS], MONGO_URI),
            "ca_pem": ca_pem,
            "client_pem": persist,
        },
        "love/immudb": {
            "address": f"immudb:{IMMUDB_PORT}",
            "username": ImmuDbServer.username,
            "password": password,
            "database": ImmuDbServer.database,
            "audit_database": AUDIT_DATABASE,
            "server_ca_pem": ca_pem,
            "client_pem": client_pem,
        },
        DELEGATES_SECRET: delegates_secret([registry], pki),
    }
    write_private(home / SECRETS_FILE, json.dumps(secrets))
    write_private(home / REGISTRY_PIN_FILE, registry.digest)


def _address(delegate_id: str) -> str:
    return f"{delegate_id}:{NODE_PORT}"


def _subject(name: str, unit: str) -> x509.Name:
    """As infrastructure/mongod names its members and users, RFC 2253 order reversed."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _copy(source: Path, target: Path) -> None:
    write_private(target, source.read_bytes())


def _open_to_its_container(directory: Path) -> None:
    directory.chmod(0o755)
    for root, directories, files in os.walk(directory):
        for name in directories:
            (Path(root) / name).chmod(0o755)
        for name in files:
            (Path(root) / name).chmod(0o444)
