"""Empties the dead letters: what can be read goes back to the inbox; poison is parked."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Protocol

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import InboxMessage
from federation.errors import FederationError
from federation.inbox_entries import chunks_for_sqs
from federation.limits import INBOX_ENTRIES_MAX, REDRIVES_MAX, REDRIVES_WHOLE_MAX
from persist.tier import TierUnavailable

#: Message attribute: how often a message was redriven while stores answered.
REDRIVES: Final = "redrives"
#: Of that attribute, its type and its number.
_ATTRIBUTES_BYTES: Final = 64
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
    redriven : int
        Dead letters; one that was split counts once.
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
    a_store_answers: Callable[[], bool],
) -> Redriven:
    """Take some messages off the dead letters; each is in the inbox or parked before it is deleted.

    While no store answers, a message that can be read goes back uncounted: an outage makes no
    poison, however long. What comes back all the same after three times may hold one transaction
    that breaks its batch each time: from then on each travels by itself, and only what fails alone
    is parked at last.

    What dies in between leaves a message, or some of its parts, in both places, which is harmless:
    transactions are named by their content, and a parked message by its own.

    Parameters
    ----------
    sqs : boto3 SQS client
    lots : sequence of callables that give a Lot
        Tried in their order.
    a_store_answers : callable
        Whether any tier does; asked only if there is something to redrive.

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
        reason = _why_not(message["Body"], times)
        if reason is None:
            bodies = [message["Body"]]
            if a_store_answers():
                if times >= REDRIVES_WHOLE_MAX:
                    bodies = _parts(message["Body"])
                times += 1
            _send(sqs, inbox_url, bodies, times)
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


def _send(sqs: Any, inbox_url: str, bodies: Sequence[str], redrives: int) -> None:
    """Returns only when SQS has confirmed all of them."""
    attributes = {REDRIVES: {"DataType": "Number", "StringValue": str(redrives)}}
    for chunk in chunks_for_sqs(bodies, _ATTRIBUTES_BYTES):
        entries = [
            {"Id": str(n), "MessageBody": body, "MessageAttributes": attributes}
            for n, body in enumerate(chunk)
        ]
        answer = _ask(sqs.send_message_batch, QueueUrl=inbox_url, Entries=entries)
        if len(answer.get("Successful", [])) < len(entries):
            raise QueueUnreachable("SQS: not all messages were confirmed")


def _parts(body: str) -> list[str]:
    """A message for each envelope, with its wrapped key; what we don't know of it stays as it is."""
    whole = msgspec.json.decode(body)
    parts = []
    for envelope in whole["envelopes"]:
        key_id = envelope["sealed"]["key_id"]
        keys = {name: key for name, key in whole["wrapped_keys"].items() if name == key_id}
        part = {**whole, "wrapped_keys": keys, "envelopes": [envelope]}
        parts.append(msgspec.json.encode(part).decode())
    return parts


def _why_not(body: str, redrives: int) -> str | None:
    try:
        msgspec.json.decode(body, type=InboxMessage)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return UNREADABLE
    return REDRIVEN_TOO_OFTEN if redrives >= REDRIVES_MAX else None


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
