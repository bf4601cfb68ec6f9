"""Audit events of refusals and of key use (CloudEvents 1.0): in the log, and spooled for the trail.

Each event goes to CloudWatch Logs first and always, then through a FIFO queue to the audit trail in
immuDB. One way for all: whether immuDB is up makes no difference here. What can't be spooled is in
the log, and an alarm says so; a refusal stays a refusal, a read a read.
"""

import datetime
import functools
import os
import time
import uuid
from typing import Any, Final

from botocore.exceptions import BotoCoreError

from federation.audit_spool import AuditSpool
from federation.limits import (
    AUDIT_CONNECT_TIMEOUT_S,
    AUDIT_DETAIL_CHARACTERS_MAX,
    AUDIT_NAME_CHARACTERS_MAX,
    AUDIT_READ_TIMEOUT_S,
    STORE_REFUSAL_INTERVAL_S,
)
from federation.telemetry import stage_logger

REFUSED: Final = "org.lovecurrency.access.refused"
KEY_USED: Final = "org.lovecurrency.key.used"
STORE_LOGIN_REFUSED: Final = "store_login_refused"

_logger = stage_logger("audit")
_store_refusals_s: dict[str, float] = {}


def record_refusal(
    *,
    source: str,
    reason: str,
    subject: str,
    request_id: str,
    detail: str = "",
    address: str = "",
) -> dict[str, Any]:
    """Write down who was refused what, and why; returns the CloudEvents 1.0 record.

    Parameters
    ----------
    source : str
        The stage that refused, such as `authorize`.
    reason : str
        A reason code, such as `token_expired`.
    subject : str
        The account or certificate as far as known, else `unknown`.
    address : str
        Where the request came from, as far as known.
    """
    data = {
        "reason": reason,
        "request_id": request_id,
        "detail": _limited(detail, AUDIT_DETAIL_CHARACTERS_MAX),
        "address": address,
    }
    return _record(REFUSED, source, subject, data)


def record_key_use(
    *,
    source: str,
    key: str,
    purpose: str,
    subject: str,
    request_id: str = "",
    spool: AuditSpool | None = None,
) -> dict[str, Any]:
    """Write down who used which key for what; returns the CloudEvents 1.0 record.

    Parameters
    ----------
    key : str
        The key's name, never the key: `sealing/sealing-1`, or the ARN of a KMS key.
    purpose : str
        Such as `open content`, with the id of the transaction.
    subject : str
        On whose behalf: an account or delegate, or the function itself.
    spool : AuditSpool, optional
        Of a program that is no function; by default that of `AUDIT_QUEUE_URL`.
    """
    data = {"key": key, "purpose": purpose, "request_id": request_id}
    return _record(KEY_USED, source, subject, data, spool)


def record_store_refusal(*, source: str, store: str, detail: str) -> dict[str, Any] | None:
    """Write down that a store refused our login: at most once a minute for each store.

    Parameters
    ----------
    store : str
        Such as `immudb`, or `mongodb Europe`.
    detail : str
        What the store said.

    Returns
    -------
    dict or None
        The record, or None while the last one is less than STORE_REFUSAL_INTERVAL_S old.
    """
    now_s = time.monotonic()
    if now_s - _store_refusals_s.get(store, -STORE_REFUSAL_INTERVAL_S) < STORE_REFUSAL_INTERVAL_S:
        return None
    _store_refusals_s[store] = now_s
    return record_refusal(
        source=source,
        reason=STORE_LOGIN_REFUSED,
        subject=source,
        request_id="",
        detail=f"{store}: {detail}",
    )


def source_address(request_context: Any) -> str:
    """Where a request came from, as API Gateway saw it; empty if it doesn't say.

    Parameters
    ----------
    request_context : mapping
        `requestContext` of a REST API's proxy or authorizer event.

    Examples
    --------
    >>> source_address({"identity": {"sourceIp": "192.0.2.1"}})
    '192.0.2.1'
    """
    return str(((request_context or {}).get("identity") or {}).get("sourceIp") or "")


def _record(
    kind: str, source: str, subject: str, data: dict[str, str], spool: AuditSpool | None = None
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"/functions/{source}",
        "type": kind,
        "subject": _limited(subject),
        "time": datetime.datetime.now(datetime.UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {
            name: value if name == "detail" else _limited(value) for name, value in data.items()
        },
    }
    _logger.warning("audit", extra={"audit": event})
    queue_url = os.environ.get("AUDIT_QUEUE_URL")
    if spool is not None:
        spool.put(event)
    elif queue_url:
        try:
            _spool(queue_url).put(event)
        except BotoCoreError:  # not even a client can be made; whoever calls has other work to do
            _logger.exception("audit event not spooled", extra={"audit_id": event["id"]})
    return event


def _limited(text: str, characters_max: int = AUDIT_NAME_CHARACTERS_MAX) -> str:
    """Text as UTF-8 can carry it, of a limited length."""
    whole = str(text).encode(errors="replace").decode()
    return whole if len(whole) <= characters_max else whole[:characters_max] + "…"


@functools.cache
def _spool(queue_url: str) -> AuditSpool:
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=AUDIT_CONNECT_TIMEOUT_S,
        read_timeout=AUDIT_READ_TIMEOUT_S,
        retries={"total_max_attempts": 1},
    )
    return AuditSpool(boto3.client("sqs", config=config), queue_url, _logger)
