"""The seven delegates of compose.yaml, in the image that node.Dockerfile makes."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from engine.docker import BASE_IMAGE, COMMAND_TIMEOUT_S, Docker, engine

from lovectl.compose_keys import make_keys
from lovectl.delegates import NODES
from lovectl.paths import REPOSITORY

DOCKERFILES = REPOSITORY / "infrastructure" / "containers"
RUST_IMAGE = "love-rust:host"


class Compose:
    """`docker compose` on the repository's own file, with keys and a project of this test run."""

    def __init__(self, docker: Docker, program: str, keys: Path) -> None:
        self.docker, self.keys = docker, keys
        self._command = [program, "--project-name", "love-test", "--file", "compose.yaml"]
        self._environment = {**docker.environment, "LOVE_KEYS": str(keys)}

    def run(self, *arguments: str) -> str:
        """Run it; its output."""
        done = subprocess.run(
            [*self._command, *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"compose {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def inspect(self, service: str) -> dict[str, Any]:
        """What the engine knows of this service's container."""
        container = self.run("ps", "--all", "--quiet", service).strip()
        found: list[dict[str, Any]] = json.loads(self.docker.says("inspect", container))
        return found[0]

    def address(self, service: str, network: str) -> str:
        """Its address on this network."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"love-test_{network}"]["IPAddress"])

    def inside(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in its container, as its user."""
        return self.docker.run("exec", self.inspect(service)["Id"], *command, check=False)


@pytest.fixture(scope="session")
def docker() -> Iterator[Docker]:
    """An engine of this test run's own."""
    home = os.environ.get("LOVE_ENGINE")
    if home is None:
        pytest.fail("these tests are run by `make test-containers`")
    with engine(Path(home)) as running:
        yield running


@pytest.fixture(scope="session")
def node_image(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """node.Dockerfile, on Debian's base and this machine's Rust instead of a registry's images."""
    toolchain = tmp_path_factory.mktemp("rust")
    home = toolchain / "usr" / "local"
    sysroot = subprocess.run(
        ["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True
    ).stdout.strip()
    shutil.copytree(sysroot, home / "rustup", symlinks=True, ignore=shutil.ignore_patterns("doc"))
    (home / "cargo" / "bin").mkdir(parents=True)
    for name in ("cargo", "rustc"):
        (home / "cargo" / "bin" / name).symlink_to(f"../../rustup/bin/{name}")
    docker.import_tree(toolchain, RUST_IMAGE)
    shutil.rmtree(toolchain)
    image = "love-node:0.1.0"
    docker.build(
        DOCKERFILES / "node.Dockerfile",
        REPOSITORY,
        image,
        PYTHON_IMAGE=BASE_IMAGE,
        RUST_IMAGE=RUST_IMAGE,
    )
    return image


@pytest.fixture(scope="session")
def delegates(
    docker: Docker, node_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Compose]:
    """All seven, up and healthy by their own health checks."""
    keys = tmp_path_factory.mktemp("keys") / "compose"
    make_keys(keys)
    # The tests' directory is its owner's alone; the engine passes on what is below by itself.
    compose = Compose(docker, os.environ["LOVE_COMPOSE"], keys)
    try:
        compose.run("up", "--detach", "--no-build", "--wait", *NODES)
        yield compose
    finally:
        compose.run("down", "--volumes")
