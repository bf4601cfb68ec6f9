"""A delegate's configuration: one JSON file."""

from base64 import b64decode
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import federation_dag
from love_node.errors import BadConfig
from love_node.kept import PublicKey

Algorithm = Literal["Ed25519", "ML-DSA-65"]
#: For what a delegate stands.
Level = Literal["city", "continent", "global"]
Kind = Literal["light", "full"]


class PublicDelegate(msgspec.Struct, frozen=True):
    """What everybody may know of a delegate; `public_key` is raw, in base64."""

    delegate_id: str
    level: Level
    address: str
    algorithm: Algorithm
    public_key: str


class NodeConfig(msgspec.Struct, frozen=True):
    """Who this delegate is, where it listens, and its files (PEM, but for the database).

    Attributes
    ----------
    http_address : str
        `host:port` of `/metrics` and `/healthz`, in clear: a loopback one. Empty for none.
    clock_tolerance_s : int
        How far this machine's clock may lie behind the last vote.
    drain_s : float
        How long calls in flight may still take once the delegate is told to end.
    registry : str
        Where the delegate registry's chain lies: a file, or `ssm:` and a prefix of parameters. What
        it elects goes before `epoch` and `delegates_public`; empty for none.
    registry_pin : str
        Digest of the registry that the chain has to begin with.
    delegates_public : tuple of PublicDelegate
        All of the epoch: full nodes check votes with their keys, and ask each other.
    store_file : Path, optional
        Full nodes: what they keep; by default `kept.sqlite3` beside the vote locks.
    client_cert_pem_file, client_key_pem_file : Path, optional
        What a full node shows its peers; by default the server's, which must then be fit for it.
    anti_entropy_interval_s, scrub_interval_s : float
        How often a full node compares with each of its peers, and reads all that it keeps.
    peer_timeout_s : float
        For each request to a peer.
    """

    delegate_id: str
    level: Level
    city: str
    epoch: int
    stake: int
    address: str
    algorithm: Algorithm
    private_key_file: Path
    database_file: Path
    server_cert_pem_file: Path
    server_key_pem_file: Path
    client_ca_pem_file: Path
    http_address: str = ""
    clock_tolerance_s: int = 60
    drain_s: float = 3.0
    registry: str = ""
    registry_pin: str = ""
    delegates_public: tuple[PublicDelegate, ...] = ()
    store_file: Path | None = None
    client_cert_pem_file: Path | None = None
    client_key_pem_file: Path | None = None
    anti_entropy_interval_s: float = 30.0
    scrub_interval_s: float = 3_600.0
    peer_timeout_s: float = 5.0

    @property
    def kind(self) -> Kind:
        """City-level delegates are light nodes, continent- and global-level ones full nodes."""
        return "light" if self.level == "city" else "full"

    @property
    def kept_file(self) -> Path:
        """Where a full node keeps whole transactions."""
        return self.store_file or self.database_file.with_name("kept.sqlite3")

    @property
    def peers(self) -> tuple[PublicDelegate, ...]:
        """The other full nodes."""
        return tuple(
            one
            for one in self.delegates_public
            if one.level != "city" and one.delegate_id != self.delegate_id
        )


def electorate_of(delegates: Iterable[PublicDelegate]) -> dict[str, PublicKey]:
    """The delegates' public keys by their ids.

    Raises
    ------
    BadConfig
        Names the delegate whose key is none.
    """
    electorate = {}
    for one in delegates:
        try:
            key = PublicKey(one.algorithm, b64decode(one.public_key, validate=True))
            # Only to see that it is a key: its length is its algorithm's.
            federation_dag.account_id(*key)
        except ValueError as error:
            raise BadConfig(f"delegates_public: {one.delegate_id}: public_key: {error}") from None
        electorate[one.delegate_id] = key
    return electorate


def load_config(path: Path, level: str | None = None) -> NodeConfig:
    """Read and check the file; `level`, if given, goes before the file's.

    Raises
    ------
    BadConfig
        Names every missing setting and every file that can't be read, in one message.
    """
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        raise BadConfig(f"{path}: {error}") from None
    if not isinstance(document, dict):
        raise BadConfig(f"{path}: is not a JSON object")
    if level is not None:
        document["level"] = level
    fields = msgspec.structs.fields(NodeConfig)
    problems = [
        f"{field.name} is missing"
        for field in fields
        if field.required and field.name not in document
    ]
    if not problems:
        try:
            config = msgspec.convert(document, NodeConfig, dec_hook=_path)
        except msgspec.ValidationError as error:
            raise BadConfig(f"{path}: {error}") from None
        problems = [
            f"{name} {file} can't be read"
            for name, file in msgspec.structs.asdict(config).items()
            if name.endswith("_pem_file") or name == "private_key_file"
            if file is not None and not file.is_file()
        ]
        problems += [
            f"{name} must be more than 0"
            for name in ("anti_entropy_interval_s", "scrub_interval_s", "peer_timeout_s")
            if not getattr(config, name) > 0
        ]
        if not problems:
            return config
    raise BadConfig(f"{path}: " + "; ".join(problems))


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


def load_key(config: NodeConfig) -> Any:
    """The delegate's private key, which must be of the configured algorithm."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

    kinds = {"Ed25519": Ed25519PrivateKey, "ML-DSA-65": MLDSA65PrivateKey}
    try:
        key = load_pem_private_key(config.private_key_file.read_bytes(), None)
    except ValueError as error:
        raise BadConfig(f"private_key_file {config.private_key_file}: {error}") from None
    if not isinstance(key, kinds[config.algorithm]):
        raise BadConfig(f"private_key_file {config.private_key_file}: no {config.algorithm} key")
    return key
