"""Dead letters on a real queue: how often a message was redriven survives the way through the inbox."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from federation.batch import InboxMessage
from federation.limits import INBOX_MESSAGE_BYTES_MAX, REDRIVES_MAX, REDRIVES_WHOLE_MAX
from persist.tier import TierUnavailable
from reconcile.dead_letters import (
    REDRIVEN_TOO_OFTEN,
    UNREADABLE,
    Lot,
    ParkedMessage,
    Redriven,
    redrive,
)
from send.city_dag_handler import pack

WAITING_S = 30.0
BAD = 3


class Parked:
    """A lot in memory."""

    def __init__(self) -> None:
        self.messages: list[ParkedMessage] = []

    def park(self, message: ParkedMessage) -> None:
        self.messages.append(message)


class Queues:
    """An inbox whose messages are dead after one try, and a consumer that one transaction breaks."""

    def __init__(self, sqs: Any) -> None:
        self.sqs, self.lot, self.stores_answer = sqs, Parked(), True
        name = str(uuid.uuid4())
        self.dead = sqs.create_queue(QueueName=f"dead-{name}")["QueueUrl"]
        arn = sqs.get_queue_attributes(QueueUrl=self.dead, AttributeNames=["QueueArn"])
        policy = {"deadLetterTargetArn": arn["Attributes"]["QueueArn"], "maxReceiveCount": 1}
        self.inbox = sqs.create_queue(
            QueueName=f"inbox-{name}",
            Attributes={
                "RedrivePolicy": msgspec.json.encode(policy).decode(),
                "VisibilityTimeout": "0",
            },
        )["QueueUrl"]
        self.stored: set[int] = set()
        self.sizes: list[int] = []

    def consume(self) -> None:
        """Take what lies in the inbox; what holds the bad one is dead at the next look."""
        for _ in range(30):
            answer = self.sqs.receive_message(QueueUrl=self.inbox, MaxNumberOfMessages=10)
            for message in answer.get("Messages", []):
                held = msgspec.json.decode(message["Body"], type=InboxMessage)
                nonces = {one.header.nonce for one in held.envelopes}
                self.sizes.append(len(nonces))
                if BAD not in nonces:
                    self.stored |= nonces
                    self.sqs.delete_message(
                        QueueUrl=self.inbox, ReceiptHandle=message["ReceiptHandle"]
                    )
            if not answer.get("Messages"):
                return

    def redrive(self) -> Redriven:
        lots: list[Callable[[], Lot]] = [self._away, lambda: self.lot]
        return redrive(self.sqs, self.dead, self.inbox, lots, 1, lambda: self.stores_answer)

    @staticmethod
    def _away() -> Lot:
        raise TierUnavailable("away")

    def run(self) -> Redriven:
        """One try by the inbox's consumer, then a look at the dead letters."""
        self.consume()
        ends_s = time.monotonic() + WAITING_S
        while time.monotonic() < ends_s:
            looked = self.redrive()
            if looked != Redriven(0, {}, 0, more=False):
                return looked
            self.consume()
        raise AssertionError("no dead letter came")


@pytest.fixture
def queues(ministack: Any, kms: Any) -> Queues:
    return Queues(ministack.client("sqs"))


def test_one_bad_transaction_of_a_message_is_parked_alone(queues: Queues, groups: Any) -> None:
    envelopes = [
        msgspec.structs.replace(item.envelope, wrapped_key="wrapped")
        for item in (groups.item(nonce=n, content={"text": "t" * 12_000}) for n in range(6))
    ]
    [body] = pack(envelopes)
    assert len(body) > INBOX_MESSAGE_BYTES_MAX // 2
    queues.sqs.send_message(QueueUrl=queues.inbox, MessageBody=body)
    queues.stores_answer = False
    for _ in range(2):
        assert queues.run().redriven == 1
    queues.stores_answer = True
    for _ in range(REDRIVES_WHOLE_MAX):
        assert queues.run().redriven == 1
    assert (queues.stored, set(queues.sizes)) == (set(), {6})
    looked = queues.run()
    tries = 1
    while not looked.parked:
        assert looked.redriven == 1
        looked, tries = queues.run(), tries + 1
    assert queues.stored == set(range(6)) - {BAD}
    [parked] = queues.lot.messages
    [bad] = msgspec.json.decode(parked.body, type=InboxMessage).envelopes
    assert (bad.header.nonce, parked.reason) == (BAD, REDRIVEN_TOO_OFTEN)
    assert tries == REDRIVES_MAX - REDRIVES_WHOLE_MAX + 1


def test_poison_is_parked_at_once(queues: Queues) -> None:
    queues.sqs.send_message(QueueUrl=queues.dead, MessageBody="{")
    assert list(queues.run().parked.values()) == [UNREADABLE]
