"""The seven delegates of the local stack: who they are, and the files each one starts from."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID

from federation.registry import LEVELS as LEVEL_NAMES
from federation.registry import NO_PREVIOUS, Candidate, Registry
from federation.registry_source import write_file
from lovectl.paths import private_directory, write_private
from lovectl.pki import TransportPki, private_pem
from lovectl.processes import LOOPBACK

EPOCH: Final = 1
#: Delegate id (and name of its proxy) to city.
LIGHT_NODES: Final = {
    "node-tokyo": "Tokyo",
    "node-frankfurt": "Frankfurt am Main",
    "node-nairobi": "Nairobi",
    "node-santiago": "Santiago",
}
#: Delegates that also keep whole batches, and may read what is sealed: two continents', one global.
FULL_NODES: Final = {
    "node-asia": "Singapore",
    "node-europe": "London",
    "node-global": "Ashburn",
}
NODES: Final = {**LIGHT_NODES, **FULL_NODES}
LEVELS: Final = {
    **dict.fromkeys(LIGHT_NODES, "city"),
    **dict.fromkeys(FULL_NODES, "continent"),
    "node-global": "global",
}
#: Of 15 million 10 are needed for two thirds: all light nodes have them, three need a full one beside.
STAKES: Final = {
    **dict.fromkeys(LIGHT_NODES, 3_000_000),
    **dict.fromkeys(FULL_NODES, 1_000_000),
}
ALGORITHM: Final = "Ed25519"
#: Below a stack's directory.
NODES_DIRECTORY: Final = "nodes"
CONFIG_FILE: Final = "config.json"
#: The registry's chain, beside it.
REGISTRY_FILE: Final = "registry.json"


class Delegate:
    """One delegate with a new key, its files in `directory`, listening on `port`."""

    def __init__(self, delegate_id: str, city: str, directory: Path, port: int) -> None:
        self.delegate_id = delegate_id
        self.city = city
        self.level = LEVELS[delegate_id]
        self.stake = STAKES[delegate_id]
        self.port = port
        self.directory = private_directory(directory)
        self.config_file = directory / CONFIG_FILE
        self._key = Ed25519PrivateKey.generate()

    def write_files(self, pki: TransportPki, everyone: "list[Delegate]") -> None:
        """Write the key and the configuration that `python -m love_node` reads."""
        key_file = write_private(self.directory / "key.pem", private_pem(self._key))
        pki.issue(self.delegate_id, ExtendedKeyUsageOID.CLIENT_AUTH)
        config = {
            "delegate_id": self.delegate_id,
            "level": self.level,
            "city": self.city,
            "epoch": EPOCH,
            "stake": self.stake,
            "address": f"{LOOPBACK}:{self.port}",
            "algorithm": ALGORITHM,
            "private_key_file": str(key_file),
            "database_file": str(self.directory / "votes.sqlite3"),
            "server_cert_pem_file": str(pki.server_certificate_file),
            "server_key_pem_file": str(pki.server_key_file),
            "client_ca_pem_file": str(pki.ca_file),
            "client_cert_pem_file": str(pki.certificate_file(self.delegate_id)),
            "client_key_pem_file": str(pki.key_file(self.delegate_id)),
            "delegates_public": [each.public(f"{LOOPBACK}:{each.port}") for each in everyone],
        }
        write_private(self.config_file, json.dumps(config, indent=2))

    def public(self, address: str) -> dict[str, Any]:
        """What others may know of it; `address` is where they reach it."""
        raw = self._key.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        return {
            "delegate_id": self.delegate_id,
            "level": self.level,
            "city": self.city,
            "address": address,
            "algorithm": ALGORITHM,
            "public_key": b64encode(raw).decode(),
            "stake": self.stake,
        }


def make_delegates(directory: Path, ports: list[int], pki: TransportPki) -> list[Delegate]:
    """All delegates with their files written."""
    delegates = [
        Delegate(delegate_id, city, directory / delegate_id, port)
        for (delegate_id, city), port in zip(NODES.items(), ports, strict=True)
    ]
    for delegate in delegates:
        delegate.write_files(pki, delegates)
    return delegates


def give_registry(directory: Path, registries: Sequence[Registry]) -> None:
    """Let the delegate that keeps its files in `directory` start from this chain, oldest first."""
    file = directory / REGISTRY_FILE
    write_file(file, registries)
    config_file = directory / CONFIG_FILE
    pinned = {"registry": str(file), "registry_pin": registries[0].digest}
    config = {**json.loads(config_file.read_bytes()), **pinned}
    write_private(config_file, json.dumps(config, indent=2))


def genesis(delegates: list[Delegate], address_of: Callable[[str], str]) -> Registry:
    """The stack's first registry: each of its delegates has a seat.

    Parameters
    ----------
    address_of : callable
        By delegate id, where the functions reach it.
    """
    candidates = [
        msgspec.convert(one.public(address_of(one.delegate_id)), Candidate) for one in delegates
    ]
    seats = Counter(one.level for one in candidates)
    return Registry(EPOCH, NO_PREVIOUS, {level: seats[level] for level in LEVEL_NAMES}, candidates)
