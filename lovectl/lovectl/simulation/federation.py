"""Seven delegates of a simulation's own, as real processes, each behind a proxy for each side."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lovectl import binaries
from lovectl.delegates import NODES, Delegate, make_delegates
from lovectl.paths import private_directory, write_private
from lovectl.pki import TransportPki
from lovectl.processes import LOOPBACK, accepts_connections, free_ports
from lovectl.server_process import Server
from lovectl.servers import NodeServer, ToxiproxyServer, start_together
from lovectl.toxiproxy import Toxiproxy

#: Where the network splits: whoever collects votes here has proxies of his own.
SIDES: Final = ("east", "west")
ANTI_ENTROPY_INTERVAL_S: Final = 1.0


class Federation:
    """The delegates of one simulation.

    Parameters
    ----------
    directory : Path
        For keys, databases and logs.
    doubles : mapping of delegate id to arguments
        These delegates run `lovectl.simulation.double` instead of the real program.

    Attributes
    ----------
    delegates : mapping of delegate id to Delegate
    pki : TransportPki
    proxies : Toxiproxy
        `east.node-tokyo` and so on.
    """

    def __init__(self, directory: Path, doubles: Mapping[str, Sequence[str]]) -> None:
        self.pki = TransportPki.create(private_directory(directory) / "tls")
        names = [f"{side}.{node}" for side in SIDES for node in NODES]
        ports = free_ports(1 + len(NODES) + len(names))
        made = make_delegates(directory / "nodes", ports[1 : 1 + len(NODES)], self.pki)
        self.delegates = {one.delegate_id: one for one in made}
        for one in made:
            _compare_often(one)
        self._listen = dict(zip(names, ports[1 + len(NODES) :], strict=True))
        self._toxiproxy = ToxiproxyServer(ports[0], directory / "toxiproxy.log")
        self.proxies: Toxiproxy = self._toxiproxy.api
        self._nodes = {
            one.delegate_id: _server(one, directory / "logs", doubles.get(one.delegate_id))
            for one in made
        }

    def start(self) -> None:
        """Start every process, and the proxies.

        Raises
        ------
        ServerFailed
            One didn't start; all are stopped then.
        """
        binaries.build_all(("toxiproxy",))
        start_together([self._toxiproxy, *self._nodes.values()])
        self.proxies.add_all(
            {
                name: (port, self.delegates[_node_of(name)].port)
                for name, port in self._listen.items()
            }
        )

    def stop(self) -> None:
        """Stop every process."""
        for server in (*self._nodes.values(), self._toxiproxy):
            server.stop()

    def addresses(self, side: str) -> dict[str, str]:
        """Where one side reaches each delegate: through its own proxies."""
        return {node: f"{LOOPBACK}:{self._listen[f'{side}.{node}']}" for node in NODES}

    def crash(self, delegate_id: str) -> None:
        """`kill -9`, and a start again with what lies on the disk; returns when it serves."""
        server = self._nodes[delegate_id]
        server.kill()
        server.start()

    def pause(self, delegate_id: str) -> None:
        """Let it hang: its connections stay, nothing is answered (SIGSTOP)."""
        self._nodes[delegate_id].pause()

    def resume(self, delegate_id: str) -> None:
        """Let it go on."""
        self._nodes[delegate_id].resume()

    def restart_all(self) -> None:
        """Stop and start every delegate, with what lies on its disk."""
        for server in self._nodes.values():
            server.stop()
        start_together(list(self._nodes.values()))

    def cut(self, side: str, nodes: Sequence[str], *, hanging: bool) -> None:
        """Let a side not reach these delegates: refused, or swallowed without an answer."""
        for node in nodes:
            name = f"{side}.{node}"
            if hanging:
                self.proxies.toxic(name, "timeout", stream="upstream", timeout=0)
            else:
                self.proxies.down(name)

    def mend(self) -> None:
        """Let everyone reach everyone."""
        self.proxies.reset()


@contextmanager
def federation(directory: Path, doubles: Mapping[str, Sequence[str]]) -> Iterator[Federation]:
    """A running federation for as long as the block lasts."""
    running = Federation(directory, doubles)
    try:
        running.start()
        yield running
    finally:
        running.stop()


def _compare_often(delegate: Delegate) -> None:
    """A simulation doesn't last as long as a full node usually waits to compare with its peers."""
    config = json.loads(delegate.config_file.read_bytes())
    config["anti_entropy_interval_s"] = ANTI_ENTROPY_INTERVAL_S
    write_private(delegate.config_file, json.dumps(config, indent=2))


def _node_of(proxy: str) -> str:
    return proxy.partition(".")[2]


def _server(delegate: Delegate, logs: Path, double: Sequence[str] | None) -> Server:
    log = private_directory(logs) / f"{delegate.delegate_id}.log"
    if double is None:
        return NodeServer(delegate.delegate_id, delegate.config_file, delegate.port, log)
    return Server(
        delegate.delegate_id,
        [
            sys.executable,
            "-m",
            "lovectl.simulation.double",
            "--config",
            str(delegate.config_file),
            *double,
        ],
        log,
        lambda: accepts_connections(delegate.port),
    )
