"""What an opening or closing breaker leaves behind: a line in the log, and the metric `breaker_open`."""

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from federation.breaker import BreakerState
from federation.telemetry import NAMESPACE, stage_logger

_log = stage_logger("persist")


def note_change(found: BreakerState) -> None:
    """Log the change, and emit 1 (open) or 0 (closed) with the breaker's name as dimension."""
    is_open = found.state != "closed"
    say = _log.warning if is_open else _log.info
    say(
        "breaker opened" if is_open else "breaker closed",
        extra={"breaker": found.name, "why": found.why},
    )
    with single_metric(
        "breaker_open", MetricUnit.Count, int(is_open), namespace=NAMESPACE
    ) as metric:
        metric.add_dimension("service", "persist")
        metric.add_dimension("breaker", found.name)
