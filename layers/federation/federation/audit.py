"""Audit records of refused access and of key use: CloudEvents, insert-only, and in the log."""

import os
import time
import uuid
from typing import Any, Final

from federation.limits import AUDIT_CONNECT_TIMEOUT_MS, AUDIT_READ_TIMEOUT_MS
from federation.telemetry import stage_logger

REFUSED: Final = "org.lovecurrency.access.refused"
KEY_USED: Final = "org.lovecurrency.key.used"

_logger = stage_logger("audit")
_clients: list[Any] = []


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
    data = {"reason": reason, "request_id": request_id, "detail": detail, "address": address}
    return _record(REFUSED, source, subject, data)


def record_key_use(
    *, source: str, key: str, purpose: str, subject: str, request_id: str = ""
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
    """
    data = {"key": key, "purpose": purpose, "request_id": request_id}
    return _record(KEY_USED, source, subject, data)


def _record(kind: str, source: str, subject: str, data: dict[str, str]) -> dict[str, Any]:
    """Log the event first and always, then store it.

    If the table can't be reached the log still has the event, so an outage never turns a refusal
    into an admission.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"/functions/{source}",
        "type": kind,
        "subject": subject,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": data,
    }
    _logger.warning("audit", extra={"audit": event})
    table = os.environ.get("AUDIT_TABLE")
    if table:
        try:
            _client().put_item(
                TableName=table,
                Item={
                    "event_id": {"S": event["id"]},
                    "type": {"S": kind},
                    "time": {"S": event["time"]},
                    "source": {"S": event["source"]},
                    "subject": {"S": subject},
                    **{name: {"S": value} for name, value in data.items()},
                },
                ConditionExpression="attribute_not_exists(event_id)",
            )
        except (BotoCoreError, ClientError):
            _logger.exception("audit table unreachable", extra={"audit": event})
    return event


def _client() -> Any:
    if not _clients:
        from federation.aws_clients import dynamodb_client

        _clients.append(dynamodb_client(AUDIT_CONNECT_TIMEOUT_MS, AUDIT_READ_TIMEOUT_MS))
    return _clients[0]
