"""Clear `content` is nowhere but with those who may read it: a marker is looked for everywhere."""

import json
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from bson import json_util

from federation.regions import CLUSTERS, Continent
from lovectl.access import Access
from lovectl.accounts import Account, sign, unsigned_transaction
from lovectl.checker import atlas_records, dynamodb_records, immudb_values
from lovectl.client import Client
from lovectl.faults import taken_down
from lovectl.measures import function_log_lines

MakeAccount = Callable[..., Account]
Settle = Callable[[Account, str], dict[str, Any]]

#: Random, so that it can't be found by chance, and long enough to be cut out of base64.
MARKER = "marker" + secrets.token_hex(18)
CONTINENT = Continent.SOUTH_AMERICA
ATLAS = CLUSTERS[CONTINENT]


def forms_of(marker: bytes) -> list[bytes]:
    """The marker as it is, in hex, and in base64 at each of the three alignments."""
    shifted = [b64encode(b"\0" * shift + marker)[4:-4] for shift in range(3)]
    return [marker, marker.hex().encode(), *shifted]


FORMS = forms_of(MARKER.encode())


def assert_absent(data: bytes, where: str) -> None:
    assert not any(form in data for form in FORMS), f"clear content in {where}"


@pytest.fixture(scope="module")
def marked(access: Access, client: Client) -> dict[str, str]:
    """A stored transaction in each tier, its content holding the marker; tier to transaction id."""
    from lovectl.accounts import make_account
    from lovectl.sending import Accepted, wait_for_receipts

    stored = {}
    for tier, down in (
        ("atlas", ()),
        ("dynamodb", (ATLAS,)),
        ("immudb", (ATLAS, "dynamodb")),
    ):
        with taken_down(access.proxies, down):
            sender = make_account(access.issuer, CONTINENT)
            unsigned = unsigned_transaction(
                sender, secrets.token_hex(32), 10, 0, content={"note": MARKER}
            )
            [sent_id] = client.send(sender, [sign(sender, unsigned)])
            accepted = Accepted(sent_id, sender, time.time_ns() // 1_000_000)
            answer = wait_for_receipts(client, [accepted], timeout_s=60)[sent_id]
        assert answer["receipt"]["tier"] == tier
        assert answer["content"]["note"] == MARKER
        stored[tier] = sent_id
    return stored


def test_the_search_would_find_the_marker() -> None:
    for shift in range(4):
        data = b64encode(b"x" * shift + json.dumps({"note": MARKER}).encode())
        assert any(form in data for form in FORMS)


def test_raw_records_of_every_tier_hold_no_clear_content(
    marked: dict[str, str], access: Access
) -> None:
    found = set()
    for document in atlas_records(access.stores, CONTINENT.value):
        found.add(document["_id"])
        values = [value for value in document.values() if isinstance(value, bytes)]
        assert_absent(json_util.dumps(document).encode() + b"".join(values), "Atlas")
    for item in dynamodb_records(access.stores):
        found.add(item["pk"]["S"].removeprefix("transaction#"))
        binary = b"".join(v["B"] for v in item.values() if "B" in v)
        assert_absent(repr(item).encode() + binary, "DynamoDB")
    for value in immudb_values(access.stores.immudb, b"transaction:"):
        assert_absent(value, "immuDB")
        found.update(one for one in marked.values() if one.encode() in value)
    assert set(marked.values()) <= found


def test_no_file_of_the_stack_holds_clear_content(marked: dict[str, str], access: Access) -> None:
    files = [path for path in access.directory.rglob("*") if path.is_file()]
    assert any(path.stat().st_size for path in files)
    for path in files:
        assert_absent(path.read_bytes(), str(path))


def test_no_function_log_holds_clear_content(marked: dict[str, str], access: Access) -> None:
    lines = function_log_lines(access.aws, 0)
    assert lines
    assert_absent("\n".join(lines).encode(), "the functions' logs")


def test_no_execution_history_holds_clear_content(marked: dict[str, str], access: Access) -> None:
    states = access.aws("stepfunctions")
    executions = states.list_executions(stateMachineArn=access.outputs["PipelineArn"])["executions"]
    for execution in executions:
        arn = execution["executionArn"]
        history = states.get_execution_history(executionArn=arn, includeExecutionData=True)
        described = states.describe_execution(executionArn=arn)
        assert_absent(repr([history["events"], described]).encode(), arn)


def test_a_message_in_the_inbox_holds_no_clear_content(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account(CONTINENT)
    unsigned = unsigned_transaction(sender, secrets.token_hex(32), 10, 0, content={"note": MARKER})
    sqs, inbox = access.aws("sqs"), access.outputs["InboxQueueUrl"]
    with inbox_paused(access):
        [sent_id] = client.send(sender, [sign(sender, unsigned)])
        received = sqs.receive_message(
            QueueUrl=inbox, MaxNumberOfMessages=10, VisibilityTimeout=1, WaitTimeSeconds=5
        )["Messages"]
    bodies = [message["Body"] for message in received]
    assert any(sent_id in body for body in bodies)
    for body in bodies:
        assert_absent(body.encode(), "the inbox")
    assert settle(sender, sent_id)["content"]["note"] == MARKER


@contextmanager
def inbox_paused(access: Access) -> Iterator[None]:
    """Nobody takes messages from the inbox inside the block."""
    functions = access.aws("lambda")
    [mapping] = [
        one
        for one in functions.list_event_source_mappings()["EventSourceMappings"]
        if "Dispatch" in one["FunctionArn"]
    ]
    functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    try:
        time.sleep(0.5)  # the poller may hold a receive that began before
        yield
    finally:
        functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=True)
