"""What the load generator sends, and how it judges a rate."""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.regions import CONTINENTS
from lovectl import load
from lovectl.accounts import Issuer
from lovectl.load import Request, _drive
from lovectl.pki import FederationCa


class Api(BaseHTTPRequestHandler):
    """Takes as many posts as it is told, then refuses; remembers when each came."""

    room = 3
    answers_after_s = 0.0
    bodies: ClassVar[list[Any]] = []
    counting = Lock()

    def do_POST(self) -> None:
        time.sleep(self.answers_after_s)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.counting:
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


def _requests(count: int, age_s: float = 0.0) -> list[Request]:
    observed_s = time.monotonic() - age_s
    bodies = [json.dumps({"transactions": [n]}).encode() for n in range(count)]
    return [Request({}, body, [f"{n}"], observed_s) for n, body in enumerate(bodies)]


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


def test_what_was_observed_too_long_ago_is_not_sent(access: Any) -> None:
    old = partial(_requests, 2, age_s=load.OBSERVED_AGE_MAX_S + 1)
    sent = asyncio.run(_drive(access, [old, partial(_requests, 1)], 1_000.0))
    assert dict(sent.statuses) == {load.NOT_SENT: 2, "202": 1}
    assert len(Api.bodies) == 1


def test_an_answer_that_takes_too_long_claims_nothing(
    access: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "ANSWER_S", 0.2)
    monkeypatch.setattr(Api, "answers_after_s", 1.0)
    sent = asyncio.run(_drive(access, [partial(_requests, 1)], 1_000.0))
    assert sent.ids == []
    assert sum(sent.statuses.values()) == 1
    assert not set(sent.statuses) & {"202", load.NOT_SENT}


@pytest.mark.parametrize(("count", "batch"), [(1, 1), (7, 10), (15, 3)])
def test_as_many_whole_requests_as_asked_for_come_from_all_continents(
    count: int, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_request", lambda account, transactions, _: (account, transactions))
    issuer = Issuer(FederationCa.create(), Ed25519PrivateKey.generate(), "k1", "issuer", "api")
    stack: Any = SimpleNamespace(issuer=issuer)
    driver = load._Driver(stack, batch, 0.0, print)
    requests: list[Any] = driver._requests(count, batch)
    assert [len(transactions) for _, transactions in requests] == [batch] * count
    homes = Counter(account.continent for account, _ in requests)
    assert max(homes.values()) <= math.ceil(count / len(CONTINENTS))


class Machine:
    """Holds rates up to a limit, but for an unlucky one; remembers those that were tried."""

    def __init__(self, limit_per_s: float, unlucky_per_s: float) -> None:
        self.limit_per_s = limit_per_s
        self.unlucky_per_s = unlucky_per_s
        self.tried: list[float] = []

    def trial(self, per_s: float, time_s: float) -> dict[str, Any]:
        self.tried.append(per_s)
        return {"holds": per_s <= self.limit_per_s and per_s != self.unlucky_per_s}


@pytest.mark.parametrize(
    ("below_per_s", "unlucky_per_s", "tried", "good"),
    [
        (None, 0.0, [1.0, 1.5, 2.25, 3.375, 5.0625], 2.25),
        (None, 1.5, [1.0, 1.5, 2.25, 3.375, 5.0625], 2.25),
        (None, 2.25, [1.0, 1.5, 2.25, 3.375], 1.5),
        (2.0, 0.0, [1.0, 1.5], 1.5),
        (0.5, 0.0, [], 1.0),
        (9.0, 0.0, [1.0, 1.5, 2.25, 3.375, 5.0625], 2.25),
    ],
)
def test_a_rate_is_climbed_to_whether_given_or_searched(
    below_per_s: float | None, unlucky_per_s: float, tried: list[float], good: float
) -> None:
    machine: Any = Machine(3.0, unlucky_per_s)
    found, trials = load._climb(machine, below_per_s)
    assert machine.tried == tried
    assert len(trials) == len(tried)
    assert found == good


@pytest.mark.parametrize(("arrives_at_look", "settles"), [(1, True), (2, True), (3, False)])
def test_what_arrives_while_the_first_look_lasts_is_in_time(
    arrives_at_look: int, settles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[set[str]] = []

    def stored(_: Any, ids: set[str]) -> set[str]:
        looks.append(set(ids))
        return {"a", "b"} if len(looks) >= arrives_at_look else {"a"}

    monkeypatch.setattr(load, "_stored", stored)
    monkeypatch.setattr(load, "POLL_S", 0.05)
    driver = load._Driver(Any, 1, 0.0, print)
    assert (driver._wait_until_stored(["a", "b"], 0.01) is not None) == settles
    assert looks[:2] == [{"a", "b"}, {"b"}][: len(looks)]
