"""Times the votes for a batch of 100: four light and three full nodes, all well or one hanging.

Run it by `make bench`. It starts seven delegates as processes, and asks them as `dpos` does, by
`federation_dag.Electorate`; beside it by the asyncio collector of `lovectl simulate double-spend`.
It writes `benchmarks/results/votes.json` and prints a table. It exits non-zero if a vote is missing
that the nodes that are well could give.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.table import Table

import federation_dag
from lovectl import show
from lovectl.delegates import EPOCH, FULL_NODES, LIGHT_NODES
from lovectl.measures import spread
from lovectl.processes import LOOPBACK
from lovectl.simulation.ballots import Ballot, rivals
from lovectl.simulation.collector import Collector, Voter
from lovectl.simulation.federation import Federation, federation

RESULTS: Final = Path(__file__).parent / "results" / "votes.json"
BATCH: Final = 100
ROUNDS: Final = 200
WARM_UP_ROUNDS: Final = 5
#: The asyncio collector verifies one signature after the other; fewer rounds tell enough.
PEER_ROUNDS: Final = 40
#: As on the local stack, where seven nodes share these cores; on AWS `dpos` waits 80 ms.
DEADLINE_MS: Final = 500
COLD_DEADLINE_MS: Final = 5_000
HANGING: Final = "node-tokyo"
#: Between rounds: votes that nobody waited for are out of the nodes' way.
REST_S: Final = 0.05
SEED: Final = 1
GOAL_P99_MS: Final = 100.0

Collect = Callable[[Sequence[Ballot]], int]


def main() -> int:
    """Run all; the exit code says whether every batch was final."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true", help="the result document on stdout")
    options.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = options.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="love-votes-") as directory,
        federation(Path(directory), {}) as running,
    ):
        result = bench(running, chosen.rounds)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if chosen.json:
        show.print_json(result)
    else:
        show.tables.print(_table(result))
    return 0 if all(one["not_final"] == 0 for one in result["votes"].values()) else 1


def bench(running: Federation, rounds: int) -> dict[str, Any]:
    """Both collectors, with and without a node that hangs; spreads in milliseconds."""
    fresh = _batches()
    votes: dict[str, dict[str, Any]] = {}
    collectors: dict[str, tuple[Callable[[Federation], Any], int]] = {
        "dpos": (_core_collector, rounds),
        "asyncio": (_peer_collector, min(rounds, PEER_ROUNDS)),
    }
    for name, (open_collector, count) in collectors.items():
        for state in ("all well", f"{HANGING} hangs"):
            with open_collector(running) as collect:
                for _ in range(WARM_UP_ROUNDS):
                    collect(next(fresh))
                if state != "all well":
                    running.pause(HANGING)
                try:
                    votes[f"{name}, {state}"] = _measure(collect, fresh, count)
                finally:
                    running.resume(HANGING)
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "processor": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            # Seven nodes and whatever else the machine does share its cores.
            "load_1min": round(os.getloadavg()[0], 2),
        },
        "light_nodes": len(LIGHT_NODES),
        "full_nodes": len(FULL_NODES),
        "batch": BATCH,
        "deadline_ms": DEADLINE_MS,
        "goal_p99_ms": GOAL_P99_MS,
        "votes": votes,
        # With a node that hangs the asyncio collector always waits for the deadline.
        "ratio_p50": round(
            votes["asyncio, all well"]["p50_ms"] / votes["dpos, all well"]["p50_ms"], 2
        ),
    }


def _measure(collect: Collect, fresh: Iterator[Sequence[Ballot]], rounds: int) -> dict[str, Any]:
    took_ms, not_final = [], 0
    for _ in range(rounds):
        batch = next(fresh)
        began_s = time.perf_counter()
        final = collect(batch)
        took_ms.append((time.perf_counter() - began_s) * 1000)
        not_final += len(batch) - final
        time.sleep(REST_S)
    found = spread(took_ms)
    assert found is not None
    return {
        "rounds": rounds,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "max_ms": round(max(took_ms), 2),
        "mean_ms": round(statistics.fmean(took_ms), 2),
        # Of a node that has just begun to hang nothing is known yet.
        "first_ms": round(took_ms[0], 2),
        "not_final": not_final,
    }


def _batches() -> Iterator[Sequence[Ballot]]:
    """Transactions that no delegate has seen."""
    chance = random.Random(SEED)
    while True:
        yield [one for one, _ in rivals(BATCH, chance)]


@contextmanager
def _core_collector(running: Federation) -> Iterator[Collect]:
    client = running.pki.client_pem_file.read_text()
    electorate = federation_dag.Electorate(
        [
            (
                one.delegate_id,
                "Ed25519",
                b64decode(one.public("")["public_key"]),
                one.stake,
                one.delegate_id in FULL_NODES,
                f"{LOOPBACK}:{one.port}",
            )
            for one in running.delegates.values()
        ],
        EPOCH,
        running.pki.ca_file.read_text(),
        client,
        client,
    )

    def collect(batch: Sequence[Ballot]) -> int:
        ballots = [
            (b.transaction_id, b.sender, b.nonce, b.header, b.algorithm, b.public_key, b.signature)
            for b in batch
        ]
        outcomes, _ = electorate.collect(ballots, DEADLINE_MS, COLD_DEADLINE_MS)
        return sum(one.tally.final for one in outcomes)

    yield collect


@contextmanager
def _peer_collector(running: Federation) -> Iterator[Collect]:
    voters = [
        Voter(name, b64decode(one.public("")["public_key"]), one.stake)
        for name, one in running.delegates.items()
    ]
    addresses = {name: f"{LOOPBACK}:{one.port}" for name, one in running.delegates.items()}
    peer = Collector(voters, addresses, running.pki, EPOCH, COLD_DEADLINE_MS)
    with asyncio.Runner() as runner:
        runner.run(peer.__aenter__())

        def collect(batch: Sequence[Ballot]) -> int:
            runner.run(peer.ask(batch, [list(addresses)]))
            # It waits for everybody; once it has connected, no longer than `dpos` does.
            peer.deadline_ms = DEADLINE_MS
            return sum(peer.is_final(one) for one in batch)

        yield collect
        runner.run(peer.__aexit__())


def _table(result: dict[str, Any]) -> Table:
    shape = f"{result['light_nodes']} light + {result['full_nodes']} full nodes"
    table = Table(title=f"Votes for a batch of {result['batch']}, {shape}, milliseconds")
    table.add_column("collector, nodes")
    columns = ("p50_ms", "p99_ms", "max_ms", "first_ms", "not_final")
    for name in columns:
        table.add_column(name.removesuffix("_ms").replace("_", " "), justify="right")
    for title, one in result["votes"].items():
        table.add_row(title, *(str(one[name]) for name in columns))
    return table


if __name__ == "__main__":
    sys.exit(main())
