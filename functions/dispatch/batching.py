"""Packs the envelopes of one inbox event into batches within the pipeline's limits."""

import uuid
from collections.abc import Iterable, Sequence

import msgspec

from federation.batch import Batch, Item
from federation.limits import BATCH_BYTES_MAX, BATCH_ITEMS_MAX
from federation.transaction import Envelope


class Message(msgspec.Struct, frozen=True):
    """One inbox message that could be read."""

    message_id: str
    receipt_handle: str
    receive_count: int
    envelope: Envelope
    size_bytes: int

    @property
    def transaction_id(self) -> str:
        """The id of its transaction."""
        return self.envelope.header.transaction_id


def pack(
    messages: Iterable[Message],
    *,
    items_max: int = BATCH_ITEMS_MAX,
    bytes_max: int = BATCH_BYTES_MAX,
) -> list[Batch]:
    """Batches of the messages' envelopes, each transaction once, each wrapped key once a batch.

    A batch is closed when another envelope would break a limit, or would bring a second wrapped
    key under a name that the batch uses already.
    """
    batches: list[Batch] = []
    seen: set[str] = set()
    open_items: list[Item] = []
    keys: dict[str, str] = {}
    size_bytes = 0

    def close() -> None:
        nonlocal open_items, keys, size_bytes
        if open_items:
            batches.append(Batch(str(uuid.uuid4()), keys, open_items))
        open_items, keys, size_bytes = [], {}, 0

    for message in messages:
        if message.transaction_id in seen:
            continue
        seen.add(message.transaction_id)
        envelope = message.envelope
        known_key = keys.get(envelope.sealed.key_id, envelope.wrapped_key)
        full = len(open_items) == items_max or size_bytes + message.size_bytes > bytes_max
        if full or known_key != envelope.wrapped_key:
            close()
        keys[envelope.sealed.key_id] = envelope.wrapped_key
        open_items.append(Item(msgspec.structs.replace(envelope, wrapped_key="")))
        size_bytes += message.size_bytes
    close()
    return batches


def read_messages(
    records: Sequence[dict[str, object]],
) -> tuple[list[Message], list[str]]:
    """The messages of an SQS event, and the ids of those that can't be read."""
    messages: list[Message] = []
    unreadable: list[str] = []
    for record in records:
        body = str(record["body"])
        attributes = record.get("attributes") or {}
        assert isinstance(attributes, dict)
        try:
            envelope = msgspec.json.decode(body, type=Envelope)
        except (msgspec.ValidationError, msgspec.DecodeError):
            unreadable.append(str(record["messageId"]))
            continue
        messages.append(
            Message(
                message_id=str(record["messageId"]),
                receipt_handle=str(record["receiptHandle"]),
                receive_count=int(attributes.get("ApproximateReceiveCount", 1)),
                envelope=envelope,
                size_bytes=len(body),
            )
        )
    return messages, unreadable
