"""Copies go home on real stores: found again, read, written, proved, marked; whatever dies."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest
from bson import Binary
from voting.late import REWARD, STAKE, LateDelegates

from federation.batch import Batch, rejected
from federation.breaker import calling_as
from federation.immudb_session import ProofFailed, create_database
from federation.limits import UNRECONCILED_BUCKETS
from federation.regions import CONTINENTS
from persist.atlas import AtlasTier
from persist.dynamodb import UNRECONCILED, DynamodbTier
from persist.immudb_tier import ImmudbTier
from persist.kms_encryption import KmsEncryption
from persist.tier import TierUnavailable, fetch, store_group
from reconcile.atlas_home import AtlasHome
from reconcile.atlas_pending import AtlasPending
from reconcile.copies import CopyRef, Moved, move
from reconcile.dynamodb_copies import DynamodbCopies
from reconcile.electorate import Electorate
from reconcile.immudb_copies import CURSOR_KEY, WITNESS_KEY, ImmudbCopies
from reconcile.pending import gather

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


def _no_delegates() -> Electorate | None:
    """Most copies go home without them."""
    raise AssertionError("the delegates were asked for")


def _run(
    copies: Any, home: Any, electorate: Callable[[], Electorate | None] = _no_delegates
) -> list[Moved]:
    after, rounds = "", []
    now_ms = time.time_ns() // 1_000_000
    # As the handler does: a store that rests after failures is tried.
    with calling_as("canary"):
        while True:
            rounds.append(
                move(copies, home, now_ms, after, electorate=electorate, goes_on=lambda: True)
            )
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


def _damaged_at_home(ferretdb: Any, ref: CopyRef, how: str) -> None:
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        records = client[DATABASE]["transactions"]
        query = {"_id": ref.transaction_id}
        if how == "content":
            found = records.find_one(query)
            assert found is not None
            value = bytes(found["content"])
            records.update_one(
                query, {"$set": {"content": Binary(value[:-1] + bytes([value[-1] ^ 1]), 6)}}
            )
        else:
            records.update_one(query, {"$unset": {"votes": 1}})


@pytest.mark.parametrize("how", ["content", "votes"])
def test_a_damaged_home_record_parks_its_own_copy_and_the_others_are_marked(
    tier: Tier, home: AtlasHome, home_tier: AtlasTier, groups: Any, ferretdb: Any, how: str
) -> None:
    items = [groups.item() for _ in range(5)]
    with calling_as("canary"):
        assert store_group(groups.group(items[2]), "atlas", home_tier).outcome == "stored"
        assert store_group(groups.group(*items), tier.name, tier.store).outcome == "stored"
    refs = [CopyRef("transaction", item.envelope.header.transaction_id) for item in items]
    culprit = refs.pop(2)
    _damaged_at_home(ferretdb, culprit, how)
    parked: dict[str, str] = {}
    for _ in range(RUNS_MAX):
        for one in _run(tier.copies(), home):
            parked.update(one.parked)
        if parked:
            break
    assert parked == {culprit.transaction_id: "home_copy_differs"}
    assert all(tier.is_marked(ref) for ref in refs)
    assert not tier.is_marked(culprit)


def test_copies_of_one_transaction_in_both_tiers_are_both_marked(
    dynamodb: Tier, immudb_tier: Tier, home: AtlasHome, groups: Any, ferretdb: Any
) -> None:
    # DynamoDB took it, its answer was lost; the message came again, and immuDB took it.
    item = groups.item()
    again = msgspec.structs.replace(item, votes=[], rewards=[], flags=3, final=False)
    for one, tier in ((item, dynamodb), (again, immudb_tier)):
        assert store_group(groups.group(one), tier.name, tier.store).outcome == "stored"
    ref = CopyRef("transaction", item.envelope.header.transaction_id)
    parked = [_run(one.copies(), home)[0].parked for one in (dynamodb, immudb_tier)]
    assert parked == [{}, {}]
    assert dynamodb.is_marked(ref)
    assert immudb_tier.is_marked(ref)
    assert _at_home(ferretdb, [ref]) == [ref.transaction_id]


def _stored_twice(
    tier: Tier, home_tier: AtlasTier, groups: Any, delegates: LateDelegates
) -> CopyRef:
    """Stored at home while delegates were silent, then with their votes while the home was away."""
    item = groups.item(votes=[], rewards=[], flags=3)
    batch = Batch("again", dict(groups.wrapped_keys), [item])
    [voted] = delegates.stages(batch).groups
    # Whatever rests after the tests before is tried.
    with calling_as("canary"):
        assert store_group(groups.group(item), "atlas", home_tier).outcome == "stored"
        stored = store_group(voted, tier.name, tier.store)
    assert stored.outcome == "stored"
    assert [receipt.final for receipt in stored.receipts] == [True]
    return CopyRef("transaction", item.envelope.header.transaction_id)


@pytest.fixture
def nothing_pending(ferretdb: Any) -> None:
    """What other tests left to be voted on is gone."""
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        client[DATABASE]["pending"].delete_many({})


@pytest.mark.usefixtures("nothing_pending")
def test_what_was_told_to_be_final_is_final_at_home_before_its_copy_is_marked(
    tier: Tier, home: AtlasHome, home_tier: AtlasTier, groups: Any
) -> None:
    delegates = LateDelegates()
    ref = _stored_twice(tier, home_tier, groups, delegates)
    name = ref.transaction_id

    def read() -> Any:
        return fetch(name, "Europe", home_tier, groups.private_keys, groups.to_a_party)

    assert not read()["receipt"]["final"]
    # Without the delegates' keys nothing proves the votes: the copy waits.
    left = _run(tier.copies(), home, lambda: None)
    assert (sum(one.left for one in left), tier.is_marked(ref)) == (1, False)
    _run(tier.copies(), home, lambda: delegates.electorate)
    answer = read()
    assert answer["receipt"]["final"]
    assert sum(amount for _, amount in answer["rewards"]) == REWARD
    assert answer["content"]["salt"]
    assert tier.is_marked(ref)
    found = home_tier.fetch(name, "Europe")
    copy = tier.store.fetch(name, None)
    assert isinstance(found, tuple)
    assert found[0].votes == copy[0].votes
    assert (len(found[0].votes), found[0].stake) == (3, 3 * STAKE)
    # The next look for pending records finds nothing to do.
    cluster = AtlasPending(home_tier, "Europe", TIMEOUT_MS)
    gathered = gather(cluster, "batch", time.time_ns() // 1_000_000, all_due=True)
    assert (gathered.batch.items, gathered.removed) == ([], 1)
    assert cluster.entries("", 10) == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_that_dies_as_it_tells_the_home_of_finality_is_made_good(
    tier: Tier,
    home: AtlasHome,
    home_tier: AtlasTier,
    groups: Any,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    delegates = LateDelegates()
    ref = _stored_twice(tier, home_tier, groups, delegates)
    real = home.settle

    def dying(*arguments: Any) -> None:
        if when == "after":
            real(*arguments)
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(home, "settle", dying)
        with pytest.raises(Died):
            _run(tier.copies(), home, lambda: delegates.electorate)
    assert not tier.is_marked(ref)
    _run(tier.copies(), home, lambda: delegates.electorate)
    assert tier.is_marked(ref)
    assert home.outcomes("Europe", [ref.transaction_id]) == {ref.transaction_id: "final"}


def test_a_look_ends_with_its_time_and_a_run_that_was_cut_short_is_gone_on_with(
    immudb_tier: Tier, home: AtlasHome, groups: Any
) -> None:
    for _ in range(2):
        _run(immudb_tier.copies(), home)
    refs = [_store(immudb_tier, groups, 1)[0] for _ in range(3)]
    copies = immudb_tier.copies()
    after, seen = "", []
    while len(seen) < 2:
        page = copies.page(after, lambda: False)
        assert page.more
        assert len(page.copies) <= 1
        seen += page.copies
        after = page.after
    assert seen == refs[:2]
    copies.pause(after)
    # The one run does what lies behind, the next begins with what the first one left.
    assert sum(one.moved for one in _run(immudb_tier.copies(), home)) == 1
    assert [immudb_tier.is_marked(ref) for ref in refs] == [False, False, True]
    assert sum(one.moved for one in _run(immudb_tier.copies(), home)) == 2
    assert all(immudb_tier.is_marked(ref) for ref in refs)


@pytest.mark.parametrize("every", [False, True])
def test_a_copy_whose_proof_fails_is_parked_only_if_another_proof_holds(
    immudb_tier: Tier,
    home: AtlasHome,
    groups: Any,
    monkeypatch: pytest.MonkeyPatch,
    every: bool,
) -> None:
    for _ in range(2):
        _run(immudb_tier.copies(), home)
    [ref] = _store(immudb_tier, groups, 1)
    session = immudb_tier.store._session
    real = session.get
    copy_key = f"transaction:{ref.transaction_id}".encode()

    def get(key: bytes) -> Any:
        if key == copy_key or (every and key == WITNESS_KEY):
            raise ProofFailed("its proof doesn't hold")
        return real(key)

    with monkeypatch.context() as patch:
        patch.setattr(session, "get", get)
        moved = _run(immudb_tier.copies(), home)
    if every:
        assert sum(one.left for one in moved) == 1
        assert not any(one.parked for one in moved)
        _run(immudb_tier.copies(), home)
        assert immudb_tier.is_marked(ref)
    else:
        assert moved[0].parked == {ref.transaction_id: "record_damaged"}
        assert not any(one.parked for one in _run(immudb_tier.copies(), home))


@pytest.mark.parametrize("what", ["value", "log"])
def test_bytes_that_change_on_immudbs_disk_hold_up_no_other_copy(
    immudb: Any,
    immudb_access: dict[str, str],
    key_arns: dict[str, str],
    server_directory: Path,
    home: AtlasHome,
    groups: Any,
    what: str,
) -> None:
    database = f"damaged{what}"
    access = {**immudb_access, "database": database}
    create_database(lambda: {**immudb_access, "copies": database}, "copies", 5.0)
    store = ImmudbTier(lambda: access, KmsEncryption(key_arns), 3.0, 5.0)
    tier = Tier("immudb", store, lambda: ImmudbCopies(store), None)
    refs = [_store(tier, groups, 1)[0] for _ in range(4)]
    name = refs[1].transaction_id
    found = store.within_session(lambda session: session.get(f"transaction:{name}".encode()))
    assert found is not None
    old = f'"transaction_id":"{name}"' if what == "value" else f"transaction:{name}"
    immudb.stop()
    edited = 0
    for path in (server_directory / "immudb").rglob("*"):
        inside = path.is_file() and database in path.parts
        if inside and "index" not in str(path.relative_to(server_directory)):
            content = path.read_bytes()
            edited += content.count(old.encode())
            path.write_bytes(content.replace(old.encode(), old.encode().swapcase()))
    immudb.start()
    assert edited
    parked: dict[str, str] = {}
    rounds: list[Moved] = []
    for _ in range(RUNS_MAX):
        rounds += _run(tier.copies(), home)
        for one in rounds:
            parked.update(one.parked)
    expected = name if what == "value" else str(found.transaction)
    assert parked == {expected: "record_damaged"}
    assert sum(one.moved for one in rounds) == 3
    # The cursor has gone on, so that nothing is looked at twice.
    assert tier.copies().page("", lambda: True).copies == []
    cursor = store.within_session(lambda session: session.get(CURSOR_KEY))
    assert cursor is not None
    assert msgspec.json.decode(cursor.value)["transaction"] >= found.transaction + 2


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
                 time.time_ns() // 10**6, after, electorate=lambda: None, goes_on=lambda: True)
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
