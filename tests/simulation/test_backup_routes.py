"""One backup route after the other is shut: money takes the next, and all of it ends up final."""

import pytest

from lovectl import show
from lovectl.access import Access
from lovectl.simulation.backup_routes import backup_routes
from lovectl.simulation.routes import PHASES

SEED = 20261126
COUNT = 10


@pytest.mark.chaos
def test_each_phase_takes_its_route_and_everything_is_final_once_all_is_back(
    access: Access,
) -> None:
    report = backup_routes(access, count=COUNT, seed=SEED, bar=show.bar)
    assert report["lost"] == 0, report["lost_ids"]
    assert report["duplicated"] == 0, report["duplicated_ids"]
    assert report["not_final"] == 0, report["not_final_ids"]
    for phase, one in zip(PHASES, report["phases"], strict=True):
        assert one["accepted"] == one["stored"] == one["final_after_recovery"] == COUNT, one
        assert one["route"] == one["designed_route"] == phase.designed, one["routes"]
    [first, *others] = report["phases"]
    assert first["final_then"] >= COUNT * 0.9
    assert all(one["final_then"] == 0 for one in others)
    assert report["verdict"] == "holds"
