"""What may go wrong with the local stack, each with what the user can do."""

from pathlib import Path


class StackError(Exception):
    """Root of the local stack's errors; the message says what happened and what to do."""


class BuildFailed(StackError):
    """A server could not be built from its pinned sources."""


class ServerFailed(StackError):
    """A server ended, or did not become ready in time.

    Parameters
    ----------
    name : str
        The server's name, such as `"mongo-asia"`.
    detail : str
        What was seen.
    log : Path
        Its log; the last lines are in the message.
    """

    def __init__(self, name: str, detail: str, log: Path) -> None:
        tail = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
        super().__init__("\n".join([f"{name} {detail}; its log is {log}", *tail]))
        self.name = name


class NotRunning(StackError):
    """No stack of that name runs."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no stack {name!r} is running: run `lovectl up`")


class AlreadyRunning(StackError):
    """A stack of that name runs already."""

    def __init__(self, name: str) -> None:
        super().__init__(f"stack {name!r} is running already: use it, or run `lovectl down` first")


class DeployFailed(StackError):
    """`sam deploy` did not succeed."""
