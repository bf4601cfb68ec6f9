"""A delegate's configuration: one JSON file."""

from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from love_node.errors import BadConfig

Algorithm = Literal["Ed25519", "ML-DSA-65"]
#: For what a delegate stands.
Level = Literal["city", "continent", "global"]
Kind = Literal["light", "full"]


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

    @property
    def kind(self) -> Kind:
        """City-level delegates are light nodes, continent- and global-level ones full nodes."""
        return "light" if self.level == "city" else "full"


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
            if not file.is_file()
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
