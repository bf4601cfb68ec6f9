"""Fetch's signature by the post-quantum key, and what an answer's size leaves for the next."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from prometheus_client import CollectorRegistry
from voting.transactions import id_of, store_request, stored_item

from love_node.fetched import NotGenuine, check_fetched, fetch_message
from love_node.full_node import ANSWER_BYTES_MAX, FullNode
from love_node.kept import PublicKey
from love_node.metrics import StoreMetrics
from love_node.store import Store
from love_node.v1 import node_pb2
from lovectl.delegates import EPOCH

KEY = MLDSA65PrivateKey.generate()
PUBLIC = PublicKey("ML-DSA-65", KEY.public_key().public_bytes_raw())
NONCE = b"n" * 16


@pytest.fixture
def node(tmp_path: Path) -> FullNode:
    store = Store("node", tmp_path / "kept.sqlite3", StoreMetrics(CollectorRegistry()))
    return FullNode("node", "ML-DSA-65", EPOCH, KEY, store, {"node": PUBLIC})


def test_an_answer_signed_by_ml_dsa_holds_and_a_changed_one_does_not(node: FullNode) -> None:
    item = stored_item(1)
    assert node.store(store_request(item)).response.kept == 1
    request = node_pb2.FetchRequest(nonce=NONCE, transaction_ids=[id_of(item.header)])
    answer = node.fetch(request)
    fetched = check_fetched(request, answer, "node", PUBLIC, {"node": PUBLIC}, EPOCH)
    assert [one.transaction_id for one in fetched.items] == [id_of(item.header)]
    answer.transactions[0].wrapped_key += b"!"
    with pytest.raises(NotGenuine, match="signature"):
        check_fetched(request, answer, "node", PUBLIC, {"node": PUBLIC}, EPOCH)


def test_a_genuine_answer_that_is_false_in_itself_does_not_hold(node: FullNode) -> None:
    items = [stored_item(1), stored_item(2)]
    node.store(store_request(*items))
    request = node_pb2.FetchRequest(
        nonce=NONCE, transaction_ids=[id_of(one.header) for one in items]
    )
    # The delegate itself lies, so that its signature holds.
    for lie in (_exchange, _forge, _deny):
        answer = node.fetch(request)
        lie(answer)
        answer.signature = KEY.sign(fetch_message(request, answer))
        with pytest.raises(
            NotGenuine, match=r"another transaction|bad_signature|each of them once"
        ):
            check_fetched(request, answer, "node", PUBLIC, {"node": PUBLIC}, EPOCH)


def test_what_has_no_room_in_an_answer_is_left_for_the_next(node: FullNode) -> None:
    items = [stored_item(n, content=32 * 1024) for n in range(100)]
    for n in range(0, 100, 50):
        node.store(store_request(*items[n : n + 50]))
    left = [id_of(one.header) for one in items]
    given: list[bytes] = []
    answers = 0
    while left:
        request = node_pb2.FetchRequest(nonce=NONCE, transaction_ids=left)
        answer = node.fetch(request)
        assert answer.ByteSize() < ANSWER_BYTES_MAX + 64 * 1024
        fetched = check_fetched(request, answer, "node", PUBLIC, {"node": PUBLIC}, EPOCH)
        given += [one.transaction_id for one in fetched.items]
        left = fetched.left_ids
        answers += 1
    assert given == [id_of(one.header) for one in items]
    assert answers == 2


def _exchange(answer: node_pb2.FetchResponse) -> None:
    first, second = answer.transactions
    first.stored_item, second.stored_item = second.stored_item, first.stored_item


def _forge(answer: node_pb2.FetchResponse) -> None:
    item = node_pb2.StoredItem.FromString(answer.transactions[0].stored_item)
    item.header.signature = bytes(64)
    answer.transactions[0].stored_item = item.SerializeToString(deterministic=True)


def _deny(answer: node_pb2.FetchResponse) -> None:
    del answer.transactions[0]
