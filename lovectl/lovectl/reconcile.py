"""Starts the reconcile state machine and waits for what came of it; lists what it parked."""

import json
import time
from typing import Any, Final

from lovectl.access import Access
from lovectl.checker import Stores, dynamodb_records, immudb_records
from lovectl.errors import StackError

#: Above the state machine's own limit.
EXECUTION_TIMEOUT_S: Final = 330.0
POLL_S: Final = 0.1
RUNNING: Final = "RUNNING"


def reconcile(access: Access) -> dict[str, Any]:
    """One run, in which every pending transaction is due.

    Returns
    -------
    dict
        `status` of the execution (`SUCCEEDED`, `FAILED`, …), `error` if it failed, `clusters` with
        `continent` and `outcome` (`done`, `away`) each, `seconds`.

    Raises
    ------
    StackError
        The execution doesn't end.
    """
    states = access.aws("stepfunctions")
    started_s = time.monotonic()
    execution = states.start_execution(
        stateMachineArn=access.outputs["ReconcileArn"], input=json.dumps({"all_due": True})
    )["executionArn"]
    while True:
        found = states.describe_execution(executionArn=execution)
        if found["status"] != RUNNING:
            break
        if time.monotonic() - started_s > EXECUTION_TIMEOUT_S:
            raise StackError(f"execution {execution} does not end")
        time.sleep(POLL_S)
    output = json.loads(found.get("output") or "{}")
    return {
        "status": found["status"],
        "error": found.get("error"),
        "cause": found.get("cause"),
        **{"clusters": [], **output},
        "seconds": round(time.monotonic() - started_s, 1),
    }


def parked(stores: Stores) -> list[dict[str, Any]]:
    """What reconcile parked, the oldest first.

    Returns
    -------
    list of dict
        `tier`, `kind` (`message`, `transaction`, `rejection`), `id`, `reason`, `parked_at_ms`.
    """
    rows = [
        _row("dynamodb", "message", item["message_id"]["S"], item["reason"]["S"], item)
        for item in dynamodb_records(stores, "parked#")
    ]
    for kind in ("transaction", "rejection"):
        rows += [
            _row("dynamodb", kind, item["pk"]["S"].split("#")[1], item["parked_reason"]["S"], item)
            for item in dynamodb_records(stores, f"{kind}#")
            if "parked_reason" in item
        ]
    for kind in ("transaction", "rejection", "gap"):
        rows += [
            {
                "tier": "immudb",
                "kind": kind,
                "id": entry["transaction_id"],
                "reason": entry["reason"],
                "parked_at_ms": entry["at_ms"],
            }
            for entry in immudb_records(stores, f"parked:{kind}:")
        ]
    rows += [
        {
            "tier": "immudb",
            "kind": "message",
            "id": entry["message_id"],
            "reason": entry["reason"],
            "parked_at_ms": entry["parked_at_ms"],
        }
        for entry in immudb_records(stores, "parked:message:")
    ]
    return sorted(rows, key=lambda row: int(row["parked_at_ms"]))


def _row(tier: str, kind: str, name: str, reason: str, item: dict[str, Any]) -> dict[str, Any]:
    parked_at_ms = int(item["parked_at_ms"]["N"])
    return {"tier": tier, "kind": kind, "id": name, "reason": reason, "parked_at_ms": parked_at_ms}
