"""Who would wait too long in the inbox is told so; who can't be told is not refused."""

from http import HTTPStatus
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st

from federation.limits import INBOX_DEPTH_TTL_S, INBOX_DRAIN_S
from send.inbox_depth import InboxDepth
from send.problems import Problem

DRAIN_PER_S = 10
ROOM = DRAIN_PER_S * INBOX_DRAIN_S


class Queue:
    """An SQS client that knows how much waits, or fails."""

    def __init__(self, waiting: int = 0, taken: int = 0) -> None:
        self.waiting, self.taken = waiting, taken
        self.failure: Exception | None = None
        self.asked = 0

    def get_queue_attributes(self, **arguments: Any) -> Any:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        values = {
            "ApproximateNumberOfMessages": str(self.waiting),
            "ApproximateNumberOfMessagesNotVisible": str(self.taken),
        }
        return {"Attributes": {name: values[name] for name in arguments["AttributeNames"]}}


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_what_is_drained_in_time_passes_and_one_more_does_not() -> None:
    InboxDepth(Queue(ROOM), "url", DRAIN_PER_S).check()
    with pytest.raises(Problem) as refused:
        InboxDepth(Queue(ROOM + 1), "url", DRAIN_PER_S).check()
    assert refused.value.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert refused.value.reason == "inbox_full"
    assert refused.value.headers == {"Retry-After": "1"}


def test_what_was_taken_but_is_not_acknowledged_waits_too() -> None:
    with pytest.raises(Problem):
        InboxDepth(Queue(ROOM, 1), "url", DRAIN_PER_S).check()


@given(st.integers(min_value=ROOM + 1, max_value=10**9))
def test_whoever_is_refused_is_told_to_come_when_there_is_room_but_no_later_than_a_minute(
    depth: int,
) -> None:
    with pytest.raises(Problem) as refused:
        InboxDepth(Queue(depth), "url", DRAIN_PER_S).check()
    wait_s = int(refused.value.headers["Retry-After"])
    assert 1 <= wait_s <= INBOX_DRAIN_S
    drained = depth - wait_s * DRAIN_PER_S
    assert drained <= ROOM or wait_s == INBOX_DRAIN_S


def test_the_queue_is_asked_once_a_second_whoever_comes() -> None:
    queue, clock = Queue(), Clock()
    depth = InboxDepth(queue, "url", DRAIN_PER_S, clock)
    for _ in range(100):
        depth.check()
    assert queue.asked == 1
    clock.now_s = INBOX_DEPTH_TTL_S
    queue.waiting = ROOM + 1
    with pytest.raises(Problem):
        depth.check()
    queue.waiting = 0
    with pytest.raises(Problem):
        depth.check()
    clock.now_s = 2 * INBOX_DEPTH_TTL_S
    depth.check()
    assert queue.asked == 3


@pytest.mark.parametrize(
    "failure",
    [
        ReadTimeoutError(endpoint_url="http://127.0.0.1"),
        ClientError({"Error": {"Code": "AccessDenied", "Message": ""}}, "GetQueueAttributes"),
    ],
)
def test_a_queue_that_can_t_be_asked_refuses_nobody(failure: Exception) -> None:
    queue, clock = Queue(ROOM + 1), Clock()
    depth = InboxDepth(queue, "url", DRAIN_PER_S, clock)
    with pytest.raises(Problem):
        depth.check()
    queue.failure, clock.now_s = failure, INBOX_DEPTH_TTL_S
    depth.check()


def test_each_refusal_is_told_of() -> None:
    told: list[int] = []
    depth = InboxDepth(Queue(ROOM + 5), "url", DRAIN_PER_S, refused=told.append)
    for _ in range(2):
        with pytest.raises(Problem):
            depth.check()
    assert told == [ROOM + 5] * 2
