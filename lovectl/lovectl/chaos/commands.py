"""What `lovectl simulate` and `lovectl chaos` do with the fault model: run, report, draw."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from lovectl import show
from lovectl.chaos.history import History
from lovectl.chaos.random_faults import soak
from lovectl.chaos.report import html_report
from lovectl.chaos.scenarios import SCENARIOS
from lovectl.chaos.simulation import simulate_all
from lovectl.paths import CACHE, private_directory

HISTORIES = CACHE / "simulations"


def run_scenarios(names: Sequence[str], seed: int, report: Path | None) -> dict[str, Any]:
    """Run these scenarios, all of them if none is named, and draw the report if it is wanted."""
    document, history = simulate_all(
        list(names) or list(SCENARIOS), seed, _history_file("simulate", seed), _say
    )
    return _drawn(document, history, report)


def run_soak(minutes: float, seed: int, report: Path | None) -> dict[str, Any]:
    """Random faults at random times for so many minutes."""
    document, history = soak(minutes, seed, _history_file("chaos", seed), _say)
    return _drawn(document, history, report)


def scenarios_table(document: Mapping[str, Any]) -> Table:
    """A line for each scenario."""
    table = Table(title=f"seed {document['seed']}: {document['verdict']}")
    table.add_column("scenario")
    names = ("accepted", "stored", "final", "lost", "duplicated", "reconciled")
    for name in (*names, "p50 ms", "p99 ms", "first batch ms", "seconds", "verdict"):
        table.add_column(name, justify="right")
    for one in document["scenarios"]:
        latency = one["latency_ms"] or {}
        figures = [
            *(one[name] for name in names),
            latency.get("p50", "—"),
            latency.get("p99", "—"),
            one["first_batch_ms"] or "—",
            one["seconds"],
            one["verdict"],
        ]
        table.add_row(one["name"], *map(str, figures))
    return table


def names_table() -> Table:
    """What there is to simulate."""
    table = Table("scenario", "faults", "senders", title=f"{len(SCENARIOS)} scenarios")
    for one in SCENARIOS.values():
        faults = [*one.faults, *([one.damage] if one.damage else [])]
        homes = "all continents" if len(one.continents) > 3 else ", ".join(one.continents)
        table.add_row(one.name, ", ".join(f"{each.kind} {each.target}" for each in faults), homes)
    return table


def names_document() -> dict[str, Any]:
    """The same as a JSON document."""
    return {
        "scenarios": [
            {
                "name": one.name,
                "faults": [f"{each.kind} {each.target}" for each in one.faults],
                "damage": None if one.damage is None else f"{one.damage.kind} {one.damage.target}",
                "continents": [each.value for each in one.continents],
            }
            for one in SCENARIOS.values()
        ]
    }


def _drawn(document: dict[str, Any], history: History, report: Path | None) -> dict[str, Any]:
    if report is not None:
        report.write_text(html_report(document, history), encoding="utf-8")
        document = {**document, "report": str(report)}
    return document


def _history_file(kind: str, seed: int) -> Path:
    """A new file; it holds contents in clear, so only this user may read it."""
    directory = private_directory(HISTORIES)
    return Path(tempfile.mkdtemp(prefix=f"{kind}-{seed}-", dir=directory)) / "history.jsonl"


def _say(line: str) -> None:
    show.notes.print(line, markup=False)
