"""What `lovectl` prints: tables and progress bars on stderr, one JSON document on stdout."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lovectl.cost import HOURS_A_MONTH, INSERTS_A_SECOND, Assumptions, Bill, Prices
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


def double_spend_table(report: Mapping[str, Any]) -> Table:
    """What became of conflicting pairs, and whom the evidence accuses."""
    table = Table(title=f"{report['scenario']}, seed {report['seed']}: {report['verdict']}")
    table.add_column("what")
    table.add_column("count", justify="right")
    for name in ("pairs", "both_final", "one_final", "none_final", "crashes", "partitions"):
        table.add_row(name.replace("_", " "), str(report[name]))
    for one in report["evidence"]:
        kind = "Byzantine" if one["byzantine"] else "honest"
        table.add_row(f"double votes of {one['delegate_id']}, {kind}", str(one["double_votes"]))
    for name in report["byzantine_missed"]:
        table.add_row(f"{name}, Byzantine, is not accused", "—")
    return table


def routes_table(report: Mapping[str, Any]) -> Table:
    """A line for each phase: by which routes its transactions were kept, and when they were final."""
    title = f"{report['scenario']}, seed {report['seed']}: {report['verdict']}"
    caption = f"lost {report['lost']}, duplicated {report['duplicated']}"
    table = Table(title=title, caption=f"{caption}, not final {report['not_final']}")
    for name in ("phase", "designed", "routes"):
        table.add_column(name)
    for name in ("accepted", "stored", "final then", "after recovery", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    for one in report["phases"]:
        times = one["latency_ms"]
        table.add_row(
            one["name"],
            one["designed_route"],
            ", ".join(f"{route} {count}" for route, count in one["routes"].items() if count),
            *(
                str(one[name])
                for name in ("accepted", "stored", "final_then", "final_after_recovery")
            ),
            *("—" if times is None else f"{times[name]:.0f}" for name in ("p50_ms", "p99_ms")),
        )
    return table


def rotation_table(report: Mapping[str, Any]) -> Table:
    """What a rotation of keys did, and what became of the traffic meanwhile."""
    table = Table(title=f"keys rotated ({report['mode']}): {report['verdict']}")
    for name in ("continent", "customer key", "data keys", "new data key"):
        table.add_column(name)
    for one in report["continents"]:
        key = str(one["customer_key"]).rpartition("/")[2]
        rewrapped = str(one["data_keys_rewrapped"])
        table.add_row(one["continent"], key, rewrapped, one["data_key"] or "—")
    if "writes" not in report:
        return table
    table.add_section()
    for name in ("writes", "failed_writes", "reads", "failed_reads"):
        table.add_row(name.replace("_", " "), "", str(report[name]), "")
    for name in ("old_documents", "new_documents"):
        done = f"{report[f'{name}_opened']} of {report[name]} opened"
        table.add_row(name.replace("_", " "), "", done, "")
    return table


def cost_table(bills: Sequence[Bill], prices: Prices) -> Table:
    """A line for each item, a pair of columns for each rate: quantity and price of a month."""
    table = Table(title=f"A month of {HOURS_A_MONTH} hours, {prices.currency}")
    for name in ("service", "item", "unit"):
        table.add_column(name, no_wrap=True)
    for bill in bills:
        table.add_column(f"at {bill.tps:,g}/s", justify="right")
        table.add_column(prices.currency, justify="right")
    for lines in zip(*(bill.lines for bill in bills), strict=True):
        first = lines[0]
        figures = (text for one in lines for text in (_quantity(one.quantity), f"{one.usd:,.2f}"))
        table.add_row(first.service, first.item, first.unit, *figures)
    table.add_section()
    totals = (text for one in bills for text in ("", f"{one.total_usd:,.2f}"))
    table.add_row("total", "", prices.currency, *totals)
    table.add_section()
    for name, values in (
        ("Atlas tier", [bill.atlas_tier for bill in bills]),
        ("batch, transactions", [f"{bill.batch_items:.0f}" for bill in bills]),
        ("executions at once", [f"{bill.executions_at_once:.2g}" for bill in bills]),
        ("limits to raise", ["\n".join(bill.limits_exceeded) or "none" for bill in bills]),
        ("GB stored, not priced", [_quantity(bill.stored_gb) for bill in bills]),
    ):
        table.add_row(name, "", "", *(text for one in values for text in (one, "")))
    return table


def assumptions_table(assumed: Assumptions) -> Table:
    """Every assumption of a bill by name."""
    table = Table("assumption", "value", title="Assumed, not measured")
    for name, value in msgspec.to_builtins(assumed).items():
        table.add_row(name, f"{value:,}")
    for tier, most in INSERTS_A_SECOND.items():
        table.add_row(f"inserts a second, one {tier} cluster", f"{most:,.0f}")
    return table


def _quantity(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:,.1f} M"
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def load_table(report: Mapping[str, Any]) -> Table:
    """Rates that were tried, then the one that held, and what came beyond it."""
    table = Table(
        "requests/s",
        "transactions/s",
        "seconds",
        "answers",
        "stored after, p50 / p99 ms",
        "net p99 ms",
        "holds",
        title=f"no-op machine: {report['noop_ms']['p50_ms']:.0f} ms at p50; lost {report['lost']}",
    )
    for one in (*report["trials"], report["held"]):
        after = one["stored_after_ms"]
        net = one["stored_after_net_p99_ms"]
        table.add_row(
            f"{one['requests_per_s']:.2f}",
            f"{one['transactions_per_s']:.1f}",
            f"{one['seconds']:.0f}",
            " ".join(f"{status}: {count}" for status, count in one["statuses"].items()),
            "—" if after is None else f"{after['p50_ms']:.0f} / {after['p99_ms']:.0f}",
            "—" if net is None else f"{net:.0f}",
            "yes" if one["holds"] else "no",
        )
    many = report["beyond"]["many_senders"]
    for name, beyond in report["beyond"].items():
        answers = " ".join(f"{status}: {count}" for status, count in beyond["statuses"].items())
        rate = f"{many['requests_per_s']:.2f}" if beyond is many else "burst"
        table.add_row(rate, name.replace("_", " "), "", answers, "", "", "")
    table.caption = f"inbox drained after {report['drained_s']} s"
    return table
