"""Times batches of 100 while a store refuses, hangs or is slow, beside a no-op machine of the same shape.

Run it by `make bench`, or alone; it brings up a stack of its own. A batch is one synchronous execution
of the pipeline: what `dispatch` waits for. A whole run writes `benchmarks/results/failover.json`; exits
non-zero if a transaction was lost or rejected. KMS is broken for warm functions, which have their data keys.
"""

import argparse
import json
import platform
import sys
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec
from botocore.config import Config
from rich.table import Table

import cert_rust
from federation.batch import Batch, Item
from federation.limits import BATCH_ITEMS_MAX
from federation.regions import CLUSTERS, Continent
from federation.transaction import (
    Envelope,
    Sealed,
    associated_data,
    content_key_name,
    parse_transaction,
)
from lovectl import show
from lovectl.access import Access, started_access
from lovectl.accounts import make_account, sign, unsigned_transaction
from lovectl.canary import run_canary
from lovectl.checker import read_copies
from lovectl.measures import function_log_lines, spread, stage_times
from lovectl.noop_machine import deploy_noop, noop_execution_ms
from lovectl.verdict import judge

RESULTS: Final = Path(__file__).parent / "results" / "failover.json"
CONTINENT: Final = Continent.EUROPE
#: The home's cluster and the other stores by their proxies.
ATLAS, DYNAMODB, IMMUDB, KMS = CLUSTERS[CONTINENT], "dynamodb", "immudb", "kms"
#: What is broken, by the name that the table shows; the last two lines break a tier that is in use
#: only as another one is down already.
STORES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "atlas": (ATLAS, ()),
    "dynamodb": (DYNAMODB, ()),
    "immudb": (IMMUDB, ()),
    "kms": (KMS, ()),
    "dynamodb, atlas down": (DYNAMODB, (ATLAS,)),
    "immudb, atlas down": (IMMUDB, (ATLAS,)),
}
FAULTS: Final = ("refuse", "hang", "slow")
#: Above what a write may take, below its time-out: the answer comes, and too late.
SLOW_MS: Final = 460
#: Batches before the breaker is taken for open, in each of two environments; those after it; and of a
#: healthy stack.
FIRST: Final = 2
ROUNDS: Final = 30
WARM_UP: Final = 5
HEALTHY_S: Final = 60.0
#: A batch that nobody stored comes again from the inbox; so often here.
TRIES_MAX: Final = 5
GOAL_MS: Final = 500.0
FIRST_GOAL_MS: Final = 1_000.0
#: Longer limits than functions have on AWS (60, 120 and 150 ms), since every server shares these two
#: cores: with those a healthy store is too slow now and then. No payment probes meanwhile.
LIMITS: Final = {
    "PERSIST_TIMEOUT_MS": "500",
    "PERSIST_SLOW_MS": "450",
    "COLD_TIMEOUT_MS": "1000",
    "KMS_TIMEOUT_MS": "500",
    "POSITIONS_TIMEOUT_MS": "150",
    "BREAKER_PATIENCE_S": "90",
}


class Pipeline:
    """Runs batches of a running stack's pipeline, and remembers what was sent."""

    def __init__(self, access: Access) -> None:
        self._access = access
        config = Config(read_timeout=70, inject_host_prefix=False)
        self.states = access.aws("stepfunctions", config=config)
        secret = access.aws("secretsmanager").get_secret_value(SecretId="love/trust")
        sealing = json.loads(secret["SecretString"])["sealing"]
        self._key_id = sealing["key_id"]
        self._sealer = cert_rust.ContentSealer(b64decode(sealing["public_key"]), self._key_id)
        self.sent: list[str] = []
        #: Executions that stored nothing, so that their batch had to come again.
        self.again = 0
        self.tiers: Counter[str] = Counter()

    def run(self) -> float:
        """Milliseconds until every receipt of one batch is there, however often it came.

        Raises
        ------
        RuntimeError
            A transaction was not stored, by several executions.
        """
        batch = self._batch()
        self.sent += [item.envelope.header.transaction_id for item in batch.items]
        text = msgspec.json.encode(batch).decode()
        started_s = time.perf_counter()
        for _ in range(TRIES_MAX):
            answer = self.states.start_sync_execution(
                stateMachineArn=self._access.outputs["PipelineArn"], input=text
            )
            done = answer["status"] == "SUCCEEDED"
            receipts = json.loads(answer["output"])["receipts"] if done else []
            stored = [one for one in receipts if one["status"] == "stored"]
            if len(stored) == len(batch.items):
                break
            self.again += 1
        elapsed_ms = (time.perf_counter() - started_s) * 1000
        if len(stored) != len(batch.items):
            why = answer.get("error") or "in part"
            raise RuntimeError(f"{len(stored)} of {len(batch.items)} stored: {why}")
        self.tiers.update(one["tier"] for one in stored)
        return elapsed_ms

    def _batch(self) -> Batch:
        account = make_account(self._access.issuer, CONTINENT)
        public_key = b64encode(account.private_key.public_key().public_bytes_raw()).decode()
        keys: dict[str, str] = {}
        items = []
        for nonce in range(BATCH_ITEMS_MAX):
            unsigned = unsigned_transaction(account, f"{nonce:064x}", 1, nonce)
            document = sign(account, unsigned)
            parsed = parse_transaction(json.dumps(document).encode())
            wrapped, ciphertext = self._sealer.seal(
                parsed.content_bytes, associated_data(parsed.header)
            )
            name = content_key_name(self._key_id, wrapped)
            keys[name] = b64encode(wrapped).decode()
            envelope = Envelope(
                header=parsed.header,
                algorithm=account.algorithm,
                public_key=public_key,
                signature=document["signature"],
                sealed=Sealed(name, b64encode(ciphertext).decode()),
                accepted_at_ms=time.time_ns() // 1_000_000,
                request_id="failover",
                home_continent=CONTINENT.value,
            )
            items.append(Item(envelope))
        return Batch(f"failover-{len(self.sent)}", keys, items)


def main() -> int:
    """Run all; the exit code says whether nothing was lost."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true", help="the result document on stdout")
    options.add_argument("--rounds", type=int, default=ROUNDS, help="batches after the first ones")
    options.add_argument("--store", choices=STORES, action="append", help="only this; repeatable")
    arguments = options.parse_args()
    with started_access("failover", environment=LIMITS) as access:
        result = failover(access, arguments.store or list(STORES), arguments.rounds)
    if not arguments.store:
        RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        show.print_json(result)
    else:
        show.tables.print(failover_table(result))
    return 0 if result["lost"] == 0 else 1


def failover(access: Access, stores: Sequence[str], rounds: int) -> dict[str, Any]:
    """The table as a document; milliseconds."""
    pipeline = Pipeline(access)
    noops = {
        0: deploy_noop(access.aws),
        1: deploy_noop(access.aws, ["PersistAtlasFunction"]),
        2: deploy_noop(access.aws, ["PersistAtlasFunction", "PersistDynamodbFunction"]),
    }
    for _ in range(WARM_UP):
        pipeline.run()
        for machine in noops.values():
            noop_execution_ms(pipeline.states, machine, BATCH_ITEMS_MAX)
    rows = [_row(access, pipeline, noops, "none", "", (), "none", rounds)]
    for store in stores:
        proxy, down = STORES[store]
        rows += [_row(access, pipeline, noops, store, proxy, down, one, rounds) for one in FAULTS]
    verdict = judge(set(pipeline.sent), read_copies(access.stores))
    return {
        "machine": {"system": platform.platform(), "python": platform.python_version()},
        "batch_items": BATCH_ITEMS_MAX,
        "goal_ms": {"p99_after_opening": GOAL_MS, "first": FIRST_GOAL_MS},
        "slow_ms": SLOW_MS,
        "limits": LIMITS,
        "sent": len(pipeline.sent),
        "stored": verdict.stored,
        "lost": len(verdict.lost),
        # A write that was given up though it arrived; reconcile takes the second copy home.
        "executions_again": pipeline.again,
        "in_two_tiers": len(verdict.duplicated),
        "rows": rows,
    }


def _row(
    access: Access,
    pipeline: Pipeline,
    noops: dict[int, str],
    store: str,
    proxy: str,
    down: tuple[str, ...],
    fault: str,
    rounds: int,
) -> dict[str, Any]:
    pipeline.tiers.clear()
    with _all_down(access, down):
        for _ in range(3 if down else 0):
            pipeline.run()  # the breaker of what is down is open before anything is measured
        pipeline.tiers.clear()
        started_ms = time.time_ns() // 1_000_000
        with _broken(access, proxy, fault):
            first = [pipeline.run() for _ in range(FIRST)]
            tiers_first = dict(pipeline.tiers)
            elsewhere = [_beside_the_canary(access, pipeline) for _ in range(FIRST)]
            pipeline.tiers.clear()
            after, noop = [], []
            for _ in range(rounds):
                after.append(pipeline.run())
                # In turns with it, so that whatever else the machine does meets both alike; the
                # no-op machine passes as many tiers as the batch did.
                passed = _tiers_passed(pipeline.tiers)
                noop.append(noop_execution_ms(pipeline.states, noops[passed], BATCH_ITEMS_MAX))
        stages = stage_times(function_log_lines(access.aws, started_ms))
    _heal(access)
    net = [max(0.0, ours - theirs) for ours, theirs in zip(after, noop, strict=True)]
    return {
        "store": store,
        "fault": fault,
        "first_ms": [round(one, 1) for one in first],
        "first_net_ms": [round(max(0.0, one - min(noop)), 1) for one in first],
        "first_elsewhere_ms": [round(one, 1) for one in elsewhere],
        "after_ms": _spread(after),
        "noop_ms": _spread(noop),
        "net_ms": _spread(net),
        "tiers_first": tiers_first,
        "tiers": dict(pipeline.tiers),
        "stages_ms": {stage: _spread(values) for stage, values in stages.items()},
        "holds": _spread(net)["p99_ms"] <= GOAL_MS and max(first) - min(noop) <= FIRST_GOAL_MS,
    }


def _beside_the_canary(access: Access, pipeline: Pipeline) -> float:
    """One batch while the canary keeps an execution environment busy, as it does each minute.

    The batch may meet another environment, whose breakers have everything to learn yet.
    """
    with ThreadPoolExecutor(1) as pool:
        canary = pool.submit(run_canary, access)
        elapsed_ms = pipeline.run()
        canary.result()
    return elapsed_ms


def _tiers_passed(tiers: Counter[str]) -> int:
    """How many tiers the last batches passed by before one took them."""
    [(tier, _)] = tiers.most_common(1)
    return ("atlas", "dynamodb", "immudb").index(tier)


@contextmanager
def _broken(access: Access, proxy: str, fault: str) -> Iterator[None]:
    network: Any = access.proxies
    match fault:
        case "refuse":
            network.down(proxy)
        case "hang":
            # On the way there: what hangs on the way back would be written all the same.
            network.toxic(proxy, "timeout", stream="upstream", timeout=0)
        case "slow":
            network.toxic(proxy, "latency", latency=SLOW_MS, jitter=0)
    try:
        yield
    finally:
        if proxy:
            network.cure(proxy)
            network.up(proxy)


@contextmanager
def _all_down(access: Access, names: Sequence[str]) -> Iterator[None]:
    for name in names:
        access.proxies.down(name)
    try:
        yield
    finally:
        for name in names:
            access.proxies.up(name)


def _heal(access: Access) -> None:
    """Wait until the canary gets through every tier: the breakers are closed then."""
    ends_s = time.monotonic() + HEALTHY_S
    while (report := run_canary(access))["outcome"] != "ok":
        if time.monotonic() > ends_s:
            raise TimeoutError(f"the stack is not well again: {report}")
        time.sleep(0.5)


def _spread(values_ms: Sequence[float]) -> dict[str, Any]:
    found = spread(values_ms)
    return {} if found is None else {"p50_ms": found.p50_ms, "p99_ms": found.p99_ms}


def failover_table(result: dict[str, Any]) -> Table:
    """Store × fault: first batches, and p50 / p99 after them, whole and net of the no-op machine."""
    table = Table(title=f"batches of {result['batch_items']}, milliseconds, p50 / p99")
    for name in (
        "store",
        "fault",
        "first",
        "first, net",
        "then",
        "no-op",
        "then, net",
        "tier",
        "goal",
    ):
        table.add_column(name, justify="right" if name in ("then", "no-op") else "left")

    def both(cell: dict[str, float]) -> str:
        return f"{cell['p50_ms']:.0f} / {cell['p99_ms']:.0f}"

    for row in result["rows"]:
        table.add_row(
            row["store"],
            row["fault"],
            " ".join(f"{one:.0f}" for one in row["first_ms"]),
            " ".join(f"{one:.0f}" for one in row["first_net_ms"]),
            both(row["after_ms"]),
            both(row["noop_ms"]),
            both(row["net_ms"]),
            " ".join(row["tiers"]),
            "kept" if row["holds"] else "missed",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
