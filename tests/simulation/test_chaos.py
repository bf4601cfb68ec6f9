"""Named faults while money is sent, judged by a checker that reads the stores itself."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lovectl.access import Access, started_access
from lovectl.chaos.history import History, HistoryLog
from lovectl.chaos.scenarios import SCENARIOS, Scenario
from lovectl.chaos.simulation import runner_on
from lovectl.chaos.wrapped import WrappedTree

SEED = 20261125
ACCEPTED_MIN = 200
#: Side by side: a cluster that hangs, one that loses its power, a delegate that hangs.
SELECTION = ("atlas-hang", "atlas-killed", "node-paused")
#: A defect that is nowhere but here: every other event of the inbox is acknowledged before anything
#: is stored, as by a dispatch that answers first and dies then.
ACKNOWLEDGES_BEFORE_IT_STORES = """

def _planted_defect(honest):
    turns = iter(range(1_000_000))

    def handler(event, context):
        if event["Records"] and next(turns) % 2 == 0:
            return {"batchItemFailures": []}
        return honest(event, context)

    return handler


handler = _planted_defect(handler)
"""


#: Minutes on stacks of their own: `make test-chaos`.
pytestmark = pytest.mark.chaos


@pytest.fixture
def log(tmp_path: Path) -> Iterator[HistoryLog]:
    with HistoryLog(tmp_path / "history.jsonl") as opened:
        yield opened


def test_faults_of_three_kinds_at_once_lose_and_double_nothing(
    access: Access, log: HistoryLog
) -> None:
    with runner_on(access, log, SEED, print) as runner:
        reports = runner.run([SCENARIOS[name] for name in SELECTION])
    assert [one["name"] for one in reports] == list(SELECTION)
    for report in reports:
        assert report["accepted"] >= ACCEPTED_MIN
        assert report["stored"] == report["accepted"]
        assert report["violations"] == []
        assert report["lost"] == report["duplicated"] == 0
        assert report["receipts_checked"] > 0
        assert report["verdict"] == "holds"
    history = History.read(log.path)
    assert len(history.faults()) == len(SELECTION)
    assert len(history.accepted_at_ms) == sum(one["accepted"] for one in reports)


def test_a_dispatch_that_acknowledges_before_it_stores_is_caught(
    log: HistoryLog, tmp_path: Path
) -> None:
    tree = WrappedTree(tmp_path / "tree", {"dispatch": ACKNOWLEDGES_BEFORE_IT_STORES})
    with (
        started_access("planted", tree.source) as access,
        runner_on(access, log, SEED, print) as runner,
    ):
        (report,) = runner.run([Scenario("acknowledges-before-it-stores", (), "planted")])
    assert report["accepted"] >= ACCEPTED_MIN
    assert 0 < report["lost"] < report["accepted"]
    assert report["lost"] == report["accepted"] - report["stored"]
    assert {one["rule"] for one in report["violations"]} == {"lost", "no_receipt"}
    assert report["verdict"] == "broken"
