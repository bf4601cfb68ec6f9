"""A process that does named work on named inputs and tells how long it took."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self


class Peer:
    """A started process; one line `WORK INPUT TIMES` on its stdin, one of nanoseconds back.

    Parameters
    ----------
    command : sequence of str
    environment : mapping
        Added to the environment of this process.

    Raises
    ------
    RuntimeError
        By `time_s`, when the process ended; what went wrong is on stderr.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **environment},
        )

    def time_s(self, work: str, input_name: str, times: int) -> float:
        """Seconds for doing `work` on the input `times` times."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{work} {input_name} {times}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{work} on {input_name}: the process ended")
        return int(line) / 1e9

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate()
