"""Outlives us for a moment, to stop the servers that we started, whatever ends us.

A `finally` does not run when a process is killed, and an interrupt may come between a server's start
and the line that notes it. So every server carries a mark of ours in its environment, and a small
process of its own knows the mark; its standard input is a pipe whose other end only we hold. When
we are gone the pipe ends, and it stops whatever still carries the mark.
"""

import secrets
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Final

from lovectl.processes import ProcessIdentity, inherited_environment, stop

MARK: Final = "LOVE_STARTED_BY"
#: A process that was just forked carries its mark a moment later.
FORK_TO_EXEC_S: Final = 0.2
#: What does not end in this time, though killed, waits for the kernel: nobody can stop it.
GIVE_UP_S: Final = 60.0

_lock = threading.Lock()
_guardian: tuple[str, IO[bytes]] | None = None


def mark() -> dict[str, str]:
    """The environment that a server is started with, to be stopped when we end.

    Unless `release_all` comes first.
    """
    global _guardian
    with _lock:
        if _guardian is None:
            token = secrets.token_hex(16)
            # A session of its own: Ctrl-C at the terminal must not reach it.
            pipe = subprocess.Popen(
                [sys.executable, "-m", "lovectl.guardian", token],
                stdin=subprocess.PIPE,
                env=inherited_environment(),
                start_new_session=True,
            ).stdin
            assert pipe is not None
            _guardian = token, pipe
        return {MARK: _guardian[0]}


def release_all() -> None:
    """Let every server go on after us: from here on `lovectl down` is what stops them."""
    global _guardian
    with _lock:
        if _guardian is not None:
            pipe = _guardian[1]
            pipe.write(b"release\n")
            pipe.close()
            _guardian = None


def marked(token: str) -> list[ProcessIdentity]:
    """The processes that run with this mark in their environment."""
    wanted = f"{MARK}={token}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                found.append(ProcessIdentity.of(int(entry.name)))
        except (OSError, ProcessLookupError):
            continue  # gone meanwhile, or another user's
    return found


def main(token: str) -> None:
    """Wait for the end of input, then stop what carries the mark; unless told to let it go."""
    if sys.stdin.buffer.read() == b"release\n":
        return
    end_s = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end_s:
        left = marked(token)
        if left:
            with ThreadPoolExecutor(len(left)) as pool:
                list(pool.map(stop, left))
        time.sleep(FORK_TO_EXEC_S)
        if not left and not marked(token):
            return


if __name__ == "__main__":
    main(sys.argv[1])
