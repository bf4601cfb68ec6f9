"""Stores go down while money is sent: nothing is lost, nothing is stored twice."""

from typing import Any

import pytest

from lovectl import show
from lovectl.access import Access
from lovectl.faults import Scenario
from lovectl.simulate import COUNT_MIN, simulate

SEED = 20261124


@pytest.mark.parametrize(
    ("scenario", "tiers"),
    [
        (Scenario.ATLAS_DOWN, {"dynamodb"}),
        (Scenario.ATLAS_AND_DYNAMODB_DOWN, {"immudb"}),
        (Scenario.ALL_DOWN_THEN_BACK, {"atlas", "dynamodb", "immudb"}),
    ],
)
def test_an_outage_loses_nothing_and_doubles_nothing(
    scenario: Scenario, tiers: set[str], access: Access
) -> None:
    report: dict[str, Any] = simulate(access, scenario, count=COUNT_MIN, seed=SEED, bar=show.bar)
    assert report["accepted"] == COUNT_MIN
    assert report["stored"] == COUNT_MIN, report
    assert report["lost"] == 0, report["lost_ids"]
    assert report["duplicated"] == 0, report["duplicated_ids"]
    assert report["without_receipt"] == 0
    assert {tier for tier, count in report["stored_per_tier"].items() if count} <= tiers
    assert report["verdict"] == "holds"
