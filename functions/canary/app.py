"""The handler of `canary`: each minute one transaction a continent, through every tier."""

import functools
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from botocore.config import Config

import cert_rust
from canary.groups import canary_groups
from canary.tiers import Report, send_to_tiers
from federation.batch import Tier
from federation.limits import CONTENT_KEY_LIFETIME_S, CONTENT_KEY_USES_MAX
from federation.regions import CONTINENTS
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import NAMESPACE, stage_handler, stage_logger

_log = stage_logger("canary")


class Settings(msgspec.Struct, frozen=True):
    """Where trust and the tiers are, and how long a tier is waited for."""

    trust_secret: str
    persist_atlas_function: str
    persist_dynamodb_function: str
    persist_immudb_function: str
    #: Above a persist function's own time-out: which of the two ended is known then.
    tier_timeout_ms: int = 12_000


@stage_handler("canary")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Send the canaries; a tier that fails is told of by metric and log, not by an error."""
    del event, context
    settings = _settings()
    sealing = read_secret(settings.trust_secret)["sealing"]
    sealer = _sealer(sealing["public_key"], sealing["key_id"])
    groups = canary_groups(CONTINENTS, sealer, sealing["key_id"])
    functions: dict[Tier, str] = {
        "atlas": settings.persist_atlas_function,
        "dynamodb": settings.persist_dynamodb_function,
        "immudb": settings.persist_immudb_function,
    }
    reports = send_to_tiers(_lambda(), functions, groups)
    _measure(reports)
    outcome = "ok" if all(one.outcome == "ok" for one in reports) else "failed"
    return {"outcome": outcome, "tiers": msgspec.to_builtins(reports)}


def _measure(reports: Sequence[Report]) -> None:
    """`canary_ok` (1 or 0) of each tier, and of each continent of Atlas; alarms watch the tiers."""
    for report in reports:
        _emit("canary_ok", MetricUnit.Count, report.outcome == "ok", tier=report.tier)
        _emit("canary_ms", MetricUnit.Milliseconds, report.took_ms, tier=report.tier)
        failed = {one.continent: one.reason for one in report.parts if one.outcome == "failed"}
        if report.outcome == "failed":
            why = {"tier": report.tier, "why": report.reason, "parts": failed}
            _log.error("canary failed", extra=why)
        if report.tier == "atlas":
            for one in CONTINENTS:
                # A tier that did not answer answered for no continent.
                ok = report.outcome == "ok" or (bool(report.parts) and one.value not in failed)
                _emit("canary_ok", MetricUnit.Count, ok, tier="atlas", continent=one.value)


def _emit(name: str, unit: MetricUnit, value: float, **dimensions: str) -> None:
    with single_metric(name, unit, float(value), namespace=NAMESPACE) as metric:
        metric.add_dimension("service", "canary")
        for dimension, of in dimensions.items():
            metric.add_dimension(dimension, of)


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.lru_cache(1)
def _sealer(public_key: str, key_id: str) -> cert_rust.ContentSealer:
    return cert_rust.ContentSealer(
        b64decode(public_key), key_id, CONTENT_KEY_USES_MAX, CONTENT_KEY_LIFETIME_S
    )


@functools.cache
def _lambda() -> Any:
    config = Config(
        connect_timeout=1,
        read_timeout=_settings().tier_timeout_ms / 1000,
        retries={"total_max_attempts": 1},
    )
    return boto3.client("lambda", config=config)
