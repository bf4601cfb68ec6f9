"""The rules that hold in every tier, each on its real server: stored once, never in clear."""

import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pymongo
import pytest
from botocore.exceptions import EndpointConnectionError
from one_cluster import router_to

import flag_rust
from federation.immudb_session import READS_AT_ONCE, ImmudbUnavailable, ProofFailed
from persist import dynamodb as dynamodb_module
from persist import immudb_tier as immudb_module
from persist.atlas import AtlasSettings, AtlasTier
from persist.dynamodb import DynamodbTier
from persist.finality import Finality
from persist.immudb_tier import ImmudbTier
from persist.kms_encryption import KmsEncryption
from persist.record import rejection_of
from persist.tier import CONTESTED, TierUnavailable, fetch, store_group
from reconcile.atlas_pending import AtlasPending

MARKER = "a secret between the two of us"
WRITERS = 8
TABLE = "transactions"
TIMEOUT_S = 1.0
COLD_S = 3.0
#: A store that was killed may need this long to answer again.
RESTART_S = 10.0


class Calls:
    """Stands before a client or a stub: counts calls, those at once too, and fails as it is told.

    Attributes
    ----------
    made : list of str
        The operations, in the order of their calls.
    at_once : int
        As many were on their way together.
    failures : mapping of operation and number of its call to exception
    """

    def __init__(self, target: Any, failures: dict[tuple[str, int], Exception] | None = None):
        self._target = target
        self._lock = threading.Lock()
        self._running = 0
        self.failures = failures or {}
        self.made: list[str] = []
        self.at_once = 0

    def __getattr__(self, name: str) -> Any:
        return Call(self, name, getattr(self._target, name))

    def begin(self, name: str) -> None:
        with self._lock:
            self.made.append(name)
            failure = self.failures.get((name, self.made.count(name)))
            if failure is not None:
                raise failure
            self._running += 1
            self.at_once = max(self.at_once, self._running)

    def end(self, _: object = None) -> None:
        with self._lock:
            self._running -= 1


class Call:
    """One operation of `Calls`, as boto3's clients and gRPC's stubs have it."""

    def __init__(self, calls: Calls, name: str, target: Any) -> None:
        self._calls, self._name, self._target = calls, name, target

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self._calls.begin(self._name)
        try:
            return self._target(*arguments, **named)
        finally:
            self._calls.end()

    def future(self, *arguments: Any, **named: Any) -> Any:
        self._calls.begin(self._name)
        future = self._target.future(*arguments, **named)
        future.add_done_callback(self._calls.end)
        return future


def counted(store: Any, failures: dict[tuple[str, int], Exception] | None = None) -> Calls:
    """What a fallback tier asks of its server from now on."""
    if isinstance(store, DynamodbTier):
        calls = Calls(store._client, failures)
        store._client = store._warm_client = calls
        return calls
    client = store._session._opened()
    client._stub = Calls(client._stub, failures)
    return client._stub


class Bench:
    """One tier on its server: makes tiers as separate environments would, and reads raw bytes."""

    def __init__(self, name: str, connect: Callable[[], Any], raw: Callable[[str], bytes]) -> None:
        self.name: Any = name
        self.connect = connect
        self.raw = raw
        self.server: Any = None


@pytest.fixture(scope="module")
def atlas(
    ferretdb: Any, key_arns: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Bench:
    """Tier 1, its seven clusters played by one server."""
    directory = tmp_path_factory.mktemp("atlas")
    bench = Bench(
        "atlas", lambda: atlas_tier(ferretdb.port, ferretdb, key_arns, directory), lambda _: b""
    )

    def raw(transaction_id: str) -> bytes:
        with pymongo.MongoClient(ferretdb.uri) as client:
            found = client["love_currency_db"]["transactions"].find_one({"_id": transaction_id})
            return repr(found).encode()

    bench.raw = raw
    bench.server = ferretdb
    return bench


def atlas_tier(port: int, server: Any, key_arns: dict[str, str], directory: Path) -> AtlasTier:
    """A tier whose clusters are all at `port`."""
    router = router_to(port, server.pki.ca_file.read_text(), server.pki.client_pem_file.read_text())
    settings = AtlasSettings(
        kms_key_arns=msgspec.json.encode(key_arns).decode(),
        persist_timeout_ms=int(TIMEOUT_S * 1000),
        persist_slow_ms=int(TIMEOUT_S * 1000),
        cold_timeout_ms=int(COLD_S * 1000),
    )
    return AtlasTier(settings, router, directory)


@pytest.fixture(scope="module")
def dynamodb(dynamodb_local: Any, key_arns: dict[str, str]) -> Bench:
    """Tier 2 on DynamoDB Local, its KMS on the local AWS."""
    client = dynamodb_local.client()
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )

    def raw(transaction_id: str) -> bytes:
        key = {"pk": {"S": f"transaction#{transaction_id}"}}
        return repr(client.get_item(TableName=TABLE, Key=key)["Item"]).encode()

    bench = Bench(
        "dynamodb",
        lambda: DynamodbTier(dynamodb_local.client(), TABLE, KmsEncryption(key_arns)),
        raw,
    )
    bench.server = dynamodb_local
    return bench


@pytest.fixture(scope="module")
def immudb_tier(immudb: Any, immudb_access: dict[str, str], key_arns: dict[str, str]) -> Bench:
    """Tier 3 behind its front, its KMS on the local AWS."""
    bench = Bench(
        "immudb",
        lambda: ImmudbTier(lambda: immudb_access, KmsEncryption(key_arns), TIMEOUT_S, COLD_S),
        lambda _: b"",
    )

    def raw(transaction_id: str) -> bytes:
        found = bench.connect()._session.get(f"transaction:{transaction_id}".encode())
        return bytes(found.value)

    bench.raw = raw
    bench.server = immudb
    return bench


@pytest.fixture(params=["atlas", "dynamodb", "immudb_tier"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """Each tier in turn."""
    found: Bench = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def store(bench: Bench) -> Any:
    """One connected tier."""
    return bench.connect()


def test_a_batch_is_stored_and_its_content_is_read_back(
    bench: Bench, store: Any, groups: Any
) -> None:
    items = [groups.item(nonce=n, content={"note": MARKER}) for n in range(100)]
    persisted = store_group(groups.group(*items), bench.name, store)
    assert (persisted.outcome, persisted.reason, persisted.unavailable) == ("stored", None, [])
    assert {one.status for one in persisted.receipts} == {"stored"}
    assert len(persisted.receipts) == 100
    header = items[7].envelope.header
    for likely in ("Europe", None):
        found = fetch(header.transaction_id, likely, store, groups.private_keys, groups.to_a_party)
        assert found["outcome"] == "found"
        assert found["content"]["note"] == MARKER
        assert found["header"] == msgspec.to_builtins(header)
        assert found["receipt"]["tier"] == bench.name


def test_what_was_never_sent_is_absent(store: Any, groups: Any) -> None:
    assert fetch("0" * 64, "Europe", store, groups.private_keys, groups.to_a_party) == {
        "outcome": "absent"
    }


def test_a_repeated_batch_gets_the_first_receipts(bench: Bench, groups: Any) -> None:
    group = groups.group(*(groups.item(nonce=n) for n in range(3)))
    first = store_group(group, bench.name, bench.connect())
    again = store_group(group, bench.name, bench.connect())
    assert again.outcome == "stored"
    assert _by_id(again) == _by_id(first)


def test_a_batch_of_old_and_new_is_stored_whole(bench: Bench, store: Any, groups: Any) -> None:
    items = [groups.item(nonce=n) for n in range(6)]
    store_group(groups.group(*items[::2]), bench.name, store)
    persisted = store_group(groups.group(*items), bench.name, store)
    assert persisted.outcome == "stored"
    assert len(_by_id(persisted)) == 6


def test_another_transaction_of_a_used_nonce_is_rejected_and_recorded(
    bench: Bench, store: Any, groups: Any
) -> None:
    sender = groups.account()
    first, second = groups.item(sender, 1), groups.item(sender, 1)
    store_group(groups.group(first), bench.name, store)
    persisted = store_group(groups.group(second, groups.item()), bench.name, store)
    receipt = _by_id(persisted)[second.envelope.header.transaction_id]
    assert persisted.outcome == "stored"
    assert (receipt.status, receipt.reason) == ("rejected", "nonce_conflict")
    found = fetch(receipt.transaction_id, "Europe", store, groups.private_keys, groups.to_a_party)
    assert found["receipt"] == msgspec.to_builtins(receipt)
    assert found["content"] is None


FINAL = {
    "final": True,
    "flags": flag_rust.VERIFIED | flag_rust.PLACED | flag_rust.VOTED | flag_rust.FINAL,
}


def test_what_is_final_is_not_rejected_for_a_pending_record_of_its_nonce(
    bench: Bench, store: Any, groups: Any
) -> None:
    sender = groups.account()
    pending, final = groups.item(sender, 1), groups.item(sender, 1, **FINAL)
    store_group(groups.group(pending), bench.name, store)
    persisted = store_group(groups.group(final, groups.item()), bench.name, store)
    assert (persisted.outcome, persisted.reason) == ("unavailable", CONTESTED)
    assert persisted.unavailable == [final]
    assert len(persisted.receipts) == 1
    assert store.fetch(final.envelope.header.transaction_id, "Europe") is None


def test_what_is_final_holds_its_nonce_against_all(bench: Bench, store: Any, groups: Any) -> None:
    sender = groups.account()
    first, second = (groups.item(sender, 1, **FINAL) for _ in range(2))
    store_group(groups.group(first), bench.name, store)
    [receipt] = store_group(groups.group(second), bench.name, store).receipts
    assert (receipt.status, receipt.reason) == ("rejected", "nonce_conflict")


@pytest.mark.parametrize(("outcome", "status"), [("final", "stored"), ("rejected", "unavailable")])
def test_a_nonce_is_held_by_what_became_final_later_and_not_by_what_never_can(
    atlas: Bench, groups: Any, outcome: Any, status: str
) -> None:
    store, sender = atlas.connect(), groups.account()
    first, second = groups.item(sender, 1), groups.item(sender, 1, **FINAL)
    store_group(groups.group(first), atlas.name, store)
    name = first.envelope.header.transaction_id
    settled = Finality(name, outcome, 1, [], 0, [], 1)
    AtlasPending(store, "Europe", int(TIMEOUT_S * 1000)).settle([settled])
    persisted = store_group(groups.group(second), atlas.name, store)
    # `stored` tells that nothing goes on to the next tier: its rejection is recorded.
    assert persisted.outcome == status
    assert [one.reason for one in persisted.receipts] == (
        ["nonce_conflict"] if status == "stored" else []
    )


def test_what_comes_again_after_its_copy_expired_is_no_conflict_with_itself(
    dynamodb: Bench, groups: Any
) -> None:
    store, sender = dynamodb.connect(), groups.account()
    first, other = groups.item(sender, 1), groups.item(sender, 1)
    name = first.envelope.header.transaction_id
    store_group(groups.group(first), dynamodb.name, store)
    # As the time to live of a copy that was brought home does; the nonce has none.
    key = {"pk": {"S": f"transaction#{name}"}}
    dynamodb.server.client().delete_item(TableName=TABLE, Key=key)
    assert store.fetch(name, "Europe") is None
    lost = _by_id(store_group(groups.group(other), dynamodb.name, store))
    assert [one.reason for one in lost.values()] == ["nonce_conflict"]
    again = store_group(groups.group(first, groups.item(sender, 2)), dynamodb.name, store)
    assert [one.status for one in again.receipts] == ["stored", "stored"]
    assert store.fetch_as("rejection", name) is None
    found = fetch(name, "Europe", store, groups.private_keys, groups.to_a_party)
    assert found["receipt"] == msgspec.to_builtins(_by_id(again)[name])


def test_of_two_transactions_with_one_nonce_in_a_batch_the_first_is_stored(
    bench: Bench, store: Any, groups: Any
) -> None:
    sender = groups.account()
    pair = [groups.item(sender, 1), groups.item(sender, 1)]
    receipts = _by_id(store_group(groups.group(*pair), bench.name, store))
    assert [receipts[one.envelope.header.transaction_id].status for one in pair] == [
        "stored",
        "rejected",
    ]


def test_a_rejection_is_recorded_and_leaves_the_nonce_free(
    bench: Bench, store: Any, groups: Any
) -> None:
    sender = groups.account()
    refused = groups.item(sender, 1, outcome="rejected", reason="too_fast")
    receipt = store_group(groups.group(refused), bench.name, store).receipts[0]
    assert (receipt.status, receipt.reason) == ("rejected", "too_fast")
    later = store_group(groups.group(refused), bench.name, store).receipts[0]
    assert later == receipt
    other = store_group(groups.group(groups.item(sender, 1)), bench.name, store)
    assert other.receipts[0].status == "stored"


def test_what_is_stored_stays_stored_though_a_repetition_is_rejected(
    bench: Bench, store: Any, groups: Any
) -> None:
    item = groups.item()
    first = store_group(groups.group(item), bench.name, store)
    late = msgspec.structs.replace(item, outcome="rejected", reason="too_fast")
    assert store_group(groups.group(late), bench.name, store).receipts == first.receipts


def test_no_clear_content_lies_in_the_store(bench: Bench, store: Any, groups: Any) -> None:
    item = groups.item(content={"note": MARKER})
    store_group(groups.group(item), bench.name, store)
    raw = bench.raw(item.envelope.header.transaction_id)
    assert item.envelope.header.transaction_id.encode() in raw
    assert MARKER.encode() not in raw
    # The sealed content is encrypted once more, by the tier.
    assert item.envelope.sealed.ciphertext.encode() not in raw


def test_racing_writers_of_one_batch_store_it_once(bench: Bench, groups: Any) -> None:
    group = groups.group(*(groups.item(nonce=n) for n in range(20)))
    start = threading.Barrier(WRITERS)

    def write(_: int) -> Any:
        store = bench.connect()
        store_group(groups.group(groups.item()), bench.name, store)
        start.wait(30)
        return store_group(group, bench.name, store)

    with ThreadPoolExecutor(WRITERS) as pool:
        results = list(pool.map(write, range(WRITERS)))
    done = [one for one in results if one.outcome == "stored"]
    assert done
    # One copy: whoever has a receipt has that of the one writer who won.
    for result in results:
        for receipt in result.receipts:
            assert receipt == _by_id(done[0])[receipt.transaction_id]


def test_racing_transactions_of_one_nonce_have_one_winner(bench: Bench, groups: Any) -> None:
    sender = groups.account()
    rivals = [groups.item(sender, 9) for _ in range(WRITERS)]
    start = threading.Barrier(WRITERS)

    def write(item: Any) -> Any:
        store = bench.connect()
        store_group(groups.group(groups.item()), bench.name, store)
        start.wait(30)
        return store_group(groups.group(item), bench.name, store)

    with ThreadPoolExecutor(WRITERS) as pool:
        results = list(pool.map(write, rivals))
    states = [receipt.status for result in results for receipt in result.receipts]
    assert states.count("stored") == 1


# Not DynamoDB: its local stand-in keeps acknowledged puts, but lost whole acknowledged
# TransactWriteItems in 2 of 4 kills (it commits them a moment later); the service does not.
@pytest.mark.parametrize("bench", ["atlas", "immudb_tier"], indirect=True)
def test_what_was_acknowledged_survives_a_kill(bench: Bench, store: Any, groups: Any) -> None:
    group = groups.group(*(groups.item(nonce=n) for n in range(10)))
    receipts = store_group(group, bench.name, store).receipts
    bench.server.kill()
    bench.server.start()
    again = bench.connect()
    for receipt in receipts:
        found = fetch(
            receipt.transaction_id, "Europe", again, groups.private_keys, groups.to_a_party
        )
        deadline_s = time.monotonic() + RESTART_S
        while found["outcome"] == "unavailable" and time.monotonic() < deadline_s:
            time.sleep(0.2)
            found = fetch(
                receipt.transaction_id, "Europe", again, groups.private_keys, groups.to_a_party
            )
        assert found.get("receipt") == msgspec.to_builtins(receipt), found


def test_a_tier_connects_again_by_itself_after_a_restart(
    bench: Bench, store: Any, groups: Any
) -> None:
    store_group(groups.group(groups.item()), bench.name, store)
    bench.server.kill()
    bench.server.start()
    persisted = store_group(groups.group(groups.item()), bench.name, store)
    assert (persisted.outcome, persisted.reason) == ("stored", None)


#: Atlas writes a batch of rejections by one command.
fallback = pytest.mark.parametrize("bench", ["dynamodb", "immudb_tier"], indirect=True)
BATCH = 100
#: What a call that fails raises, by tier, and the operation that writes.
UNAVAILABLE: dict[str, Exception] = {
    "dynamodb": EndpointConnectionError(endpoint_url="http://nowhere"),
    "immudb": ImmudbUnavailable("gone"),
}
WRITE = {"dynamodb": "transact_write_items", "immudb": "Set"}


def _refused(groups: Any, count: int, reason: str = "stale") -> list[Any]:
    return [groups.item(outcome="rejected", reason=reason) for _ in range(count)]


def _rejections(bench: Bench, items: list[Any], reason: str) -> list[Any]:
    return [rejection_of(item, reason, "Europe", bench.name, 1) for item in items]


@fallback
def test_a_batch_of_rejections_costs_no_call_for_each(
    bench: Bench, store: Any, groups: Any
) -> None:
    calls = counted(store)
    group = groups.group(*_refused(groups, BATCH))
    persisted = store_group(group, bench.name, store)
    assert (persisted.outcome, len(_by_id(persisted))) == ("stored", BATCH)
    assert {one.reason for one in persisted.receipts} == {"stale"}
    looks = ["batch_get_item"] if bench.name == "dynamodb" else []
    assert calls.made == [*looks, WRITE[bench.name]]
    assert all(store.fetch(one, "Europe").receipt() == it for one, it in _by_id(persisted).items())


@fallback
def test_more_rejections_than_one_write_takes_are_recorded_whole(
    bench: Bench, store: Any, groups: Any
) -> None:
    most = {"dynamodb": dynamodb_module.REJECTIONS_MAX, "immudb": immudb_module.REJECTIONS_MAX}[
        bench.name
    ]
    [item] = _rejections(bench, _refused(groups, 1), "stale")
    ids = [secrets.token_hex(32) for _ in range(most + 1)]
    rejections = [msgspec.structs.replace(item, transaction_id=one) for one in ids]
    calls = counted(store)
    assert store.reject("Europe", rejections) == dict(zip(ids, rejections, strict=True))
    assert calls.made.count(WRITE[bench.name]) == 2


@fallback
def test_rejections_that_come_again_get_the_first_receipts_by_overlapping_calls(
    bench: Bench, groups: Any
) -> None:
    items = _refused(groups, BATCH)
    first = store_group(groups.group(*items), bench.name, bench.connect())
    store = bench.connect()
    calls = counted(store)
    later = [msgspec.structs.replace(one, reason="another") for one in items]
    again = store_group(groups.group(*later), bench.name, store)
    assert again.outcome == "stored"
    assert _by_id(again) == _by_id(first)
    if bench.name == "dynamodb":
        assert len(calls.made) == 3
    else:
        assert 1 < calls.at_once <= READS_AT_ONCE


@fallback
def test_what_is_new_among_known_rejections_and_stored_transactions_is_recorded(
    bench: Bench, store: Any, groups: Any
) -> None:
    stored, known, new = [groups.item() for _ in range(5)], *(_refused(groups, 5) for _ in "ab")
    first = store_group(groups.group(*stored, *known), bench.name, store)
    late = [msgspec.structs.replace(one, outcome="rejected", reason="late") for one in stored]
    again = store_group(groups.group(*late, *new, *known), bench.name, bench.connect())
    assert again.outcome == "stored"
    receipts = _by_id(again)
    assert {one: receipts.pop(one) for one in _by_id(first)} == _by_id(first)
    assert [receipts[_id(one)].reason for one in new] == ["stale"] * 5


@fallback
def test_a_batch_that_comes_again_costs_no_call_for_each(bench: Bench, groups: Any) -> None:
    group = groups.group(*(groups.item() for _ in range(BATCH)))
    first = store_group(group, bench.name, bench.connect())
    store = bench.connect()
    calls = counted(store)
    assert _by_id(store_group(group, bench.name, store)) == _by_id(first)
    if bench.name == "dynamodb":
        assert calls.made == ["transact_write_items", "batch_get_item"] * 2
    else:
        assert calls.at_once > 1


@fallback
def test_the_first_of_two_rejections_of_an_id_in_a_batch_stays(
    bench: Bench, store: Any, groups: Any
) -> None:
    [item] = _refused(groups, 1)
    both = _rejections(bench, [item], "first") + _rejections(bench, [item], "second")
    assert store.reject("Europe", both) == {_id(item): both[0]}
    assert store.fetch(_id(item), "Europe") == both[0]


@fallback
def test_what_was_found_recorded_is_kept_when_a_later_call_fails(
    bench: Bench, store: Any, groups: Any
) -> None:
    known, new = _refused(groups, 40), _refused(groups, 10)
    first = store_group(groups.group(*known), bench.name, store)
    # The first write is refused for what is known; the one of the rest fails.
    counted(store, {(WRITE[bench.name], 2): UNAVAILABLE[bench.name]})
    persisted = store_group(groups.group(*new, *known), bench.name, store)
    assert (persisted.outcome, persisted.unavailable) == ("unavailable", new)
    assert _by_id(persisted) == _by_id(first)
    assert [store.fetch(_id(one), "Europe") for one in new] == [None] * 10


@fallback
def test_what_the_first_of_several_writes_recorded_is_kept_when_the_next_fails(
    bench: Bench, store: Any, groups: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "dynamodb" if bench.name == "dynamodb" else "immudb_tier"
    monkeypatch.setattr(f"persist.{module}.REJECTIONS_MAX", 7)
    items = _refused(groups, 20)
    counted(store, {(WRITE[bench.name], 2): UNAVAILABLE[bench.name]})
    persisted = store_group(groups.group(*items), bench.name, store)
    assert set(_by_id(persisted)) == {_id(one) for one in items[:7]}
    assert (persisted.outcome, persisted.unavailable) == ("unavailable", items[7:])


@fallback
def test_rejections_of_which_none_is_recorded_make_the_tier_unavailable(
    bench: Bench, store: Any, groups: Any
) -> None:
    counted(store, {(WRITE[bench.name], 1): UNAVAILABLE[bench.name]})
    with pytest.raises(TierUnavailable):
        store.reject("Europe", _rejections(bench, _refused(groups, 3), "stale"))


@fallback
def test_two_writers_of_the_same_rejections_get_one_first_of_each(
    bench: Bench, groups: Any
) -> None:
    items = _refused(groups, BATCH)
    start = threading.Barrier(2)

    def write(reason: str) -> Any:
        store = bench.connect()
        store.reject("Europe", _rejections(bench, _refused(groups, 1), "warm"))
        start.wait(30)
        return store.reject("Europe", _rejections(bench, items, reason))

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(write, ["one", "other"])
    assert set(one) == {_id(item) for item in items}
    assert one == other
    store = bench.connect()
    assert all(store.fetch(name, "Europe") == rejection for name, rejection in one.items())


def test_reads_of_immudb_are_proved_on_from_a_state_that_others_went_beyond(
    immudb_tier: Bench, groups: Any
) -> None:
    reader, writer = immudb_tier.connect(), immudb_tier.connect()
    items = _refused(groups, 30)
    recorded = {}
    for item in items[:15]:
        recorded.update(writer.reject("Europe", _rejections(immudb_tier, [item], "old")))
    reader.reject("Europe", _rejections(immudb_tier, _refused(groups, 1), "opens the session"))
    seen = reader._session._roots.get().txId
    for item in items[15:]:
        recorded.update(writer.reject("Europe", _rejections(immudb_tier, [item], "new")))
    assert reader.reject("Europe", _rejections(immudb_tier, items[::-1], "late")) == recorded
    assert reader._session._roots.get().txId > seen


def test_reads_that_immudb_refuses_for_their_number_are_asked_again(
    immudb_tier: Bench, groups: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = immudb_tier.connect()
    monkeypatch.setattr("federation.immudb_session.READS_AT_ONCE", BATCH)
    items = _refused(groups, BATCH)
    first = store_group(groups.group(*items), immudb_tier.name, store)
    client = store._session._opened()
    again = store_group(groups.group(*items), immudb_tier.name, store)
    assert _by_id(again) == _by_id(first)
    assert store._session._opened() is client, "the session was given up"


def test_a_value_of_immudb_that_its_proof_does_not_cover_is_not_taken(
    immudb_tier: Bench, groups: Any
) -> None:
    store = immudb_tier.connect()
    items = _refused(groups, 10)
    store_group(groups.group(*items), immudb_tier.name, store)
    session = store._session
    client = session._opened()
    keys = [f"rejection:{_id(one)}".encode() for one in items]
    session.get(keys[0])

    class Lying(Calls):
        def __getattr__(self, name: str) -> Any:
            return LyingCall(self, name, getattr(self._target, name))

    class LyingCall(Call):
        def future(self, request: Any, **named: Any) -> Any:
            future = super().future(request, **named)
            if self._name == "VerifiableGet" and request.keyRequest.key == keys[5]:
                future.result().entry.value = future.result().entry.value.replace(
                    b"stale", b"other"
                )
            return future

    client._stub = Lying(client._stub)
    found: dict[bytes, Any] = {}
    with pytest.raises(ProofFailed):
        session.get_all(keys, found, lambda: TIMEOUT_S)
    assert keys[5] not in found
    assert len(found) < len(keys)


def test_proved_reads_of_immudb_are_kept_when_the_time_is_over(
    immudb_tier: Bench, groups: Any
) -> None:
    store = immudb_tier.connect()
    items = _refused(groups, 3 * READS_AT_ONCE)
    store_group(groups.group(*items), immudb_tier.name, store)
    keys = [f"rejection:{_id(one)}".encode() for one in items]
    store._session.get(keys[0])
    left = iter([TIMEOUT_S, TIMEOUT_S])
    found: dict[bytes, Any] = {}
    with pytest.raises(StopIteration):
        store._session.get_all(keys, found, lambda: next(left))
    assert list(found) == keys[: 2 * READS_AT_ONCE]


def _id(item: Any) -> str:
    return str(item.envelope.header.transaction_id)


def _by_id(persisted: Any) -> dict[str, Any]:
    return {one.transaction_id: one for one in persisted.receipts}
