"""Each built function, with its built layers and nothing else, answers its event by `sam local invoke`."""

import json
from http import HTTPStatus

import msgspec
import pytest
from sam.conftest import Functions

from federation.batch import Batch, Grouped, Persisted
from lovectl.delegates import STAKES

pytestmark = pytest.mark.sam


def message_id(functions: Functions, name: str) -> str:
    event = json.loads((functions.events / f"{name}.json").read_bytes())
    return str(event["Records"][0]["messageId"])


def copies(functions: Functions, transaction_id: str) -> int:
    """Records of this transaction in DynamoDB."""
    table = functions.outputs["TransactionsTableName"]
    stored = functions.server.client("dynamodb").scan(TableName=table)["Items"]
    return sum(one["pk"] == {"S": f"transaction#{transaction_id}"} for one in stored)


def test_every_deployed_function_has_an_event(functions: Functions) -> None:
    assert [
        name for name in functions.names if not (functions.events / f"{name}.json").exists()
    ] == []


def test_authorize_admits_the_account_of_token_and_certificate(functions: Functions) -> None:
    answer = functions.invoke("AuthorizeFunction")
    assert answer["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert answer["context"]["home_continent"] == "Europe"


def test_send_answers_202_and_the_transaction_is_in_the_inbox(functions: Functions) -> None:
    sqs, url = functions.server.client("sqs"), functions.outputs["InboxQueueUrl"]
    for mapping in functions.server.client("lambda").list_event_source_mappings()[
        "EventSourceMappings"
    ]:
        functions.server.client("lambda").update_event_source_mapping(
            UUID=mapping["UUID"], Enabled=False
        )
    answer = functions.invoke("SendFunction")
    assert answer["statusCode"] == HTTPStatus.ACCEPTED, answer
    transaction_id = json.loads(answer["body"])["transaction_id"]
    [message] = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert transaction_id in message["Body"]


def test_dispatch_acknowledges_what_the_pipeline_has_stored(functions: Functions) -> None:
    assert functions.invoke("DispatchFunction") == {"batchItemFailures": []}
    event = json.loads((functions.events / "DispatchFunction.json").read_bytes())
    [envelope] = json.loads(event["Records"][0]["body"])["envelopes"]
    assert copies(functions, envelope["header"]["transaction_id"]) == 1


def test_pop_finds_the_place(functions: Functions) -> None:
    [item] = msgspec.convert(functions.invoke("PopFunction"), Batch).items
    assert item.outcome == "accepted"
    assert item.place is not None
    assert item.place.continent == "Europe"


def test_dpos_verifies_and_leaves_pending_what_no_delegate_has_voted_on(
    functions: Functions,
) -> None:
    [item] = msgspec.convert(functions.invoke("DposFunction"), Batch).items
    assert item.outcome == "accepted"
    assert not item.final
    assert item.votes == []


def test_shard_groups_by_home_continent(functions: Functions) -> None:
    [group] = msgspec.convert(functions.invoke("ShardFunction"), Grouped).groups
    assert group.continent == "Europe"
    assert group.items[0].shard is not None


def test_reward_splits_the_whole_pool_among_the_voters(functions: Functions) -> None:
    rewards = dict(msgspec.convert(functions.invoke("RewardFunction"), Grouped).rewards)
    assert set(rewards) == set(STAKES)
    assert sum(rewards.values()) == 1_000


@pytest.mark.parametrize("tier", ["Atlas", "Immudb"])
def test_persist_gives_on_what_a_store_that_is_not_there_can_not_take(
    tier: str, functions: Functions
) -> None:
    persisted = msgspec.convert(functions.invoke(f"Persist{tier}Function"), Persisted)
    assert persisted.outcome == "unavailable"
    assert persisted.receipts == []
    assert len(persisted.unavailable) == 1


def test_persist_stores_in_dynamodb_under_the_continents_key(functions: Functions) -> None:
    persisted = msgspec.convert(functions.invoke("PersistDynamodbFunction"), Persisted)
    assert persisted.outcome == "stored", persisted.reason
    [receipt] = persisted.receipts
    assert (receipt.status, receipt.tier, receipt.final) == ("stored", "dynamodb", True), receipt
    again = msgspec.convert(functions.invoke("PersistDynamodbFunction"), Persisted)
    assert [one.transaction_id for one in again.receipts] == [receipt.transaction_id]
    assert copies(functions, receipt.transaction_id) == 1


def test_audit_keeps_the_event_in_the_spool_while_immudb_is_not_there(
    functions: Functions,
) -> None:
    answer = functions.invoke("AuditFunction")
    failed = [one["itemIdentifier"] for one in answer["batchItemFailures"]]
    assert failed == [message_id(functions, "AuditFunction")]


def test_reconcile_tells_that_a_cluster_is_away(functions: Functions) -> None:
    assert functions.invoke("ReconcileFunction")["outcome"] == "unavailable"


def test_the_canary_comes_back_from_the_one_tier_that_is_there(functions: Functions) -> None:
    answer = functions.invoke("CanaryFunction")
    assert answer["outcome"] == "failed"
    outcomes = {one["tier"]: one["outcome"] for one in answer["tiers"]}
    assert outcomes == {"atlas": "failed", "dynamodb": "ok", "immudb": "failed"}
