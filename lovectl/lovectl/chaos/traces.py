"""What a fault left behind: one that nobody met proves nothing.

Functions name in their warnings what failed them; of the inbox the client's own refused posts tell.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from federation.regions import CLUSTERS
from lovectl.chaos.faults import QUEUE_KINDS, Fault
from lovectl.chaos.history import ACCEPTED, History
from lovectl.delegates import FULL_NODES, LIGHT_NODES
from lovectl.measures import LogEvent

#: No call passes these unharmed; `slow`, `bandwidth` and `sliced` it may, in time, and `flapping`.
IMPASSABLE: Final = frozenset(
    {
        "refuse",
        "hang",
        "reset",
        "cut_answer",
        "half_open",
        "answer_lost",
        "killed",
        "paused",
        "disk_full",
    }
)
#: Who met a fault says so when his own time limit is over.
LATE_MS: Final = 2_500
_WARNINGS: Final = ('"WARNING"', '"ERROR"')
#: The fields that name who was asked.
_SAYING: Final = ("message", "why", "breaker", "delegates", "parts")
_INBOX: Final = "inbox"
_KMS: Final = "kms"
#: How the functions name what they ask, in the reason of a failure and as a breaker.
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    **{
        target: (f"Atlas {continent.value}:", f"atlas/{continent.value}")
        for continent, target in CLUSTERS.items()
    },
    "dynamodb": ("DynamoDB:", '"dynamodb"'),
    "immudb": ("immuDB:", '"immudb"'),
    _KMS: ("KMS of ", "kms/"),
    **{node: (f'"{node}"',) for node in LIGHT_NODES},
    # While the light nodes' votes suffice, these are asked only to keep the batch; one of them may do.
    **{node: (f'"{node}"', '"no full node has the batch yet"') for node in FULL_NODES},
}


def met(history: History, events: Iterable[LogEvent]) -> dict[str, int]:
    """How often each network's or machine's fault of a history was met, by `kind target`.

    Parameters
    ----------
    events : iterable of LogEvent
        What the functions wrote meanwhile.
    """
    warnings = [one for one in events if any(level in one.message for level in _WARNINGS)]
    found: dict[str, int] = {}
    for kind, target, begin_ms, end_ms in history.faults():
        if kind in QUEUE_KINDS:
            continue
        if target == _INBOX:
            times = sum(
                begin_ms <= one.at_ms <= end_ms + LATE_MS
                for one in history.answers
                if one.status != ACCEPTED
            )
        elif target in _NAMES:
            times = sum(
                begin_ms <= one.at_ms <= end_ms + LATE_MS and _names(one.message, target)
                for one in warnings
            )
        else:
            continue
        name = f"{kind} {target}"
        found[name] = found.get(name, 0) + times
    return found


def unmet(faults: Iterable[Fault], found: Mapping[str, int]) -> list[str]:
    """Those of a scenario's faults that nobody met, though whoever had come would have."""
    chosen = tuple(faults)
    is_cold = any(one.kind == "cold_start" for one in chosen)
    optional = set() if FULL_NODES.keys() <= {one.target for one in chosen} else set(FULL_NODES)
    # With the data keys that it has, a warm function works on.
    optional |= set() if is_cold else {_KMS}
    return [
        name
        for one in chosen
        if one.kind in IMPASSABLE
        and one.target not in optional
        and not found.get(name := f"{one.kind} {one.target}")
    ]


def _names(message: str, target: str) -> bool:
    start = message.find("{")
    try:
        document: Any = json.loads(message[max(0, start) :])
    except ValueError:
        return False
    said = json.dumps([document.get(one) for one in _SAYING])
    return any(name in said for name in _NAMES[target])
