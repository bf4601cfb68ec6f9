"""The real driver behind a `mongodb+srv` URI: its name is lost and comes back."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dns.asyncresolver
import dns.resolver
import msgspec
import pytest

from federation.regions import CONTINENTS
from federation.route_providers import Routes
from federation.routing import Router, RouterSettings
from persist.atlas import AtlasSettings, AtlasTier
from persist.canary import run_canary
from persist.tier import store_group

NAME = "cluster.love.test"
SERVER = "server-0.love.test"
TIMEOUT_MS = 2_000


class Dns:
    """Knows one cluster's name, unless that is gone; the name of its server is one of loopback."""

    def __init__(self, port: int) -> None:
        self.is_gone = False
        self._port = port
        self._address = socket.getaddrinfo

    def resolve(self, name: str, kind: str, **_: Any) -> list[Any]:
        if self.is_gone or not name.endswith(NAME):
            raise dns.resolver.NXDOMAIN
        if kind == "TXT":
            raise dns.resolver.NoAnswer
        target = SimpleNamespace(to_text=lambda omit_final_dot: SERVER)
        return [SimpleNamespace(target=target, port=self._port)]

    async def resolve_beside(self, name: str, kind: str, **_: Any) -> list[Any]:
        return self.resolve(name, kind)

    def getaddrinfo(self, host: Any, *more: Any, **options: Any) -> Any:
        if host == SERVER:
            if self.is_gone:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            host = "127.0.0.1"
        return self._address(host, *more, **options)


@pytest.fixture
def names(proxied: Any, ferretdb: Any, monkeypatch: pytest.MonkeyPatch) -> Dns:
    """The DNS of this process, for both resolvers that PyMongo uses."""
    names = Dns(proxied("srv", ferretdb.port))
    monkeypatch.setattr(dns.resolver, "resolve", names.resolve)
    monkeypatch.setattr(dns.asyncresolver, "resolve", names.resolve_beside)
    monkeypatch.setattr(socket, "getaddrinfo", names.getaddrinfo)
    return names


@pytest.fixture
def tier(names: Dns, ferretdb: Any, key_arns: dict[str, str], tmp_path: Path) -> AtlasTier:
    """Tier 1, every cluster under that name; the server's certificate names loopback only."""
    uri = f"mongodb+srv://{NAME}/?tlsAllowInvalidHostnames=true"
    routes = Routes(
        {one.value: uri for one in CONTINENTS},
        ferretdb.pki.ca_file.read_text(),
        ferretdb.pki.client_pem_file.read_text(),
    )
    settings = AtlasSettings(
        msgspec.json.encode(key_arns).decode(),
        persist_timeout_ms=TIMEOUT_MS,
        persist_slow_ms=TIMEOUT_MS,
        cold_timeout_ms=3_000,
    )
    router = Router(SimpleNamespace(read=lambda: routes), RouterSettings())
    return AtlasTier(settings, router, tmp_path)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_a_cluster_whose_name_is_lost_opens_its_breaker_and_the_canary_finds_it_again(
    tier: AtlasTier, names: Dns, toxiproxy: Any, groups: Any, warm: bool
) -> None:
    if warm:
        assert store_group(groups.group(groups.item()), "atlas", tier).outcome == "stored"
    names.is_gone = True
    toxiproxy.api.down("srv")
    reasons = [store_group(groups.group(groups.item()), "atlas", tier).reason for _ in range(3)]
    assert "resting" in str(reasons[-1]), reasons
    assert _canary(tier, groups) == "failed"
    names.is_gone = False
    toxiproxy.api.up("srv")
    assert _canary(tier, groups) == "ok"
    assert store_group(groups.group(groups.item()), "atlas", tier).outcome == "stored"


def _canary(tier: AtlasTier, groups: Any) -> str:
    group = groups.group(groups.item())
    return run_canary([group], "atlas", tier, lambda: groups.private_keys).outcome
