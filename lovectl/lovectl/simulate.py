"""Runs an outage while money is sent, then judges by what lies in the stores."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from typing import Any, Final

from lovectl.access import Access
from lovectl.checker import read_copies
from lovectl.faults import OUTAGES, Scenario, taken_down
from lovectl.measures import spread
from lovectl.sending import Progress, outcome_rows, plan, post_all, wait_for_receipts
from lovectl.verdict import judge

COUNT_MIN: Final = 200
#: Transactions in one request; each request is one account's.
BATCH: Final = 10
#: Back-off of the inbox's messages is at most 30 s, so a recovered store is found well within this.
RECOVERY_TIMEOUT_S: Final = 240.0

ProgressBar = Callable[[str, int], AbstractContextManager[Progress | None]]


def simulate(
    access: Access, scenario: Scenario, *, count: int, seed: int, bar: ProgressBar
) -> dict[str, Any]:
    """Send `count` transactions during the outage, wait for their receipts, compare with the stores.

    Returns
    -------
    dict
        The report: scenario, seed, accepted, stored, stored_per_tier, rejected, without_receipt,
        lost, duplicated, verdict (`holds` or `broken`), latency_ms, seconds.
    """
    outage = OUTAGES[scenario]
    postings = plan(access.issuer, count, batch=BATCH, seed=seed)
    started_s = time.monotonic()
    with access.client() as client, ExitStack() as during:
        during.enter_context(taken_down(access.proxies, outage.proxies))
        with bar("sending, stores down", count) as progress:
            accepted = post_all(client, postings, progress=progress)
        if outage.back_before_receipts:
            during.close()
        with bar("waiting for receipts", count) as progress:
            answers = wait_for_receipts(
                client, accepted, timeout_s=RECOVERY_TIMEOUT_S, progress=progress
            )
    rows = outcome_rows(accepted, answers)
    rejected = {row["transaction_id"] for row in rows if row["status"] == "rejected"}
    verdict = judge({one.transaction_id for one in accepted} - rejected, read_copies(access.stores))
    latency = spread([row["latency_ms"] for row in rows if row["latency_ms"] is not None])
    return {
        "scenario": scenario.value,
        "seed": seed,
        "accepted": len(accepted),
        "stored": verdict.stored,
        "stored_per_tier": verdict.stored_per_tier,
        "rejected": len(rejected),
        "without_receipt": sum(row["status"] == "pending" for row in rows),
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "verdict": "holds" if verdict.holds and not rejected else "broken",
        "lost_ids": list(verdict.lost),
        "duplicated_ids": list(verdict.duplicated),
        "latency_ms": None if latency is None else asdict(latency),
        "seconds": round(time.monotonic() - started_s, 1),
    }
