"""Dead letters go back, whole and then in parts; poison is parked before it is deleted, never dropped."""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import boto3
import msgspec
import pytest
from moto import mock_aws

from federation.batch import InboxMessage
from federation.breaker import Breaker
from federation.limits import INBOX_ENTRIES_MAX, REDRIVES_MAX, REDRIVES_WHOLE_MAX
from federation.transaction import Envelope
from persist.tier import Part, TierUnavailable
from reconcile import app
from reconcile.dead_letters import (
    REDRIVEN_TOO_OFTEN,
    REDRIVES,
    UNREADABLE,
    Lot,
    ParkedMessage,
    QueueUnreachable,
    Redriven,
    redrive,
)
from reconcile.lots import DynamodbLot

NOW_MS = 7
TABLE = "transactions"


class Parked:
    """A lot in memory that may be away."""

    def __init__(self) -> None:
        self.messages: dict[str, ParkedMessage] = {}
        self.away = False

    def park(self, message: ParkedMessage) -> None:
        if self.away:
            raise TierUnavailable("away")
        self.messages.setdefault(message.digest, message)


class Queues:
    """The inbox and its dead letters, on SQS mocked in-process."""

    def __init__(self) -> None:
        self.sqs: Any = boto3.client("sqs")
        self.inbox = self.sqs.create_queue(QueueName="inbox")["QueueUrl"]
        self.dead = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        self.first, self.second = Parked(), Parked()
        self.stores_answer = True

    def put(self, body: str, redrives: str | None = None) -> None:
        attributes = (
            {} if redrives is None else {REDRIVES: {"DataType": "String", "StringValue": redrives}}
        )
        self.sqs.send_message(QueueUrl=self.dead, MessageBody=body, MessageAttributes=attributes)

    def redrive(self) -> Redriven:
        lots: list[Callable[[], Lot]] = [lambda: self.first, lambda: self.second]
        return redrive(self.sqs, self.dead, self.inbox, lots, NOW_MS, lambda: self.stores_answer)

    def received(self, url: str) -> list[Any]:
        answer = self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        return list(answer.get("Messages", []))

    def drained(self, url: str) -> list[Any]:
        """All that lies there, taken off it."""
        found = []
        while messages := self.received(url):
            for one in messages:
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
            found += messages
        return found

    def count(self, url: str) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(found[name]) for name in names)


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield Queues()


@pytest.fixture
def good(envelope: Callable[[int, int, int], Envelope]) -> str:
    """The body of a message as `send` writes it."""
    return msgspec.json.encode(InboxMessage({"reader.1": "wrapped"}, [envelope(1, 10, 1)])).decode()


@pytest.fixture
def several(envelope: Callable[[int, int, int], Envelope]) -> str:
    """The body of a message of 25 transactions under two wrapped keys, too large for one request."""
    keys = {f"reader.{n}": f"wrapped {n}" for n in range(2)}
    envelopes = [
        msgspec.structs.replace(envelope(n, 30_000, n % 2), wrapped_key="") for n in range(25)
    ]
    return msgspec.json.encode(InboxMessage(keys, envelopes)).decode()


def test_a_readable_message_goes_back_to_the_inbox_as_it_is(queues: Queues, good: str) -> None:
    queues.put(good)
    assert queues.redrive() == Redriven(1, {}, 0, more=False)
    [message] = queues.received(queues.inbox)
    assert message["Body"] == good
    assert message["MessageAttributes"][REDRIVES]["StringValue"] == "1"
    assert queues.count(queues.dead) == 0


def test_a_message_that_comes_again_and_again_is_parked_at_last(queues: Queues, good: str) -> None:
    queues.put(good, str(REDRIVES_MAX - 1))
    assert queues.redrive().redriven == 1
    queues.put(good, str(REDRIVES_MAX))
    assert list(queues.redrive().parked.values()) == [REDRIVEN_TOO_OFTEN]
    assert [one.body for one in queues.first.messages.values()] == [good]
    assert queues.count(queues.dead) == 0


def test_an_outage_of_all_stores_makes_no_poison_however_long(queues: Queues, good: str) -> None:
    queues.stores_answer = False
    queues.put(good)
    for _ in range(REDRIVES_MAX + 2):
        assert queues.redrive() == Redriven(1, {}, 0, more=False)
        [message] = queues.received(queues.inbox)
        count = message["MessageAttributes"][REDRIVES]["StringValue"]
        assert (message["Body"], count) == (good, "0")
        # As the inbox does after a thousand tries.
        queues.sqs.delete_message(QueueUrl=queues.inbox, ReceiptHandle=message["ReceiptHandle"])
        queues.put(good, count)
    assert queues.first.messages == {}


def test_a_message_that_comes_again_after_three_times_goes_on_in_parts(
    queues: Queues, several: str
) -> None:
    queues.put(several, str(REDRIVES_WHOLE_MAX - 1))
    queues.redrive()
    [whole] = queues.drained(queues.inbox)
    assert whole["Body"] == several
    queues.put(several, str(REDRIVES_WHOLE_MAX))
    assert queues.redrive() == Redriven(1, {}, 0, more=False)
    assert queues.count(queues.dead) == 0
    parts = queues.drained(queues.inbox)
    held = [msgspec.json.decode(one["Body"], type=InboxMessage) for one in parts]
    sent = msgspec.json.decode(several, type=InboxMessage)
    assert {one.envelopes[0].header.nonce for one in held} == set(range(len(sent.envelopes)))
    for one in held:
        [envelope] = one.envelopes
        assert envelope == sent.envelopes[envelope.header.nonce]
        key_id = envelope.sealed.key_id
        assert one.wrapped_keys == {key_id: sent.wrapped_keys[key_id]}
    counts = {one["MessageAttributes"][REDRIVES]["StringValue"] for one in parts}
    assert counts == {str(REDRIVES_WHOLE_MAX + 1)}


def test_an_outage_parts_no_message(queues: Queues, several: str) -> None:
    queues.stores_answer = False
    queues.put(several, str(REDRIVES_WHOLE_MAX))
    queues.redrive()
    [whole] = queues.drained(queues.inbox)
    assert whole["Body"] == several


def test_one_bad_transaction_is_parked_alone_and_the_others_are_stored(
    queues: Queues, several: str
) -> None:
    """The inbox's consumer takes every message but those that hold the bad one."""
    sent = msgspec.json.decode(several, type=InboxMessage)
    stored: set[int] = set()
    queues.put(several)
    for _ in range(2 * REDRIVES_MAX):
        while queues.redrive().more:
            pass
        for message in queues.drained(queues.inbox):
            held = msgspec.json.decode(message["Body"], type=InboxMessage)
            nonces = {one.header.nonce for one in held.envelopes}
            if 7 in nonces:
                queues.put(message["Body"], message["MessageAttributes"][REDRIVES]["StringValue"])
            else:
                stored |= nonces
    [parked] = queues.first.messages.values()
    [bad] = msgspec.json.decode(parked.body, type=InboxMessage).envelopes
    assert (bad.header.nonce, parked.reason) == (7, REDRIVEN_TOO_OFTEN)
    assert stored == set(range(len(sent.envelopes))) - {7}
    assert queues.count(queues.dead) == queues.count(queues.inbox) == 0


def test_what_dies_between_the_parts_and_the_deletion_loses_nothing(
    queues: Queues, several: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues.put(several, str(REDRIVES_WHOLE_MAX))
    sends = iter([True, False])

    def die_at_the_second(**arguments: Any) -> Any:
        if next(sends):
            return send_message_batch(**arguments)
        raise KeyboardInterrupt

    send_message_batch = queues.sqs.send_message_batch
    with monkeypatch.context() as patch:
        patch.setattr(queues.sqs, "send_message_batch", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            queues.redrive()
    # As many as one request takes of these.
    assert 0 < queues.count(queues.inbox) < INBOX_ENTRIES_MAX
    assert queues.count(queues.dead) == 1


def test_parts_that_sqs_does_not_confirm_leave_the_whole_where_it_is(
    queues: Queues, several: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues.put(several, str(REDRIVES_WHOLE_MAX))
    monkeypatch.setattr(
        queues.sqs, "send_message_batch", lambda **_: {"Failed": [{"Id": "0"}], "Successful": []}
    )
    with pytest.raises(QueueUnreachable):
        queues.redrive()
    assert queues.count(queues.dead) == 1


@pytest.mark.parametrize("poison", ["{", "[]", '{"wrapped_keys":{},"envelopes":[{}]}', "\u2764"])
def test_poison_is_parked_with_its_reason_and_body(queues: Queues, poison: str) -> None:
    queues.put(poison)
    assert list(queues.redrive().parked.values()) == [UNREADABLE]
    [parked] = queues.first.messages.values()
    assert (parked.body, parked.reason, parked.parked_at_ms) == (poison, UNREADABLE, NOW_MS)
    assert queues.count(queues.dead) == queues.count(queues.inbox) == 0


def test_while_one_lot_is_away_the_next_takes_it_and_with_none_it_stays(queues: Queues) -> None:
    queues.first.away = True
    queues.put("{")
    assert len(queues.redrive().parked) == 1
    assert len(queues.second.messages) == 1
    queues.second.away = True
    queues.put("[")
    assert queues.redrive().left == 1
    assert queues.count(queues.dead) == 1


def test_what_dies_before_the_deletion_parks_the_same_message_once(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues.put("{")

    def die(**_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(queues.sqs, "delete_message", die)
        with pytest.raises(KeyboardInterrupt):
            queues.redrive()
    [lost] = queues.sqs.list_queues(QueueNamePrefix="dead")["QueueUrls"]
    # Its visibility time-out ends, as it would after a minute.
    queues.sqs.set_queue_attributes(QueueUrl=lost, Attributes={"VisibilityTimeout": "0"})
    queues.put("{")
    queues.redrive()
    assert len({one.message_id for one in queues.first.messages.values()}) == len(
        queues.first.messages
    )


def test_a_count_that_nobody_of_us_wrote_makes_no_endless_redrive(
    queues: Queues, good: str
) -> None:
    queues.put(good, "-5")
    assert list(queues.redrive().parked.values()) == [REDRIVEN_TOO_OFTEN]


class Asked:
    """A tier of which only the health is asked."""

    def __init__(self, *states: tuple[str, Literal["up", "down"]]) -> None:
        breaker = Breaker("one").state()
        self.parts = [Part(name, state, None, breaker) for name, state in states]

    def health(self) -> list[Part]:
        return self.parts


def _unreachable() -> Asked:
    raise TierUnavailable("away")


@pytest.mark.parametrize(
    ("atlas", "answers"),
    [
        (Asked(("Asia", "down"), ("Europe", "up")), True),
        (Asked(("Asia", "down"), ("kms/Asia", "up")), False),
    ],
)
def test_one_store_of_any_tier_answers_for_all_and_a_key_for_none(
    monkeypatch: pytest.MonkeyPatch, atlas: Asked, answers: bool
) -> None:
    monkeypatch.setattr(app, "_dynamodb", lambda: Asked(("dynamodb", "down")))
    monkeypatch.setattr(app, "_immudb", _unreachable)
    monkeypatch.setattr(app, "_atlas", lambda: atlas)
    assert app._a_store_answers() is answers


def test_queues_that_are_away_are_an_outcome(queues: Queues) -> None:
    queues.dead += "-gone"
    with pytest.raises(QueueUnreachable):
        queues.redrive()


def test_the_fallback_table_parks_a_message_once(queues: Queues) -> None:
    client: Any = boto3.client("dynamodb")
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    lot = DynamodbLot(client, TABLE)
    lot.park(ParkedMessage("m", UNREADABLE, "{", 1))
    lot.park(ParkedMessage("m", UNREADABLE, "{", 2))
    [item] = client.scan(TableName=TABLE)["Items"]
    assert item["pk"]["S"].startswith("parked#")
    assert (item["parked_at_ms"], item["body"]) == ({"N": "1"}, {"S": "{"})
    with pytest.raises(TierUnavailable):
        DynamodbLot(client, "no-such-table").park(ParkedMessage("m", UNREADABLE, "{", 1))
