"""After an outage: `reconcile` runs until every transaction is final, and the copies that count."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from lovectl.access import Access
from lovectl.checker import Stores, read_copies
from lovectl.client import ApiError, Client
from lovectl.sending import READS_AT_ONCE, Accepted, Progress
from lovectl.verdict import Copy

#: The output of template.yaml that names reconcile's state machine.
RECONCILE: Final = "ReconcileArn"
RUN_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.5
ENDED: Final = {"SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"}


@dataclass(frozen=True)
class Recovery:
    """Ids that the API calls stored and final, how often reconcile ran for it, and for how long."""

    final: set[str]
    runs: int
    seconds: float


def reconcile_until(
    access: Access, accepted: Sequence[Accepted], timeout_s: float, progress: Progress | None
) -> Recovery:
    """Run reconcile again and again until the API says of each that it is final, or time is up."""
    began_s = time.monotonic()
    final: set[str] = set()
    runs = 0
    with access.client() as client:
        while True:
            left = [one for one in accepted if one.transaction_id not in final]
            found = _final(client, left)
            final |= found
            if progress is not None:
                progress(len(found))
            seconds = time.monotonic() - began_s
            if len(final) == len(accepted) or seconds > timeout_s:
                return Recovery(final, runs, round(seconds, 1))
            run_reconcile(access)
            runs += 1


def run_reconcile(access: Access) -> str:
    """One run of reconcile's state machine; gives how it ended.

    Raises
    ------
    KeyError
        The stack has no reconcile.
    """
    states = access.aws("stepfunctions")
    started = states.start_execution(stateMachineArn=access.outputs[RECONCILE], input="{}")
    ends_s = time.monotonic() + RUN_TIMEOUT_S
    while time.monotonic() < ends_s:
        said = states.describe_execution(executionArn=started["executionArn"])
        if said["status"] in ENDED:
            return str(said["status"])
        time.sleep(POLL_S)
    return "RUNNING"


def live_copies(stores: Stores) -> list[Copy]:
    """The copies that count as money: those that reconcile has marked as brought home don't."""
    return read_copies(stores)


def _final(client: Client, accepted: Sequence[Accepted]) -> set[str]:
    def look(one: Accepted) -> str | None:
        try:
            answer: dict[str, Any] | None = client.read(one.account, one.transaction_id)
        except ApiError as error:
            if 0 < error.status < 500:
                raise
            return None
        receipt = (answer or {}).get("receipt", {})
        return (
            one.transaction_id
            if receipt.get("status") == "stored" and receipt.get("final")
            else None
        )

    with ThreadPoolExecutor(READS_AT_ONCE) as pool:
        return {one for one in pool.map(look, accepted) if one is not None}
