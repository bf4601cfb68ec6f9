"""A home cluster is down: with `allow_cross_region` the nearest other one takes its records, else none."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest

from federation.regions import CLUSTERS, CONTINENTS, NEAREST, Continent
from federation.route_providers import Routes
from federation.routing import Router, RouterSettings
from lovectl.processes import free_ports
from lovectl.servers import FerretDbServer
from persist.atlas import AtlasSettings, AtlasTier
from persist.field_encryption import aws_credentials
from persist.key_rotation import KeyVault
from persist.tier import fetch, store_group

HOME = Continent.EUROPE
NEIGHBOUR = NEAREST[HOME]
TIMEOUT_MS = 1_000


class Fixed:
    """A provider whose routes don't change."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes

    def read(self) -> Routes:
        return self._routes


@pytest.fixture(scope="module")
def neighbour(server_directory: Path, transport_pki: Any) -> Iterator[FerretDbServer]:
    """The cluster of the nearest other continent; `ferretdb` is the home's, and all others'."""
    server = FerretDbServer(
        "neighbour", server_directory / "neighbour", free_ports(1)[0], transport_pki
    )
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tier(
    ferretdb: Any,
    neighbour: Any,
    key_arns: dict[str, str],
    tmp_path: Path,
    proxied: Callable[[str, int], int],
) -> Callable[[bool], AtlasTier]:
    """Makes a tier whose clusters are reached through the proxies `home` and `nearest`."""
    ports = {one: ferretdb.port for one in CONTINENTS}
    ports[HOME] = proxied("home", ferretdb.port)
    ports[NEIGHBOUR] = proxied("nearest", neighbour.port)
    uris = {
        one.value: f"mongodb://127.0.0.1:{port}/?tls=true&directConnection=true"
        for one, port in ports.items()
    }
    pki = ferretdb.pki
    routes = Routes(uris, pki.ca_file.read_text(), pki.client_pem_file.read_text())

    def make(allow_cross_region: bool) -> AtlasTier:
        settings = AtlasSettings(
            kms_key_arns=msgspec.json.encode(key_arns).decode(),
            allow_cross_region=allow_cross_region,
            persist_timeout_ms=TIMEOUT_MS,
            persist_slow_ms=TIMEOUT_MS,
            cold_timeout_ms=3_000,
            breaker_patience_s=1.0,
        )
        return AtlasTier(settings, Router(Fixed(routes), RouterSettings()), tmp_path)

    return make


def test_by_default_no_other_continent_s_cluster_takes_a_record(
    tier: Any, toxiproxy: Any, groups: Any, neighbour: Any
) -> None:
    toxiproxy.api.down("home")
    group = groups.group(groups.item())
    persisted = store_group(group, "atlas", tier(False))
    assert persisted.outcome == "unavailable"
    assert persisted.unavailable == group.items
    assert _find(neighbour, group.items[0]) is None


def test_if_allowed_the_nearest_cluster_takes_it_and_the_receipt_says_so(
    tier: Any, toxiproxy: Any, groups: Any, neighbour: Any, ferretdb: Any
) -> None:
    store = tier(True)
    before, after = groups.item(content={"note": "at home"}), groups.item(content={"note": "away"})
    (at_home,) = store_group(groups.group(before), "atlas", store).receipts
    assert (at_home.continent, at_home.cluster) == (HOME, None)
    toxiproxy.api.down("home")
    persisted = store_group(groups.group(after), "atlas", store)
    (receipt,) = persisted.receipts
    assert (persisted.outcome, receipt.status, receipt.tier) == ("stored", "stored", "atlas")
    assert (receipt.continent, receipt.cluster) == (HOME, CLUSTERS[NEIGHBOUR])
    assert _find(neighbour, after)["cluster"] == CLUSTERS[NEIGHBOUR]
    assert _find(ferretdb, after) is None


def test_what_lies_away_is_found_while_home_is_down_and_when_it_is_back(
    tier: Any, toxiproxy: Any, groups: Any
) -> None:
    item = groups.item(content={"note": "away"})
    toxiproxy.api.down("home")
    (receipt,) = store_group(groups.group(item), "atlas", tier(True)).receipts
    for home_is_up in (False, True):
        if home_is_up:
            toxiproxy.api.up("home")
        found = fetch(
            receipt.transaction_id, HOME, tier(home_is_up), groups.private_keys, groups.to_a_party
        )
        assert found["content"]["note"] == "away"
        assert found["receipt"] == msgspec.to_builtins(receipt)


def test_away_from_home_it_is_the_home_s_kms_key_that_opens_it(
    tier: Any, toxiproxy: Any, groups: Any, neighbour: Any, key_arns: dict[str, str]
) -> None:
    item = groups.item()
    toxiproxy.api.down("home")
    store_group(groups.group(item), "atlas", tier(True))
    with (
        pymongo.MongoClient[dict[str, Any]](neighbour.uri) as client,
        KeyVault(client, aws_credentials()) as vault,
    ):
        (key_id,) = vault.data_keys(HOME)[-1:]
        wrapped = client["encryption"]["__keyVault"].find_one({"_id": key_id})
        assert bytes(_find(neighbour, item)["content"])[1:17] == bytes(key_id)
    assert wrapped is not None
    assert wrapped["masterKey"]["key"] == key_arns[HOME]
    [name] = wrapped["keyAltNames"]
    assert name.startswith(f"content-{HOME}/1/")


def test_a_repeated_write_away_is_stored_once(
    tier: Any, toxiproxy: Any, groups: Any, neighbour: Any
) -> None:
    group = groups.group(*(groups.item(nonce=n) for n in range(5)))
    toxiproxy.api.down("home")
    first = store_group(group, "atlas", tier(True))
    again = store_group(group, "atlas", tier(True))
    assert len(first.receipts) == 5
    assert {one.transaction_id: one for one in again.receipts} == {
        one.transaction_id: one for one in first.receipts
    }


def test_a_rejection_is_recorded_away_too(tier: Any, toxiproxy: Any, groups: Any) -> None:
    toxiproxy.api.down("home")
    refused = groups.item(outcome="rejected", reason="too_fast")
    (receipt,) = store_group(groups.group(refused), "atlas", tier(True)).receipts
    assert (receipt.status, receipt.cluster) == ("rejected", CLUSTERS[NEIGHBOUR])
    found = fetch(receipt.transaction_id, HOME, tier(True), groups.private_keys, groups.to_a_party)
    assert found["receipt"] == msgspec.to_builtins(receipt)


def test_with_both_clusters_down_the_items_go_to_the_next_tier(
    tier: Any, toxiproxy: Any, groups: Any
) -> None:
    toxiproxy.api.down("home")
    toxiproxy.api.down("nearest")
    group = groups.group(groups.item())
    persisted = store_group(group, "atlas", tier(True))
    assert persisted.outcome == "unavailable"
    assert persisted.unavailable == group.items
    assert all(one in str(persisted.reason) for one in (HOME, NEIGHBOUR))


def _find(server: Any, item: Any) -> Any:
    with pymongo.MongoClient[dict[str, Any]](server.uri) as client:
        query = {"_id": item.envelope.header.transaction_id}
        return client["love_currency_db"]["transactions"].find_one(query)
