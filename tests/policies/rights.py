"""Who may do what: the table of docs/security.md, which the template must come to."""

import re
from fnmatch import fnmatchcase
from typing import Final

from lovectl.paths import REPOSITORY

DOCUMENT: Final = REPOSITORY / "docs" / "security.md"
HEADING: Final = "## Who may do what"
#: What every function may do beside: write its log.
LOG_ACTIONS: Final = ("logs:CreateLogStream", "logs:PutLogEvents")
#: Written by Step Functions.
RUN_LOGS: Final = ("PipelineLogs", "ReconcileRunLogs")
_CODE = re.compile(r"`([^`]+)`")

Right = tuple[str, str]


def documented_rights() -> dict[str, frozenset[Right]]:
    """For each function: pairs of an action and the name, or pattern, of a resource.

    A resource's name is its logical id; a secret's that of its parameter; `X:live` is an alias.
    """
    section = DOCUMENT.read_text().split(f"{HEADING}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `")]
    return {_CODE.findall(name)[0]: frozenset(_rights(cell)) for name, cell in rows}


def may(rights: frozenset[Right], action: str, resource: str) -> bool:
    """Whether these rights cover the action on the resource of that name."""
    return any(action == each and fnmatchcase(resource, pattern) for each, pattern in rights)


def writes_log(action: str, resource: str) -> bool:
    """Whether it is writing the log of a function; that of a state machine is none."""
    return action in LOG_ACTIONS and resource.endswith("Logs") and resource not in RUN_LOGS


def _rights(cell: str) -> list[Right]:
    found = []
    for clause in cell.split(";"):
        words = _CODE.findall(clause)
        actions = [word for word in words if re.fullmatch(r"[a-z]+:[A-Z]\w+", word)]
        resources = [word for word in words if word not in actions]
        assert bool(actions) == bool(resources), f"not a right: {clause}"
        found += [(action, resource) for action in actions for resource in resources]
    return found
