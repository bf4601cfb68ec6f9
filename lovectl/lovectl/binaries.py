"""Builds the stack's servers once, from pinned sources, into the repository's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from lovectl.errors import BuildFailed
from lovectl.paths import CACHE, FRONT_SOURCES, SERVER_SOURCES

BUILD_TIMEOUT_S: Final = 900
#: What `go build` is asked for, by the directory of its go.mod.
GO_PACKAGES: Final = {
    "ferretdb": ".",
    "front": "./cmd/love-front",
    "immudb": "github.com/codenotary/immudb/cmd/immudb",
    "toxiproxy": "github.com/Shopify/toxiproxy/v2/cmd/server",
}
#: Files beside the sources that no build reads.
NOT_BUILT: Final = (".md", ".service")
SERVERS: Final = (*GO_PACKAGES, "dynamodb-local")
#: The directories that a build reads, the one it runs in first; of others, the server's own.
SOURCES: Final = {
    "ferretdb": (SERVER_SOURCES / "ferretdb", FRONT_SOURCES),
    "front": (FRONT_SOURCES,),
}


def ferretdb() -> Path:
    """The FerretDB server; built on first use (about 45 s on two cores)."""
    return _built("ferretdb", _go_build) / "ferretdb"


def front() -> Path:
    """The front that demands a client certificate; built on first use (seconds)."""
    return _built("front", _go_build) / "front"


def immudb() -> Path:
    """The immuDB server; built on first use (about 50 s on two cores)."""
    return _built("immudb", _go_build) / "immudb"


def toxiproxy() -> Path:
    """The Toxiproxy server; built on first use (about 40 s on two cores)."""
    return _built("toxiproxy", _go_build) / "toxiproxy"


def dynamodb_local() -> list[str]:
    """The command that serves DynamoDB Local; PORT and DIRECTORY are to be appended."""
    return java_program("dynamodb-local", "Launcher")


def java_program(name: str, main_class: str, source: Path | None = None) -> list[str]:
    """The command that runs a Java program; built on first use.

    Parameters
    ----------
    source : Path, optional
        Holds its pom.xml, which names the libraries, and its Java files; by default one of the
        local stack's.
    """
    home = _built(name, _maven_build, source)
    classpath = os.pathsep.join([str(home / "classes"), str(home / "lib" / "*")])
    return [
        _tool("java", "a Java runtime of version 17 or newer"),
        # Where DynamoDB Local looks for its native library.
        f"-Dsqlite4java.library.path={home / 'lib'}",
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        classpath,
        main_class,
    ]


def build_all(names: tuple[str, ...] = SERVERS) -> None:
    """Build every server named that is not in the cache yet, one after the other."""
    for name in names:
        _built(name, _maven_build if name == "dynamodb-local" else _go_build)


def _built(name: str, build: Callable[[str, Path, Path], None], source: Path | None = None) -> Path:
    """The directory that holds `name`, built now unless its sources were built before."""
    sources = (source,) if source else SOURCES.get(name, (SERVER_SOURCES / name,))
    home = CACHE / "servers" / f"{name}-{_sources_hash(sources)}"
    if home.is_dir():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with _locked(home.parent / f"{name}.lock"):
        if home.is_dir():  # another process built it while we waited
            return home
        print(f"building {name} (once; later runs use the cache) …", file=sys.stderr, flush=True)
        began_s = time.monotonic()
        staging = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=home.parent))
        try:
            build(name, sources[0], staging)
            staging.chmod(0o755)
            staging.rename(home)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        print(
            f"building {name}: done in {time.monotonic() - began_s:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        return home


def _go_build(name: str, source: Path, target: Path) -> None:
    go = _tool("go", "Go 1.25 or newer")
    _run(
        name,
        [
            go,
            "build",
            "-trimpath",
            "-ldflags",
            "-s -w",
            "-o",
            str(target / name),
            GO_PACKAGES[name],
        ],
        source,
        {"GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"},
    )


def _maven_build(name: str, source: Path, target: Path) -> None:
    library = target / "lib"
    maven = _tool("mvn", "Maven 3.8 or newer")
    _run(
        name,
        [
            maven,
            "-q",
            "-B",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
            f"-DoutputDirectory={library}",
        ],
        source,
        {},
    )
    _run(
        name,
        [
            _tool("javac", "a JDK of version 17 or newer"),
            "-cp",
            f"{library}/*",
            "-d",
            str(target / "classes"),
            *(str(each) for each in sorted(source.glob("*.java"))),
        ],
        source,
        {},
    )


def _tool(command: str, needed: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise BuildFailed(f"{command} is not on the PATH; the local stack needs {needed}")
    return path


def _run(name: str, command: list[str], directory: Path, environment: dict[str, str]) -> None:
    result = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if result.returncode != 0:
        said = (result.stdout + result.stderr).strip().splitlines()[-20:]
        raise BuildFailed("\n".join([f"{name} could not be built ({command[0]})", *said]))


def _sources_hash(sources: tuple[Path, ...]) -> str:
    """Twelve hex digits over the names and bytes of all files that the build reads."""
    digest = hashlib.sha256()
    for source in sources:
        files = sorted(
            path
            for path in source.rglob("*")
            if path.is_file()
            and "target" not in path.relative_to(source).parts
            and path.suffix not in NOT_BUILT
        )
        if not files:
            raise BuildFailed(f"the sources of {source.name} are missing from {source}")
        for path in files:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(source)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
