"""Runs Docker's engine out of a directory, and its command line: no registry, no change to the machine."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lovectl.server_process import Server

COMMAND_TIMEOUT_S = 900
BASE_IMAGE = "love-base:trixie"
#: Certificates of this machine, which the base image has.
SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt"


class Docker:
    """Docker's command line before one engine.

    Attributes
    ----------
    environment : mapping
        With which any client reaches this engine.
    base : Path
        The file system of `BASE_IMAGE`.
    """

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.base = home / "base"
        self.environment = dict(environment)

    def run(
        self, *arguments: str, check: bool = True, stdin: int = subprocess.DEVNULL
    ) -> subprocess.CompletedProcess[str]:
        """`docker ARGUMENTS`, its output as text."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment,
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"docker {arguments}: {done.stdout}{done.stderr}"
        return done

    def says(self, *arguments: str) -> str:
        """What `docker ARGUMENTS` prints, without the closing line break."""
        return self.run(*arguments).stdout.strip()

    def import_tree(self, tree: Path, image: str, *changes: str) -> None:
        """Make an image of a directory; `changes` are instructions as in a Dockerfile."""
        command = ["tar", "-C", str(tree), "--exclude=./proc/*", "--exclude=./sys/*", "-c", "."]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as archive:
            assert archive.stdout is not None
            flags = [flag for change in changes for flag in ("--change", change)]
            self.run("import", *flags, "-", image, stdin=archive.stdout.fileno())
        assert archive.returncode == 0

    def build(self, dockerfile: Path, context: Path, image: str, **arguments: str) -> None:
        """`docker build` with these build arguments, whose steps reach package registries."""
        flags = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        self.run(
            *("build", "--progress=plain", "--network=host", *flags),
            *("--file", str(dockerfile), "--tag", image, str(context)),
        )


@contextmanager
def engine(home: Path) -> Iterator[Docker]:
    """An engine out of `home` (`infrastructure/containers/engine.sh` has filled it) with `BASE_IMAGE`."""
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two engines would share their images' directory
        with _engine(home) as docker:
            yield docker


@contextmanager
def _engine(home: Path) -> Iterator[Docker]:
    # Below the limit of 107 characters for a socket's path, wherever the repository lies.
    run = Path(tempfile.mkdtemp(prefix="love-docker-"))
    path = os.pathsep.join(
        [str(home / "root/usr/bin"), str(home / "root/usr/sbin"), os.environ["PATH"]]
    )
    socket = run / "docker.sock"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "PATH": path,
        "DOCKER_HOST": f"unix://{socket}",
        "DOCKER_BUILDKIT": "1",
        "DOCKER_CONFIG": str(run / "config"),
    }
    docker = Docker(home, environment)
    server = Server(
        "dockerd",
        [
            str(home / "root/usr/sbin/dockerd"),
            # The machine's own firewall and bridges stay as they are; no container gets out.
            "--iptables=false",
            "--ip6tables=false",
            "--ip-masq=false",
            "--storage-driver=overlay2",
            f"--data-root={home / 'data'}",
            f"--exec-root={run / 'exec'}",
            f"--pidfile={run / 'dockerd.pid'}",
            f"--host=unix://{socket}",
        ],
        home / "dockerd.log",
        lambda: socket.exists() and docker.run("info", check=False).returncode == 0,
        environment,
    )
    server.start()
    try:
        docker.import_tree(docker.base, BASE_IMAGE, f"ENV SSL_CERT_FILE={SSL_CERT_FILE}")
        yield docker
    finally:
        for container in docker.run("ps", "--all", "--quiet", check=False).stdout.split():
            docker.run("rm", "--force", container, check=False)
        server.stop()
        shutil.rmtree(run, ignore_errors=True)
