"""Times each function of the core beside raw crates and Python's libraries: `make bench-core`.

Writes `benchmarks/results/core.json` and `core.png`, and prints which limits hold. With `--check`
it exits non-zero if one of the main limits doesn't.
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import contests as named
import rounds
from imports import import_times
from inputs import write_inputs
from peer import Peer
from plot import draw
from rich.table import Table
from surroundings import machine, versions
from verdicts import LIMITS, figures, speed_ups

from lovectl import show

HERE: Final = Path(__file__).parent
RESULTS: Final = HERE.parent / "results"
CRATE: Final = HERE.parents[1] / "layers" / "rust_core"
GAZETTEER: Final = CRATE / "data" / "cities15000.tsv"

METHOD: Final = (
    "One thread (RAYON_NUM_THREADS=1) unless an entry says all cores.",
    "Works of a contest run in turns on the same input, one after another, in processes of their own; "
    "a round repeats a short work until 20 ms; the order is reversed every other round.",
    "Figures under `results` are made of minima over rounds, `results_by_median` of medians.",
    "From Python the binding's conversions count; Python's garbage collector rests, as in timeit.",
    "`locate_us` is the slower of positions near cities and anywhere on the globe.",
    "`batch_verify_1pct_bad_vs_clean` is the median over seven random placements of ten bad ones.",
    "Raw crates get keys and signatures as bytes, as ours does, unless an entry says otherwise; "
    "they are built with the same profile as the wheel.",
    "CSFLE: PyMongo's explicit encrypter with provider `local`, its data key in memory, no server.",
    "serde_json is built with `arbitrary_precision`, which the tests need: without it, it is faster.",
)


def main() -> int:
    """Run all; 0, or with `--check` 1 if a main limit doesn't hold."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "built", type=Path, help="what cargo said as it built `beside`, JSON lines"
    )
    options.add_argument("--json", action="store_true", help="the result document on stdout")
    options.add_argument(
        "--check", action="store_true", help="exit 1 if a main limit does not hold"
    )
    options.add_argument("--rounds", type=int, default=rounds.ROUNDS, help="at most, of each work")
    options.add_argument("--out", type=Path, default=RESULTS, help="directory of the results")
    arguments = options.parse_args()
    document = bench(_program(arguments.built), arguments.rounds)
    arguments.out.mkdir(exist_ok=True)
    (arguments.out / "core.json").write_text(
        json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    )
    draw(document, arguments.out / "core.png")
    if arguments.json:
        show.print_json(document)
    else:
        show.tables.print(_beside_table(document))
        show.tables.print(_limits_table(document))
    broken = [name for name, one in document["limits"].items() if one["main"] and not one["holds"]]
    return 1 if arguments.check and broken else 0


def bench(program: str, rounds_max: int) -> dict[str, Any]:
    """All contests, as the document that is stored.

    Parameters
    ----------
    program : str
        Path of the Rust side.
    rounds_max : int
        Slow works get fewer.
    """
    started_s = time.monotonic()
    before = machine()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_inputs(directory, GAZETTEER)
        measured = _measure(directory, program, rounds_max)
    imports = import_times()
    results = figures(measured, imports, lambda spread: spread.min_us)
    by_median = figures(measured, imports, lambda spread: spread.median_us)
    return {
        "measured_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "took_s": round(time.monotonic() - started_s),
        "machine": before,
        "versions": versions(CRATE / "Cargo.lock"),
        "method": METHOD,
        "results": {name: _rounded(results[name]) for name in LIMITS if LIMITS[name].main},
        "results_by_median": {name: _rounded(by_median[name]) for name in LIMITS},
        "limits": {
            name: {
                **asdict(limit),
                "limit": limit.value,
                "value": _rounded(results[name]),
                "holds": limit.holds(results[name]),
            }
            for name, limit in LIMITS.items()
        },
        "all_cores": {
            "threads": os.cpu_count(),
            "times_as_fast_as_one": {
                name: _rounded(one) for name, one in speed_ups(measured).items()
            },
        },
        "beside": _beside(measured),
        "import_ms": {
            name: {"min": _rounded(one.min_us / 1e3), "median": _rounded(one.median_us / 1e3)}
            for name, one in zip(("with the modules", "bare interpreter"), imports, strict=True)
        },
    }


def _program(messages: Path) -> str:
    """The path of the Rust side's program, out of cargo's messages (JSON lines)."""
    lines = [json.loads(line) for line in messages.read_text().splitlines()]
    return next(
        str(line["executable"])
        for line in lines
        if line.get("executable") and line["target"]["name"] == "beside"
    )


def _measure(directory: Path, program: str, rounds_max: int) -> dict[str, dict[str, rounds.Spread]]:
    worker = (sys.executable, str(HERE / "worker.py"), str(directory))
    one_thread = {"RAYON_NUM_THREADS": "1"}
    all_cores = {"RAYON_NUM_THREADS": str(os.cpu_count() or 1)}
    with (
        Peer(worker, one_thread) as python,
        Peer(worker, all_cores) as python_all_cores,
        Peer((program, str(directory)), one_thread) as rust,
    ):
        peers = {
            named.PYTHON: python,
            named.PYTHON_ALL_CORES: python_all_cores,
            named.RUST: rust,
        }
        measured = {}
        for contest in named.CONTESTS:
            show.notes.print(contest.title)
            spreads = rounds.take_turns(peers, contest.entries, rounds_max)
            measured[contest.title] = {
                entry.name: one for entry, one in zip(contest.entries, spreads, strict=True)
            }
    return measured


def _beside(measured: Mapping[str, Mapping[str, rounds.Spread]]) -> list[dict[str, Any]]:
    rows = []
    for contest in named.CONTESTS:
        spreads = measured[contest.title]
        first = spreads[contest.entries[0].name]
        rows += [
            {
                "contest": contest.title,
                "name": entry.name,
                "unit": f"µs a {contest.item}",
                "min": _rounded(spreads[entry.name].min_us),
                "median": _rounded(spreads[entry.name].median_us),
                "rounds": spreads[entry.name].rounds,
                "vs_first": _rounded(spreads[entry.name].min_us / first.min_us),
            }
            for entry in contest.entries
        ]
    return rows


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _beside_table(document: Mapping[str, Any]) -> Table:
    table = Table(title="Microseconds each; the first of a group is ours")
    table.add_column("what")
    for name in ("min", "median", "rounds", "÷ first"):
        table.add_column(name, justify="right")
    rows: Sequence[Mapping[str, Any]] = document["beside"]
    for before, one in zip((None, *rows), rows, strict=False):
        if before is None or before["contest"] != one["contest"]:
            table.add_section()
            table.add_row(f"[bold]{one['contest']}[/bold], {one['unit']}")
        cells = (f"{one['min']:,.4g}", f"{one['median']:,.4g}", str(one["rounds"]))
        table.add_row(f"  {one['name']}", *cells, f"{one['vs_first']:.3g}")
    return table


def _limits_table(document: Mapping[str, Any]) -> Table:
    table = Table(title="Limits")
    table.add_column("figure")
    for name in ("value", "by medians", "limit"):
        table.add_column(name, justify="right")
    table.add_column("holds")
    medians = document["results_by_median"]
    for name, one in document["limits"].items():
        bound = "≤" if one["bound"] == "at most" else "≥"
        verdict = "[green]yes[/green]" if one["holds"] else "[red]NO[/red]"
        cells = (f"{one['value']:.4g}", f"{medians[name]:.4g}", f"{bound} {one['limit']:g}")
        table.add_row(one["what"], *cells, verdict)
    return table


if __name__ == "__main__":
    sys.exit(main())
