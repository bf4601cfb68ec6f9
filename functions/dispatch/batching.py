"""Packs the messages of one inbox event into batches within the pipeline's limits."""

import uuid
from collections.abc import Iterable, Sequence

import msgspec

from federation.batch import Batch, InboxMessage, Item
from federation.limits import BATCH_BYTES_MAX, BATCH_ITEMS_MAX
from federation.transaction import Envelope


class Delivery(msgspec.Struct, frozen=True):
    """One inbox message as it was delivered, this is the `receive_count`th time."""

    message_id: str
    receipt_handle: str
    receive_count: int


class Message(Delivery, frozen=True):
    """One that could be read."""

    wrapped_keys: dict[str, str]
    envelopes: list[Envelope]
    size_bytes: int

    @property
    def transaction_ids(self) -> set[str]:
        """The ids of its transactions."""
        return {envelope.header.transaction_id for envelope in self.envelopes}


def pack(
    messages: Iterable[Message],
    *,
    items_max: int = BATCH_ITEMS_MAX,
    bytes_max: int = BATCH_BYTES_MAX,
) -> list[Batch]:
    """Batches of whole messages, each transaction once, each wrapped key once a batch.

    A batch is closed when another message would break a limit, or would bring a second wrapped
    key under a name that the batch uses already. `send` makes no message above the limits.
    """
    batches: list[Batch] = []
    seen: set[str] = set()
    items: list[Item] = []
    keys: dict[str, str] = {}
    size_bytes = 0
    for message in messages:
        fresh = {
            envelope.header.transaction_id: envelope
            for envelope in message.envelopes
            if envelope.header.transaction_id not in seen
        }
        if not fresh:
            continue
        seen.update(fresh)
        full = len(items) + len(fresh) > items_max or size_bytes + message.size_bytes > bytes_max
        clash = any(keys.get(name, key) != key for name, key in message.wrapped_keys.items())
        if items and (full or clash):
            batches.append(Batch(str(uuid.uuid4()), keys, items))
            items, keys, size_bytes = [], {}, 0
        keys = keys | message.wrapped_keys
        items = items + [Item(envelope) for envelope in fresh.values()]
        size_bytes += message.size_bytes
    if items:
        batches.append(Batch(str(uuid.uuid4()), keys, items))
    return batches


def read_messages(
    records: Sequence[dict[str, object]],
) -> tuple[list[Message], list[Delivery]]:
    """The messages of an SQS event, and the deliveries that can't be read."""
    messages: list[Message] = []
    unreadable: list[Delivery] = []
    for record in records:
        body = str(record["body"])
        attributes = record.get("attributes") or {}
        assert isinstance(attributes, dict)
        delivered = (
            str(record["messageId"]),
            str(record["receiptHandle"]),
            int(attributes.get("ApproximateReceiveCount", 1)),
        )
        try:
            held = msgspec.json.decode(body, type=InboxMessage)
        except (msgspec.ValidationError, msgspec.DecodeError):
            unreadable.append(Delivery(*delivered))
            continue
        messages.append(Message(*delivered, held.wrapped_keys, held.envelopes, len(body)))
    return messages, unreadable
