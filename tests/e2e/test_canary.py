"""The canary on the running stack: through every tier, its own schedule, never money."""

import time
from typing import Any

from federation.batch import TIERS
from federation.regions import CONTINENTS
from lovectl.access import Access
from lovectl.canary import run_canary
from lovectl.checker import atlas_records, dynamodb_records, immudb_records, read_copies
from lovectl.deploy import STACK_NAME

#: The schedule fires each minute; then it writes.
SCHEDULE_S = 90.0
SETTLING_S = 30.0


def _outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {tier["tier"]: tier["outcome"] for tier in report["tiers"]}


def _healthy(access: Access) -> None:
    """Wait until every tier takes the canary: another test may have broken one before."""
    deadline_s = time.monotonic() + SETTLING_S
    while (report := run_canary(access))["outcome"] != "ok":
        assert time.monotonic() < deadline_s, report
        time.sleep(0.5)


def test_the_canary_gets_through_every_tier_for_every_continent(access: Access) -> None:
    _healthy(access)
    report = run_canary(access)
    assert _outcomes(report) == dict.fromkeys(TIERS, "ok")
    for tier in report["tiers"]:
        assert [one["continent"] for one in tier["parts"]] == [one.value for one in CONTINENTS]
        assert {one["state"] for one in tier["breakers"]} == {"closed"}


def test_the_canary_is_in_every_store_and_is_a_transaction_in_none(access: Access) -> None:
    before = {(one.tier, one.transaction_id) for one in read_copies(access.stores)}
    _healthy(access)
    after = {(one.tier, one.transaction_id) for one in read_copies(access.stores)}
    assert after == before
    for continent in CONTINENTS:
        [*found] = atlas_records(access.stores, continent.value, "canary")
        assert found
        assert {one["continent"] for one in found} == {continent.value}
    assert len(list(dynamodb_records(access.stores, "canary#"))) >= len(CONTINENTS)
    assert len(list(immudb_records(access.stores, "canary:"))) == len(CONTINENTS)


def test_a_store_that_is_down_fails_the_canary_of_its_tier_alone_and_health_shows_it(
    access: Access,
) -> None:
    _healthy(access)
    access.proxies.down("mongo-asia")
    try:
        for _ in range(2):
            report = run_canary(access)
        assert _outcomes(report) == {"atlas": "failed", "dynamodb": "ok", "immudb": "ok"}
        [atlas] = [one for one in report["tiers"] if one["tier"] == "atlas"]
        assert {one["continent"] for one in atlas["parts"] if one["outcome"] == "failed"} == {
            "Asia"
        }
        with access.client() as client:
            health = client.health()
        assert health["status"] == "degraded"
        [tier] = [one for one in health["tiers"] if one["tier"] == "atlas"]
        assert tier["state"] == "degraded"
        parts = {one["part"]: one for one in tier["parts"]}
        assert (parts["Asia"]["state"], parts["Europe"]["state"]) == ("down", "up")
    finally:
        access.proxies.up("mongo-asia")
    _healthy(access)


def test_the_schedule_sends_it_without_anybody_asking(access: Access) -> None:
    _healthy(access)
    resources = access.aws("cloudformation").describe_stack_resources(StackName=STACK_NAME)
    [rule] = [
        one["PhysicalResourceId"]
        for one in resources["StackResources"]
        if one["LogicalResourceId"] == "CanaryFunctionEveryMinute"
    ]
    described = access.aws("events").describe_rule(Name=rule)
    assert (described["ScheduleExpression"], described["State"]) == ("rate(1 minute)", "ENABLED")

    def newest() -> int:
        return max(
            int(one["stored_at_ms"]) for one in atlas_records(access.stores, "Europe", "canary")
        )

    last, deadline_s = newest(), time.monotonic() + SCHEDULE_S
    while newest() == last:
        assert time.monotonic() < deadline_s, "no canary came by itself"
        time.sleep(1)
