"""Asks an independent evaluator of IAM policies, and AWS's own list of actions."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lovectl.paths import REPOSITORY

SCRIPT = Path(__file__).with_name("simulate.mjs")
MODULES = REPOSITORY / "node_modules" / "@cloud-copilot"


class Request(msgspec.Struct, frozen=True):
    """One request to AWS; policies by their names in `documents`."""

    principal: str
    action: str
    resource: str
    account: str
    identity: Sequence[str] = ()
    boundary: str | None = None
    resource_policy: str | None = None
    context: Mapping[str, str | list[str]] = {}


def actions_of(types: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    """All actions that AWS knows for each (service, type of resource); `*` for: takes none."""
    wanted = list(types)
    return dict(zip(wanted, _run(types=wanted)["actions"], strict=True))


def allowed(documents: Mapping[str, Any], requests: Sequence[Request]) -> list[bool]:
    """Whether AWS would allow each request."""
    answer = _run(documents=documents, requests=msgspec.to_builtins(requests))
    return [decision == "Allowed" for decision in answer["decisions"]]


def _run(**given: Any) -> Any:
    assert MODULES.is_dir(), "the policy simulator is not installed: run `npm ci`, or `make test`"
    ran = subprocess.run(
        ["node", str(SCRIPT)],
        input=json.dumps({"types": [], "documents": {}, "requests": [], **given}),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
