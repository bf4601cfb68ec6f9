"""Whole transactions as a full node keeps them, and votes for them."""

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

import federation_dag
from love_node.kept import Electorate, PublicKey
from love_node.v1 import node_pb2
from lovectl.delegates import ALGORITHM, EPOCH
from voting.node_process import ACCOUNT, signed_header

KEY_ID = "sealing.1"
WRAPPED_KEY = b"wrapped key " * 100


def stored_item(
    nonce: int, amount: int = 1, content: int = 500, voters: Iterable[Any] = ()
) -> node_pb2.StoredItem:
    """A transaction of SENDER's with content of so many bytes, and these delegates' votes."""
    header = signed_header(nonce, amount)
    name = f"{nonce} {amount}".encode()
    return node_pb2.StoredItem(
        header=header,
        sealed=node_pb2.Sealed(key_id=KEY_ID, ciphertext=hashlib.shake_256(name).digest(content)),
        home_continent="Europe",
        accepted_at_ms=1_700_000_000_000,
        request_id=f"request-{nonce}",
        votes=[vote_of(one, id_of(header), nonce) for one in voters],
    )


def store_request(*items: node_pb2.StoredItem, epoch: int = EPOCH) -> node_pb2.StoreRequest:
    """What is asked of a full node."""
    return node_pb2.StoreRequest(
        epoch=epoch, batch_id="batch", wrapped_keys={KEY_ID: WRAPPED_KEY}, items=items
    )


def id_of(header: node_pb2.SignedHeader) -> bytes:
    """The transaction's id, as its header names it."""
    return bytes.fromhex(msgspec.json.decode(header.header)["transaction_id"])


def vote_of(delegate: Any, transaction_id: bytes, nonce: int) -> node_pb2.SignedVote:
    """A vote by the delegate's own key, whatever it has promised."""
    message = federation_dag.vote_message(EPOCH, transaction_id, bytes.fromhex(ACCOUNT), nonce)
    signature = delegate._key.sign(message)
    return node_pb2.SignedVote(delegate_id=delegate.delegate_id, epoch=EPOCH, signature=signature)


def electorate_of(delegates: Iterable[Any]) -> Electorate:
    """The delegates' public keys."""
    return {
        one.delegate_id: PublicKey(ALGORITHM, one._key.public_key().public_bytes_raw())
        for one in delegates
    }
