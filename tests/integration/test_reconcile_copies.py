"""Copies go home on real stores: found again, read, written, proved, marked; whatever dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pymongo
import pytest

from federation.batch import rejected
from federation.immudb_session import create_database
from federation.limits import UNRECONCILED_BUCKETS
from federation.regions import CONTINENTS
from persist.atlas import AtlasTier
from persist.breaker import calling_as
from persist.dynamodb import UNRECONCILED, DynamodbTier
from persist.immudb_tier import ImmudbTier
from persist.kms_encryption import KmsEncryption
from persist.tier import TierUnavailable, fetch, store_group
from reconcile.atlas_home import AtlasHome
from reconcile.copies import CopyRef, Moved, move
from reconcile.dynamodb_copies import DynamodbCopies
from reconcile.immudb_copies import CURSOR_KEY, ImmudbCopies

TABLE = "copies"
TIMEOUT_MS = 3_000
DATABASE = "love_currency_db"
SETTLING_S = 30.0


class Died(Exception):
    """The function is gone."""


#: On a busy machine a store may answer too late for one run; the next one goes on.
RUNS_MAX = 3


@pytest.fixture
def home_tier(patient_atlas: AtlasTier) -> AtlasTier:
    return patient_atlas


@pytest.fixture
def home(home_tier: AtlasTier) -> AtlasHome:
    return AtlasHome(home_tier, TIMEOUT_MS)


class Tier:
    """A fallback tier on its server: the store, its copies, what is marked there."""

    def __init__(self, name: Any, store: Any, copies: Callable[[], Any], marked: Any) -> None:
        self.name, self.store, self.copies, self.is_marked = name, store, copies, marked


@pytest.fixture(scope="module")
def dynamodb(dynamodb_local: Any, key_arns: dict[str, str]) -> Tier:
    client = dynamodb_local.client()
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": UNRECONCILED, "AttributeType": "S"},
            {"AttributeName": "stored_at_ms", "AttributeType": "N"},
        ],
        GlobalSecondaryIndexes=[
            {
                "IndexName": UNRECONCILED,
                "KeySchema": [
                    {"AttributeName": UNRECONCILED, "KeyType": "HASH"},
                    {"AttributeName": "stored_at_ms", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    store = DynamodbTier(dynamodb_local.client(), TABLE, KmsEncryption(key_arns))

    def marked(ref: CopyRef) -> bool:
        key = {"pk": {"S": f"{ref.kind}#{ref.transaction_id}"}}
        item = client.get_item(TableName=TABLE, Key=key)["Item"]
        assert ("reconciled_at_ms" in item) == ("expires_at_s" in item)
        assert (UNRECONCILED in item) == (not item.keys() & {"reconciled_at_ms", "parked_at_ms"})
        return "reconciled_at_ms" in item

    return Tier(
        "dynamodb",
        store,
        lambda: DynamodbCopies(dynamodb_local.client(), TABLE, store, "Europe"),
        marked,
    )


@pytest.fixture(scope="module")
def immudb_tier(immudb: Any, immudb_access: dict[str, str], key_arns: dict[str, str]) -> Tier:
    # Other tests' records would be copies to move as well.
    access = {**immudb_access, "database": "copies"}
    create_database(lambda: {**immudb_access, "copies": access["database"]}, "copies", 5.0)
    store = ImmudbTier(lambda: access, KmsEncryption(key_arns), 3.0, 5.0)

    def marked(ref: CopyRef) -> bool:
        prefix = {"transaction": "reconciled", "rejection": "reconciled-rejection"}[ref.kind]
        key = f"{prefix}:{ref.transaction_id}".encode()
        return store.within_session(lambda session: session.get(key)) is not None

    return Tier("immudb", store, lambda: ImmudbCopies(store), marked)


@pytest.fixture(params=["dynamodb", "immudb_tier"])
def tier(request: pytest.FixtureRequest) -> Tier:
    found: Tier = request.getfixturevalue(request.param)
    return found


def _store(tier: Tier, groups: Any, count: int, **changes: Any) -> list[CopyRef]:
    items = [groups.item(**changes) for _ in range(count)]
    assert store_group(groups.group(*items), tier.name, tier.store).outcome == "stored"
    return [CopyRef("transaction", item.envelope.header.transaction_id) for item in items]


def _run(copies: Any, home: Any) -> list[Moved]:
    after, rounds = "", []
    now_ms = time.time_ns() // 1_000_000
    # As the handler does: a store that rests after failures is tried.
    with calling_as("canary"):
        while True:
            rounds.append(move(copies, home, now_ms, after, goes_on=lambda: True))
            if not rounds[-1].more:
                return rounds
            after = rounds[-1].after


def _at_home(ferretdb: Any, refs: list[CopyRef]) -> list[str]:
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        query = {"_id": {"$in": [ref.transaction_id for ref in refs]}}
        return [one["_id"] for one in client[DATABASE]["transactions"].find(query, {"_id": 1})]


def test_every_copy_has_one_home_copy_and_is_marked(
    tier: Tier, home: AtlasHome, home_tier: AtlasTier, groups: Any, ferretdb: Any
) -> None:
    refs = _store(tier, groups, 70, final=True)
    moved = _run(tier.copies(), home)
    assert sum(one.moved for one in moved) == 70
    assert sorted(_at_home(ferretdb, refs)) == sorted(ref.transaction_id for ref in refs)
    assert all(tier.is_marked(ref) for ref in refs)
    for ref in refs[:3]:
        for store, name in ((home_tier, "atlas"), (tier.store, tier.name)):
            found = fetch(
                ref.transaction_id, "Europe", store, groups.private_keys, groups.to_a_party
            )
            assert found["receipt"]["tier"] == name
            assert found["receipt"]["final"]
            assert found["content"]["salt"]
    assert [one.moved for one in _run(tier.copies(), home)] == [0]


def test_a_rejection_goes_home_too(
    tier: Tier, home: AtlasHome, home_tier: AtlasTier, groups: Any
) -> None:
    item = rejected(groups.item(), "too_fast")
    store_group(groups.group(item), tier.name, tier.store)
    ref = CopyRef("rejection", item.envelope.header.transaction_id)
    _run(tier.copies(), home)
    assert tier.is_marked(ref)
    found = home_tier.fetch(ref.transaction_id, "Europe")
    assert (found.reason, found.tier) == ("too_fast", "atlas")  # type: ignore[union-attr]


def test_a_copy_that_lacks_votes_is_pending_at_home(
    tier: Tier, home: AtlasHome, groups: Any, ferretdb: Any
) -> None:
    [ref] = _store(tier, groups, 1, votes=[], rewards=[], flags=3)
    _run(tier.copies(), home)
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        found = list(client[DATABASE]["pending"].find({"transaction_id": ref.transaction_id}))
    assert len(found) == 1


@pytest.mark.parametrize("step", ["insert", "records", "mark"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_dies_at_any_step_is_made_good(
    tier: Tier,
    home: AtlasHome,
    groups: Any,
    ferretdb: Any,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    when: str,
) -> None:
    refs = _store(tier, groups, 3)
    copies = tier.copies()
    owner: Any = copies if step == "mark" else home
    real = getattr(owner, step)

    def dying(*arguments: Any) -> Any:
        if when == "after":
            real(*arguments)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, dying)
        with pytest.raises(Died):
            _run(copies, home)
    _run(tier.copies(), home)
    assert sorted(_at_home(ferretdb, refs)) == sorted(ref.transaction_id for ref in refs)
    assert all(tier.is_marked(ref) for ref in refs)


def test_two_runs_at_once_make_one_home_copy(
    tier: Tier, home: AtlasHome, groups: Any, ferretdb: Any
) -> None:
    refs = _store(tier, groups, 30)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(_run, tier.copies(), home) for _ in range(2)]
        parked = [one.parked for run in runs for one in run.result()]
    assert not any(parked)
    # One of both may have met a store that rests; it left its copies for the next run.
    _run(tier.copies(), home)
    assert sorted(_at_home(ferretdb, refs)) == sorted(ref.transaction_id for ref in refs)
    assert all(tier.is_marked(ref) for ref in refs)


def test_a_home_that_is_away_leaves_copies_unmarked_until_it_is_back(
    tier: Tier, home: AtlasHome, groups: Any, ferretdb: Any
) -> None:
    refs = _store(tier, groups, 3)
    ferretdb.kill()
    left = _run(tier.copies(), home)
    assert sum(one.left for one in left) >= 3
    assert not any(tier.is_marked(ref) for ref in refs)
    ferretdb.restart()
    ends_s = time.monotonic() + SETTLING_S
    while True:
        _run(tier.copies(), home)
        if all(tier.is_marked(ref) for ref in refs):
            break
        assert time.monotonic() < ends_s, "it never moved"
    assert len(_at_home(ferretdb, refs)) == 3


def test_a_copy_whose_nonce_is_taken_at_home_is_parked_and_not_looked_at_again(
    tier: Tier, home: AtlasHome, home_tier: AtlasTier, groups: Any
) -> None:
    sender = groups.account()
    item = groups.item(sender, 9)
    # Whatever rests after the test before is tried.
    with calling_as("canary"):
        first = store_group(groups.group(groups.item(sender, 9)), "atlas", home_tier)
        second = store_group(groups.group(item), tier.name, tier.store)
    assert (first.outcome, second.outcome) == ("stored", "stored")
    name = item.envelope.header.transaction_id
    parked: dict[str, str] = {}
    for _ in range(RUNS_MAX):
        for one in _run(tier.copies(), home):
            parked.update(one.parked)
        if name in parked:
            break
    assert parked[name] == "nonce_conflict"
    assert not any(one.parked for one in _run(tier.copies(), home))
    assert not tier.is_marked(CopyRef("transaction", name))
    assert tier.store.fetch(name, None) is not None


def test_copies_are_found_in_every_bucket_of_the_index(
    dynamodb: Tier, home: AtlasHome, groups: Any
) -> None:
    refs = _store(dynamodb, groups, 12 * UNRECONCILED_BUCKETS)
    buckets = {int(ref.transaction_id[:8], 16) % UNRECONCILED_BUCKETS for ref in refs}
    assert len(buckets) == UNRECONCILED_BUCKETS
    _run(dynamodb.copies(), home)
    assert all(dynamodb.is_marked(ref) for ref in refs)


def test_immudbs_cursor_never_passes_what_is_not_done_and_idle_runs_write_nothing(
    immudb_tier: Tier, home: AtlasHome, groups: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cursor() -> bytes:
        found = immudb_tier.store.within_session(lambda session: session.get(CURSOR_KEY))
        return b"" if found is None else bytes(found.value)

    for _ in range(3):
        _run(immudb_tier.copies(), home)
    refs = _store(immudb_tier, groups, 2)
    before = cursor()

    def away(*_: Any) -> Any:
        raise TierUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(home, "insert", away)
        _run(immudb_tier.copies(), home)
        waiting = {one.transaction_id for one in immudb_tier.copies().page("", lambda: True).copies}
        assert waiting == {ref.transaction_id for ref in refs}
    _run(immudb_tier.copies(), home)
    assert all(immudb_tier.is_marked(ref) for ref in refs)
    for _ in range(2):
        _run(immudb_tier.copies(), home)
    assert cursor() != before
    after = cursor()
    _run(immudb_tier.copies(), home)
    assert cursor() == after


MOVER = """
import json, os, sys
from pathlib import Path
import boto3
sys.path[:0] = ["functions"]
import time
from federation.regions import CONTINENTS
from federation.routing import start_router
from persist.atlas import AtlasSettings, AtlasTier
from persist.dynamodb import DynamodbTier
from persist.kms_encryption import KmsEncryption
from reconcile.atlas_home import AtlasHome
from reconcile.copies import move
from reconcile.dynamodb_copies import DynamodbCopies
given = json.loads(os.environ["MOVER"])
atlas = AtlasTier(
    AtlasSettings(kms_key_arns=json.dumps(given["keys"]), persist_timeout_ms=3000),
    start_router(given["routes"]), Path(given["directory"]))
client = boto3.client("dynamodb", endpoint_url=given["dynamodb"], verify=False)
store = DynamodbTier(client, given["table"], KmsEncryption(given["keys"]))
print("ready", flush=True)
sys.stdin.readline()
after, more = "", True
while more:
    moved = move(DynamodbCopies(client, given["table"], store, "Europe"), AtlasHome(atlas, 3000),
                 time.time_ns() // 10**6, after, goes_on=lambda: True)
    after, more = moved.after, moved.more
"""


def test_a_process_killed_while_it_moves_loses_and_doubles_nothing(
    dynamodb: Tier,
    home: AtlasHome,
    groups: Any,
    ferretdb: Any,
    dynamodb_local: Any,
    key_arns: dict[str, str],
    tmp_path: Any,
) -> None:
    refs = _store(dynamodb, groups, 60)
    uri = f"mongodb://127.0.0.1:{ferretdb.port}/?tls=true&directConnection=true"
    given = {
        "keys": key_arns,
        "table": TABLE,
        "dynamodb": dynamodb_local.endpoint_url,
        "directory": str(tmp_path),
        "routes": {
            "MONGO_URI_PROVIDER": "environment",
            **{f"MONGO_URI_{one.name}": uri for one in CONTINENTS},
            "MONGO_CA_PEM": ferretdb.pki.ca_file.read_text(),
            "MONGO_CLIENT_PEM": ferretdb.pki.client_pem_file.read_text(),
        },
    }
    for pause_s in (0.05, 0.2, 0.35):
        process = subprocess.Popen(
            [sys.executable, "-c", MOVER],
            env={**os.environ, "MOVER": msgspec.json.encode(given).decode()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(pause_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # A mark says that the home copy is there, at every moment.
        at_home = set(_at_home(ferretdb, refs))
        assert {ref.transaction_id for ref in refs if dynamodb.is_marked(ref)} <= at_home
    _run(dynamodb.copies(), home)
    assert sorted(_at_home(ferretdb, refs)) == sorted(ref.transaction_id for ref in refs)
    assert all(dynamodb.is_marked(ref) for ref in refs)
