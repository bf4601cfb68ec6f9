"""A cluster whose URI can't be parsed or whose name can't be resolved is down, and no other one is.

`mongodb+srv` URIs as in production; the DNS, the servers and the driver are stand-ins.
"""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.resolver
import msgspec
import pytest
from pymongo.errors import AutoReconnect, EncryptionError

from federation.limits import BREAKER_FAILURES_MAX
from federation.regions import CONTINENTS
from federation.route_providers import Routes
from federation.routing import Router, RouterSettings
from lovectl.processes import LOOPBACK
from persist.atlas import AtlasSettings, AtlasTier
from persist.canary import run_canary
from persist.tier import TierUnavailable, ask, fetch, store_group

NAMES = [one.value for one in CONTINENTS]
BROKEN = "Europe"
OTHERS = [one for one in NAMES if one != BROKEN]
DOMAIN = "love.test"
#: Room for a busy machine; a resolver of PyMongo's own limits would take 20 s.
PATIENCE_S = 8.0
HANG_S = 60.0


def cluster(continent: str) -> str:
    """The name in the URI of a continent's cluster."""
    return f"{continent.lower()}.{DOMAIN}"


class Dns:
    """Answers for the names of `servers` (by cluster) as it is told, and notes who asks."""

    def __init__(self) -> None:
        self.servers = {cluster(one): [f"{one.lower()}-0.{DOMAIN}"] for one in NAMES}
        self.ports = dict.fromkeys(self.servers, 0)
        self.hanging: set[str] = set()
        self.asked: list[str] = []
        self.threads: set[str] = set()
        self.end = threading.Event()

    def resolve(self, name: str, kind: str, **_: Any) -> Sequence[Any]:
        """As `dns.resolver.resolve`."""
        asked = name.removeprefix("_mongodb._tcp.")
        self.asked.append(asked)
        self.threads.add(threading.current_thread().name)
        if asked in self.hanging:
            self.end.wait(HANG_S)
            raise dns.resolver.LifetimeTimeout
        if asked not in self.servers:
            raise dns.resolver.NXDOMAIN
        if kind == "TXT":
            raise dns.resolver.NoAnswer
        return [_service(one, self.ports[asked]) for one in self.servers[asked]]


def _service(host: str, port: int) -> Any:
    target = SimpleNamespace(to_text=lambda omit_final_dot: host)
    return SimpleNamespace(target=target, port=port)


class Memory:
    """A handler of the driver whose cluster is a dictionary."""

    def __init__(self) -> None:
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.failure: Exception | None = None

    async def insert_many(self, collection: str, documents: Sequence[dict[str, Any]]) -> None:
        if self.failure is not None:
            raise self.failure
        self.documents.update({(collection, one["_id"]): one for one in documents})

    async def find_one(self, collection: str, query: Mapping[str, Any]) -> Any:
        return self.documents.get((collection, query["_id"]))

    async def delete_many(self, collection: str, query: Mapping[str, Any]) -> int:
        del collection, query
        return 0

    async def create_unique_index(self, collection: str, *fields: str) -> None: ...

    async def ping(self) -> None: ...

    async def close(self) -> None: ...


class World:
    """Seven clusters by name, and the tier that uses them."""

    def __init__(self, names: Dns, directory: Path, uris: dict[str, str] | None = None) -> None:
        self.names = names
        self.connected: list[tuple[str, Memory]] = []
        routes = Routes({one: f"mongodb+srv://{cluster(one)}/" for one in NAMES} | (uris or {}))
        router = Router(SimpleNamespace(read=lambda: routes), RouterSettings())
        arns = dict.fromkeys(NAMES, "arn:aws:kms:eu-central-1:1:key/mrk-1")
        settings = AtlasSettings(
            msgspec.json.encode(arns).decode(), persist_timeout_ms=1_000, persist_slow_ms=10_000
        )
        self.tier = AtlasTier(settings, router, directory)

    async def connect(self, uri: str, *_: Any, **__: Any) -> Memory:
        """As `MotorDBHandler.new`; a cluster keeps what it holds."""
        known = [held for name, held in self.connected if name == uri]
        self.connected.append((uri, known[0] if known else Memory()))
        return self.connected[-1][1]

    def breaker(self, name: str) -> str:
        """How a breaker is, such as `atlas/Europe`."""
        return {one.name: one.state for one in self.tier.breakers()}[name]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dns]:
    """The DNS, and one port at which the servers of all clusters accept."""
    names, resolve = Dns(), socket.getaddrinfo

    def address(host: Any, *more: Any, **options: Any) -> Any:
        known = {one for servers in names.servers.values() for one in servers}
        if str(host).endswith(DOMAIN):
            if host not in known:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = LOOPBACK
        return resolve(host, *more, **options)

    monkeypatch.setattr(dns.resolver, "resolve", names.resolve)
    monkeypatch.setattr(socket, "getaddrinfo", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    with socket.create_server((LOOPBACK, 0), backlog=500) as server:
        names.ports = dict.fromkeys(names.servers, server.getsockname()[1])
        yield names
        names.end.set()


@pytest.fixture
def world(names: Dns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Makes a tier, with other URIs for some of its continents."""

    def make(**uris: str) -> World:
        made = World(names, tmp_path, uris)
        monkeypatch.setattr("persist.atlas.MotorDBHandler.new", made.connect)
        return made

    return make


def gone(names: Dns) -> dict[str, str]:
    del names.servers[cluster(BROKEN)]
    return {}


def foreign(names: Dns) -> dict[str, str]:
    names.servers[cluster(BROKEN)] = ["mongo.elsewhere.example"]
    return {}


def hanging(names: Dns) -> dict[str, str]:
    names.hanging.add(cluster(BROKEN))
    return {}


def mistyped(uri: str) -> Callable[[Dns], dict[str, str]]:
    return lambda names: {BROKEN: uri}


@pytest.fixture(
    params=[
        gone,
        foreign,
        hanging,
        mistyped(f"mongodb+srv://{cluster(BROKEN)}:27017/"),
        mistyped("mongodb+srv://[::1/"),
        mistyped(f"mongodb+srv://{cluster(BROKEN)}/?tsl=true"),
        mistyped("mongodb://127.0.0.1:270170/"),
        mistyped("mongodb://:@127.0.0.1:port/"),
        mistyped(f"mongodb://{'x' * 64}.example/"),
    ],
    ids=["gone", "foreign", "hanging", "port", "bracket", "option", "range", "number", "label"],
)
def broken(request: pytest.FixtureRequest, names: Dns, world: Any) -> World:
    """One cluster can't be found, the others can."""
    made: World = world(**request.param(names))
    return made


def store(world: World, groups: Any, continent: str) -> tuple[Any, Any]:
    """What came of one transaction of that continent, and the transaction."""
    item = groups.item(groups.account(continent))
    return store_group(groups.group(item), "atlas", world.tier), item


def canary(world: World, groups: Any) -> dict[str, str]:
    """How the canary of each continent fared."""
    sent = [groups.group(groups.item(groups.account(one))) for one in NAMES]
    report = run_canary(sent, "atlas", world.tier, lambda: groups.private_keys)
    return {one.continent: one.outcome for one in report.parts}


def open_the_breaker(world: World, groups: Any) -> None:
    for _ in range(BREAKER_FAILURES_MAX):
        assert store(world, groups, BROKEN)[0].outcome == "unavailable"
    assert world.breaker(f"atlas/{BROKEN}") == "open"


def outcomes(fails: str) -> dict[str, str]:
    return dict.fromkeys(OTHERS, "ok") | {BROKEN: fails}


def test_it_opens_its_own_breaker_and_others_are_served(broken: World, groups: Any) -> None:
    open_the_breaker(broken, groups)
    asked = len(broken.names.asked)
    persisted, _ = store(broken, groups, BROKEN)
    assert "resting" in persisted.reason
    assert len(broken.names.asked) == asked
    for continent in OTHERS:
        assert store(broken, groups, continent)[0].outcome == "stored"
        assert broken.breaker(f"atlas/{continent}") == "closed"
    assert broken.breaker(f"kms/{BROKEN}") == "closed"


def test_its_canary_fails_and_no_other_one_does(broken: World, groups: Any) -> None:
    for _ in range(BREAKER_FAILURES_MAX + 1):
        assert canary(broken, groups) == outcomes("failed")
    assert broken.breaker(f"atlas/{BROKEN}") == "open"


def test_its_health_is_down_and_no_other_s_is(broken: World) -> None:
    parts = {one.part: one for one in ask(broken.tier)}
    assert [one for one in NAMES if parts[one].state == "down"] == [BROKEN]
    assert parts[BROKEN].reason.startswith(f"Atlas {BROKEN}: ")


def test_what_lies_elsewhere_is_read_and_what_may_lie_there_is_not_absent(
    broken: World, groups: Any
) -> None:
    _, item = store(broken, groups, "Asia")
    for name, outcome in (
        (item.envelope.header.transaction_id, "found"),
        ("0" * 64, "unavailable"),
    ):
        read = fetch(name, BROKEN, broken.tier, groups.private_keys, groups.to_a_party)
        assert read["outcome"] == outcome


def test_what_reconcile_does_with_a_cluster_is_told_that_it_is_away(broken: World) -> None:
    for _ in range(BREAKER_FAILURES_MAX + 1):
        with pytest.raises(TierUnavailable, match=f"Atlas {BROKEN}: "):
            broken.tier.at(BROKEN, lambda handler: handler.ping())
    broken.tier.at("Asia", lambda handler: handler.ping())


def test_resolvers_that_hang_for_all_but_one_continent_do_not_hold_that_one_up(
    names: Dns, world: Any, groups: Any
) -> None:
    names.hanging = {cluster(one) for one in OTHERS}
    made = world()
    started_s = time.monotonic()
    for _ in range(BREAKER_FAILURES_MAX):
        assert canary(made, groups) == dict.fromkeys(OTHERS, "failed") | {BROKEN: "ok"}
    assert time.monotonic() - started_s < PATIENCE_S
    assert store(made, groups, BROKEN)[0].outcome == "stored"


def test_a_cluster_is_looked_up_once_and_never_on_the_event_loop(
    names: Dns, world: Any, groups: Any
) -> None:
    made = world()
    for _ in range(3):
        assert set(canary(made, groups).values()) == {"ok"}
    # One record tells the servers, one the options.
    assert sorted(names.asked) == sorted([cluster(one) for one in NAMES] * 2)
    assert names.threads
    assert "atlas" not in names.threads


def test_a_name_that_resolves_again_is_found_by_the_next_canary(
    names: Dns, world: Any, groups: Any
) -> None:
    servers, made = names.servers.pop(cluster(BROKEN)), world()
    open_the_breaker(made, groups)
    assert canary(made, groups) == outcomes("failed")
    names.servers[cluster(BROKEN)] = servers
    assert canary(made, groups) == outcomes("ok")
    assert made.breaker(f"atlas/{BROKEN}") == "closed"
    assert store(made, groups, BROKEN)[0].outcome == "stored"


def pause(made: World, groups: Any) -> list[str]:
    """Take a cluster that was used, and its name, away; gives its servers."""
    assert store(made, groups, BROKEN)[0].outcome == "stored"
    made.connected[0][1].failure = AutoReconnect("closed")
    servers = made.names.servers.pop(cluster(BROKEN))
    open_the_breaker(made, groups)
    assert canary(made, groups) == outcomes("failed")
    made.connected[0][1].failure = None
    return servers


def test_a_cluster_that_comes_back_as_it_was_keeps_its_connection(
    names: Dns, world: Any, groups: Any
) -> None:
    made = world()
    names.servers[cluster(BROKEN)] = pause(made, groups)
    assert canary(made, groups) == outcomes("ok")
    assert store(made, groups, BROKEN)[0].outcome == "stored"
    assert len([uri for uri, _ in made.connected if cluster(BROKEN) in uri]) == 1


def test_a_cluster_that_comes_back_on_other_servers_is_connected_to_anew(
    names: Dns, world: Any, groups: Any
) -> None:
    made = world()
    pause(made, groups)
    names.servers[cluster(BROKEN)] = [f"new-0.{DOMAIN}"]
    assert canary(made, groups) == outcomes("failed")
    assert canary(made, groups) == outcomes("ok")
    assert len([uri for uri, _ in made.connected if cluster(BROKEN) in uri]) == 2


@pytest.mark.parametrize(
    ("failure", "breaker"),
    [
        (AutoReconnect("closed"), "atlas"),
        (EncryptionError(Exception(f"europe-0.{DOMAIN}:{{port}}: closed")), "atlas"),
        (EncryptionError(Exception("kms.eu-central-1.amazonaws.com:443: closed")), "kms"),
    ],
    ids=["cluster", "key vault", "KMS"],
)
def test_what_a_failure_is_of_is_told_without_looking_a_name_up(
    names: Dns, world: Any, groups: Any, failure: Exception, breaker: str
) -> None:
    made = world()
    assert store(made, groups, BROKEN)[0].outcome == "stored"
    if isinstance(failure, EncryptionError):
        port = str(names.ports[cluster(BROKEN)])
        failure = EncryptionError(Exception(str(failure).replace("{port}", port)))
    made.connected[0][1].failure = failure
    asked = len(names.asked)
    for _ in range(BREAKER_FAILURES_MAX):
        assert store(made, groups, BROKEN)[0].outcome == "unavailable"
    assert len(names.asked) == asked
    assert [one for one in ("atlas", "kms") if made.breaker(f"{one}/{BROKEN}") == "open"] == [
        breaker
    ]
