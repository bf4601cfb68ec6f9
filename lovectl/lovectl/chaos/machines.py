"""The processes of a running stack: paused, killed, restarted, short of disk, with a wrong clock."""

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from lovectl.access import Access
from lovectl.delegates import CONFIG_FILE, NODES, NODES_DIRECTORY
from lovectl.deploy import STACK_NAME
from lovectl.errors import ServerFailed
from lovectl.pki import TransportPki
from lovectl.processes import ProcessIdentity, group_members, stop
from lovectl.server_process import Server
from lovectl.servers import FerretDbServer, ImmuDbServer, NodeServer
from lovectl.state import RunningServer, StackState, load_state
from lovectl.warm import functions_of

#: A full disk: no file can grow beyond this, nor be written behind it.
FULL_AT_BYTES: Final = 4_096
#: Long enough for a server that refuses damaged data to say so.
START_TIMEOUT_S: Final = 20.0


class Machines:
    """The servers of one stack, each known by its name.

    Parameters
    ----------
    access : Access
    """

    def __init__(self, access: Access) -> None:
        self._access = access
        self._directory = access.directory
        self._pki = TransportPki(access.directory / "tls")
        self._lock = threading.Lock()
        #: Held so that what ended can be waited for.
        self._started: dict[str, Server] = {}
        self._needles: dict[str, list[bytes]] = {}
        self.restarts = 0

    def functions(self) -> dict[str, str]:
        """Logical id and name of each deployed function."""
        return dict(functions_of(self._access.aws("cloudformation"), STACK_NAME))

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to this very server; `ProcessLookupError` if it is gone."""
        if not self._identity(name).send(number):
            raise ProcessLookupError(name)

    def kill(self, name: str) -> None:
        """End it as a power cut would."""
        self.signal(name, signal.SIGKILL)
        stop(self._identity(name))

    def stop(self, name: str) -> None:
        """End it in good order, so that its files are whole."""
        stop(self._identity(name))

    def start(self, name: str, *, must_serve: bool = True, skew_ms: int = 0) -> None:
        """Start it again with the same data, on the same port.

        Parameters
        ----------
        must_serve : bool
            If not, a server that refuses to start is left as it is: that is an answer too.
        skew_ms : int
            How far a delegate's clock is ahead.
        """
        server = self._server(name, skew_ms)
        server.launch()
        assert server.identity is not None
        self._note(name, server)
        try:
            server.wait_ready(START_TIMEOUT_S)
        except ServerFailed:
            if must_serve:
                raise

    @contextmanager
    def disk_full(self, name: str) -> Iterator[None]:
        """Every write behind the first page of a file fails inside the block (EFBIG)."""
        if name not in NODES:
            # The kernel would end a Go process by SIGXFSZ; where that is blocked, write(2) fails
            # as it does on a full disk. A mask is inherited; Python ignores the signal anyway.
            self.stop(name)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGXFSZ})
            try:
                self.start(name)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGXFSZ})
        pid = self._identity(name).pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_AT_BYTES, hard))
        try:
            yield
        finally:
            if self._identity(name).is_running():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))
            else:
                self.start(name)

    @contextmanager
    def skewed(self, name: str, skew_ms: int) -> Iterator[None]:
        """A delegate whose clock is wrong; one that refuses to serve so is an answer too."""
        self.stop(name)
        self.start(name, must_serve=False, skew_ms=skew_ms)
        try:
            yield
        finally:
            self.stop(name)
            self.start(name)

    def kill_handlers(self, function: str) -> int:
        """SIGKILL to all processes of a function, as when it is out of memory; how many there were."""
        wanted = f"AWS_LAMBDA_FUNCTION_NAME={self._function_name(function)}".encode()
        killed = 0
        for child in group_members(self._identity("ministack")):
            try:
                environment = Path(f"/proc/{child.pid}/environ").read_bytes()
            except OSError:
                continue
            if wanted in environment.split(b"\0"):
                killed += child.send(signal.SIGKILL)
        return killed

    def data(self, name: str) -> Path:
        """Where a server keeps its data."""
        if name in NODES:
            return self._directory / NODES_DIRECTORY / name
        return self._directory / "data" / name

    def look_for(self, name: str, needles: list[bytes]) -> None:
        """What lies in a server's data and may be damaged."""
        self._needles[name] = needles

    def needles(self, name: str) -> list[bytes]:
        """See `look_for`."""
        return self._needles.get(name, [])

    def _function_name(self, logical_id: str) -> str:
        return self.functions()[logical_id]

    def _identity(self, name: str) -> ProcessIdentity:
        return self._state().servers[name].process

    def _state(self) -> StackState:
        state = load_state(self._directory.name)
        assert state is not None, self._directory
        return state

    def _note(self, name: str, server: Server) -> None:
        """`lovectl down` has to find the new process."""
        assert server.identity is not None
        with self._lock:
            self._started[name] = server
            self.restarts += 1
            state = self._state()
            known = RunningServer(process=server.identity, port=state.servers[name].port)
            msgspec.structs.replace(state, servers={**state.servers, name: known}).save()

    def _server(self, name: str, skew_ms: int) -> Server:
        state = self._state()
        port, log = state.servers[name].port, self._directory / "logs" / f"{name}.log"
        if name == "immudb":
            return ImmuDbServer(self.data(name), port, self._pki, state.immudb_password, log)
        if name in NODES:
            config = self.data(name) / CONFIG_FILE
            wrapper = ["-m", "lovectl.chaos.skewed_clock", str(skew_ms)] if skew_ms else []
            return NodeServer(name, config, port, log, wrapper)
        return FerretDbServer(name, self.data(name), port, self._pki, log)
