"""Handlers that can be told to fail: only in a copy of the tree, and only while they are told."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lovectl.chaos.wrapped import EVERY, SKEW_S, STAGES, WrappedTree, hook
from lovectl.paths import REPOSITORY

Handler = Callable[[dict[str, Any], Any], Any]


@pytest.fixture
def tree(tmp_path: Path) -> WrappedTree:
    return WrappedTree(tmp_path / "tree")


@pytest.fixture
def handler(tree: WrappedTree, monkeypatch: pytest.MonkeyPatch) -> Handler:
    """A wrapped handler that counts its calls; its module's clock is put back after the test."""
    monkeypatch.setenv("TIER", "atlas")
    monkeypatch.setattr(time, "time", time.time)
    monkeypatch.setattr(time, "time_ns", time.time_ns)
    calls: list[int] = []

    def sound(event: dict[str, Any], context: Any) -> int:
        calls.append(len(calls) + 1)
        return len(calls)

    # A module's own names are not to be touched: this one has functions of these names.
    own = {name: print for name in ("json", "time", "os", "stage", "calls", "_json", "_time")}
    names: dict[str, Any] = {**own, "handler": sound}
    exec(hook("persist", tree.faults_file, hang_s=0.2), names)
    assert {name: names[name] for name in own} == own
    wrapped: Handler = names["handler"]
    return wrapped


def test_the_repository_has_no_switch_for_faults_and_each_copied_handler_has_one(
    tree: WrappedTree,
) -> None:
    for stage in STAGES:
        assert "lovectl.chaos" not in (REPOSITORY / "functions" / stage / "app.py").read_text()
        assert "lovectl.chaos" in (tree.source / "functions" / stage / "app.py").read_text()
    template = (tree.source / "template.yaml").read_bytes()
    assert template == (REPOSITORY / "template.yaml").read_bytes()


def test_a_handler_that_is_told_nothing_works_as_ever(handler: Handler) -> None:
    assert [handler({}, None) for _ in range(3)] == [1, 2, 3]


def test_healing_tells_how_often_the_fault_has_struck(tree: WrappedTree, handler: Handler) -> None:
    handler({}, None)
    assert tree.set_fault("persist-atlas", "crash_before") == 0
    for _ in range(4):
        with suppress(RuntimeError):
            handler({}, None)
    assert tree.set_fault("pop", None) == 0
    assert tree.set_fault("persist-atlas", None) == 4 / EVERY
    tree.set_fault("persist-atlas", "skew")
    handler({}, None)
    assert tree.set_fault("persist-atlas", None) == 1


def test_a_crash_before_the_work_leaves_it_undone(tree: WrappedTree, handler: Handler) -> None:
    tree.set_fault("persist-atlas", "crash_before")
    with pytest.raises(RuntimeError, match="before"):
        handler({}, None)
    assert handler({}, None) == 1
    assert EVERY == 2


def test_a_crash_after_the_work_has_done_it(tree: WrappedTree, handler: Handler) -> None:
    tree.set_fault("persist-atlas", "crash_after")
    with pytest.raises(RuntimeError, match="after"):
        handler({}, None)
    assert handler({}, None) == 2


def test_a_handler_that_hangs_goes_on_later(tree: WrappedTree, handler: Handler) -> None:
    tree.set_fault("persist-atlas", "time_out")
    began_s = time.monotonic()
    assert handler({}, None) == 1
    assert time.monotonic() - began_s >= 0.2


def test_a_skewed_clock_is_right_again_once_it_is_healed(
    tree: WrappedTree, handler: Handler
) -> None:
    true_s = time.time()
    tree.set_fault("persist-atlas", "skew")
    handler({}, None)
    assert time.time() - true_s >= SKEW_S
    assert time.time_ns() / 1e9 - true_s >= SKEW_S
    tree.set_fault("persist-atlas", None)
    handler({}, None)
    assert time.time() - true_s < SKEW_S


def test_a_fault_of_another_tier_does_not_strike(tree: WrappedTree, handler: Handler) -> None:
    tree.set_fault("persist-dynamodb", "crash_before")
    assert [handler({}, None) for _ in range(2)] == [1, 2]


def test_faults_that_are_set_at_the_same_moment_are_all_set(tree: WrappedTree) -> None:
    with ThreadPoolExecutor(len(STAGES)) as pool:
        for _ in range(20):
            list(pool.map(lambda stage: tree.set_fault(stage, "skew"), STAGES))
            assert json.loads(tree.faults_file.read_text()) == dict.fromkeys(STAGES, "skew")
            list(pool.map(lambda stage: tree.set_fault(stage, None), STAGES))
