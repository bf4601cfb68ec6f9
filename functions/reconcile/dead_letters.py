"""Empties the dead letters: what can be read goes back to the inbox, a few times; poison is parked."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import InboxMessage
from federation.errors import FederationError
from federation.limits import INBOX_ENTRIES_MAX, REDRIVES_MAX
from persist.tier import TierUnavailable

#: Message attribute: how often a message was redriven.
REDRIVES: Final = "redrives"
UNREADABLE: Final = "unreadable"
REDRIVEN_TOO_OFTEN: Final = "redriven_too_often"


class QueueUnreachable(FederationError):
    """SQS doesn't answer, or refuses; what lies in its queues stays there."""

    def __init__(self, detail: str) -> None:
        super().__init__("queue_unreachable", detail)


class ParkedMessage(msgspec.Struct, frozen=True):
    """A message that nobody will try again by itself; `body` as it lay in the queue."""

    message_id: str
    reason: str
    body: str
    parked_at_ms: int

    @property
    def digest(self) -> str:
        """Names it: the same message, delivered again, is parked once."""
        return sha256(f"{self.message_id}\0{self.body}".encode()).hexdigest()


class Lot(Protocol):
    """Where messages are parked."""

    def park(self, message: ParkedMessage) -> None:
        """Durable when it returns; may be repeated.

        Raises
        ------
        TierUnavailable
        """
        ...


class Redriven(msgspec.Struct, frozen=True):
    """What one look came to.

    Attributes
    ----------
    parked : mapping of message id to reason
    left : int
        They stay in the dead letters: no lot could take them.
    more : bool
        The look was full: there may be others.
    """

    redriven: int
    parked: dict[str, str]
    left: int
    more: bool


def redrive(
    sqs: Any,
    dead_letters_url: str,
    inbox_url: str,
    lots: Sequence[Callable[[], Lot]],
    now_ms: int,
    redrives_max: int = REDRIVES_MAX,
) -> Redriven:
    """Take some messages off the dead letters; each is in the inbox or parked before it is deleted.

    What dies in between leaves a message in both places, which is harmless: transactions are named
    by their content, and a parked message by its own.

    Parameters
    ----------
    sqs : boto3 SQS client
    lots : sequence of callables that give a Lot
        Tried in their order.

    Raises
    ------
    QueueUnreachable
    """
    answer = _ask(
        sqs.receive_message,
        QueueUrl=dead_letters_url,
        MaxNumberOfMessages=INBOX_ENTRIES_MAX,
        MessageAttributeNames=[REDRIVES],
        WaitTimeSeconds=0,
    )
    messages = answer.get("Messages", [])
    redriven, left, parked = 0, 0, {}
    for message in messages:
        times = _redrives(message)
        reason = _why_not(message["Body"], times, redrives_max)
        if reason is None:
            _ask(
                sqs.send_message,
                QueueUrl=inbox_url,
                MessageBody=message["Body"],
                MessageAttributes={REDRIVES: {"DataType": "Number", "StringValue": str(times + 1)}},
            )
            redriven += 1
        elif _park(lots, ParkedMessage(message["MessageId"], reason, message["Body"], now_ms)):
            parked[message["MessageId"]] = reason
        else:
            left += 1
            continue
        _ask(
            sqs.delete_message,
            QueueUrl=dead_letters_url,
            ReceiptHandle=message["ReceiptHandle"],
        )
    return Redriven(redriven, parked, left, more=len(messages) == INBOX_ENTRIES_MAX and not left)


def _why_not(body: str, redrives: int, redrives_max: int) -> str | None:
    try:
        msgspec.json.decode(body, type=InboxMessage)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return UNREADABLE
    return REDRIVEN_TOO_OFTEN if redrives >= redrives_max else None


def _redrives(message: Mapping[str, Any]) -> int:
    """Only we write it; what anybody else wrote there counts as often enough."""
    found = message.get("MessageAttributes", {}).get(REDRIVES)
    if found is None:
        return 0
    text = str(found.get("StringValue", ""))
    return int(text) if text.isdecimal() else REDRIVES_MAX


def _park(lots: Sequence[Callable[[], Lot]], message: ParkedMessage) -> bool:
    for lot in lots:
        try:
            lot().park(message)
        except TierUnavailable:
            continue
        return True
    return False


def _ask(call: Any, **arguments: Any) -> Any:
    try:
        return call(**arguments)
    except (BotoCoreError, ClientError) as error:
        raise QueueUnreachable(f"SQS: {type(error).__name__}") from error
