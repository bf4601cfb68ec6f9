"""Starts, watches and stops one server process."""

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from lovectl.errors import ServerFailed
from lovectl.guardian import mark
from lovectl.processes import (
    POLL_S,
    STOP_TIMEOUT_S,
    ProcessIdentity,
    inherited_environment,
    stop,
)

READY_TIMEOUT_S: Final = 60.0


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
                env={**inherited_environment(), **self._environment, **mark()},
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
            time.sleep(POLL_S)

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
