"""Reads audit events out of the spool's messages; what can't be read is an event by itself."""

import datetime
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

import federation_dag
from federation.limits import (
    AUDIT_BATCH_BYTES_MAX,
    AUDIT_DETAIL_CHARACTERS_MAX,
    AUDIT_EVENT_ID_CHARACTERS_MAX,
)

#: Something else than an audit event lay in the spool.
UNREADABLE: Final = "org.lovecurrency.audit.unreadable"


class Message(msgspec.Struct, frozen=True):
    """One message of the spool, and the event that it is recorded as."""

    message_id: str
    receipt_handle: str
    receive_count: int
    event: dict[str, Any]


class _CloudEvent(msgspec.Struct):
    """What CloudEvents 1.0 demands of every event, and the trail of ours."""

    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    data: dict[str, Any]


def read_message(record: Mapping[str, Any]) -> Message:
    """A record of an SQS event.

    A body that is no audit event neither holds up the trail nor gets lost: the trail gets an event
    that has its beginning and its hash. Only our functions may send to the spool, so somebody
    should look at it.
    """
    body = str(record["body"])
    attributes = record.get("attributes", {})
    sent_at_ms = int(attributes.get("SentTimestamp", 0))
    return Message(
        message_id=record["messageId"],
        receipt_handle=record["receiptHandle"],
        receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
        event=_event(body) or _unreadable(record["messageId"], body, sent_at_ms),
    )


def _event(body: str) -> dict[str, Any] | None:
    raw = body.encode(errors="replace")
    if len(raw) > AUDIT_BATCH_BYTES_MAX:
        return None
    try:
        canonical = federation_dag.canonicalize(raw)
        known = msgspec.json.decode(canonical, type=_CloudEvent)
    except (federation_dag.CanonicalError, msgspec.MsgspecError):
        return None
    if not 0 < len(known.id) <= AUDIT_EVENT_ID_CHARACTERS_MAX or known.specversion != "1.0":
        return None
    event: dict[str, Any] = msgspec.json.decode(canonical)
    return event


def _unreadable(message_id: str, body: str, sent_at_ms: int) -> dict[str, Any]:
    raw = body.encode(errors="replace")
    return {
        "specversion": "1.0",
        # The same for each delivery of the message, so that it is recorded once.
        "id": f"unreadable-{message_id}"[:AUDIT_EVENT_ID_CHARACTERS_MAX],
        "source": "/functions/audit",
        "type": UNREADABLE,
        "subject": "unknown",
        "time": _timestamp(sent_at_ms),
        "datacontenttype": "application/json",
        "data": {
            "reason": "unreadable",
            "request_id": message_id,
            "detail": raw.decode()[:AUDIT_DETAIL_CHARACTERS_MAX],
            "address": "",
            "sha256": hashlib.sha256(raw).hexdigest(),
        },
    }


def _timestamp(at_ms: int) -> str:
    """RFC 3339, in UTC."""
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
