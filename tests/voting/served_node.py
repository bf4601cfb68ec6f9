"""A delegate's process with its HTTP port, and what it has written."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Final

import grpc
import pytest

from voting.node_process import Node

WAIT_S: Final = 20.0


class ServedNode(Node):
    """A node with its HTTP port, and what it has written."""

    http_port = 0

    def http(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}") as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def figure(self, name: str) -> float:
        """One of its metrics, with its labels as they are written; 0 if it is not there yet."""
        lines = self.http("/metrics")[1].splitlines()
        return next((float(x.rpartition(" ")[2]) for x in lines if x.startswith(name + " ")), 0.0)

    def refusals(self) -> list[dict[str, Any]]:
        """Its audit events of refusals."""
        return self.events("access.refused")

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Its audit events of this kind."""
        lines = self.server.log.read_text().splitlines()
        return [json.loads(one) for one in lines if f'"org.lovecurrency.{kind}"' in one]

    def refused_at_start(self, *options: str, **limits: Any) -> str:
        """What it says when it doesn't start."""
        ended = subprocess.run(
            [sys.executable, "-m", "love_node", "--config", self.delegate.config_file, *options],
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
            **limits,
        )
        assert ended.returncode == 1
        assert '"ready"' not in ended.stdout
        return ended.stderr


def until(holds: Callable[[], bool]) -> None:
    """Wait for what comes to pass by itself."""
    ends_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends_s, "it did not come to pass"
        time.sleep(0.02)


def status_of(node: Node, method: str, message: bytes) -> grpc.StatusCode:
    """The status by which the node refuses this message."""
    with node.channel() as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(message, timeout=WAIT_S)
    code: grpc.StatusCode = refused.value.code()
    return code
