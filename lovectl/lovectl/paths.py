"""Where things lie: the repository, its cache of built servers, and the state of running stacks."""

import os
import sys
from pathlib import Path
from typing import Final

#: The repository. lovectl is a workspace member, installed editable, so it runs from inside it.
REPOSITORY: Final = Path(
    os.environ.get("LOVE_REPOSITORY", str(Path(__file__).resolve().parents[2]))
)
CACHE: Final = REPOSITORY / ".cache"
FUNCTIONS: Final = REPOSITORY / "functions"
SERVER_SOURCES: Final = REPOSITORY / "infrastructure" / "local"
#: Not only local: it stands before immuDB wherever that runs.
FRONT_SOURCES: Final = REPOSITORY / "infrastructure" / "front"
STACKS: Final = CACHE / "stack"


def load_functions() -> None:
    """Let the functions' packages be imported, which are deployed but never installed.

    What a rotation of keys does in the stores is said once, in `persist`.
    """
    if str(FUNCTIONS) not in sys.path:
        sys.path.append(str(FUNCTIONS))


def private_directory(path: Path) -> Path:
    """Make `path` (and its parents) readable by this user only, and give it back."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def write_private(path: Path, content: bytes | str) -> Path:
    """Write a file that only this user may read: it may hold a key."""
    data = content.encode() if isinstance(content, str) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    return path
