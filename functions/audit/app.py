"""The handler of `audit`: messages of the spool in, the ids of those that must come again out."""

import functools
from typing import Any

import boto3
import msgspec
from botocore.config import Config

from audit.messages import UNREADABLE, read_message
from audit.trail import AuditTrail
from federation.audit import record_store_refusal
from federation.backoff import put_back
from federation.errors import FederationError
from federation.immudb_session import LoginRefused
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler, stage_logger

_log = stage_logger("audit")


class Settings(msgspec.Struct, frozen=True):
    """The spool, where immuDB's access is kept, and how long things are waited for."""

    audit_queue_url: str
    immudb_secret: str
    audit_timeout_ms: int = 2_000
    cold_timeout_ms: int = 3_000
    #: 1,000 tries of a message, the first few aside, are more than three days.
    audit_backoff_max_s: int = 300


@stage_handler("audit")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Append all or nothing: behind an event that fails, no later one may be written."""
    settings = _settings()
    messages = [read_message(record) for record in event["Records"]]
    for message in messages:
        if message.event["type"] == UNREADABLE:
            _log.error("no audit event", extra={"message_id": message.message_id})
    try:
        written = _trail().append([message.event for message in messages])
    except FederationError as error:
        if isinstance(error, LoginRefused):
            record_store_refusal(source="audit", store="immudb", detail=error.detail)
        _log.error("audit events wait", extra={"why": error.detail, "count": len(messages)})
        put_back(_sqs(), settings.audit_queue_url, messages, settings.audit_backoff_max_s, _log)
        return {"batchItemFailures": [{"itemIdentifier": one.message_id} for one in messages]}
    _log.info("appended", extra={"count": written})
    return {"batchItemFailures": []}


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _trail() -> AuditTrail:
    settings = _settings()
    return AuditTrail(
        lambda: read_secret(settings.immudb_secret),
        settings.audit_timeout_ms / 1000,
        settings.cold_timeout_ms / 1000,
    )


@functools.cache
def _sqs() -> Any:
    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
    return boto3.client("sqs", config=config)
