"""Reconcile's time limits fit into each other, and are longer than a payment's; an alarm tells what stays."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from federation.limits import COPIES_READ_S, COPIES_ROUND_S, COPIES_RUN_S
from lovectl.paths import REPOSITORY
from persist.atlas import AtlasSettings
from persist.dynamodb import DynamodbSettings
from persist.immudb_tier import ImmudbSettings
from persist.tier import TierUnavailable
from reconcile import app
from reconcile.copies import Moved

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


def resource(name: str) -> str:
    """The part of the template that describes one resource."""
    template = (REPOSITORY / "template.yaml").read_text()
    found = re.search(
        rf"^  {name}:[^\n]*\n(.*?)(?=^  \S|^\S|\Z)", template, re.DOTALL | re.MULTILINE
    )
    assert found
    return found[1]


def number(text: str, name: str) -> int:
    found = re.search(rf"^ *{name}: \"?(\d+)", text, re.MULTILINE)
    assert found, name
    return int(found[1])


def states(node: Any) -> list[dict[str, Any]]:
    """All states of a machine, those within maps too."""
    if isinstance(node, list):
        return [one for part in node for one in states(part)]
    if not isinstance(node, dict):
        return []
    return [node, *(one for part in node.values() for one in states(part))]


@pytest.fixture(scope="module")
def machine() -> Any:
    return json.loads((REPOSITORY / "statemachine" / "reconcile.asl.json").read_text())


@pytest.mark.parametrize("settings", [AtlasSettings, DynamodbSettings, ImmudbSettings])
def test_reconcile_waits_longer_than_a_payment(settings: Any) -> None:
    function = resource("ReconcileFunction")
    payment = settings(
        **{
            name: ""
            for name in ("kms_key_arns", "transactions_table", "immudb_secret")
            if name in settings.__struct_fields__
        }
    )
    persist = "".join(resource(f"Persist{one}Function") for one in ("Atlas", "Dynamodb", "Immudb"))
    for name in ("persist_timeout_ms", "persist_slow_ms", "kms_timeout_ms"):
        # What payments have is the default: nothing sets it for `persist`.
        assert name.upper() not in persist
        if name in settings.__struct_fields__:
            assert number(function, name.upper()) > getattr(payment, name)
    assert number(function, "PERSIST_SLOW_MS") >= number(function, "PERSIST_TIMEOUT_MS")


def test_a_round_ends_before_the_function_and_the_function_before_its_state(machine: Any) -> None:
    function_s = number(resource("ReconcileFunction"), "Timeout")
    persist_s = number(resource("ReconcileFunction"), "PERSIST_TIMEOUT_MS") / 1000
    connect_s = AtlasSettings("").probe_timeout_ms / 1000
    # A home is begun with at the last moment: its insert, its read and its rejections.
    assert COPIES_READ_S < COPIES_ROUND_S
    assert COPIES_ROUND_S + 3 * (connect_s + persist_s + 0.5) < function_s
    own = [
        one["TimeoutSeconds"]
        for one in states(machine)
        if isinstance(one.get("Arguments"), dict)
        and one["Arguments"].get("FunctionName") == "${ReconcileFunction}"
    ]
    assert len(own) == 4
    assert min(own) > function_s
    assert number(resource("DeadLetters"), "VisibilityTimeout") > function_s
    # Dead letters, copies, and as long again for votes.
    assert machine["TimeoutSeconds"] >= 2 * (COPIES_RUN_S + 2 * max(own))


@pytest.mark.parametrize(
    ("rounds_left", "seconds", "expected"),
    [(5, 0, False), (1, 0, True), (5, COPIES_RUN_S + 1, True)],
)
def test_a_runs_last_look_is_told_by_its_rounds_and_its_time(
    rounds_left: int, seconds: float, expected: bool
) -> None:
    request = app.MoveRequest("immudb", rounds_left=rounds_left, run_started_at=STARTED)
    assert request.is_last(STARTED + timedelta(seconds=seconds)) is expected


def test_an_alarm_watches_copies_that_stay_for_half_an_hour() -> None:
    alarm = resource("CopiesLeftAlarm")
    assert "MetricName: copies_left" in alarm
    assert "ComparisonOperator: GreaterThanThreshold" in alarm
    assert number(alarm, "Threshold") == 0
    assert number(alarm, "Period") * number(alarm, "EvaluationPeriods") == 1_800
    assert "TreatMissingData: !If [ReconcileRuns, breaching, notBreaching]" in alarm


def test_every_alarm_is_sent_to_the_topic() -> None:
    template = (REPOSITORY / "template.yaml").read_text()
    alarms = template.split("Type: AWS::CloudWatch::Alarm\n")[1:]
    assert len(alarms) > 10
    for alarm in alarms:
        for actions in ("AlarmActions", "OKActions"):
            assert (
                f"{actions}: !If [HasAlarmTopic, [!Ref AlarmTopicArn], !Ref AWS::NoValue]"
                in (alarm.split("\n\n")[0])
            )


@pytest.mark.parametrize("machine", ["Pipeline", "Reconcile"])
@pytest.mark.parametrize("end", ["Failed", "TimedOut"])
def test_an_alarm_watches_executions_that_fail_and_those_that_run_out_of_time(
    machine: str, end: str
) -> None:
    alarm = resource(f"{machine}{end}Alarm")
    assert f"MetricName: Executions{end}\n" in alarm
    assert f"Value: !Ref {machine} }}" in alarm
    assert number(alarm, "Threshold") == 0


class Copies:
    """A source in whose place only `pause` matters."""

    tier = "immudb"

    def __init__(self) -> None:
        self.paused: list[str] = []

    def pause(self, after: str) -> None:
        self.paused.append(after)


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the action with what `move` is to give or to raise; gives answer, metrics and pauses."""

    def run(moved: Moved | TierUnavailable, **request: Any) -> tuple[Any, dict[str, int], Copies]:
        counted: dict[str, int] = {}
        copies = Copies()

        def moves(*_: Any, **__: Any) -> Moved:
            if isinstance(moved, TierUnavailable):
                raise moved
            return moved

        monkeypatch.setattr(app, "move", moves)
        monkeypatch.setattr(app, "_count", lambda **values: counted.update(values))
        monkeypatch.setattr(app, "_copies", lambda *_: copies)
        monkeypatch.setattr(app, "_atlas", lambda: None)
        settings = app.Settings("", "", "", "", "")
        monkeypatch.setattr(app, "_settings", lambda: settings)
        answer = app._move(msgspec.convert(request, app.MoveRequest))
        return answer, counted, copies

    return run


def test_a_store_that_is_away_counts_for_the_alarm(handle: Any) -> None:
    answer, counted, _ = handle(TierUnavailable("down"), tier="immudb")
    assert answer["outcome"] == "unavailable"
    assert counted["copies_left"] > 0


def test_a_run_goes_on_behind_copies_that_stay_but_not_while_their_home_is_away(
    handle: Any,
) -> None:
    stays = Moved(moved=0, left=50, parked={}, after="x", more=True)
    away = msgspec.structs.replace(stays, homes_away=1)
    for moved, tier, continent, expected in (
        (stays, "dynamodb", "Asia", True),
        (away, "dynamodb", "Asia", False),
        (stays, "immudb", None, True),
        (away, "immudb", None, True),
    ):
        answer, _, copies = handle(moved, tier=tier, continent=continent, rounds_left=3)
        assert answer["more"] is expected
        assert copies.paused == []


def test_the_last_look_of_a_run_leaves_its_place_to_the_next(handle: Any) -> None:
    moved = Moved(moved=1, left=0, parked={}, after="17", more=True)
    answer, _, copies = handle(moved, tier="immudb", rounds_left=1)
    assert answer["more"] is False
    assert copies.paused == ["17"]
