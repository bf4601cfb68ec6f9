"""An audit event is logged always and spooled in order, whatever SQS does; and nobody waits for it."""

import io
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from audit.messages import UNREADABLE, read_message
from federation import audit
from federation.audit_spool import MESSAGE_GROUP, UNSPOOLED_METRIC, AuditSpool
from federation.limits import (
    AUDIT_BACKLOG_EVENTS_MAX,
    AUDIT_BATCH_BYTES_MAX,
    AUDIT_DETAIL_CHARACTERS_MAX,
    AUDIT_EVENT_ID_CHARACTERS_MAX,
    AUDIT_REST_S,
    AUDIT_SENDING_S,
    STORE_REFUSAL_INTERVAL_S,
)
from federation.telemetry import stage_logger
from lovectl.audit_commands import event_row, logged_events
from persist.login import login_refused


class Queue:
    """SQS as far as the spool needs it; `answers` are what it says to the next requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.taken: list[str] = []
        self.requests = 0

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        self.requests += 1
        assert sum(len(one["MessageBody"].encode()) for one in Entries) <= AUDIT_BATCH_BYTES_MAX
        assert {one["MessageGroupId"] for one in Entries} == {MESSAGE_GROUP}
        answer = self.answers.pop(0) if self.answers else {}
        if isinstance(answer, Exception):
            raise answer
        failed = {one["Id"] for one in answer.get("Failed", [])}
        for one in Entries:
            event_id = json.loads(one["MessageBody"])["id"]
            assert one["MessageDeduplicationId"] == event_id
            if one["Id"] not in failed:
                self.taken.append(event_id)
        return dict(answer)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What the functions write into their log."""
    written = io.StringIO()
    for handler in stage_logger("audit").handlers:
        monkeypatch.setattr(handler, "stream", written)
    return written


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


DOWN = ConnectTimeoutError(endpoint_url="https://sqs")


def spool(queue: Queue, clock: Clock | None = None) -> AuditSpool:
    return AuditSpool(queue, "url", stage_logger("audit"), clock or Clock())


def put(to: AuditSpool, *ids: str, **more: Any) -> None:
    for one in ids:
        to.put({"id": one, **more})


def test_events_are_sent_at_once_and_in_order() -> None:
    queue = Queue()
    put(spool(queue), "a", "b", "c")
    assert (queue.taken, queue.requests) == (["a", "b", "c"], 3)


def test_what_could_not_be_sent_goes_before_what_comes_later() -> None:
    queue, clock = Queue(DOWN), Clock()
    to = spool(queue, clock)
    put(to, "a", "b")
    assert (queue.taken, queue.requests) == ([], 1)  # resting: nobody waits for a second time-out
    clock.now_s += AUDIT_REST_S
    put(to, "c")
    assert queue.taken == ["a", "b", "c"]


def test_what_sqs_refuses_by_its_own_fault_is_sent_again_and_ours_is_not() -> None:
    theirs = {"Failed": [{"Id": "0", "Code": "InternalError", "SenderFault": False}]}
    ours = {"Failed": [{"Id": "0", "Code": "InvalidMessageContents", "SenderFault": True}]}
    queue, clock = Queue(theirs, ours), Clock()
    to = spool(queue, clock)
    put(to, "a")
    clock.now_s += AUDIT_REST_S
    put(to, "b")
    assert queue.taken == ["b"]
    put(to, "c")
    assert queue.taken == ["b", "c"]


def test_a_backlog_is_limited_and_what_is_dropped_is_said(
    log: io.StringIO,
) -> None:
    refused = ClientError({"Error": {"Code": "AccessDenied"}}, "SendMessageBatch")
    to = spool(Queue(refused))
    put(to, *(str(n) for n in range(AUDIT_BACKLOG_EVENTS_MAX + 2)))
    said = [json.loads(line) for line in log.getvalue().splitlines()]
    dropped = [one["audit"]["id"] for one in said if "in the log only" in one.get("message", "")]
    assert dropped == ["0", "1"]


def test_an_event_that_is_not_spooled_is_counted_by_the_metric_of_the_alarm(
    capsys: pytest.CaptureFixture[str],
) -> None:
    put(spool(Queue(DOWN)), "a")
    [metric] = [
        found
        for line in capsys.readouterr().out.splitlines()
        if "_aws" in (found := json.loads(line))
    ]
    assert metric[UNSPOOLED_METRIC] == [1.0]
    assert metric["service"] == "audit"
    declared = metric["_aws"]["CloudWatchMetrics"][0]
    assert declared["Namespace"] == "LoveCurrencyFederation"
    assert ["service"] in declared["Dimensions"]


@given(st.lists(st.integers(1, 60_000), min_size=1, max_size=30))
def test_a_backlog_is_sent_in_requests_that_sqs_takes(sizes: list[int]) -> None:
    queue, clock = Queue(DOWN), Clock()
    to = spool(queue, clock)
    for n, size in enumerate(sizes):
        put(to, str(n), text="x" * size)
    clock.now_s += AUDIT_REST_S
    put(to, "last")
    assert queue.taken == [*(str(n) for n in range(len(sizes))), "last"]


# ── events ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def queue_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A FIFO queue that the functions send to."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        made = boto3.client("sqs").create_queue(
            QueueName="audit.fifo", Attributes={"FifoQueue": "true"}
        )
        monkeypatch.setenv("AUDIT_QUEUE_URL", made["QueueUrl"])
        audit._spool.cache_clear()
        yield made["QueueUrl"]
    audit._spool.cache_clear()


def received(queue_url: str) -> list[dict[str, Any]]:
    answer = boto3.client("sqs").receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10)
    return [json.loads(one["Body"]) for one in answer.get("Messages", [])]


def test_a_refusal_says_who_what_from_where_when_why_and_for_which_request(
    queue_url: str, log: io.StringIO
) -> None:
    event = audit.record_refusal(
        source="authorize",
        reason="token_expired",
        subject="someone",
        request_id="request-1",
        detail="a minute ago",
        address="192.0.2.7",
    )
    assert received(queue_url) == [event]
    assert event["type"] == "org.lovecurrency.access.refused"
    assert (event["specversion"], event["source"]) == ("1.0", "/functions/authorize")
    assert event["subject"] == "someone"
    assert event["time"].endswith("Z")
    assert event["data"] == {
        "reason": "token_expired",
        "request_id": "request-1",
        "detail": "a minute ago",
        "address": "192.0.2.7",
    }
    assert logged_events(log.getvalue().splitlines()) == {event["id"]: event}


def test_key_use_is_spooled_behind_what_was_before(queue_url: str) -> None:
    first = audit.record_refusal(source="send", reason="r", subject="s", request_id="1")
    second = audit.record_key_use(source="persist", key="sealing/k", purpose="open", subject="s")
    assert received(queue_url) == [first, second]


def test_a_refusal_stands_though_sqs_is_gone(
    queue_url: str, log: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    boto3.client("sqs").delete_queue(QueueUrl=queue_url)
    event = audit.record_refusal(source="send", reason="r", subject="s", request_id="1")
    assert logged_events(log.getvalue().splitlines()) == {event["id"]: event}
    assert UNSPOOLED_METRIC in capsys.readouterr().out


@given(text=st.text(max_size=40), times=st.integers(1, 3_000))
def test_whatever_a_client_writes_fits_a_message_and_is_read_again(text: str, times: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AUDIT_QUEUE_URL", raising=False)
        long = text * times
        event = audit.record_refusal(
            source="send", reason=long, subject=long, request_id=long, detail=long, address=long
        )
    body = json.dumps(event)
    assert len(json.dumps(event, ensure_ascii=False).encode()) < AUDIT_BATCH_BYTES_MAX
    assert read_message(record(body)).event == event


def test_a_store_that_refuses_its_login_is_written_down_once_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr(audit.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(audit, "_store_refusals_s", {})

    def refused(store: str) -> bool:
        return (
            audit.record_store_refusal(source="persist", store=store, detail="bad auth") is not None
        )

    assert [refused("immudb"), refused("immudb"), refused("mongodb Asia")] == [True, False, True]
    now[0] += STORE_REFUSAL_INTERVAL_S
    assert refused("immudb")


def test_only_a_refusal_is_a_refused_login() -> None:
    from pymongo.errors import AutoReconnect, OperationFailure

    assert login_refused(OperationFailure("Authentication failed.", 18))
    assert login_refused(AutoReconnect("[SSL] tlsv13 alert certificate required (_ssl.c:2576)"))
    assert not login_refused(OperationFailure("duplicate key", 11000))
    assert not login_refused(AutoReconnect("connection refused"))


@pytest.mark.parametrize("context", [None, {}, {"identity": None}, {"identity": {}}])
def test_where_a_request_came_from_may_be_unknown(context: Any) -> None:
    assert audit.source_address(context) == ""


# ── messages of the spool ───────────────────────────────────────────────────────────────────────


def record(body: str, message_id: str = "m") -> dict[str, Any]:
    return {
        "messageId": message_id,
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1793500000000"},
    }


GOOD = {
    "specversion": "1.0",
    "id": "1",
    "source": "/functions/send",
    "type": "t",
    "subject": "s",
    "time": "2026-11-25T00:00:00Z",
    "data": {},
}


@pytest.mark.parametrize(
    "body",
    [
        "",
        "love",
        "[]",
        "\ud800",
        '{"id":1}',
        json.dumps({**GOOD, "id": ""}),
        json.dumps({**GOOD, "id": "i" * (AUDIT_EVENT_ID_CHARACTERS_MAX + 1)}),
        json.dumps({**GOOD, "specversion": "0.3"}),
        json.dumps({**GOOD, "data": {"amount": 1.5}}),
        json.dumps({**GOOD, "data": {"text": "x" * AUDIT_BATCH_BYTES_MAX}}),
    ],
    ids=lambda body: body[:20].encode("ascii", "backslashreplace").decode(),
)
def test_what_is_no_audit_event_is_recorded_as_such_and_once(body: str) -> None:
    first, again = read_message(record(body, "m-1")), read_message(record(body, "m-1"))
    assert first == again
    assert first.event["type"] == UNREADABLE
    assert first.event["time"] == "2026-11-01T02:26:40.000Z"
    assert len(first.event["data"]["detail"]) <= AUDIT_DETAIL_CHARACTERS_MAX
    assert read_message(record(json.dumps(first.event))).event == first.event


def test_an_event_is_shown_by_what_people_ask_of_it() -> None:
    from federation.audit_chain import Entry

    event = {**GOOD, "data": {"purpose": "open", "request_id": "r", "key": "k"}}
    row = event_row(Entry(7, "0" * 64, event))
    assert {row[name] for name in ("sequence", "who", "where", "why", "request_id", "key")} == {
        7,
        "s",
        "/functions/send",
        "open",
        "r",
        "k",
    }


def test_one_event_does_not_wait_for_a_whole_backlog_to_be_sent() -> None:
    clock = Clock()

    class Slow(Queue):
        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            clock.now_s += AUDIT_SENDING_S / 4
            return super().send_message_batch(**request)

    queue = Slow(DOWN)
    waiting = spool(queue, clock)
    for n in range(200):
        waiting.put({"id": str(n)})
    clock.now_s += AUDIT_REST_S
    queue.requests = 0
    waiting.put({"id": "200"})
    assert 0 < queue.requests <= 5
    assert len(queue.taken) < 200
    for n in range(201, 210):
        waiting.put({"id": str(n)})
    assert queue.taken == [str(n) for n in range(210)]
