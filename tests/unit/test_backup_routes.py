"""By which route a transaction was kept, and what makes a phase go otherwise than designed."""

import itertools

import pytest

from lovectl.delegates import FULL_NODES, LIGHT_NODES, NODES
from lovectl.simulation.routes import PHASES, ROUTES, Kept, Taken

LIGHT = frozenset(LIGHT_NODES)
FULL = frozenset(FULL_NODES)
NOBODY: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("kept", "route"),
    [
        (Kept("atlas", LIGHT, FULL), "light_nodes"),
        # Three light nodes have 9 of 15: without a full one that is no quorum.
        (Kept("atlas", LIGHT - {"node-tokyo"} | {"node-asia"}, FULL), "full_nodes"),
        (Kept("atlas", FULL, frozenset({"node-asia"})), "full_nodes"),
        (Kept("atlas", NOBODY, NOBODY), "atlas"),
        (Kept("dynamodb", NOBODY, NOBODY), "dynamodb"),
        (Kept("immudb", NOBODY, NOBODY), "immudb"),
        # Votes alone keep nothing, nor does a light node.
        (Kept(None, LIGHT, NOBODY), "none"),
        (Kept(None, NOBODY, LIGHT), "none"),
    ],
)
def test_the_route_is_the_first_that_kept_it(kept: Kept, route: str) -> None:
    assert kept.route == route


def test_each_phase_shuts_the_routes_before_its_own() -> None:
    assert tuple(phase.designed for phase in PHASES) == ROUTES[:-1]
    for former, latter in itertools.pairwise(PHASES):
        assert set(former.down) < set(latter.down)
    assert set(PHASES[2].down) == set(NODES)


def test_a_transaction_on_a_shut_route_is_told_from_one_on_a_later_route() -> None:
    kept = [Kept("atlas", LIGHT, FULL)] + [Kept("atlas", NOBODY, NOBODY)] * 3
    taken = Taken.by([*kept, Kept("immudb", NOBODY, NOBODY)], "atlas")
    assert (taken.main, taken.earlier, taken.later) == ("atlas", 1, 1)
    assert taken.routes == {
        "light_nodes": 1,
        "full_nodes": 0,
        "atlas": 3,
        "dynamodb": 0,
        "immudb": 1,
        "none": 0,
    }
    assert not taken.as_designed


@pytest.mark.parametrize(
    ("others", "as_designed"),
    [
        ([], True),
        ([Kept("immudb", NOBODY, NOBODY)] * 2, True),
        ([Kept("immudb", NOBODY, NOBODY)] * 3, False),
        ([Kept("atlas", NOBODY, NOBODY)], False),
        ([Kept(None, NOBODY, NOBODY)], False),
    ],
    ids=["all", "few later", "many later", "one by a shut route", "one nowhere"],
)
def test_a_phase_goes_as_designed_unless_routes_were_shut_or_missed(
    others: list[Kept], as_designed: bool
) -> None:
    kept = [Kept("dynamodb", NOBODY, NOBODY)] * 20
    assert Taken.by([*kept, *others], "dynamodb").as_designed == as_designed
