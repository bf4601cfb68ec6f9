"""The DynamoDB tier and the handler of `persist`, on AWS mocked in-process (moto)."""

import inspect
import json
import os
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import msgspec
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from federation import secrets
from federation.errors import SettingsError
from federation.limits import WRITE_TIMEOUTS_MAX
from federation.regions import CONTINENTS
from persist import app
from persist.dynamodb import RECORDS_MAX, DynamodbTier
from persist.kms_encryption import KmsEncryption
from persist.tier import store_group

TABLE = "transactions"
CONTEXT = SimpleNamespace(
    function_name="persist",
    memory_limit_in_mb=128,
    invoked_function_arn="arn:aws:lambda:eu-central-1:1:function:persist",
    aws_request_id="1",
)


@pytest.fixture
def key_arns(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A mocked AWS with a table and a key a continent."""
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        kms = boto3.client("kms")
        boto3.client("dynamodb").create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield {one.value: kms.create_key()["KeyMetadata"]["Arn"] for one in CONTINENTS}


class Recorder:
    """A DynamoDB client that counts calls, and fails the first ones as it is told."""

    def __init__(self, client: Any, failures: list[Exception] | None = None) -> None:
        self._client = client
        self.failures = failures or []
        self.sizes: list[int] = []

    def transact_write_items(self, **arguments: Any) -> Any:
        self.sizes.append(len(arguments["TransactItems"]))
        if self.failures:
            raise self.failures.pop(0)
        return self._client.transact_write_items(**arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def _tier(key_arns: dict[str, str], failures: list[Exception] | None = None) -> tuple[Any, Any]:
    recorder = Recorder(boto3.client("dynamodb"), failures)
    return DynamodbTier(recorder, TABLE, KmsEncryption(key_arns)), recorder


def _cancelled(*codes: str) -> ClientError:
    error: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": ""},
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return ClientError(error, "TransactWriteItems")


def test_a_batch_is_written_in_as_few_transactions_as_dynamodb_takes(
    key_arns: dict[str, str], groups: Any
) -> None:
    store, recorder = _tier(key_arns)
    group = groups.group(*(groups.item() for _ in range(RECORDS_MAX + 10)))
    persisted = store_group(group, "dynamodb", store)
    assert len(persisted.receipts) == RECORDS_MAX + 10
    assert recorder.sizes == [2 * RECORDS_MAX, 20]


def test_a_transaction_that_met_another_writer_is_tried_again(
    key_arns: dict[str, str], groups: Any
) -> None:
    store, recorder = _tier(key_arns, [_cancelled("TransactionConflict", "None")])
    persisted = store_group(groups.group(groups.item()), "dynamodb", store)
    assert persisted.outcome == "stored"
    assert recorder.sizes == [2, 2]


def test_a_record_that_expires_while_it_is_looked_for_is_written_anew(
    key_arns: dict[str, str], groups: Any
) -> None:
    store, recorder = _tier(key_arns, [_cancelled("ConditionalCheckFailed", "None")])
    persisted = store_group(groups.group(groups.item()), "dynamodb", store)
    assert [one.status for one in persisted.receipts] == ["stored"]
    assert recorder.sizes == [2, 2]


def test_writers_that_never_give_way_make_the_tier_unavailable(
    key_arns: dict[str, str], groups: Any
) -> None:
    store, _ = _tier(key_arns, [_cancelled("TransactionConflict", "None")] * 100)
    persisted = store_group(groups.group(groups.item()), "dynamodb", store)
    assert (persisted.outcome, persisted.receipts) == ("unavailable", [])


def test_an_unknown_reason_of_cancelling_is_never_taken_for_stored(
    key_arns: dict[str, str], groups: Any
) -> None:
    store, _ = _tier(key_arns, [_cancelled("ItemCollectionSizeLimitExceeded", "None")])
    persisted = store_group(groups.group(groups.item()), "dynamodb", store)
    assert (persisted.outcome, persisted.receipts) == ("unavailable", [])


def test_what_the_first_transaction_stored_keeps_its_receipts_when_the_second_fails(
    key_arns: dict[str, str], groups: Any
) -> None:
    throttled: Any = {"Error": {"Code": "ThrottlingException", "Message": ""}}
    store, recorder = _tier(key_arns)
    items = [groups.item() for _ in range(RECORDS_MAX + 1)]
    original = recorder.transact_write_items

    def second_fails(**arguments: Any) -> Any:
        if recorder.sizes:
            raise ClientError(throttled, "TransactWriteItems")
        return original(**arguments)

    recorder.transact_write_items = second_fails
    persisted = store_group(groups.group(*items), "dynamodb", store)
    assert len(persisted.receipts) == RECORDS_MAX
    assert persisted.unavailable == items[RECORDS_MAX:]


class Partly:
    """A DynamoDB client that gets to one key of each BatchGetItem, or to none."""

    def __init__(self, client: Any, keys: int = 1) -> None:
        self._client = client
        self._keys = keys

    def batch_get_item(self, RequestItems: Any) -> Any:  # as boto3 names it
        [(table, request)] = RequestItems.items()
        done, left = request["Keys"][: self._keys], request["Keys"][self._keys :]
        answer = {"Responses": {table: []}}
        if done:
            answer = self._client.batch_get_item(RequestItems={table: {**request, "Keys": done}})
        return {**answer, "UnprocessedKeys": {table: {**request, "Keys": left}} if left else {}}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_reads_that_dynamodb_did_not_get_to_are_asked_for_again(
    key_arns: dict[str, str], groups: Any
) -> None:
    items = [groups.item() for _ in range(3)]
    first = store_group(groups.group(*items), "dynamodb", _tier(key_arns)[0])
    store = DynamodbTier(Partly(boto3.client("dynamodb")), TABLE, KmsEncryption(key_arns))
    late = [msgspec.structs.replace(one, outcome="rejected", reason="late") for one in items]
    assert store_group(groups.group(*late), "dynamodb", store).receipts == first.receipts


def test_reads_that_dynamodb_never_gets_to_make_the_tier_unavailable_and_reject_nothing(
    key_arns: dict[str, str], groups: Any
) -> None:
    store = DynamodbTier(Partly(boto3.client("dynamodb"), 0), TABLE, KmsEncryption(key_arns))
    item = groups.item(outcome="rejected", reason="late")
    persisted = store_group(groups.group(item), "dynamodb", store)
    assert (persisted.outcome, persisted.receipts) == ("unavailable", [])
    assert boto3.client("dynamodb").scan(TableName=TABLE)["Items"] == []


def test_a_rejection_that_expires_while_it_is_looked_for_is_written_anew(
    key_arns: dict[str, str], groups: Any
) -> None:
    store, recorder = _tier(key_arns, [_cancelled("ConditionalCheckFailed")])
    item = groups.item(outcome="rejected", reason="late")
    persisted = store_group(groups.group(item), "dynamodb", store)
    assert [one.reason for one in persisted.receipts] == ["late"]
    assert recorder.sizes == [1, 1]


def test_no_call_of_a_write_begins_when_its_time_is_over(
    key_arns: dict[str, str], groups: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr(
        "persist.tier.time", SimpleNamespace(monotonic=lambda: now_s, time_ns=time.time_ns)
    )
    busy = [_cancelled("TransactionConflict")] * 100
    recorder = Recorder(boto3.client("dynamodb"), busy)
    store = DynamodbTier(recorder, TABLE, KmsEncryption(key_arns), timeout_s=1.0)
    original = recorder.transact_write_items

    def takes_a_second(**arguments: Any) -> Any:
        nonlocal now_s
        now_s += 1.0
        return original(**arguments)

    recorder.transact_write_items = takes_a_second  # type: ignore[method-assign]
    item = groups.item(outcome="rejected", reason="late")
    persisted = store_group(groups.group(item), "dynamodb", store)
    assert (persisted.outcome, persisted.unavailable) == ("unavailable", [item])
    assert "no time is left" in (persisted.reason or "")
    assert len(recorder.sizes) == WRITE_TIMEOUTS_MAX


def test_a_whole_batch_costs_one_data_key(key_arns: dict[str, str], groups: Any) -> None:
    asked: list[str] = []
    import botocore.client

    original = botocore.client.BaseClient._make_api_call

    def counted(client: Any, operation: str, arguments: Any) -> Any:
        asked.append(operation)
        return original(client, operation, arguments)

    store, _ = _tier(key_arns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.client.BaseClient, "_make_api_call", counted)
        store_group(groups.group(*(groups.item() for _ in range(100))), "dynamodb", store)
    assert asked.count("GenerateDataKey") == 1
    assert not {"Encrypt", "Decrypt"} & set(asked)


@pytest.fixture
def handler(
    key_arns: dict[str, str], groups: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    """The Lambda handler of the DynamoDB tier."""
    monkeypatch.setenv("TIER", "dynamodb")
    monkeypatch.setenv("SEALING_SECRET", "love/sealing")
    monkeypatch.setenv("DELEGATES_SECRET", "love/delegates")
    monkeypatch.setenv("REGISTRY_PIN", "0" * 64)
    monkeypatch.setenv("REQUESTS_TABLE", "requests")
    monkeypatch.setenv("TRANSACTIONS_TABLE", TABLE)
    monkeypatch.setenv("KMS_KEY_ARNS", json.dumps(key_arns))
    known = (float("inf"), {"keys": groups.private_keys})
    monkeypatch.setitem(secrets._cache, "love/sealing", known)
    app._settings.cache_clear()
    app._store.cache_clear()
    # The tracer wants the segment that Lambda opens.
    handle: Any = inspect.unwrap(app.handler)
    yield lambda event: handle(event, CONTEXT)
    app._settings.cache_clear()
    app._store.cache_clear()


def test_the_handler_stores_fetches_and_tells_its_health(handler: Any, groups: Any) -> None:
    item = groups.item(content={"note": "hello"})
    event = msgspec.to_builtins(groups.group(item))
    stored = handler({**event, "action": "store"})
    assert json.loads(json.dumps(stored)) == stored
    assert stored["receipts"][0]["status"] == "stored"
    assert handler(event)["receipts"] == stored["receipts"]
    transaction_id = item.envelope.header.transaction_id
    header = item.envelope.header
    fetch = {"action": "fetch", "transaction_id": transaction_id}
    found = handler({**fetch, "reader": {"account_id": header.recipient}})
    assert found["content"]["note"] == "hello"
    assert found["rewards"] == [["node-1", 2]] or found["rewards"] == [("node-1", 2)]
    refused = handler({**fetch, "reader": {"account_id": "ee" * 32}})
    assert (refused["outcome"], refused["reason"]) == ("forbidden", "not_a_party")
    assert "content" not in refused
    health = handler({"action": "health"})
    assert (health["tier"], health["state"], health["reason"]) == ("dynamodb", "up", None)
    assert [(one["part"], one["state"], one["breaker"]["state"]) for one in health["parts"]] == [
        ("dynamodb", "up", "closed"),
        ("kms/Europe", "up", "closed"),
    ]
    with pytest.raises(ValueError, match="no action"):
        handler({"action": "drop"})


def test_the_canary_is_answered_by_what_became_of_each_continent(handler: Any, groups: Any) -> None:
    items = [groups.item(groups.account(continent)) for continent in ("Europe", "Asia")]
    sent = [groups.group(item) for item in items]
    forged = msgspec.structs.replace(items[1].envelope, signature=items[0].envelope.signature)
    sent[1] = groups.group(msgspec.structs.replace(items[1], envelope=forged))
    report = handler({"action": "canary", "groups": msgspec.to_builtins(sent)})
    assert json.loads(json.dumps(report)) == report
    assert (report["tier"], report["outcome"]) == ("dynamodb", "failed")
    assert [(one["continent"], one["outcome"]) for one in report["parts"]] == [
        ("Europe", "ok"),
        ("Asia", "failed"),
    ]
    assert "signature" in report["parts"][1]["reason"]


def test_health_tells_why_a_tier_is_down(handler: Any) -> None:
    boto3.client("dynamodb").delete_table(TableName=TABLE)
    answer = handler({"action": "health"})
    assert (answer["state"], answer["tier"]) == ("down", "dynamodb")
    assert "ResourceNotFoundException" in answer["reason"]


def test_missing_settings_are_named_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIER", raising=False)
    monkeypatch.delenv("SEALING_SECRET", raising=False)
    app._settings.cache_clear()
    handle: Any = inspect.unwrap(app.handler)
    with pytest.raises(SettingsError, match=r"TIER.*SEALING_SECRET"):
        handle({"action": "health"}, CONTEXT)
