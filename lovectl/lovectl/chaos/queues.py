"""Disturbs the inbox queue: messages come twice, late, in another order, or again while in work."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from lovectl.access import Access

MAPPING_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.1
#: What we have looked at is given back to the queue this soon.
LOOK_S: Final = 4
#: A late copy comes when the first one has long been stored.
LATE_S: Final = 8
#: Shorter than a batch with a slow store takes.
SHORT_VISIBILITY_S: Final = 1
#: What a dispatch that was killed had taken comes again after the template's seven minutes; nobody
#: who simulates wants to wait for that.
VISIBILITY_S: Final = 10
#: One message has no order.
COPIED_MIN: Final = 2
COUNTERS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class NotStruck(RuntimeError):
    """A fault found nothing that it could strike: the simulation would prove nothing."""


class Inbox:
    """The inbox queue of a running stack, not through its proxy."""

    def __init__(self, access: Access) -> None:
        self._sqs = access.aws("sqs")
        self._lambda = access.aws("lambda")
        self._url = access.outputs["InboxQueueUrl"]
        self._dead_url = access.outputs["DeadLettersQueueUrl"]

    def waiting(self) -> int:
        """Messages that are not acknowledged yet."""
        return self._count(self._url)

    def dead(self) -> int:
        """Messages among the dead letters."""
        return self._count(self._dead_url)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Whether everything was acknowledged in time."""
        end_s = time.monotonic() + timeout_s
        while self.waiting():
            if time.monotonic() > end_s:
                return False
            time.sleep(POLL_S)
        return True

    @contextmanager
    def disturbed(self, kind: str) -> Iterator[None]:
        """One of `duplicates`, `late`, `reordered`, `short_visibility`."""
        if kind == "short_visibility":
            with self.visible_again_after(SHORT_VISIBILITY_S):
                yield
            return
        mapping = self._mapping()
        self._switch(mapping, enabled=False)
        try:
            yield
            self._copy(kind)
        finally:
            self._switch(mapping, enabled=True)

    @contextmanager
    def visible_again_after(self, seconds: int) -> Iterator[None]:
        """Inside the block a message that was taken and not acknowledged comes again this soon."""
        name = "VisibilityTimeout"
        before = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=[name])
        self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes={name: str(seconds)})
        try:
            yield
        finally:
            self._sqs.set_queue_attributes(QueueUrl=self._url, Attributes=before["Attributes"])

    def _copy(self, kind: str) -> None:
        messages = self._all()
        bodies = [one["Body"] for one in messages]
        if len(bodies) < COPIED_MIN:
            raise NotStruck(f"{kind}: only {len(bodies)} messages are in the inbox")
        if kind == "reordered":
            random.Random(len(bodies)).shuffle(bodies)  # noqa: S311 - an order, not a secret
            bodies.reverse()
        # A standard queue may do all of this by itself; here it is sure to happen.
        for body in bodies:
            delay_s = LATE_S if kind == "late" else 0
            for _ in range(2 if kind == "duplicates" else 1):
                self._sqs.send_message(QueueUrl=self._url, MessageBody=body, DelaySeconds=delay_s)
        if kind == "reordered":
            # The copies are in the queue: only now the originals may go.
            for one in messages:
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=one["ReceiptHandle"])

    def _all(self) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self._url, MaxNumberOfMessages=10, VisibilityTimeout=LOOK_S
            )
            fresh = [one for one in answer.get("Messages", ()) if one["MessageId"] not in found]
            if not fresh:
                return list(found.values())
            found.update({one["MessageId"]: one for one in fresh})

    def _mapping(self) -> str:
        for one in self._lambda.list_event_source_mappings()["EventSourceMappings"]:
            if self._url.rsplit("/", 1)[1] == one["EventSourceArn"].rsplit(":", 1)[1]:
                return str(one["UUID"])
        raise LookupError("no function takes messages off the inbox")

    def _switch(self, mapping: str, *, enabled: bool) -> None:
        self._lambda.update_event_source_mapping(UUID=mapping, Enabled=enabled)
        wanted = "Enabled" if enabled else "Disabled"
        end_s = time.monotonic() + MAPPING_TIMEOUT_S
        while self._lambda.get_event_source_mapping(UUID=mapping)["State"] != wanted:
            if time.monotonic() > end_s:
                raise TimeoutError(f"the inbox's mapping does not become {wanted}")
            time.sleep(POLL_S)

    def _count(self, url: str) -> int:
        answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(COUNTERS))
        return sum(int(answer["Attributes"].get(name, 0)) for name in COUNTERS)
