"""A tier that refuses, hangs or lies: `unavailable` in time, and no edited record is ever shown."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest

from federation.breaker import StoreBreakers
from federation.limits import CANARY_KEPT_S
from federation.regions import CONTINENTS
from federation.route_providers import Routes, RoutesUnavailable
from federation.routing import Router, RouterSettings
from lovectl.processes import free_ports
from persist.atlas import AtlasSettings, AtlasTier
from persist.canary import run_canary
from persist.dynamodb import DynamodbTier
from persist.immudb_tier import ImmudbTier
from persist.kms_encryption import KmsEncryption
from persist.motor_db_handler import MotorDBHandler
from persist.tier import ask, fetch, store_group

TIMEOUT_S = 0.5
#: Room for a busy machine.
PATIENCE_S = 1.0
#: What a call behind an open breaker may take, signatures checked and all.
RESTING_S = 0.05
#: What takes effect in time, but not at once, is waited for so long.
SETTLING_S = 30.0
#: A success that takes longer counts as a failure.
SLOW_S = 0.3
#: A payment tries an open breaker after so long.
PATIENCE_OF_BREAKERS_S = 1.0
TABLE = "transactions-faults"


class Tier:
    """A tier whose way to its server may be broken."""

    def __init__(self, name: str, proxy: str, store: Any, toxiproxy: Any) -> None:
        self.name: Any = name
        self.proxy = proxy
        self.store = store
        self.network = toxiproxy.api

    def run_canary(self, groups: Any, item: Any = None, keys: Any = None) -> Any:
        """The report of one canary of Europe."""
        group = groups.group(item or groups.item())
        opened_by = keys or groups.private_keys
        return run_canary([group], self.name, self.store, lambda: opened_by)

    def breaker(self) -> Any:
        """How the breaker of the store is."""
        names = ("atlas/Europe", "dynamodb", "immudb")
        return next(one for one in self.store.breakers() if one.name in names)

    def store_group(self, group: Any) -> tuple[Any, float]:
        """What came of it, and the seconds it took."""
        started_s = time.perf_counter()
        persisted = store_group(group, self.name, self.store)
        return persisted, time.perf_counter() - started_s


def _routes(port: int, server: Any) -> Routes:
    uri = f"mongodb://127.0.0.1:{port}/?tls=true&directConnection=true"
    return Routes(
        {one.value: uri for one in CONTINENTS},
        server.pki.ca_file.read_text(),
        server.pki.client_pem_file.read_text(),
    )


class Routed:
    """A provider of routes that may change, or fail."""

    def __init__(self, routes: Routes) -> None:
        self.routes: Routes | None = routes
        self.reads = 0

    def read(self) -> Routes:
        self.reads += 1
        if self.routes is None:
            raise RoutesUnavailable("the provider fails")
        return self.routes


def _atlas(
    provider: Routed, key_arns: dict[str, str], directory: Path, ttl_s: int = 60
) -> AtlasTier:
    router = Router(provider, RouterSettings(mongo_uri_ttl_s=ttl_s))
    settings = AtlasSettings(
        kms_key_arns=msgspec.json.encode(key_arns).decode(),
        persist_timeout_ms=int(TIMEOUT_S * 1000),
        read_timeout_ms=int(TIMEOUT_S * 1000),
        persist_slow_ms=int(SLOW_S * 1000),
        cold_timeout_ms=3_000,
        breaker_patience_s=PATIENCE_OF_BREAKERS_S,
    )
    return AtlasTier(settings, router, directory)


@pytest.fixture
def atlas(
    ferretdb: Any,
    key_arns: dict[str, str],
    tmp_path: Path,
    toxiproxy: Any,
    proxied: Callable[[str, int], int],
) -> Tier:
    """Tier 1 behind a proxy."""
    port = proxied("persist-atlas", ferretdb.port)
    store = _atlas(Routed(_routes(port, ferretdb)), key_arns, tmp_path)
    return Tier("atlas", "persist-atlas", store, toxiproxy)


@pytest.fixture
def dynamodb(
    dynamodb_local: Any,
    key_arns: dict[str, str],
    toxiproxy: Any,
    proxied: Callable[[str, int], int],
) -> Tier:
    """Tier 2 behind a proxy."""
    import boto3
    from botocore.config import Config

    client = dynamodb_local.client()
    if TABLE not in client.list_tables()["TableNames"]:
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    port = proxied("persist-dynamodb", dynamodb_local.port)
    behind = boto3.client(
        "dynamodb",
        endpoint_url=f"http://127.0.0.1:{port}",
        config=Config(
            connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1}
        ),
    )
    breakers = StoreBreakers("dynamodb", PATIENCE_OF_BREAKERS_S, SLOW_S)
    store = DynamodbTier(behind, TABLE, KmsEncryption(key_arns), breakers=breakers)
    return Tier("dynamodb", "persist-dynamodb", store, toxiproxy)


@pytest.fixture
def immudb_tier(
    immudb_front: Any,
    immudb_access: dict[str, str],
    key_arns: dict[str, str],
    toxiproxy: Any,
    proxied: Callable[[str, int], int],
) -> Tier:
    """Tier 3 behind its front and a proxy."""
    port = proxied("persist-immudb", immudb_front.port)
    access = {**immudb_access, "address": f"127.0.0.1:{port}"}
    breakers = StoreBreakers("immudb", PATIENCE_OF_BREAKERS_S, SLOW_S)
    store = ImmudbTier(lambda: access, KmsEncryption(key_arns), TIMEOUT_S, TIMEOUT_S, breakers)
    return Tier("immudb", "persist-immudb", store, toxiproxy)


@pytest.fixture(params=["atlas", "dynamodb", "immudb_tier"])
def tier(request: pytest.FixtureRequest, groups: Any) -> Tier:
    """Each tier in turn, warm."""
    found: Tier = request.getfixturevalue(request.param)
    persisted, _ = found.store_group(groups.group(groups.item()))
    assert persisted.outcome == "stored", persisted.reason
    return found


def test_a_refused_store_is_unavailable_at_once_and_its_items_go_on(
    tier: Tier, groups: Any
) -> None:
    tier.network.down(tier.proxy)
    group = groups.group(groups.item(), groups.item(outcome="rejected", reason="too_fast"))
    persisted, took_s = tier.store_group(group)
    assert persisted.outcome == "unavailable"
    assert persisted.receipts == []
    assert persisted.unavailable == group.items
    assert took_s < PATIENCE_S


def test_a_hanging_store_is_unavailable_within_the_limit(tier: Tier, groups: Any) -> None:
    tier.network.toxic(tier.proxy, "timeout", timeout=0)
    group = groups.group(groups.item())
    persisted, took_s = tier.store_group(group)
    assert persisted.outcome == "unavailable"
    assert persisted.unavailable == group.items
    assert took_s < 2 * TIMEOUT_S + PATIENCE_S


@pytest.mark.parametrize(
    ("toxic", "attributes"),
    [(None, {}), ("timeout", {"timeout": 0}), ("latency", {"latency": int(SLOW_S * 1000) + 50})],
    ids=["refused", "hanging", "slow"],
)
def test_a_store_that_refuses_hangs_or_is_slow_opens_its_breaker_and_the_canary_closes_it(
    tier: Tier, groups: Any, toxic: str | None, attributes: dict[str, int]
) -> None:
    if toxic is None:
        tier.network.down(tier.proxy)
    else:
        tier.network.toxic(tier.proxy, toxic, **attributes)
    for _ in range(2):
        tier.store_group(groups.group(groups.item()))
    assert tier.breaker().state == "open", tier.breaker()
    persisted, _ = tier.store_group(groups.group(groups.item()))
    assert "resting" in persisted.reason
    assert tier.run_canary(groups).outcome == "failed"
    assert tier.breaker().state == "open"
    tier.network.cure(tier.proxy)
    tier.network.up(tier.proxy)
    # A server may still be busy with what was cut off.
    _until(lambda: tier.run_canary(groups).outcome == "ok")
    assert tier.breaker().state == "closed"
    persisted, _ = tier.store_group(groups.group(groups.item()))
    assert persisted.outcome == "stored"


def test_health_tells_of_a_store_what_its_ping_and_its_breaker_say(tier: Tier, groups: Any) -> None:
    assert {(one.state, one.breaker.state) for one in ask(tier.store)} == {("up", "closed")}
    tier.network.down(tier.proxy)
    for _ in range(2):
        tier.store_group(groups.group(groups.item()))
    [part] = [one for one in ask(tier.store) if one.part in ("Europe", "dynamodb", "immudb")]
    assert (part.state, part.breaker.state) == ("down", "open")
    assert part.reason


def test_the_canary_goes_through_a_tier_and_is_no_transaction(tier: Tier, groups: Any) -> None:
    item = groups.item()
    report = tier.run_canary(groups, item)
    assert (report.outcome, [one.continent for one in report.parts]) == ("ok", ["Europe"])
    assert report.parts[0].reason is None
    assert _read(tier, groups, item) == {"outcome": "absent"}
    # Its nonce is free: the very same transaction is stored as money afterwards.
    assert tier.store_group(groups.group(item))[0].outcome == "stored"


def test_a_canary_that_does_not_open_has_failed(tier: Tier, groups: Any) -> None:
    report = tier.run_canary(groups, keys=type(groups)().private_keys)
    assert report.outcome == "failed"
    assert "can't be opened" in report.parts[0].reason


def test_what_canaries_wrote_into_atlas_is_deleted_after_its_time(
    atlas: Tier, groups: Any, monkeypatch: pytest.MonkeyPatch, ferretdb: Any
) -> None:
    monkeypatch.setattr("persist.atlas.CANARY_KEPT_S", 0)
    for _ in range(3):
        time.sleep(0.002)  # so that each is of another millisecond
        assert atlas.run_canary(groups).outcome == "ok"
    with pymongo.MongoClient(ferretdb.uri) as client:
        assert client["love_currency_db"]["canary"].count_documents({}) == 1


def test_what_canaries_wrote_into_dynamodb_has_an_end_of_its_life(
    dynamodb: Tier, groups: Any, dynamodb_local: Any
) -> None:
    item = groups.item()
    dynamodb.run_canary(groups, item)
    key = {"pk": {"S": f"canary#{item.envelope.header.transaction_id}"}}
    found = dynamodb_local.client().get_item(TableName=TABLE, Key=key)["Item"]
    assert 0 < int(found["expires_at_s"]["N"]) - time.time() <= CANARY_KEPT_S


def test_canaries_of_immudb_overwrite_one_key(immudb_tier: Tier, groups: Any) -> None:
    for _ in range(2):
        assert immudb_tier.run_canary(groups).outcome == "ok"
    found = immudb_tier.store._session.get(b"canary:Europe")
    assert found is not None
    assert found.revision >= 2


def test_while_the_canary_fails_a_read_may_try_after_a_short_rest(tier: Tier, groups: Any) -> None:
    item = groups.item()
    tier.store_group(groups.group(item))
    tier.network.down(tier.proxy)
    for _ in range(2):
        tier.store_group(groups.group(groups.item()))
    tier.network.up(tier.proxy)
    _until(lambda: _read(tier, groups, item)["outcome"] == "found")


def test_a_dead_tier_costs_next_to_nothing_once_it_is_known(tier: Tier, groups: Any) -> None:
    tier.network.down(tier.proxy)
    for _ in range(2):
        tier.store_group(groups.group(groups.item()))
    persisted, took_s = tier.store_group(groups.group(groups.item()))
    assert "resting" in persisted.reason
    assert took_s < RESTING_S


def test_a_tier_that_is_back_is_used_again_after_a_rest(tier: Tier, groups: Any) -> None:
    group = groups.group(groups.item())
    tier.network.down(tier.proxy)
    for _ in range(3):
        tier.store_group(group)
    tier.network.up(tier.proxy)
    deadline_s = time.monotonic() + 10
    persisted, _ = tier.store_group(group)
    while persisted.outcome != "stored" and time.monotonic() < deadline_s:
        time.sleep(0.2)
        persisted, _ = tier.store_group(group)
    assert (persisted.outcome, persisted.reason) == ("stored", None)


def test_a_write_whose_answer_was_lost_is_stored_once_when_repeated(
    tier: Tier, groups: Any
) -> None:
    group = groups.group(*(groups.item(nonce=n) for n in range(3)))
    # What the store answers doesn't get through, what it is told does.
    tier.network.toxic(tier.proxy, "limit_data", bytes=0)
    persisted, _ = tier.store_group(group)
    assert persisted.outcome == "unavailable"
    tier.network.cure(tier.proxy)
    deadline_s = time.monotonic() + 10
    while persisted.outcome != "stored" and time.monotonic() < deadline_s:
        time.sleep(0.3)
        persisted, _ = tier.store_group(group)
    assert {one.status for one in persisted.receipts} == {"stored"}
    assert len(persisted.receipts) == 3


def test_reading_from_a_dead_store_is_unavailable_not_absent(tier: Tier, groups: Any) -> None:
    tier.network.down(tier.proxy)
    found = fetch("0" * 64, "Europe", tier.store, groups.private_keys, groups.to_a_party)
    assert found["outcome"] == "unavailable"


@pytest.mark.parametrize(
    "edit",
    [
        {"header.amount": 6},
        {"sender": "0" * 64},
        {"nonce": 12},
        {"header.recipient": "1" * 64},
    ],
)
def test_an_edited_document_of_atlas_is_refused_on_reading(
    atlas: Tier, groups: Any, ferretdb: Any, edit: dict[str, Any]
) -> None:
    item = groups.item(nonce=11)
    atlas.store_group(groups.group(item))
    _edit(ferretdb, item, edit)
    assert _read(atlas, groups, item) == {"outcome": "unavailable", "reason": "record_damaged"}


def test_content_moved_from_another_document_is_refused_on_reading(
    atlas: Tier, groups: Any, ferretdb: Any
) -> None:
    first, second = groups.item(), groups.item()
    atlas.store_group(groups.group(first, second))
    with pymongo.MongoClient(ferretdb.uri) as client:
        found = client["love_currency_db"]["transactions"].find_one(
            {"_id": second.envelope.header.transaction_id}
        )
    _edit(ferretdb, first, {"content": found["content"]})
    assert _read(atlas, groups, first)["reason"] == "record_damaged"


def test_edited_ciphertext_of_dynamodb_is_refused_on_reading(
    dynamodb: Tier, groups: Any, dynamodb_local: Any
) -> None:
    item = groups.item()
    dynamodb.store_group(groups.group(item))
    client = dynamodb_local.client()
    key = {"pk": {"S": f"transaction#{item.envelope.header.transaction_id}"}}
    content = bytearray(client.get_item(TableName=TABLE, Key=key)["Item"]["content"]["B"])
    content[-20] ^= 1
    client.update_item(
        TableName=TABLE,
        Key=key,
        UpdateExpression="SET content = :c",
        ExpressionAttributeValues={":c": {"B": bytes(content)}},
    )
    assert _read(dynamodb, groups, item)["reason"] == "record_damaged"


def test_an_edited_record_of_dynamodb_is_refused_on_reading(
    dynamodb: Tier, groups: Any, dynamodb_local: Any
) -> None:
    item = groups.item()
    dynamodb.store_group(groups.group(item))
    client = dynamodb_local.client()
    key = {"pk": {"S": f"transaction#{item.envelope.header.transaction_id}"}}
    record = client.get_item(TableName=TABLE, Key=key)["Item"]["record"]["S"]
    client.update_item(
        TableName=TABLE,
        Key=key,
        UpdateExpression="SET #r = :r",
        ExpressionAttributeNames={"#r": "record"},
        ExpressionAttributeValues={":r": {"S": record.replace('"amount":5', '"amount":500')}},
    )
    assert _read(dynamodb, groups, item)["reason"] == "record_damaged"


def test_a_later_value_under_a_key_of_immudb_is_refused_on_reading(
    immudb_tier: Tier, groups: Any
) -> None:
    item = groups.item()
    immudb_tier.store_group(groups.group(item))
    session = immudb_tier.store._session
    key = f"transaction:{item.envelope.header.transaction_id}".encode()
    value = session.get(key).value
    session.set({key: value.replace(b'"amount":5', b'"amount":500')}, [])
    assert _read(immudb_tier, groups, item)["reason"] == "record_damaged"


async def test_the_handler_encrypts_content_on_every_way_in(
    ferretdb: Any, key_arns: dict[str, str]
) -> None:
    from persist.field_encryption import FieldKeys, aws_credentials

    keys = FieldKeys("content-test", key_arns["Europe"], aws_credentials())
    handler = await MotorDBHandler.new(ferretdb.uri, "love_currency_db", keys=keys)
    try:
        await handler.insert_one("notes", {"_id": 1, "content": b"first"})
        await handler.insert_many("notes", [{"_id": 2, "content": b"second"}])
        assert await handler.update_one("notes", {"_id": 1}, {"content": b"third"}) == 1
        found = {one["_id"]: one["content"] for one in await handler.find("notes", {})}
        assert found == {1: b"third", 2: b"second"}
        with pymongo.MongoClient(ferretdb.uri) as plain:
            raw = repr(list(plain["love_currency_db"]["notes"].find()))
        assert not any(word in raw for word in ("first", "second", "third"))
        assert await handler.delete_one("notes", {"_id": 1}) == 1
        assert await handler.find_one("notes", {"_id": 1}) is None
        assert await handler.count("notes", {}) == 1
    finally:
        await handler.close()


def test_a_cluster_that_was_never_reached_is_unavailable_at_once(
    ferretdb: Any, key_arns: dict[str, str], tmp_path: Path, groups: Any
) -> None:
    store = _atlas(Routed(_routes(free_ports(1)[0], ferretdb)), key_arns, tmp_path)
    started_s = time.perf_counter()
    persisted = store_group(groups.group(groups.item()), "atlas", store)
    assert persisted.outcome == "unavailable"
    assert time.perf_counter() - started_s < PATIENCE_S


def test_a_connected_cluster_stores_on_while_the_provider_of_its_uri_fails(
    ferretdb: Any, key_arns: dict[str, str], tmp_path: Path, groups: Any
) -> None:
    provider = Routed(_routes(ferretdb.port, ferretdb))
    store = _atlas(provider, key_arns, tmp_path, ttl_s=0)
    _until(lambda: _outcome(store, groups) == "stored")
    provider.routes, reads = None, provider.reads

    def stored_and_read_in_vain() -> bool:
        assert _outcome(store, groups) == "stored"
        return provider.reads > reads

    _until(stored_and_read_in_vain)


def test_a_changed_uri_is_taken_over_without_a_restart(
    ferretdb: Any, key_arns: dict[str, str], tmp_path: Path, groups: Any
) -> None:
    provider = Routed(_routes(ferretdb.port, ferretdb))
    store = _atlas(provider, key_arns, tmp_path, ttl_s=0)
    _until(lambda: _outcome(store, groups) == "stored")
    provider.routes = _routes(free_ports(1)[0], ferretdb)
    _until(lambda: _outcome(store, groups) == "unavailable")
    provider.routes = _routes(ferretdb.port, ferretdb)
    _until(lambda: _outcome(store, groups) == "stored")


def _outcome(store: AtlasTier, groups: Any) -> str:
    return str(store_group(groups.group(groups.item()), "atlas", store).outcome)


def _until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + SETTLING_S
    while not holds():
        assert time.monotonic() < deadline_s, "it never came to hold"
        time.sleep(0.01)


def _edit(server: Any, item: Any, values: dict[str, Any]) -> None:
    with pymongo.MongoClient(server.uri) as client:
        changed = client["love_currency_db"]["transactions"].update_one(
            {"_id": item.envelope.header.transaction_id}, {"$set": values}
        )
        assert changed.modified_count == 1


def _read(tier: Tier, groups: Any, item: Any) -> dict[str, Any]:
    transaction_id = item.envelope.header.transaction_id
    return fetch(transaction_id, "Europe", tier.store, groups.private_keys, groups.to_a_party)
