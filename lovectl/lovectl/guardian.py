"""Outlives us for a moment, to stop the servers that we started, whatever ends us.

A `finally` does not run when a process is killed. So a small process of its own is told of each
server; its standard input is a pipe whose other end only we hold. When we are gone the pipe
ends, and it stops what still runs of them.
"""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import msgspec

from lovectl.processes import ProcessIdentity, inherited_environment, stop

_lock = threading.Lock()
_pipe: IO[bytes] | None = None


def guard(identity: ProcessIdentity) -> None:
    """Have this process stopped when we end, unless `release_all` comes first."""
    global _pipe
    with _lock:
        if _pipe is None:
            # A session of its own: Ctrl-C at the terminal must not reach it.
            _pipe = subprocess.Popen(
                [sys.executable, "-m", "lovectl.guardian"],
                stdin=subprocess.PIPE,
                env=inherited_environment(),
                start_new_session=True,
            ).stdin
        assert _pipe is not None
        _pipe.write(msgspec.json.encode(identity) + b"\n")
        _pipe.flush()


def release_all() -> None:
    """Let every server go on after us: from here on `lovectl down` is what stops them."""
    global _pipe
    with _lock:
        if _pipe is not None:
            _pipe.write(b"release\n")
            _pipe.close()
            _pipe = None


def main() -> None:
    """Read identities, one a line; at the end of input stop those that still run."""
    guarded = []
    for line in sys.stdin.buffer:
        if line == b"release\n":
            return
        guarded.append(msgspec.json.decode(line, type=ProcessIdentity))
    left = [one for one in guarded if one.is_running()]
    if left:
        with ThreadPoolExecutor(len(left)) as pool:
            list(pool.map(stop, left))


if __name__ == "__main__":
    main()
