"""What goes into the inbox comes out of it as the same transactions, each once, within the limits."""

import json
from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.batching import pack as batches_of
from dispatch.batching import read_messages
from federation.limits import (
    BATCH_BYTES_MAX,
    BATCH_ITEMS_MAX,
    INBOX_MESSAGE_BYTES_MAX,
    PIPELINE_BYTES_MAX,
)
from federation.transaction import Envelope
from send.city_dag_handler import pack

Envelopes = Callable[[int, int, int], Envelope]


def records(bodies: list[str]) -> list[dict[str, object]]:
    return [
        {"messageId": str(n), "receiptHandle": str(n), "body": body, "attributes": {}}
        for n, body in enumerate(bodies)
    ]


POSTED = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 22_000), st.integers(0, 2)), max_size=130
)


@settings(max_examples=40, deadline=None)
@given(posted=POSTED)
def test_every_transaction_arrives_once_and_no_limit_is_broken(
    envelope: Envelopes,
    posted: list[tuple[int, int, int]],
) -> None:
    sent = [envelope(*one) for one in posted]
    bodies = list(pack(sent))
    messages, unreadable = read_messages(records(bodies))
    batches = batches_of(messages)
    assert unreadable == []
    arrived = [item.envelope.header.transaction_id for batch in batches for item in batch.items]
    assert sorted(arrived) == sorted({one.header.transaction_id for one in sent})
    for body in bodies:
        assert len(body) <= INBOX_MESSAGE_BYTES_MAX + 1024
    for batch in batches:
        assert len(batch.items) <= BATCH_ITEMS_MAX
        encoded = msgspec.json.encode(batch)
        # Each stage's Items add defaults (≈ 250 bytes) before they add places and votes.
        assert len(encoded) <= BATCH_BYTES_MAX + 300 * len(batch.items) <= PIPELINE_BYTES_MAX
        for item in batch.items:
            key_id = item.envelope.sealed.key_id
            assert batch.wrapped_keys[key_id] == f"wrapped {key_id.removeprefix('reader.')}"
            assert item.envelope.wrapped_key == ""


def test_two_keys_of_one_name_never_share_a_batch(envelope: Envelopes) -> None:
    first = envelope(1, 10, 0)
    second = msgspec.structs.replace(envelope(2, 10, 0), wrapped_key="another")
    messages, _ = read_messages(records([*pack([first]), *pack([second])]))
    assert [len(batch.items) for batch in batches_of(messages)] == [1, 1]


def test_a_message_that_is_no_inbox_message_is_named(envelope: Envelopes) -> None:
    bodies = ["not json", json.dumps({"envelopes": "x"}), *pack([envelope(1, 1, 0)])]
    messages, unreadable = read_messages(records(bodies))
    assert ([one.message_id for one in unreadable], len(messages)) == (["0", "1"], 1)
