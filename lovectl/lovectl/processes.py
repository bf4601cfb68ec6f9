"""Knows and stops processes, by their own id and never by their name; finds free ports."""

import os
import signal
import socket
import time
from pathlib import Path
from typing import Final

import msgspec

LOOPBACK: Final = "127.0.0.1"
STOP_TIMEOUT_S: Final = 8.0
POLL_S: Final = 0.02


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


def _gone(identity: ProcessIdentity, timeout_s: float) -> bool:
    end_s = time.monotonic() + timeout_s
    while identity.is_running():
        if time.monotonic() > end_s:
            return False
        time.sleep(POLL_S)
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
