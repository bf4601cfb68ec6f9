"""What `lovectl` prints: tables and progress bars on stderr, one JSON document on stdout."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lovectl.measures import STAGES, spread
from lovectl.sending import Progress as Advance

#: For people, beside a JSON document; `tables` is for people alone.
notes = Console(stderr=True, highlight=False)
#: A pipe has no width of its own; 80 columns would cut the tables.
tables = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def print_json(document: Any) -> None:
    """Exactly one JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


@contextmanager
def bar(title: str, total: int) -> Iterator[Advance | None]:
    """A progress bar on stderr, if that is a terminal; gives the function that advances it."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=notes) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


def receipts_table(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    """A line for each continent: how many are stored, where, final, and how fast."""
    table = Table(title=title)
    table.add_column("continent")
    for name in ("sent", "stored", "rejected", "pending", "final", "shards", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    table.add_column("tiers")
    for continent in sorted({str(row["continent"] or "—") for row in rows}):
        mine = [row for row in rows if str(row["continent"] or "—") == continent]
        times = spread([row["latency_ms"] for row in mine if row["latency_ms"] is not None])
        tiers = [str(row["tier"]) for row in mine if row["tier"]]
        table.add_row(
            continent,
            str(len(mine)),
            *(
                str(sum(row["status"] == one for row in mine))
                for one in ("stored", "rejected", "pending")
            ),
            str(sum(bool(row["final"]) for row in mine)),
            str(len({row["shard"] for row in mine if row["shard"] is not None})),
            "—" if times is None else f"{times.p50_ms:.0f}",
            "—" if times is None else f"{times.p99_ms:.0f}",
            ", ".join(f"{tier} {tiers.count(tier)}" for tier in sorted(set(tiers))) or "—",
        )
    return table


def stages_table(times_ms: Mapping[str, Sequence[float]]) -> Table:
    """A line for each stage in the order of the way: invocations, p50, p99."""
    table = Table(title="Stage times, from the functions' own metrics")
    table.add_column("stage")
    for name in ("invocations", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for stage in (*STAGES, *sorted(set(times_ms) - set(STAGES))):
        times = spread(times_ms.get(stage, ()))
        if times is not None:
            table.add_row(stage, str(times.samples), f"{times.p50_ms:.1f}", f"{times.p99_ms:.1f}")
    return table


def verdict_table(report: Mapping[str, Any]) -> Table:
    """The verdict of a simulation."""
    table = Table(title=f"{report['scenario']}, seed {report['seed']}: {report['verdict']}")
    table.add_column("what")
    table.add_column("count", justify="right")
    for name in ("accepted", "stored", "rejected", "without_receipt", "lost", "duplicated"):
        table.add_row(name.replace("_", " "), str(report[name]))
    for tier, count in report["stored_per_tier"].items():
        table.add_row(f"stored in {tier}", str(count))
    return table
