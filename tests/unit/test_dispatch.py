"""`dispatch` acknowledges what has receipts, and only that, whatever its AWS services answer."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import boto3
import pytest
from botocore.stub import ANY, Stubber

from dispatch import app
from federation.backoff import pause_s
from federation.transaction import Envelope
from lovectl.measures import metric_values
from lovectl.paths import REPOSITORY
from send.city_dag_handler import pack

ARN = "arn:aws:states:eu-central-1:000000000000:stateMachine:pipeline"
QUEUE_URL = "https://sqs.eu-central-1.amazonaws.com/000000000000/inbox"
TEMPLATE = (REPOSITORY / "template.yaml").read_text()
NOW = "2026-01-01T00:00:00Z"


class SqsEvent(Protocol):
    """Makes an SQS event of one message for each list, holding the transactions of its numbers."""

    def __call__(self, *message_numbers: list[int], receive_count: int = 1) -> dict[str, Any]: ...


@pytest.fixture
def sqs_event(envelope: Callable[[int, int, int], Envelope]) -> SqsEvent:
    def make(*message_numbers: list[int], receive_count: int = 1) -> dict[str, Any]:
        return {
            "Records": [
                {
                    "messageId": f"message-{n}",
                    "receiptHandle": f"handle-{n}",
                    "body": next(iter(pack([envelope(number, 10, 0) for number in numbers]))),
                    "attributes": {"ApproximateReceiveCount": str(receive_count)},
                }
                for n, numbers in enumerate(message_numbers)
            ]
        }

    return make


def succeeded(*numbers: int, stored_at_ms: int = 400) -> dict[str, Any]:
    """The answer of an execution that ends with receipts for these transactions."""
    receipts = [
        {
            "transaction_id": f"{number:064x}",
            "status": "rejected" if number % 2 else "stored",
            "reason": "signature" if number % 2 else None,
            "tier": "atlas",
            "continent": "Europe",
            "shard": 1,
            "final": True,
            "stored_at_ms": stored_at_ms,
        }
        for number in numbers
    ]
    return execution("SUCCEEDED", output=json.dumps({"receipts": receipts}))


def execution(status: str, **fields: str) -> dict[str, Any]:
    """The answer of an execution that ended with `status`."""
    return {
        "executionArn": f"{ARN}:1",
        "startDate": NOW,
        "stopDate": NOW,
        "status": status,
        **fields,
    }


class Dispatch:
    """The handler between a stubbed Step Functions and a stubbed SQS."""

    def __init__(self, states: Any, sqs: Any) -> None:
        self.states = Stubber(states)
        self.sqs = Stubber(sqs)

    def expect_execution(self, answer: dict[str, Any]) -> None:
        self.states.add_response(
            "start_sync_execution", answer, {"stateMachineArn": ARN, "input": ANY}
        )

    def expect_put_back(self, pauses_s: dict[str, int]) -> None:
        """These receipt handles, and no others, come again after their pauses."""
        entries = [
            {"Id": str(n), "ReceiptHandle": handle, "VisibilityTimeout": pause}
            for n, (handle, pause) in enumerate(pauses_s.items())
        ]
        self.sqs.add_response(
            "change_message_visibility_batch",
            {"Successful": [{"Id": entry["Id"]} for entry in entries], "Failed": []},
            {"QueueUrl": QUEUE_URL, "Entries": entries},
        )

    def again(self, event: dict[str, Any]) -> list[str]:
        """The ids of the messages that are not acknowledged; every expected call was made."""
        with self.states, self.sqs:
            failures = app.handler(event, None)["batchItemFailures"]
            self.states.assert_no_pending_responses()
            self.sqs.assert_no_pending_responses()
        return [failure["itemIdentifier"] for failure in failures]


@pytest.fixture
def dispatch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Dispatch]:
    """The handler with its settings and stubs, nothing kept from other tests."""
    monkeypatch.setenv("PIPELINE_ARN", ARN)
    monkeypatch.setenv("INBOX_QUEUE_URL", QUEUE_URL)
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": "eu-central-1"}
    states, sqs = boto3.client("stepfunctions", **keys), boto3.client("sqs", **keys)
    monkeypatch.setattr(app, "_states", lambda: states)
    monkeypatch.setattr(app, "_sqs", lambda: sqs)
    app._settings.cache_clear()
    yield Dispatch(states, sqs)
    app._settings.cache_clear()


def test_messages_whose_transactions_all_have_receipts_are_acknowledged(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    dispatch.expect_execution(succeeded(1, 2, 3))
    assert dispatch.again(sqs_event([1, 2], [3])) == []


@pytest.mark.parametrize(
    ("stored_at_ms", "measured"),
    # Accepted at 2; the clock stands at 4,000 before, and at 5,002 when the receipts are there.
    [(4_500, 5_000.0), (1_502, 1_500.0)],
    ids=["now: the write itself is counted", "by an earlier delivery"],
)
def test_how_long_storing_took_is_measured_until_the_receipts_are_there(
    dispatch: Dispatch,
    sqs_event: SqsEvent,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stored_at_ms: int,
    measured: float,
) -> None:
    clock = iter([4_000, 5_002])
    monkeypatch.setattr(app, "_now_ms", lambda: next(clock))
    dispatch.expect_execution(succeeded(2, stored_at_ms=stored_at_ms))
    assert dispatch.again(sqs_event([2])) == []
    values = metric_values(capsys.readouterr().out.splitlines(), "stored_after_ms")
    assert values == {"dispatch": [measured]}


def test_a_message_with_one_receipt_missing_comes_again_alone(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    dispatch.expect_execution(succeeded(1, 3))
    dispatch.expect_put_back({"handle-0": 4})
    assert dispatch.again(sqs_event([1, 2], [3], receive_count=3)) == ["message-0"]


def test_a_transaction_posted_twice_runs_once_and_acknowledges_both(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    dispatch.expect_execution(succeeded(1))
    assert dispatch.again(sqs_event([1], [1])) == []


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT"])
def test_a_failed_execution_acknowledges_nothing(
    dispatch: Dispatch, sqs_event: SqsEvent, status: str
) -> None:
    dispatch.expect_execution(execution(status, error="NoTierStored", cause="all down"))
    dispatch.expect_put_back({"handle-0": 1, "handle-1": 1})
    assert dispatch.again(sqs_event([1], [2])) == ["message-0", "message-1"]


def test_an_unreachable_state_machine_acknowledges_nothing(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    dispatch.states.add_client_error("start_sync_execution", "ServiceUnavailable")
    dispatch.expect_put_back({"handle-0": 1})
    assert dispatch.again(sqs_event([1])) == ["message-0"]


@pytest.mark.parametrize("output", ["{}", "null", '{"receipts": [{}]}'])
def test_an_output_without_receipts_acknowledges_nothing(
    dispatch: Dispatch, sqs_event: SqsEvent, output: str
) -> None:
    dispatch.expect_execution(execution("SUCCEEDED", output=output))
    dispatch.expect_put_back({"handle-0": 1})
    assert dispatch.again(sqs_event([1])) == ["message-0"]


def test_messages_come_again_even_if_their_pause_cannot_be_set(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    dispatch.expect_execution(execution("FAILED"))
    dispatch.sqs.add_client_error("change_message_visibility_batch", "ServiceUnavailable")
    assert dispatch.again(sqs_event([1])) == ["message-0"]


def test_an_unreadable_message_keeps_no_other_from_its_receipt(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    event = sqs_event([1], [2])
    event["Records"][0]["body"] = "poison"
    dispatch.expect_execution(succeeded(2))
    dispatch.expect_put_back({"handle-0": 1})
    assert dispatch.again(event) == ["message-0"]


def test_unreadable_messages_alone_start_no_execution(
    dispatch: Dispatch, sqs_event: SqsEvent
) -> None:
    event = sqs_event([1], receive_count=4)
    event["Records"][0]["body"] = "poison"
    dispatch.expect_put_back({"handle-0": 8})
    assert dispatch.again(event) == ["message-0"]


def test_batches_run_apart_and_one_failure_spares_the_others(
    dispatch: Dispatch, sqs_event: SqsEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTIONS_AT_ONCE", "1")
    event = sqs_event([1], [2])
    # Another wrapped key under the same name keeps the second message out of the first's batch.
    event["Records"][1]["body"] = event["Records"][1]["body"].replace("wrapped 0", "another 0")
    dispatch.expect_execution(execution("FAILED"))
    dispatch.expect_execution(succeeded(2))
    dispatch.expect_put_back({"handle-0": 1})
    assert dispatch.again(event) == ["message-0"]


def test_what_would_outlast_the_function_is_not_started_and_the_others_are_acknowledged(
    dispatch: Dispatch, sqs_event: SqsEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXECUTIONS_AT_ONCE", "1")
    event = sqs_event([1], [2])
    event["Records"][1]["body"] = event["Records"][1]["body"].replace("wrapped 0", "another 0")
    # The handler's begin, the first batch, and a second one that would begin too late.
    times_s = iter([100.0, 100.1, 104.1])
    monkeypatch.setattr(app.time, "monotonic", lambda: next(times_s, 105.0))
    dispatch.expect_execution(succeeded(1))
    dispatch.expect_put_back({"handle-1": 1})
    assert dispatch.again(event) == ["message-1"]


def test_an_execution_that_is_started_last_ends_before_the_function() -> None:
    function = TEMPLATE[TEMPLATE.index("  DispatchFunction:") :]
    timeout_s, pipeline_s = (
        int(re.search(pattern, function)[1])  # type: ignore[index]
        for pattern in (r"Timeout: (\d+)", r'PIPELINE_TIMEOUT_S: "(\d+)"')
    )
    assert app.Settings("arn", "url").starts_s + pipeline_s < timeout_s


def test_pauses_double_up_to_their_limit() -> None:
    assert [pause_s(count, 30) for count in (0, 1, 2, 5, 6, 1000)] == [1, 1, 2, 16, 30, 30]
