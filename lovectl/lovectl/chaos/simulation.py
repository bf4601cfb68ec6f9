"""Runs many scenarios, each on the stack that it needs, and gives one report of all."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lovectl.access import Access, running_access, started_access
from lovectl.chaos.history import History, HistoryLog
from lovectl.chaos.run import Reconcile, Runner, Say
from lovectl.chaos.scenarios import Scenario, chosen
from lovectl.chaos.wrapped import WrappedTree
from lovectl.guardian import release_all

STACK = "simulate"
WRAPPED_STACK = "simulate-wrapped"


def simulate_all(
    names: Sequence[str], seed: int, path: Path, say: Say
) -> tuple[dict[str, Any], History]:
    """Run these scenarios; gives the report and the history that it was judged from.

    Parameters
    ----------
    path : Path
        Where the history is written; may exist, then it is appended to.

    Raises
    ------
    KeyError
        There is no scenario of a name.
    """
    groups = chosen(list(names))
    began_s = time.monotonic()
    found: dict[str, dict[str, Any]] = {}
    with HistoryLog(path) as log:
        plain = [group for group in groups if not group[0].wrapped]
        if plain:
            with plain_runner(log, seed, say) as runner:
                _run(runner, plain, found)
        wrapped = [group for group in groups if group[0].wrapped]
        if wrapped:
            with wrapped_runner(log, seed, say) as runner:
                _run(runner, wrapped, found)
    reports = [found[name] for name in names]
    return document_of(reports, seed, path, began_s), History.read(path)


def document_of(
    reports: Sequence[dict[str, Any]], seed: int, path: Path, began_s: float
) -> dict[str, Any]:
    """The report of a run out of those of its scenarios; `began_s` is of the monotonic clock."""
    return {
        "seed": seed,
        "scenarios": list(reports),
        "accepted": sum(one["accepted"] for one in reports),
        "stored": sum(one["stored"] for one in reports),
        "lost": sum(one["lost"] for one in reports),
        "duplicated": sum(one["duplicated"] for one in reports),
        "verdict": "holds" if all(one["verdict"] == "holds" for one in reports) else "broken",
        "history": str(path),
        "seconds": round(time.monotonic() - began_s, 1),
    }


@contextmanager
def plain_runner(log: HistoryLog, seed: int, say: Say) -> Iterator[Runner]:
    """On the stack that runs, or on one of its own for as long as the block lasts."""
    access = running_access()
    if access is None:
        with started_access(STACK) as own:
            yield Runner(own, log, seed, say, reconcile=reconcile_of(own))
        return
    runner = Runner(access, log, seed, say, reconcile=reconcile_of(access))
    try:
        yield runner
    finally:
        if runner.machines.restarts:
            # The stack isn't ours, so neither are the servers that we have restarted for it.
            release_all()


@contextmanager
def wrapped_runner(log: HistoryLog, seed: int, say: Say) -> Iterator[Runner]:
    """On a stack of its own whose handlers are wrapped."""
    with tempfile.TemporaryDirectory(prefix="love-wrapped-") as directory:
        tree = WrappedTree(Path(directory) / "tree")
        with started_access(WRAPPED_STACK, tree.source) as access:
            yield Runner(
                access, log, seed, say, handlers=tree.set_fault, reconcile=reconcile_of(access)
            )


def reconcile_of(access: Access) -> Reconcile | None:
    """Brings home what fallbacks took; None while a stack has no reconcile."""
    return None


def _run(
    runner: Runner, groups: Sequence[Sequence[Scenario]], found: dict[str, dict[str, Any]]
) -> None:
    for group in groups:
        found.update({report["name"]: report for report in runner.run(group)})
