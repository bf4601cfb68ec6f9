"""The handler of `reconcile`: one action a state of its state machine."""

import functools
import time
import uuid
from typing import Any

import msgspec
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from federation.batch import Grouped
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import NAMESPACE, stage_handler, stage_logger
from persist.atlas import AtlasTier, connect_atlas
from persist.tier import TierUnavailable
from reconcile.atlas_pending import AtlasPending
from reconcile.electorate import Electorate
from reconcile.pending import Gathered, finish, gather

_log = stage_logger("reconcile")


class Settings(msgspec.Struct, frozen=True):
    """Where the delegates' keys are, and how long a store is waited for."""

    delegates_secret: str
    reconcile_timeout_ms: int = 3_000


class GatherRequest(msgspec.Struct, frozen=True):
    """Which continent's pending records, from which work entry on."""

    continent: str
    after: str = ""
    all_due: bool = False


class FinishRequest(msgspec.Struct, frozen=True):
    """What the stages made of a batch, and the work entries that it came from."""

    continent: str
    entries: list[str]
    grouped: Grouped


@stage_handler("reconcile")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Gather pending records, or write down what became of them."""
    match event["action"]:
        case "gather":
            return _gather(msgspec.convert(event, GatherRequest))
        case "finish":
            return _finish(msgspec.convert(event, FinishRequest))
        case action:
            raise ValueError(f"reconcile knows no action {action!r}")


def _gather(request: GatherRequest) -> Any:
    now_ms = time.time_ns() // 1_000_000
    try:
        gathered = gather(
            _pending(request.continent),
            str(uuid.uuid4()),
            now_ms,
            request.after,
            all_due=request.all_due,
        )
    except TierUnavailable as error:
        _log.warning("cluster is away", extra={"why": error.detail})
        return {"outcome": "unavailable", "reason": error.detail}
    if gathered.damaged:
        _log.error("damaged records", extra={"transaction_ids": gathered.damaged})
    _measure(gathered, now_ms)
    return {"outcome": "gathered", **msgspec.to_builtins(gathered)}


def _finish(request: FinishRequest) -> Any:
    electorate = Electorate.of_secret(read_secret(_settings().delegates_secret))
    try:
        finished = finish(
            _pending(request.continent),
            request.grouped.groups,
            request.entries,
            electorate,
            time.time_ns() // 1_000_000,
        )
    except TierUnavailable as error:
        _log.warning("cluster is away", extra={"why": error.detail})
        return {"outcome": "unavailable", "reason": error.detail}
    return {"outcome": "finished", **msgspec.to_builtins(finished)}


def _measure(gathered: Gathered, now_ms: int) -> None:
    """Only a run's first round knows the oldest; nothing pending is an age of 0."""
    metrics = Metrics(namespace=NAMESPACE, service="reconcile")
    age_ms = 0 if gathered.oldest_ms is None else max(0, now_ms - gathered.oldest_ms)
    metrics.add_metric(name="pending_age_ms", unit=MetricUnit.Milliseconds, value=age_ms)
    metrics.add_metric(name="damaged_records", unit=MetricUnit.Count, value=len(gathered.damaged))
    metrics.flush_metrics()


def _pending(continent: str) -> AtlasPending:
    return AtlasPending(_atlas(), continent, _settings().reconcile_timeout_ms)


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _atlas() -> AtlasTier:
    return connect_atlas()
