"""Late finality on a real store: told by reads, inserted once, work entries gone."""

from typing import Any

import pymongo
import pytest
from bson import Binary
from voting.late import REWARD, LateDelegates

from federation.breaker import calling_as
from persist.atlas import AtlasTier
from persist.finality import Finality
from persist.tier import TierUnavailable, fetch, store_group
from reconcile.atlas_pending import AtlasPending
from reconcile.pending import Finished, finish, gather

TIMEOUT_MS = 3_000
DATABASE = "love_currency_db"


@pytest.fixture
def tier(patient_atlas: AtlasTier) -> AtlasTier:
    return patient_atlas


@pytest.fixture
def cluster(tier: AtlasTier, ferretdb: Any) -> AtlasPending:
    """Europe's, with nothing pending."""
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        client[DATABASE]["pending"].delete_many({})
    return AtlasPending(tier, "Europe", TIMEOUT_MS)


@pytest.fixture(scope="module")
def delegates() -> LateDelegates:
    return LateDelegates()


def _store(tier: AtlasTier, groups: Any, count: int = 1, **changes: Any) -> list[str]:
    items = [groups.item(votes=[], rewards=[], flags=3, **changes) for _ in range(count)]
    assert store_group(groups.group(*items), "atlas", tier).outcome == "stored"
    return [item.envelope.header.transaction_id for item in items]


def _run(cluster: AtlasPending, delegates: LateDelegates, now_ms: int) -> Finished:
    # As the handler does: a store that rests after failures is tried.
    with calling_as("canary"):
        gathered = gather(cluster, "batch", now_ms, all_due=True)
        grouped = delegates.stages(gathered.batch)
        return finish(cluster, grouped.groups, gathered.entries, delegates.electorate, now_ms)


def _read(tier: AtlasTier, groups: Any, name: str) -> Any:
    return fetch(name, "Europe", tier, groups.private_keys, groups.to_a_party)


def _documents(ferretdb: Any, collection: str, *names: str) -> list[Any]:
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        found = client[DATABASE][collection].find()
        return [one for one in found if one["transaction_id"] in names]


def test_a_read_tells_of_late_finality_and_its_rewards(
    tier: AtlasTier, cluster: AtlasPending, delegates: LateDelegates, groups: Any, ferretdb: Any
) -> None:
    names = _store(tier, groups, 20)
    assert not _read(tier, groups, names[0])["receipt"]["final"]
    assert len(_documents(ferretdb, "pending", *names)) == 20
    before = _documents(ferretdb, "transactions", *names)
    assert _run(cluster, delegates, 1).final == 20
    for name in names:
        answer = _read(tier, groups, name)
        assert answer["receipt"]["final"]
        assert sum(amount for _, amount in answer["rewards"]) == REWARD
        assert answer["content"]["salt"]
    assert _documents(ferretdb, "pending", *names) == []
    assert _documents(ferretdb, "transactions", *names) == before


def test_what_is_no_work_entry_holds_up_no_other(
    tier: AtlasTier, cluster: AtlasPending, delegates: LateDelegates, groups: Any, ferretdb: Any
) -> None:
    [name] = _store(tier, groups)
    strange = [{"_id": "0"}, {"_id": "~", "since_ms": "?"}, {"_id": 7, "since_ms": None}]
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        client[DATABASE]["pending"].insert_many(strange)
        client[DATABASE]["pending"].update_one(
            {"transaction_id": name}, {"$unset": {"transaction_id": ""}}
        )
    gathered = gather(cluster, "batch", 1, all_due=True)
    assert sorted(gathered.damaged) == ["0", "~"]
    assert gathered.oldest_ms is not None
    assert _run(cluster, delegates, 1).final == 1
    assert cluster.entries("", 10) == ["0", "~"]


def test_a_final_record_leaves_no_work(
    tier: AtlasTier, cluster: AtlasPending, groups: Any, ferretdb: Any
) -> None:
    names = _store(tier, groups, 3, final=True)
    assert _documents(ferretdb, "pending", *names) == []
    assert gather(cluster, "batch", 1).batch.items == []


def test_a_rejected_nonce_is_told_as_the_status(
    tier: AtlasTier, cluster: AtlasPending, groups: Any
) -> None:
    [name] = _store(tier, groups)
    cluster.settle([Finality(name, "rejected", 1, [], 0, [], 5)])
    receipt = _read(tier, groups, name)["receipt"]
    assert (receipt["status"], receipt["reason"]) == ("rejected", "nonce_conflict")


def test_the_first_outcome_stays_and_repetitions_do_no_harm(
    tier: AtlasTier, cluster: AtlasPending, groups: Any, ferretdb: Any
) -> None:
    one, other = _store(tier, groups, 2)
    cluster.settle([Finality(one, "final", 1, [("a", "AA==")], 3, [("a", 7)], 5)])
    both = [Finality(name, "final", 2, [("b", "BB==")], 4, [("b", 8)], 6) for name in (one, other)]
    cluster.settle(both)
    cluster.settle(both)
    epochs = {one["_id"]: one["epoch"] for one in _documents(ferretdb, "finality", one, other)}
    assert epochs == {one: 1, other: 2}
    assert cluster.settled([one, other, "0" * 64]) == {one, other}


def test_a_cluster_that_dies_in_the_middle_is_gone_on_with(
    tier: AtlasTier,
    cluster: AtlasPending,
    delegates: LateDelegates,
    groups: Any,
    ferretdb: Any,
) -> None:
    names = _store(tier, groups, 5)
    gathered = gather(cluster, "batch", 1, all_due=True)
    grouped = delegates.stages(gathered.batch)
    ferretdb.kill()
    with pytest.raises(TierUnavailable):
        finish(cluster, grouped.groups, gathered.entries, delegates.electorate, 1)
    ferretdb.restart()
    _until_back(cluster)
    assert _run(cluster, delegates, 1).final == 5
    assert all(_read(tier, groups, name)["receipt"]["final"] for name in names)


def test_what_died_between_outcome_and_removal_is_cleared_by_the_next_run(
    tier: AtlasTier,
    cluster: AtlasPending,
    delegates: LateDelegates,
    groups: Any,
    ferretdb: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = _store(tier, groups, 3)

    def die(entry_ids: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cluster, "remove", die)
        with pytest.raises(KeyboardInterrupt):
            _run(cluster, delegates, 1)
    assert len(_documents(ferretdb, "pending", *names)) == 3
    gathered = gather(cluster, "batch", 1, all_due=True)
    assert (gathered.batch.items, gathered.removed) == ([], 3)
    assert len(_documents(ferretdb, "finality", *names)) == 3


def _until_back(cluster: AtlasPending) -> None:
    import time

    ends_s = time.monotonic() + 30
    while True:
        try:
            with calling_as("canary"):
                cluster.oldest_ms()
        except TierUnavailable:
            assert time.monotonic() < ends_s, "the cluster does not come back"
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("change", [{"$unset": {"votes": 1}}, {"$set": {"content": "none"}}, None])
def test_a_damaged_record_is_named_and_the_others_become_final(
    tier: AtlasTier,
    cluster: AtlasPending,
    delegates: LateDelegates,
    groups: Any,
    ferretdb: Any,
    change: dict[str, Any] | None,
) -> None:
    culprit, *others = _store(tier, groups, 5)
    with pymongo.MongoClient[Any](ferretdb.uri) as client:
        records = client[DATABASE]["transactions"]
        found = records.find_one({"_id": culprit})
        assert found is not None
        value = bytes(found["content"])
        flipped = Binary(value[:-1] + bytes([value[-1] ^ 1]), 6)
        records.update_one({"_id": culprit}, change or {"$set": {"content": flipped}})
    now_ms = int(found["stored_at_ms"])
    with calling_as("canary"):
        assert gather(cluster, "batch", now_ms, all_due=True).damaged == [culprit]
    assert _run(cluster, delegates, now_ms).final == 4
    assert {one["transaction_id"] for one in _documents(ferretdb, "finality", *others)} == set(
        others
    )
    assert all(one.state == "closed" for one in tier.breakers())
