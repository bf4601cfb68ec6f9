"""What the load generator sends, and how it judges a rate."""

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from lovectl import load
from lovectl.load import Request, _drive


class Api(BaseHTTPRequestHandler):
    """Takes as many posts as it is told, then refuses; remembers when each came."""

    room = 3
    bodies: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.bodies.append(json.loads(body))
        taken = len(self.bodies) <= self.room
        self.send_response(202 if taken else 503)
        if not taken:
            self.send_header("Retry-After", "4")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return None


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An API on loopback that has room for three posts."""
    monkeypatch.setattr(Api, "bodies", [])
    monkeypatch.setattr(load.ssl, "create_default_context", lambda cafile: False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield SimpleNamespace(api_url=f"http://127.0.0.1:{server.server_port}", ca_file="")
    server.shutdown()
    server.server_close()


def _requests(count: int) -> list[Request]:
    return [Request({}, json.dumps({"transactions": [n]}).encode(), [f"{n}"]) for n in range(count)]


def test_only_what_was_answered_202_counts_as_accepted(access: Any) -> None:
    sent = asyncio.run(_drive(access, [partial(_requests, 3), partial(_requests, 2)], 1_000.0))
    assert dict(sent.statuses) == {"202": 3, "503": 2}
    assert len(sent.ids) == 3
    assert sent.retry_after_s == [4, 4]
    assert len(Api.bodies) == 5


def test_a_phase_beyond_the_limit_ends_once_it_was_refused_often_enough(access: Any) -> None:
    sent = asyncio.run(_drive(access, [partial(_requests, 500)], 200.0, until="503"))
    assert sent.statuses["202"] == 3
    assert load.REFUSALS <= sent.statuses["503"] < 400


def test_an_api_that_is_not_reached_claims_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load.ssl, "create_default_context", lambda cafile: False)
    nowhere: Any = SimpleNamespace(api_url="http://127.0.0.1:9", ca_file=None)
    sent = asyncio.run(_drive(nowhere, [partial(_requests, 2)], 100.0))
    assert sent.ids == []
    assert dict(sent.statuses) == {"ConnectError": 2}
