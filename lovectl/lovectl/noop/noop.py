"""Functions that do nothing in the shapes of the stages: what a state machine costs by itself."""

import sys
import time
from typing import Any


def pass_through(event: Any, context: Any) -> Any:
    """As `pop`, `dpos` and `reward`: a batch in, a batch out."""
    _log()
    return event


def group(event: Any, context: Any) -> Any:
    """As `shard`: one group."""
    _log()
    rest = {"batch_id": event["batch_id"], "wrapped_keys": event["wrapped_keys"]}
    one = {**rest, "continent": "Europe", "items": event["items"]}
    return {"batch_id": event["batch_id"], "groups": [one], "rewards": []}


def store(event: Any, context: Any) -> Any:
    """As `persist`: a receipt for each item."""
    _log()
    now_ms = time.time_ns() // 1_000_000
    receipts = [
        {
            "transaction_id": item["envelope"]["header"]["transaction_id"],
            "status": "stored",
            "reason": None,
            "tier": "atlas",
            "continent": event["continent"],
            "shard": 0,
            "final": True,
            "stored_at_ms": now_ms,
        }
        for item in event["items"]
    ]
    return {"outcome": "stored", "reason": None, "receipts": receipts, "unavailable": []}


def refuse(event: Any, context: Any) -> Any:
    """As a `persist` whose store is down: everything goes on to the next tier."""
    _log()
    return {
        "outcome": "unavailable",
        "reason": "no-op",
        "receipts": [],
        "unavailable": event["items"],
    }


def _log() -> None:
    # The local AWS waits 50 ms for a function that logs nothing; the stages all log a metric.
    print('{"noop": true}', file=sys.stderr, flush=True)
