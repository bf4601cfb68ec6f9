"""What is known of a running stack, kept in one file from its start to its end."""

from pathlib import Path
from typing import Final

import msgspec

from lovectl.paths import STACKS, write_private
from lovectl.processes import ProcessIdentity

STATE_FILE: Final = "state.json"


class RunningServer(msgspec.Struct, frozen=True):
    """One server of a stack, and the port it listens on."""

    process: ProcessIdentity
    port: int


class Proxy(msgspec.Struct, frozen=True):
    """A proxy: clients use `listen_port`, the server is at `upstream_port`."""

    listen_port: int
    upstream_port: int


class StackState(msgspec.Struct, frozen=True):
    """Where everything of one stack is.

    Parameters
    ----------
    name : str
    started_at_ms : int
    directory : str
        Data, logs and keys; readable by this user only.
    endpoint_url : str
        Of the local AWS, not through a proxy.
    toxiproxy_port : int
        Of Toxiproxy's HTTP API.
    immudb_password : str
    token_issuer, token_audience, token_key_id, sealing_key_id : str
        As in the secret `love/trust`.
    proxies : mapping of name to Proxy
    servers : mapping of name to RunningServer
    outputs : mapping
        Of template.yaml; empty until it is deployed.
    api_url : str
        Empty until the template is deployed.
    registry_pin : str
        Digest of the first delegate registry.
    """

    name: str
    started_at_ms: int
    directory: str
    endpoint_url: str
    toxiproxy_port: int
    immudb_password: str
    token_issuer: str
    token_audience: str
    token_key_id: str
    sealing_key_id: str
    proxies: dict[str, Proxy] = {}
    servers: dict[str, RunningServer] = {}
    outputs: dict[str, str] = {}
    api_url: str = ""
    registry_pin: str = ""

    def save(self) -> None:
        """Write it into its directory."""
        path = Path(self.directory) / STATE_FILE
        staging = path.with_suffix(".new")
        write_private(staging, msgspec.json.format(msgspec.json.encode(self), indent=2))
        staging.replace(path)

    def all_running(self) -> bool:
        """Whether the template is deployed and each server lives."""
        return bool(self.api_url) and all(
            server.process.is_running() for server in self.servers.values()
        )


def stack_directory(name: str) -> Path:
    """Where the stack of this name keeps everything."""
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise ValueError(f"stack name {name!r} may have only letters, digits and hyphens")
    return STACKS / name


def load_state(name: str) -> StackState | None:
    """The state of the stack of this name, or None if there is none."""
    try:
        text = (stack_directory(name) / STATE_FILE).read_bytes()
    except FileNotFoundError:
        return None
    return msgspec.json.decode(text, type=StackState)
