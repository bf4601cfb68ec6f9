"""The handler of `dispatch`: inbox messages in, the ids of those that must come again out."""

import functools
import os
import time
from collections import Counter
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.config import Config

from dispatch.batching import Message, pack, read_messages
from dispatch.pipeline import run_all
from federation.backoff import put_back
from federation.batch import Receipt
from federation.settings import load_settings
from federation.telemetry import NAMESPACE, stage_handler, stage_logger

_log = stage_logger("dispatch")


class Settings(msgspec.Struct, frozen=True):
    """Which pipeline and inbox, and the limits of waiting."""

    pipeline_arn: str
    inbox_queue_url: str
    #: Above the state machine's own limit, below the function's.
    pipeline_timeout_s: int = 65
    #: What is started later could outlast the function, and the receipts of the others with it.
    starts_s: int = 4
    backoff_max_s: int = 30
    executions_at_once: int = 4


@stage_handler("dispatch")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Run the pipeline; acknowledge only what is stored, or rejected and recorded."""
    settings = _settings()
    began_ms, starts_until_s = _now_ms(), time.monotonic() + settings.starts_s
    messages, unreadable = read_messages(event["Records"])
    for poison in unreadable:
        # It goes to the dead letters after its tries. Its body may hold anything.
        _log.error("unreadable message", extra={"message_id": poison.message_id})
    batches = pack(messages)
    receipts = (
        run_all(
            _states(),
            settings.pipeline_arn,
            batches,
            settings.executions_at_once,
            _log,
            may_start=lambda: time.monotonic() < starts_until_s,
        )
        if batches
        else []
    )
    recorded = {receipt.transaction_id for receipt in receipts}
    failed = [
        *unreadable,
        *(one for one in messages if not one.transaction_ids <= recorded),
    ]
    if failed:
        put_back(_sqs(), settings.inbox_queue_url, failed, settings.backoff_max_s, _log)
    _measure(messages, receipts, began_ms)
    return {"batchItemFailures": [{"itemIdentifier": one.message_id} for one in failed]}


def _measure(messages: list[Message], receipts: list[Receipt], began_ms: int) -> None:
    metrics = Metrics(namespace=NAMESPACE, service="dispatch")
    accepted_at_ms = {
        envelope.header.transaction_id: envelope.accepted_at_ms
        for message in messages
        for envelope in message.envelopes
    }
    for tier, count in Counter(receipt.tier for receipt in receipts).items():
        metrics.add_metric(name=f"receipts_{tier}", unit=MetricUnit.Count, value=count)
    now_ms = _now_ms()
    for receipt in receipts:
        # What it names as its time is that before the write. One from an earlier delivery was
        # stored then.
        stored_ms = now_ms if receipt.stored_at_ms >= began_ms else receipt.stored_at_ms
        taken_ms = accepted_at_ms.get(receipt.transaction_id, stored_ms)
        metrics.add_metric(
            name="stored_after_ms",
            unit=MetricUnit.Milliseconds,
            value=max(0, stored_ms - taken_ms),
        )
    if receipts:
        metrics.flush_metrics()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _states() -> Any:
    config = Config(
        connect_timeout=1,
        read_timeout=_settings().pipeline_timeout_s,
        retries={"total_max_attempts": 1},
        # The local AWS has no `sync-` host; the real one is reached by its usual name too.
        inject_host_prefix=not _is_local(),
    )
    return boto3.client("stepfunctions", config=config)


@functools.cache
def _sqs() -> Any:
    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
    return boto3.client("sqs", config=config)


def _is_local() -> bool:
    return "AWS_ENDPOINT_URL" in os.environ
