"""A sender's token bucket: what passes, what waits for how long, and what holds without the table."""

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from federation.errors import SettingsError
from send.rate import BUCKETS_MAX, REST_S, Rate, SenderRate, Spent, rate_headers

TABLE = "requests"
RATE = Rate(per_s=10, burst=100)


class Table:
    """The conditional update in memory, as DynamoDB makes it; counts calls; may fail."""

    def __init__(self) -> None:
        self.arrivals: dict[str, int] = {}
        self.calls = 0
        self.is_down = False

    def update_item(self, **asked: Any) -> Any:
        self.calls += 1
        if self.is_down:
            raise ReadTimeoutError(endpoint_url="dynamodb")
        key = asked["Key"]["pk"]["S"]
        value = {name: int(one["N"]) for name, one in asked["ExpressionAttributeValues"].items()}
        old = self.arrivals.get(key)
        if ":next" in value:
            good, new = old is None or old < value[":now"], value[":next"]
        else:
            good = old is not None and value[":now"] <= old <= value[":last"]
            new = (old or 0) + value[":cost"]
        if not good:
            item = {} if old is None else {"arrival_us": {"N": str(old)}}
            raise ClientError(
                {"Error": {"Code": "ConditionalCheckFailedException"}, "Item": item},  # type: ignore[typeddict-unknown-key]
                "UpdateItem",
            )
        self.arrivals[key] = new
        return {"Attributes": {"arrival_us": {"N": str(new)}}}


class Bench:
    """One table, a clock that is set, and as many execution environments as one likes."""

    def __init__(self, rate: Rate = RATE) -> None:
        self.table, self.rate = Table(), rate
        self.now_s = 1_000_000.0
        self.said: list[str] = []

    def environment(self) -> SenderRate:
        return SenderRate(self.table, TABLE, self.rate, lambda: self.now_s, self.said.append)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_full_bucket_passes_its_burst_and_then_its_rate(bench: Bench) -> None:
    limiter = bench.environment()
    assert all(limiter.spend("a", 1).allowed for _ in range(100))
    assert not limiter.spend("a", 1).allowed
    bench.now_s += 0.5
    assert [limiter.spend("a", 1).allowed for _ in range(6)] == [True] * 5 + [False]


def test_the_answer_tells_what_is_left_and_when_to_come_again(bench: Bench) -> None:
    limiter = bench.environment()
    assert limiter.spend("a", 60) == Spent(True, 40, 6, 0)
    assert limiter.spend("a", 41) == Spent(False, 40, 6, 1)
    assert limiter.spend("a", 40) == Spent(True, 0, 10, 0)
    assert limiter.spend("a", 95) == Spent(False, 0, 10, 10)
    # Coming when told to is coming early enough.
    bench.now_s += 10
    assert limiter.spend("a", 95).allowed


def test_a_batch_passes_whole_or_costs_nothing(bench: Bench) -> None:
    limiter = bench.environment()
    limiter.spend("a", 50)
    assert not limiter.spend("a", 51).allowed
    assert limiter.spend("a", 50).allowed


def test_each_sender_has_a_bucket_of_his_own(bench: Bench) -> None:
    limiter = bench.environment()
    limiter.spend("a", 100)
    assert not limiter.spend("a", 1).allowed
    assert limiter.spend("b", 100).allowed


def test_environments_share_a_bucket_whatever_each_of_them_knows(bench: Bench) -> None:
    first, second = bench.environment(), bench.environment()
    assert first.spend("a", 60).allowed
    assert not second.spend("a", 41).allowed
    assert second.spend("a", 40).allowed
    bench.now_s += 100
    # `first` believes that the bucket is full, `second` fills it first.
    assert second.spend("a", 100).allowed
    assert not first.spend("a", 1).allowed


def test_a_request_costs_one_update_as_a_rule(bench: Bench) -> None:
    limiter = bench.environment()
    for _ in range(50):
        assert limiter.spend("a", 1).allowed
        bench.now_s += 0.01
    assert bench.table.calls == 50
    bench.now_s += 100
    limiter.spend("a", 1)
    assert bench.table.calls == 51


def test_an_environment_that_knows_nothing_needs_two_updates_at_most(bench: Bench) -> None:
    bench.environment().spend("a", 1)
    before = bench.table.calls
    bench.environment().spend("a", 1)
    assert bench.table.calls == before + 2


@given(
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 100), st.floats(0, 5)), max_size=60)
)
def test_no_more_passes_than_burst_and_rate_allow(steps: list[tuple[int, int, float]]) -> None:
    bench = Bench()
    environments = [bench.environment() for _ in range(3)]
    began_s, passed = bench.now_s, 0
    for who, cost, pause_s in steps:
        bench.now_s += pause_s
        passed += cost * environments[who].spend("a", cost).allowed
        assert passed <= RATE.burst + RATE.per_s * (bench.now_s - began_s) + 1e-6


def test_with_the_table_down_each_environment_counts_by_itself_from_what_it_knows(
    bench: Bench,
) -> None:
    limiter = bench.environment()
    limiter.spend("a", 60)
    bench.table.is_down = True
    assert limiter.spend("a", 40).allowed
    assert not limiter.spend("a", 1).allowed
    assert "ReadTimeoutError" in bench.said[0]


def test_a_table_that_failed_is_left_alone_for_a_while_and_then_asked_again(
    bench: Bench,
) -> None:
    limiter = bench.environment()
    bench.table.is_down = True
    for _ in range(20):
        assert limiter.spend("a", 1).allowed
    assert bench.table.calls == 1
    bench.table.is_down = False
    bench.now_s += REST_S
    assert limiter.spend("a", 1).allowed
    assert bench.table.calls > 1
    assert bench.table.arrivals


def test_an_environment_remembers_a_named_number_of_buckets(bench: Bench) -> None:
    limiter = bench.environment()
    bench.table.is_down = True
    for n in range(BUCKETS_MAX + 5):
        limiter.spend(str(n), 1)
    assert len(limiter._known) == BUCKETS_MAX


@pytest.mark.parametrize("rate", [Rate(0, 1000), Rate(10, 99)])
def test_a_rate_by_which_a_batch_could_never_pass_is_refused_at_start(rate: Rate) -> None:
    with pytest.raises(SettingsError, match="RATE_BURST"):
        SenderRate(Table(), TABLE, rate)


def test_the_headers_are_those_of_the_draft() -> None:
    assert rate_headers(Rate(100, 1000), Spent(True, 940, 1, 0)) == {
        "RateLimit-Policy": '"sender";q=1000;w=10',
        "RateLimit": '"sender";r=940;t=1',
    }


@mock_aws
def test_the_expressions_are_dynamodbs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    client = boto3.client("dynamodb", region_name="eu-central-1")
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
    )
    now_s = [1_000.0]
    limiter = SenderRate(client, TABLE, RATE, lambda: now_s[0])
    assert limiter.spend("a", 60) == Spent(True, 40, 6, 0)
    assert limiter.spend("a", 41).allowed is False
    assert limiter.spend("a", 40) == Spent(True, 0, 10, 0)
    now_s[0] += 60
    assert limiter.spend("a", 1) == Spent(True, 99, 1, 0)
    item = client.get_item(TableName=TABLE, Key={"pk": {"S": "rate#a"}})["Item"]
    assert int(item["expires_at_s"]["N"]) == 1060 + 3600
