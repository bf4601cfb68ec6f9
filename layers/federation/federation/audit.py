"""Audit records of refused access: CloudEvents, insert-only in DynamoDB and in the log."""

import os
import time
import uuid
from typing import Any

from federation.telemetry import stage_logger

_logger = stage_logger("audit")
_clients: list[Any] = []


def record_refusal(
    *, source: str, reason: str, subject: str, request_id: str, detail: str = ""
) -> dict[str, Any]:
    """Write down who was refused what, and why; returns the CloudEvents 1.0 record.

    The log line is written first and always; if the table can't be reached the refusal still
    stands and the log still has it, so an outage never turns a refusal into an admission.

    Parameters
    ----------
    source : str
        The stage that refused, such as `authorize`.
    reason : str
        A reason code, such as `token_expired`.
    subject : str
        The account or certificate as far as known, else `unknown`.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": f"/functions/{source}",
        "type": "org.lovecurrency.access.refused",
        "subject": subject,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "data": {"reason": reason, "request_id": request_id, "detail": detail},
    }
    _logger.warning("access refused", extra={"audit": event})
    table = os.environ.get("AUDIT_TABLE")
    if table:
        try:
            _client().put_item(
                TableName=table,
                Item={
                    "event_id": {"S": event["id"]},
                    "time": {"S": event["time"]},
                    "source": {"S": event["source"]},
                    "subject": {"S": subject},
                    "reason": {"S": reason},
                    "request_id": {"S": request_id},
                    "detail": {"S": detail},
                },
                ConditionExpression="attribute_not_exists(event_id)",
            )
        except (BotoCoreError, ClientError):
            _logger.exception("audit table unreachable", extra={"audit": event})
    return event


def _client() -> Any:
    if not _clients:
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=0.2, read_timeout=0.5, retries={"total_max_attempts": 1})
        _clients.append(boto3.client("dynamodb", config=config))
    return _clients[0]
