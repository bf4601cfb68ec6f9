"""Starts the reconcile state machine and waits for what came of it."""

import json
import time
from typing import Any, Final

from lovectl.access import Access
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
