"""events/: one for each function of template.yaml, of the stages' own types, rightly signed."""

import json
from base64 import b64decode
from typing import Any

import msgspec
import pytest
import yaml

import federation_dag
from audit.messages import UNREADABLE, read_message
from authorize.access import proof_headers
from dispatch.batching import pack, read_messages
from federation.batch import Batch, Group, Grouped
from federation.transaction import parse_transaction
from lovectl.gateway import _TemplateLoader
from lovectl.paths import REPOSITORY
from lovectl.sample_events import DIRECTORY, fresh_events
from persist.record import record_of
from send.request_form import check_form

TEMPLATE = yaml.load(  # a loader of our own, which is a safe one
    (REPOSITORY / "template.yaml").read_text(), _TemplateLoader
)
FUNCTIONS = sorted(
    name
    for name, resource in TEMPLATE["Resources"].items()
    if resource["Type"] == "AWS::Serverless::Function"
)
#: What each stage reads its event as.
TYPES: dict[str, type[Batch | Grouped | Group]] = {
    "PopFunction": Batch,
    "DposFunction": Batch,
    "ShardFunction": Batch,
    "RewardFunction": Grouped,
    "PersistAtlasFunction": Group,
    "PersistDynamodbFunction": Group,
    "PersistImmudbFunction": Group,
}


def event(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_bytes())
    return document


def shape(value: Any) -> Any:
    """The names and types of a JSON value, whatever its texts and numbers are.

    A wrapped content key is named by the sealing key and a tag of its own.
    """
    if isinstance(value, dict):
        return {name.partition(".")[0]: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value]
    return type(value).__name__


def test_every_function_of_the_template_has_an_event_and_no_other_has() -> None:
    assert {each.stem for each in DIRECTORY.glob("*.json")} == set(FUNCTIONS)


def test_the_events_are_those_that_the_types_of_today_make() -> None:
    fresh = json.loads(json.dumps(fresh_events()))
    stale = [name for name in FUNCTIONS if shape(event(name)) != shape(fresh.get(name))]
    assert stale == [], "run python -m lovectl.sample_events"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_environment_variable_of_a_function_is_text(name: str) -> None:
    # Lambda's are; AWS makes text of a number, the local AWS doesn't start the function.
    properties = TEMPLATE["Resources"][name]["Properties"]
    variables = properties.get("Environment", {}).get("Variables", {})
    numbers = [key for key, value in variables.items() if isinstance(value, (int, float))]
    assert numbers == []


@pytest.mark.parametrize("name", TYPES)
def test_a_stage_takes_its_event_and_the_transaction_in_it_is_the_senders(name: str) -> None:
    taken = msgspec.convert(event(name), TYPES[name], strict=True)
    groups = taken.groups if isinstance(taken, Grouped) else [taken]
    items = [item for group in groups for item in group.items]
    assert [item.outcome for item in items] == ["accepted"]
    envelope = items[0].envelope
    signed = federation_dag.verify_headers(
        [
            (
                envelope.algorithm,
                b64decode(envelope.public_key),
                msgspec.json.encode(envelope.header),
                b64decode(envelope.signature),
            )
        ]
    )
    assert list(signed.reasons) == [None]
    assert all(envelope.sealed.key_id in group.wrapped_keys for group in groups)


def test_what_persist_gets_is_final_and_rewarded_and_it_would_write_it() -> None:
    group = msgspec.convert(event("PersistDynamodbFunction"), Group)
    [item] = group.items
    record, _ = record_of(item, group.continent, group.wrapped_keys, "dynamodb", 1)
    assert record.final
    assert sum(amount for _, amount in record.rewards) == 1_000


def test_dispatch_reads_the_message_of_its_event() -> None:
    messages, unreadable = read_messages(event("DispatchFunction")["Records"])
    assert unreadable == []
    assert len(pack(messages)) == 1


def test_audit_reads_the_message_of_its_event() -> None:
    [message] = [read_message(record) for record in event("AuditFunction")["Records"]]
    assert message.event["type"] != UNREADABLE


def test_the_requests_to_the_api_are_such_as_the_gateway_passes_on() -> None:
    assert {"authorization", "client-cert"} <= set(proof_headers(event("AuthorizeFunction")))
    request = event("SendFunction")
    check_form(request)
    parsed = parse_transaction(request["body"].encode())
    assert parsed.header.sender == request["requestContext"]["authorizer"]["sender"]
