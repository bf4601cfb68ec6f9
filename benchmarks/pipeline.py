"""Times the whole way of a transaction: batches of 1, 32 and 256, each stage, and a no-op machine.

Run it by `make bench`. It brings up a stack of its own, writes `benchmarks/results/pipeline.json`
and prints a table. It exits non-zero if a transaction was lost, rejected or stored twice.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from pymongo import MongoClient
from rich.table import Table

from federation.regions import Continent
from lovectl import show
from lovectl.access import Access, started_access
from lovectl.checker import DATABASE, read_copies
from lovectl.measures import STAGES, function_log_lines, spread, stage_times
from lovectl.noop_machine import deploy_noop, noop_execution_ms
from lovectl.sending import plan, post_all
from lovectl.verdict import judge

RESULTS: Final = Path(__file__).parent / "results" / "pipeline.json"
#: Rounds by batch size.
ROUNDS: Final = {1: 150, 32: 50, 256: 15}
WARM_UP_ROUNDS: Final = 3
CONTINENT: Final = Continent.EUROPE
POST_ITEMS: Final = 100
POLL_S: Final = 0.02
ROUND_TIMEOUT_S: Final = 120.0
VERSIONS_OF: Final = ("ministack", "boto3", "pymongo", "grpcio", "msgspec", "rust-core")


def main() -> int:
    """Run all; the exit code says whether nothing was lost or doubled."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true", help="the result document on stdout")
    arguments = options.parse_args()
    with started_access("bench") as access:
        result = bench(access)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        show.print_json(result)
    else:
        show.tables.print(_table(result))
    return 0 if result["lost"] == result["duplicated"] == 0 else 1


def bench(access: Access) -> dict[str, Any]:
    """All batch sizes on one running stack; spreads in milliseconds."""
    states = access.aws("stepfunctions")
    noop = deploy_noop(access.aws)
    sent: list[str] = []
    batches = {}
    with MongoClient[dict[str, Any]](access.stores.mongo_uris[CONTINENT.value]) as mongo:
        stored = mongo[DATABASE]["transactions"]
        for _ in range(WARM_UP_ROUNDS):
            sent += _round(access, stored, 1)[1]
        for size, rounds in ROUNDS.items():
            started_ms = time.time_ns() // 1_000_000
            whole_ms = []
            with show.bar(f"batches of {size}", rounds) as progress:
                for _ in range(rounds):
                    elapsed_ms, ids = _round(access, stored, size)
                    whole_ms.append(elapsed_ms)
                    sent += ids
                    if progress is not None:
                        progress(1)
            lines = function_log_lines(access.aws, started_ms)
            noop_execution_ms(states, noop, size)
            noop_ms = [noop_execution_ms(states, noop, size) for _ in range(rounds)]
            batches[str(size)] = {
                "rounds": rounds,
                "stages_ms": {stage: _spread(ms) for stage, ms in stage_times(lines).items()},
                "post_to_every_receipt_ms": _spread(whole_ms),
                "noop_machine_ms": _spread(noop_ms),
            }
    verdict = judge(sent, read_copies(access.stores))
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "versions": {name: importlib.metadata.version(name) for name in VERSIONS_OF},
        "sent": len(sent),
        "stored": verdict.stored,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "batches": batches,
    }


def _round(access: Access, stored: Any, size: int) -> tuple[float, list[str]]:
    """Post `size` transactions and watch the store; milliseconds until the last one is there."""
    postings = plan(access.issuer, size, continents=(CONTINENT,), batch=min(size, POST_ITEMS))
    with access.client() as client:
        client.health()  # the connection is not what is measured
        started_s = time.perf_counter()
        ids = [one.transaction_id for one in post_all(client, postings)]
        while stored.count_documents({"_id": {"$in": ids}}) < size:
            if time.perf_counter() - started_s > ROUND_TIMEOUT_S:
                raise TimeoutError(f"a batch of {size} is not stored after {ROUND_TIMEOUT_S} s")
            time.sleep(POLL_S)
    return (time.perf_counter() - started_s) * 1000, ids


def _spread(values_ms: Sequence[float]) -> dict[str, float]:
    found = spread(values_ms)
    return {} if found is None else asdict(found)


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="p50 / p99 in milliseconds, by batch size")
    table.add_column("what")
    for size in result["batches"]:
        table.add_column(size, justify="right")

    def row(title: str, cells: Sequence[dict[str, float]]) -> None:
        shown = [f"{cell['p50_ms']:.1f} / {cell['p99_ms']:.1f}" if cell else "—" for cell in cells]
        table.add_row(title, *shown)

    batches = list(result["batches"].values())
    for stage in STAGES:
        row(stage, [batch["stages_ms"].get(stage, {}) for batch in batches])
    row("whole way: post → every receipt", [b["post_to_every_receipt_ms"] for b in batches])
    row("no-op state machine, same shape", [b["noop_machine_ms"] for b in batches])
    return table


if __name__ == "__main__":
    sys.exit(main())
