"""Runs many scenarios, each on the stack that it needs, and gives one report of all."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lovectl.access import Access, running_access, started_access
from lovectl.chaos.beside import beside
from lovectl.chaos.faults import SetFault
from lovectl.chaos.history import History, HistoryLog
from lovectl.chaos.queues import VISIBILITY_S, Inbox
from lovectl.chaos.run import Runner, Say
from lovectl.chaos.scenarios import Scenario, chosen
from lovectl.chaos.wrapped import WrappedTree
from lovectl.guardian import release_all
from lovectl.reconcile import reconcile

#: By the name of the scenario.
_Reports = dict[str, dict[str, Any]]

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
    plain = [group for group in groups if not group[0].wrapped]
    wrapped = [group for group in groups if group[0].wrapped]
    began_s = time.monotonic()
    if plain and wrapped:
        # They need two stacks anyway, and neither keeps two cores busy by itself.
        log_beside = path.with_name(f"wrapped-{path.name}")
        with beside(_wrapped, wrapped, seed, log_beside, say) as others:
            found = _plain(plain, seed, path, say) | others()
        with path.open("ab") as whole:
            whole.write(log_beside.read_bytes())
        log_beside.unlink()
    else:
        found = _wrapped(wrapped, seed, path, say) if wrapped else _plain(plain, seed, path, say)
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
        with started_access(STACK) as own, runner_on(own, log, seed, say) as runner:
            yield runner
        return
    with runner_on(access, log, seed, say) as runner:
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
        with (
            started_access(WRAPPED_STACK, tree.source) as access,
            runner_on(access, log, seed, say, tree.set_fault) as runner,
        ):
            yield runner


@contextmanager
def runner_on(
    access: Access,
    log: HistoryLog,
    seed: int,
    say: Say,
    handlers: SetFault | None = None,
) -> Iterator[Runner]:
    """A runner with reconcile, on a stack whose inbox gives messages back soon."""
    with Inbox(access).visible_again_after(VISIBILITY_S):
        yield Runner(
            access, log, seed, say, handlers=handlers, reconcile=partial(reconcile, access)
        )


def _plain(groups: Sequence[Sequence[Scenario]], seed: int, path: Path, say: Say) -> _Reports:
    with HistoryLog(path) as log, plain_runner(log, seed, say) as runner:
        return _run(runner, groups)


def _wrapped(groups: Sequence[Sequence[Scenario]], seed: int, path: Path, say: Say) -> _Reports:
    with HistoryLog(path) as log, wrapped_runner(log, seed, say) as runner:
        return _run(runner, groups)


def _run(runner: Runner, groups: Sequence[Sequence[Scenario]]) -> _Reports:
    return {report["name"]: report for group in groups for report in runner.run(group)}
