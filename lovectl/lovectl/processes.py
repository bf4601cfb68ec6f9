"""Starts, watches and stops one server process, by its own id and never by its name."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from lovectl.errors import ServerFailed

LOOPBACK: Final = "127.0.0.1"
READY_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 8.0
_POLL_S: Final = 0.02


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process that can't be mistaken for a later one with the same id.

    Parameters
    ----------
    pid : int
    started_ticks : int
        Start time in clock ticks since boot, field 22 of /proc/PID/stat (see proc(5)).
    """

    pid: int
    started_ticks: int

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity":
        """The identity of a process that runs now; `ProcessLookupError` if none does."""
        ticks = _started_ticks(pid)
        if ticks is None:
            raise ProcessLookupError(pid)
        return cls(pid=pid, started_ticks=ticks)

    def is_running(self) -> bool:
        """Whether this very process runs; a zombie does not."""
        return _started_ticks(self.pid) == self.started_ticks

    def send(self, number: signal.Signals) -> bool:
        """Send a signal to this very process; False if it is gone."""
        if not self.is_running():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def stop(identity: ProcessIdentity, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Ask the process to end, and make it end when `timeout_s` is over; its children too."""
    children = group_members(identity)
    identity.send(signal.SIGCONT)  # a stopped process can't hear SIGTERM
    if identity.send(signal.SIGTERM) and not _gone(identity, timeout_s):
        identity.send(signal.SIGKILL)
        _gone(identity, timeout_s)
    for child in children:
        child.send(signal.SIGKILL)


def group_members(leader: ProcessIdentity) -> list[ProcessIdentity]:
    """The other processes of the group that `leader` leads; none if it is gone.

    MiniStack runs each handler as a process of its own.
    """
    if not leader.is_running():
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == leader.pid:
            continue
        fields = _stat_fields(int(entry.name))
        if fields is not None and int(fields[2]) == leader.pid:
            found.append(ProcessIdentity(pid=int(entry.name), started_ticks=int(fields[19])))
    return found


def inherited_environment() -> dict[str, str]:
    """This process's environment without what would lead a server astray.

    The user's own AWS settings are left out. Python may write byte code: a cold start of a handler
    that compiles every import again takes three times as long.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def accepts_connections(port: int) -> bool:
    """Whether something listens on this port of loopback."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=0.5):
            return True
    except OSError:
        return False


class Server:
    """One server process with its log.

    Parameters
    ----------
    name : str
        Said in messages.
    command : sequence of str
    log : Path
        Standard output and error are appended here.
    ready : callable
        Asked again and again until it says True.
    environment : mapping, optional
        Added to `inherited_environment()`.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._ready = ready
        self._environment = dict(environment or {})
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.identity: ProcessIdentity | None = None

    def launch(self) -> None:
        """Start the process; `wait_ready` tells when it serves."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            # A session of its own: Ctrl-C at the terminal must reach us, not the servers, so
            # that we stop them in our order.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**inherited_environment(), **self._environment},
                cwd=self._directory,
                start_new_session=True,
            )
        try:
            self.identity = ProcessIdentity.of(self._process.pid)
        except ProcessLookupError:
            raise ServerFailed(self.name, "ended at once", self.log) from None

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the server serves.

        Raises
        ------
        ServerFailed
            It ended, or was not ready in time; it is stopped then.
        """
        assert self._process is not None
        end_s = time.monotonic() + timeout_s
        while not self._ready():
            code = self._process.poll()
            if code is not None:
                raise ServerFailed(self.name, f"ended with code {code}", self.log)
            if time.monotonic() > end_s:
                self.stop()
                raise ServerFailed(self.name, f"was not ready in {timeout_s:.0f} s", self.log)
            time.sleep(_POLL_S)

    def start(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Launch, and wait until it serves."""
        self.launch()
        self.wait_ready(timeout_s)

    def stop(self) -> None:
        """End the process; harmless if it has ended."""
        if self.identity is not None:
            stop(self.identity)
        self._reap()

    def kill(self) -> None:
        """End it as a power cut would (SIGKILL)."""
        if self.identity is not None:
            self.identity.send(signal.SIGKILL)
        self._reap()

    def restart(self) -> None:
        """Stop (if it runs) and start again on the same port and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it hang: connections are accepted by the kernel, nothing is answered."""
        if self.identity is not None:
            self.identity.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        if self.identity is not None:
            self.identity.send(signal.SIGCONT)

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.identity is not None and self.identity.is_running()

    def _reap(self) -> None:
        if self._process is not None:
            self._process.wait(timeout=STOP_TIMEOUT_S)
        self._process = None
        self.identity = None


def _gone(identity: ProcessIdentity, timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while identity.is_running():
        if time.monotonic() > end_s:
            return False
        time.sleep(_POLL_S)
    return True


def _started_ticks(pid: int) -> int | None:
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[19])


def _stat_fields(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (proc(5) numbers them from 3); None if gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in parentheses and may hold anything; fields follow the last one.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] == "Z" else fields
