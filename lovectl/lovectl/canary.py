"""Sends a canary through every tier of a running stack now, without waiting for its minute."""

import json
from collections.abc import Mapping
from typing import Any

from botocore.config import Config
from rich.table import Table

from lovectl.access import Access

OUTPUT = "CanaryFunctionArn"
#: Above the function's own time-out.
TIMEOUT_S = 30


class CanaryFailed(Exception):
    """The canary's function itself did not do its work."""


def run_canary(access: Access) -> dict[str, Any]:
    """What the function `canary` answers: `outcome`, and `tiers` with their parts and breakers.

    Raises
    ------
    CanaryFailed
    """
    config = Config(read_timeout=TIMEOUT_S, retries={"total_max_attempts": 1})
    answer = access.aws("lambda", config=config).invoke(
        FunctionName=access.outputs[OUTPUT], Payload=b"{}"
    )
    said = answer["Payload"].read()
    if answer.get("FunctionError"):
        raise CanaryFailed(said.decode(errors="replace"))
    report: dict[str, Any] = json.loads(said)
    return report


def canary_table(report: Mapping[str, Any]) -> Table:
    """A row for each tier and continent, with the state of the breaker of that store."""
    table = Table("tier", "continent", "canary", "breaker", "why", title=report["outcome"])
    for tier in report["tiers"]:
        states = {one["name"]: one["state"] for one in tier["breakers"]}
        if not tier["parts"]:
            table.add_row(tier["tier"], "", tier["outcome"], "", tier["reason"] or "")
        for part in tier["parts"]:
            name = f"{tier['tier']}/{part['continent']}"
            state = states.get(name) or states.get(tier["tier"], "")
            why = part["reason"] or ""
            table.add_row(tier["tier"], part["continent"], part["outcome"], state, why)
    return table
