"""Reconcile's state machine, run by two interpreters that share no code: their outcomes agree."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from asl.interpreters import Outcome, definition, in_ministack, in_moto
from asl.tasks import Behaviour, TaskFailed, Tasks, Throttled

from federation.regions import CONTINENTS
from lovectl.paths import REPOSITORY

RECONCILE = REPOSITORY / "statemachine" / "reconcile.asl.json"
#: Instead of the 10 and 35 s of the definition.
TIMEOUT_S = 3
ROUNDS_MAX = 2
BUSY = "Europe"


class Clusters:
    """What `reconcile` finds: so many rounds with so many pending records in one cluster.

    And so many rounds of copies in each fallback tier, of which `left` can't go home.
    """

    def __init__(
        self,
        items: int = 0,
        rounds: int = 1,
        answered: bool = True,
        away: bool = False,
        copies: int = 1,
        left: int = 0,
    ) -> None:
        self._items, self._rounds = items, rounds
        self._answered, self._away = answered, away
        self._copies, self._left = copies, left

    def __call__(self, payload: Any) -> Any:
        if payload["action"] == "redrive":
            return {"outcome": "redriven", "redriven": 0, "parked": 0}
        if payload["action"] == "move":
            done = int(payload["after"] or 0) + 1
            more = done < self._copies
            return {
                "outcome": "moved",
                "moved": int(more),
                "left": self._left,
                "after": str(done),
                "more": more,
            }
        if payload["action"] == "finish":
            assert len(payload["entries"]) == self._items
            return {"outcome": "finished", "answered": self._answered}
        busy = payload["continent"] == BUSY
        if busy and self._away:
            return {"outcome": "away"}
        done = int(payload["after"] or 0)
        ids = [f"{done}-{n}" for n in range(self._items if busy else 0)]
        return {
            "outcome": "gathered",
            "batch": {"batch_id": "b", "items": [{"id": one} for one in ids]},
            "entries": [{"id": one} for one in ids],
            "after": str(done + 1),
            "more": busy and done + 1 < self._rounds,
        }


def passes(payload: Any) -> Any:
    return payload


def raises(payload: Any) -> Any:
    raise TaskFailed("RuntimeError")


def is_throttled(payload: Any) -> Any:
    raise Throttled


def hangs(payload: Any) -> Any:
    time.sleep(TIMEOUT_S + 1.5)
    return payload


def finish_raises(payload: Any) -> Any:
    if payload["action"] == "finish":
        raise TaskFailed("RuntimeError")
    return Clusters(2)(payload)


def move_raises(payload: Any) -> Any:
    if payload["action"] == "move" and payload["tier"] == "immudb":
        raise TaskFailed("RuntimeError")
    return Clusters(1)(payload)


def move_is_away(payload: Any) -> Any:
    return {"outcome": "away"} if payload["action"] == "move" else Clusters()(payload)


def run(
    interpreter: Callable[[str, Any, Tasks], Outcome],
    given: Any,
    changes: Mapping[str, Behaviour | list[Behaviour]],
) -> tuple[Outcome, list[tuple[str, Any]]]:
    """The outcome, and every call, in an order that doesn't depend on races."""
    behaviours: dict[str, Behaviour | list[Behaviour]] = {
        "ReconcileFunction": Clusters(),
        **dict.fromkeys(("DposFunction", "ShardFunction", "RewardFunction"), passes),
        **changes,
    }
    tasks = Tasks(behaviours)
    values = {"ContinentsAtOnce": "3", "RoundsMax": str(ROUNDS_MAX)}
    outcome = interpreter(definition(RECONCILE, values, TIMEOUT_S), given, tasks)
    for _, payload in tasks.calls:
        if payload.get("action") == "move":
            # Each interpreter has its own time; `reconcile` must understand both.
            began = msgspec.convert(payload.pop("run_started_at"), datetime)
            assert timedelta(0) <= datetime.now(UTC) - began < timedelta(minutes=2)
    return outcome, sorted(tasks.calls, key=str)


#: Name: input, what behaves otherwise, the busy cluster's outcome (or the error), calls of dpos.
PATHS: dict[str, tuple[Any, Mapping[str, Any], str, int]] = {
    "nothing is pending": ({}, {}, "done", 0),
    "one pending record": ({}, {"ReconcileFunction": Clusters(1)}, "done", 1),
    "several, all of them due": ({"all_due": True}, {"ReconcileFunction": Clusters(3)}, "done", 1),
    "a second round": ({}, {"ReconcileFunction": Clusters(2, rounds=2)}, "done", 2),
    "rounds are bounded": ({}, {"ReconcileFunction": Clusters(2, rounds=9)}, "done", ROUNDS_MAX),
    "a round without records, then one with more": (
        {},
        {"ReconcileFunction": Clusters(0, rounds=2)},
        "done",
        0,
    ),
    "no delegate answered": (
        {},
        {"ReconcileFunction": Clusters(2, rounds=2, answered=False)},
        "done",
        1,
    ),
    "a cluster is away": ({}, {"ReconcileFunction": Clusters(away=True)}, "away", 0),
    "dpos throttled once": (
        {},
        {"ReconcileFunction": Clusters(1), "DposFunction": [is_throttled, passes]},
        "done",
        2,
    ),
    "copies of two rounds": ({}, {"ReconcileFunction": Clusters(copies=2)}, "done", 0),
    "rounds of copies are bounded": ({}, {"ReconcileFunction": Clusters(copies=9)}, "done", 0),
    "copies that can't go home": ({}, {"ReconcileFunction": Clusters(1, left=2)}, "done", 1),
    "the fallback tiers are away": ({}, {"ReconcileFunction": move_is_away}, "done", 0),
    "a move raises": ({}, {"ReconcileFunction": move_raises}, "ReconcileFailed", 1),
    "gather raises": ({}, {"ReconcileFunction": raises}, "ReconcileFailed", 0),
    "dpos raises": (
        {},
        {"ReconcileFunction": Clusters(1), "DposFunction": raises},
        "ReconcileFailed",
        1,
    ),
    "dpos hangs": (
        {},
        {"ReconcileFunction": Clusters(1), "DposFunction": hangs},
        "ReconcileFailed",
        1,
    ),
    "finish raises": ({}, {"ReconcileFunction": finish_raises}, "ReconcileFailed", 1),
}


@pytest.mark.parametrize("path", PATHS)
def test_two_interpreters_agree_on_what_reconcile_does(path: str) -> None:
    given, changes, expected, votes = PATHS[path]
    first, calls_first = run(in_ministack, given, changes)
    second, calls_second = run(in_moto, given, changes)
    assert second == first
    assert calls_second == calls_first
    assert [function for function, _ in calls_first].count("DposFunction") == votes
    if first.status == "FAILED":
        assert first.error == expected
        return
    # `done` is a Succeed state, whose output is its input.
    clusters = {one["continent"]: one["outcome"] for one in first.output["clusters"]}
    assert clusters == {one.value: "done" for one in CONTINENTS} | {BUSY: expected}


@pytest.mark.parametrize("interpreter", [in_ministack, in_moto])
def test_each_tier_is_looked_at_on_though_a_whole_round_of_its_copies_stays(
    interpreter: Callable[[str, Any, Tasks], Outcome],
) -> None:
    def first_round_stays(payload: Any) -> Any:
        if payload["action"] != "move":
            return Clusters()(payload)
        first = not payload["after"]
        moved, left = (0, 50) if first else (50, 0)
        return {"outcome": "moved", "moved": moved, "left": left, "after": "1", "more": first}

    outcome, calls = run(interpreter, {}, {"ReconcileFunction": first_round_stays})
    moves = [payload for _, payload in calls if payload.get("action") == "move"]
    for tier in ("dynamodb", "immudb"):
        rounds = {one["rounds_left"] for one in moves if one["tier"] == tier}
        assert rounds == {ROUNDS_MAX, ROUNDS_MAX - 1}
    # What stayed in any round is not forgotten for what went in the last.
    assert {one["outcome"] for one in outcome.output["copies"]} == {"away"}
