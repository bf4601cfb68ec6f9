"""Logs, traces and metrics (EMF) of a stage: one decorator, so that handlers hold no plumbing."""

import functools
import sys
import time
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.metrics import MetricUnit

NAMESPACE = "LoveCurrencyFederation"

Handler = Callable[[dict[str, Any], Any], Any]


def stage_logger(stage: str) -> Logger:
    """The structured logger of a stage; content never reaches it, because no stage sees any."""
    return Logger(service=stage)


def stage_handler(stage: str) -> Callable[[Handler], Handler]:
    """Wrap a Lambda handler: a trace segment, the metric `stage_ms`, and no event in the log.

    Parameters
    ----------
    stage : str
        The stage's one name: of its folder, state, function and metric.

    Examples
    --------
    >>> @stage_handler("shard")
    ... def handler(event, context):
    ...     return event
    """
    tracer = Tracer(
        service=stage,
        # By default it imports every library that it could patch, PyMongo among them.
        auto_patch="botocore" in sys.modules,
        patch_modules=("botocore",),
    )
    metrics = Metrics(namespace=NAMESPACE, service=stage)

    def decorate(handler: Handler) -> Handler:
        # Responses may carry opened content (persist's fetch): they stay out of traces.
        traced = tracer.capture_lambda_handler(handler, capture_response=False)

        @functools.wraps(handler)
        def wrapped(event: dict[str, Any], context: Any) -> Any:
            started_s = time.perf_counter()
            try:
                return traced(event, context)
            finally:
                elapsed_ms = (time.perf_counter() - started_s) * 1000
                metrics.add_metric(name="stage_ms", unit=MetricUnit.Milliseconds, value=elapsed_ms)
                metrics.flush_metrics()

        return wrapped

    return decorate
