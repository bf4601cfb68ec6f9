"""The handler of `pop`: a batch in, a batch with places out."""

import functools
from typing import Any

import msgspec
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

import federation_dag
from federation.aws_clients import dynamodb_client
from federation.batch import Batch
from federation.settings import load_settings
from federation.telemetry import NAMESPACE, stage_handler
from pop.place import PlaceLimits, prove_places, senders_of
from pop.positions import WRITES_AT_ONCE, Positions

# The first call arranges the gazetteer (23 ms): at import, so that no batch waits for it.
federation_dag.locate([(0, 0)])


class Settings(PlaceLimits, frozen=True, kw_only=True):
    """The limits, and where last positions are kept."""

    positions_table: str
    positions_timeout_ms: int = 60


@stage_handler("pop")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Prove the places of a batch."""
    settings, positions = _settings(), _positions()
    batch = msgspec.convert(event, Batch)
    known = positions.read(senders_of(batch.items))
    if positions.unread:
        _count_skipped(positions.unread)
    proven, newest = prove_places(batch, settings, known)
    positions.write(newest)
    return msgspec.to_builtins(proven)


def _count_skipped(senders: int) -> None:
    metrics = Metrics(namespace=NAMESPACE, service="pop")
    metrics.add_metric(name="travel_rule_skipped", unit=MetricUnit.Count, value=senders)
    metrics.flush_metrics()


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _positions() -> Positions:
    settings = _settings()
    timeout_ms = settings.positions_timeout_ms
    client = dynamodb_client(timeout_ms, timeout_ms, connections_max=2 * WRITES_AT_ONCE)
    return Positions(client, settings.positions_table, timeout_ms)
