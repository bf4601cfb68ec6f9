"""Back-pressure: who would wait too long in the inbox is told to come again later."""

import math
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from federation.limits import INBOX_DEPTH_TTL_S, INBOX_DRAIN_S
from send.problems import Problem

#: Waiting, and taken by `dispatch` but not acknowledged yet.
COUNTED: Final = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")


class InboxDepth:
    """Knows about how many messages wait, from at most one look a second.

    That the queue can't be asked refuses nobody: whether it takes a message, it says itself.

    Parameters
    ----------
    client : boto3 SQS client
        Its time-outs are what a request may wait for the number.
    queue_url : str
    drain_per_s : int
        Messages that the pipeline takes a second; what it drains in INBOX_DRAIN_S may wait.
    clock : callable, optional
        Seconds that never go back.
    refused : callable, optional
        Told the number of messages whenever somebody is refused.
    """

    def __init__(
        self,
        client: Any,
        queue_url: str,
        drain_per_s: int,
        clock: Callable[[], float] = time.monotonic,
        refused: Callable[[int], object] | None = None,
    ) -> None:
        self._client = client
        self._queue_url = queue_url
        self._drain_per_s = drain_per_s
        self._clock = clock
        self._refused = refused
        self._looked_s = float("-inf")
        self._depth = 0

    def check(self) -> None:
        """Pass if what waits will be drained soon.

        Raises
        ------
        Problem
            503 `inbox_full`, with the time after which there is room again.
        """
        depth = self._current()
        room = self._drain_per_s * INBOX_DRAIN_S
        if depth <= room:
            return
        if self._refused is not None:
            self._refused(depth)
        wait_s = min(INBOX_DRAIN_S, math.ceil((depth - room) / self._drain_per_s))
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"more waits than is stored in {INBOX_DRAIN_S} s; nothing of this was taken",
            reason="inbox_full",
            headers={"Retry-After": str(wait_s)},
        )

    def _current(self) -> int:
        now_s = self._clock()
        if now_s - self._looked_s >= INBOX_DEPTH_TTL_S:
            self._looked_s = now_s
            try:
                answer = self._client.get_queue_attributes(
                    QueueUrl=self._queue_url, AttributeNames=list(COUNTED)
                )
            except (BotoCoreError, ClientError):
                self._depth = 0
            else:
                found = answer.get("Attributes", {})
                self._depth = sum(int(found.get(name, 0)) for name in COUNTED)
        return self._depth
