"""Stage times of a running stack, out of the metrics that the functions write into their logs (EMF)."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

ATTEMPTS_MAX: Final = 5
#: In the order in which data flows.
STAGES: Final = ("authorize", "send", "dispatch", "pop", "dpos", "shard", "reward", "persist")


@dataclass(frozen=True)
class Spread:
    """How a quantity in milliseconds is spread; percentiles by nearest rank."""

    samples: int
    p50_ms: float
    p99_ms: float


def spread(values_ms: Sequence[float]) -> Spread | None:
    """Nearest-rank percentiles; `None` without samples.

    Examples
    --------
    >>> spread([3.0, 1.0, 2.0])
    Spread(samples=3, p50_ms=2.0, p99_ms=3.0)
    """
    if not values_ms:
        return None
    ordered = sorted(values_ms)

    def rank(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)

    return Spread(len(ordered), rank(0.50), rank(0.99))


def stage_times(lines: Iterable[str]) -> dict[str, list[float]]:
    """The values of metric `stage_ms` by stage, from log lines of which some are EMF documents."""
    return metric_values(lines, "stage_ms")


def metric_values(lines: Iterable[str], metric: str) -> dict[str, list[float]]:
    """The values of a metric by service, from log lines of which some are EMF documents."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for line in lines:
        document = _emf(line)
        if document is None or metric not in document:
            continue
        value = document[metric]
        values = value if isinstance(value, list) else [value]
        found[str(document.get("service", "unknown"))].extend(float(one) for one in values)
    return dict(found)


def _emf(line: str) -> Mapping[str, Any] | None:
    start = line.find("{")
    if start < 0 or "_aws" not in line:
        return None
    try:
        document = json.loads(line[start:])
    except ValueError:
        return None
    return document if isinstance(document, dict) and "_aws" in document else None


@dataclass(frozen=True)
class LogEvent:
    """A line of a function's log, and the Unix time at which it came."""

    at_ms: int
    message: str


def function_log_lines(aws: Callable[..., Any], started_ms: int) -> list[str]:
    """The messages of `function_log_events`."""
    return [one.message for one in function_log_events(aws, started_ms)]


def function_log_events(aws: Callable[..., Any], started_ms: int) -> list[LogEvent]:
    """Every log line that the stack's functions wrote since `started_ms`, from CloudWatch Logs.

    Parameters
    ----------
    aws : callable
        `aws("logs")` is a boto3 client.
    """
    from botocore.config import Config

    # MiniStack fails while a function of it begins another log.
    logs = aws("logs", config=Config(retries={"total_max_attempts": ATTEMPTS_MAX}))
    found: list[LogEvent] = []
    for page in logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix="/aws/lambda/"
    ):
        for group in page["logGroups"]:
            events = logs.get_paginator("filter_log_events").paginate(
                logGroupName=group["logGroupName"], startTime=started_ms
            )
            found += [
                LogEvent(event["timestamp"], event["message"])
                for part in events
                for event in part["events"]
            ]
    return found


def ranks(values_ms: Sequence[float]) -> dict[str, float] | None:
    """`p50`, `p99` and `max` by nearest rank; `None` without samples."""
    found = spread(values_ms)
    if found is None:
        return None
    return {"p50": found.p50_ms, "p99": found.p99_ms, "max": round(max(values_ms), 2)}
