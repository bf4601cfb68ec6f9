"""Token buckets and query nonces on DynamoDB Local: however many ask at once, no token is spent twice."""

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.config import Config

from lovectl.servers import DynamoDbLocalServer
from persist.nonces import QueryNonces
from persist.readers import NoncesUnavailable
from send.rate import Rate, SenderRate

CLIENTS = 8
TABLE = "requests"


@pytest.fixture(scope="module")
def table(dynamodb_local: DynamoDbLocalServer) -> Iterator[str]:
    client = dynamodb_local.client()
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    yield TABLE
    client.delete_table(TableName=TABLE)


def test_racing_environments_pass_no_more_than_burst_and_rate_allow(
    dynamodb_local: DynamoDbLocalServer, table: str
) -> None:
    rate = Rate(per_s=200, burst=300)
    sender = secrets.token_hex(32)
    failures: list[str] = []
    environments = [
        SenderRate(dynamodb_local.client(), table, rate, failed=failures.append)
        for _ in range(CLIENTS)
    ]
    start = threading.Barrier(CLIENTS + 1)

    def spend(environment: SenderRate) -> int:
        start.wait(30)
        return sum(7 for _ in range(40) if environment.spend(sender, 7).allowed)

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(spend, one) for one in environments]
        start.wait(30)
        began_s = time.time()
        passed = sum(one.result() for one in running)
    elapsed_s = time.time() - began_s
    # In-process buckets would let each environment have a burst of its own.
    assert not failures
    assert passed <= rate.burst + rate.per_s * elapsed_s + 7
    # And the bucket was emptied: refusals were for want of tokens, not by accident.
    assert passed > rate.burst - 7


def test_of_racing_requests_with_one_nonce_one_is_first(
    dynamodb_local: DynamoDbLocalServer, table: str
) -> None:
    nonce = secrets.token_hex(16)
    start = threading.Barrier(CLIENTS)

    def use(number: int) -> bool:
        nonces = QueryNonces(dynamodb_local.client(), table)
        start.wait(30)
        return nonces.use("node-1", nonce, f"request-{number}", int(time.time()))

    with ThreadPoolExecutor(CLIENTS) as pool:
        assert sum(pool.map(use, range(CLIENTS))) == 1


def test_a_nonce_is_its_requests_own_and_each_delegates_own(
    dynamodb_local: DynamoDbLocalServer, table: str
) -> None:
    nonces = QueryNonces(dynamodb_local.client(), table)
    assert nonces.use("node-1", "a" * 16, "request-1", 1000)
    assert nonces.use("node-1", "a" * 16, "request-1", 1000)
    assert not nonces.use("node-1", "a" * 16, "request-2", 1000)
    assert nonces.use("node-2", "a" * 16, "request-2", 1000)
    key = {"pk": {"S": f"nonce#node-1#{'a' * 16}"}}
    kept = dynamodb_local.client().get_item(TableName=table, Key=key)["Item"]
    assert int(kept["expires_at_s"]["N"]) > 1000 + 60


def test_with_dynamodb_gone_a_query_is_not_answered_and_a_sender_still_passes(
    dynamodb_local: DynamoDbLocalServer, table: str, toxiproxy: Any, proxied: Any
) -> None:
    port = proxied("requests", dynamodb_local.port)
    from lovectl.servers import aws_client

    config = Config(connect_timeout=0.3, read_timeout=0.3, retries={"total_max_attempts": 1})
    client = aws_client("dynamodb", f"http://127.0.0.1:{port}", None, config=config)
    limiter = SenderRate(client, table, Rate(10, 100))
    sender = secrets.token_hex(32)
    assert limiter.spend(sender, 60).allowed
    toxiproxy.api.down("requests")
    assert limiter.spend(sender, 40).allowed
    # What it knew of the bucket still counts.
    assert not limiter.spend(sender, 100).allowed
    with pytest.raises(NoncesUnavailable):
        QueryNonces(client, table).use("node-1", "b" * 16, "r", 1000)
    toxiproxy.api.up("requests")
