"""The pipeline's failover paths, run by two interpreters that share no code: their outcomes agree.

The local AWS's interpreter validates little; this is a second opinion on what the definition means
where a tier refuses, raises, hangs or takes a part. How both differ from AWS, and from each other
elsewhere, is in infrastructure/local/README.md.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from asl.interpreters import Outcome, definition, in_ministack, in_moto
from asl.tasks import Behaviour, TaskFailed, Tasks, Throttled

from lovectl.paths import REPOSITORY

PIPELINE = REPOSITORY / "statemachine" / "pipeline.asl.json"
#: Instead of the 5 and 12 s of the definition.
TIMEOUT_S = 3
ATLAS, DYNAMODB, IMMUDB = "PersistAtlasFunction", "PersistDynamodbFunction", "PersistImmudbFunction"
TIERS = {ATLAS: "atlas", DYNAMODB: "dynamodb", IMMUDB: "immudb"}


def batch(*continents: str, items: int = 2) -> dict[str, Any]:
    """A batch with so many transactions of each continent."""
    return {
        "batch_id": "b",
        "wrapped_keys": {"k": "w"},
        "items": [
            {"id": f"{continent}-{n}", "continent": continent}
            for continent in continents
            for n in range(items)
        ],
    }


def passes(payload: Any) -> Any:
    return payload


def groups(payload: Any) -> Any:
    """As `shard`: a group for each continent."""
    rest = {"batch_id": payload["batch_id"], "wrapped_keys": payload["wrapped_keys"]}
    names = dict.fromkeys(item["continent"] for item in payload["items"])
    made = [
        {
            **rest,
            "continent": name,
            "items": [i for i in payload["items"] if i["continent"] == name],
        }
        for name in names
    ]
    return {"batch_id": payload["batch_id"], "groups": made, "rewards": []}


def takes(tier: str, items_max: int = 1_000, only: str = "") -> Behaviour:
    """A tier with room for so many of a group, or for one continent only."""

    def answer(payload: Any) -> Any:
        room = items_max if only in ("", payload["continent"]) else 0
        taken, left = payload["items"][:room], payload["items"][room:]
        receipts = [{"transaction_id": one["id"], "tier": tier} for one in taken]
        outcome = "unavailable" if left else "stored"
        return {"outcome": outcome, "reason": None, "receipts": receipts, "unavailable": left}

    return answer


def raises(payload: Any) -> Any:
    raise TaskFailed("RuntimeError")


def is_throttled(payload: Any) -> Any:
    raise Throttled


def hangs(payload: Any) -> Any:
    time.sleep(TIMEOUT_S + 1.5)
    return takes("late")(payload)


def run(
    interpreter: Callable[[str, Any, Tasks], Outcome],
    given: Any,
    changes: Mapping[str, Behaviour | list[Behaviour]],
) -> tuple[Outcome, list[tuple[str, Any]]]:
    """The outcome, and what each tier was asked, in an order that doesn't depend on races."""
    behaviours: dict[str, Behaviour | list[Behaviour]] = {
        "PopFunction": passes,
        "DposFunction": passes,
        "ShardFunction": groups,
        "RewardFunction": passes,
        **{function: takes(tier) for function, tier in TIERS.items()},
        **changes,
    }
    tasks = Tasks(behaviours)
    text = definition(PIPELINE, {"ContinentsAtOnce": "2"}, TIMEOUT_S)
    outcome = interpreter(text, given, tasks)
    asked = [
        (function, payload["continent"], [one["id"] for one in payload["items"]])
        for function, payload in tasks.calls
        if function in TIERS
    ]
    return outcome, sorted(asked, key=lambda one: (one[1], list(TIERS).index(one[0])))


FULL, EMPTY = 1_000, 0
ONE, TWO = batch("Europe"), batch("Europe", "Asia")
SINGLE = batch("Europe", items=1)
THREE = batch("Europe", items=3)
Expected = dict[str, int] | str
#: Name: what goes in, which tiers behave otherwise, how many receipts of each tier come out (or the
#: error of a failed execution).
PATHS: dict[str, tuple[Any, Mapping[str, Any], Expected]] = {
    "everything stored by the first tier": (TWO, {}, {"atlas": 4}),
    "one transaction, one group, one receipt": (SINGLE, {}, {"atlas": 1}),
    "nothing in the batch": (batch(), {}, {}),
    "atlas unavailable": (ONE, {ATLAS: takes("atlas", EMPTY)}, {"dynamodb": 2}),
    "atlas unavailable for one transaction": (
        SINGLE,
        {ATLAS: takes("atlas", EMPTY)},
        {"dynamodb": 1},
    ),
    "atlas raises": (ONE, {ATLAS: raises}, {"dynamodb": 2}),
    "atlas hangs": (ONE, {ATLAS: hangs}, {"dynamodb": 2}),
    "atlas throttled once": (ONE, {ATLAS: [is_throttled, takes("atlas")]}, {"atlas": 2}),
    "atlas throttled for good": (ONE, {ATLAS: is_throttled}, {"dynamodb": 2}),
    "atlas down for one continent": (
        TWO,
        {ATLAS: takes("atlas", only="Asia")},
        {"atlas": 2, "dynamodb": 2},
    ),
    "atlas takes a part": (THREE, {ATLAS: takes("atlas", 1)}, {"atlas": 1, "dynamodb": 2}),
    "each tier takes a part": (
        THREE,
        {ATLAS: takes("atlas", 1), DYNAMODB: takes("dynamodb", 1)},
        {"atlas": 1, "dynamodb": 1, "immudb": 1},
    ),
    "atlas takes a part, dynamodb raises": (
        THREE,
        {ATLAS: takes("atlas", 2), DYNAMODB: raises},
        {"atlas": 2, "immudb": 1},
    ),
    "atlas takes a part, dynamodb hangs": (
        THREE,
        {ATLAS: takes("atlas", 2), DYNAMODB: hangs},
        {"atlas": 2, "immudb": 1},
    ),
    "atlas and dynamodb unavailable": (
        ONE,
        {ATLAS: takes("atlas", EMPTY), DYNAMODB: takes("dynamodb", EMPTY)},
        {"immudb": 2},
    ),
    "atlas raises, dynamodb hangs": (ONE, {ATLAS: raises, DYNAMODB: hangs}, {"immudb": 2}),
    "atlas takes a part, the others nothing": (
        THREE,
        {ATLAS: takes("atlas", 1), DYNAMODB: raises, IMMUDB: takes("immudb", EMPTY)},
        {"atlas": 1},
    ),
    "atlas takes a part, the others raise": (
        THREE,
        {ATLAS: takes("atlas", 1), DYNAMODB: raises, IMMUDB: raises},
        {"atlas": 1},
    ),
    "one continent stored, of the other nothing": (
        TWO,
        {
            ATLAS: takes("atlas", only="Asia"),
            DYNAMODB: raises,
            IMMUDB: takes("immudb", EMPTY),
        },
        {"atlas": 2},
    ),
    "every tier unavailable": (
        ONE,
        {name: takes(tier, EMPTY) for name, tier in TIERS.items()},
        "NoTierStored",
    ),
    "every tier raises": (TWO, dict.fromkeys(TIERS, raises), "NoTierStored"),
    "the last tier hangs": (
        ONE,
        {ATLAS: raises, DYNAMODB: raises, IMMUDB: hangs},
        "NoTierStored",
    ),
    "pop raises": (ONE, {"PopFunction": raises}, "RuntimeError"),
    "dpos hangs": (ONE, {"DposFunction": hangs}, "States.Timeout"),
    "reward throttled once": (ONE, {"RewardFunction": [is_throttled, passes]}, {"atlas": 2}),
}


@pytest.mark.parametrize("path", PATHS)
def test_two_interpreters_agree_on_where_a_batch_goes_and_what_comes_back(path: str) -> None:
    given, changes, expected = PATHS[path]
    first, asked_first = run(in_ministack, given, changes)
    second, asked_second = run(in_moto, given, changes)
    assert second == first
    assert asked_second == asked_first
    if isinstance(expected, str):
        assert (first.status, first.error) == ("FAILED", expected)
        return
    assert first.status == "SUCCEEDED", first
    counted: dict[str, int] = {}
    for receipt in first.output["receipts"]:
        counted[receipt["tier"]] = counted.get(receipt["tier"], 0) + 1
    assert counted == expected
    stored = [one["transaction_id"] for one in first.output["receipts"]]
    assert len(set(stored)) == len(stored)
    assert first.output["stored_all"] == (len(stored) == len(given["items"]))
