"""The way of audit events into the audit trail: one SQS FIFO queue, so that their order is kept."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from botocore.exceptions import BotoCoreError, ClientError

from federation.limits import (
    AUDIT_BACKLOG_EVENTS_MAX,
    AUDIT_BATCH_BYTES_MAX,
    AUDIT_BATCH_EVENTS_MAX,
    AUDIT_REST_S,
    AUDIT_SENDING_S,
)
from federation.telemetry import NAMESPACE

#: Order holds within a group, so all events are of one.
MESSAGE_GROUP: Final = "audit"
#: An alarm of template.yaml watches it.
UNSPOOLED_METRIC: Final = "audit_unspooled"


class AuditSpool:
    """Sends events in the order in which they come; never raises, never waits long.

    While SQS can't be reached, events are kept in this process and sent with the next one that
    succeeds. Should the process end before, they are in its log, where each event is written first.

    Parameters
    ----------
    client : boto3 SQS client
        With short time-outs.
    queue_url : str
        Of a FIFO queue.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        log: Logger,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._log = log
        self._clock = clock
        self._resting_until_s = 0.0
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._lock = threading.Lock()

    def put(self, event: Mapping[str, Any]) -> None:
        """Send this event, behind those that could not be sent before."""
        with self._lock:
            self._waiting.append(event)
            if self._clock() < self._resting_until_s:
                self._complain("resting after a failure", event)
            else:
                try:
                    self._send_all()
                except (BotoCoreError, ClientError) as error:
                    self._resting_until_s = self._clock() + AUDIT_REST_S
                    self._complain(type(error).__name__, event)
            while len(self._waiting) > AUDIT_BACKLOG_EVENTS_MAX:
                dropped = self._waiting.popleft()
                self._log.error("audit event is in the log only", extra={"audit": dropped})

    def _send_all(self) -> None:
        """Send what waits, for a limited time: who calls has other work, and the rest comes next."""
        until_s = self._clock() + AUDIT_SENDING_S
        while self._waiting and self._clock() <= until_s:
            batch = self._next_batch()
            answer = self._client.send_message_batch(
                QueueUrl=self._queue_url,
                Entries=[
                    {
                        "Id": str(n),
                        "MessageBody": body,
                        "MessageGroupId": MESSAGE_GROUP,
                        # SQS takes an event that is sent again within 5 minutes once; the writer
                        # of the trail sees to it for ever.
                        "MessageDeduplicationId": event["id"],
                    }
                    for n, (event, body) in enumerate(batch)
                ],
            )
            for _ in batch:
                self._waiting.popleft()
            refused = [(batch[int(one["Id"])][0], one) for one in answer.get("Failed", [])]
            for event, why in refused:
                self._complain(str(why.get("Code")), event)
            # What is our own fault would be refused again, and hold up the others.
            again = [event for event, why in refused if not why.get("SenderFault")]
            if again:
                self._waiting.extendleft(reversed(again))
                self._resting_until_s = self._clock() + AUDIT_REST_S
                return

    def _next_batch(self) -> list[tuple[Mapping[str, Any], str]]:
        """The first that wait, as many as one request takes, each with its message's body."""
        batch: list[tuple[Mapping[str, Any], str]] = []
        size_bytes = 0
        for event in self._waiting:
            body = msgspec.json.encode(event)
            size_bytes += len(body)
            if batch and (
                len(batch) == AUDIT_BATCH_EVENTS_MAX or size_bytes > AUDIT_BATCH_BYTES_MAX
            ):
                break
            batch.append((event, body.decode()))
        return batch

    def _complain(self, why: str, event: Mapping[str, Any]) -> None:
        self._log.error(
            "audit event not spooled",
            extra={"why": why, "audit_id": event["id"], "waiting": len(self._waiting)},
        )
        with single_metric(UNSPOOLED_METRIC, MetricUnit.Count, 1, namespace=NAMESPACE) as metric:
            metric.add_dimension("service", "audit")
