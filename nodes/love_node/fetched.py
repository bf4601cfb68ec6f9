"""A full node's answer to Fetch: the bytes that it signs, and the check of an answer by its reader."""

import hashlib
from collections.abc import Iterable
from typing import Final, NamedTuple

import federation_dag
from love_node.kept import Electorate, KeptItem, PublicKey, check_pulled
from love_node.v1 import node_pb2

TAG: Final = b"love-fetch-v1\0"
NONCE_BYTES_MIN: Final = 16
NONCE_BYTES_MAX: Final = 64
FETCH_IDS_MAX: Final = 100


class NotGenuine(Exception):
    """An answer doesn't hold: not this delegate's, not to this query, or false in itself."""


class Fetched(NamedTuple):
    """What an answer that holds says of the ids that were asked for."""

    items: list[KeptItem]
    missing_ids: list[bytes]
    #: They had no room in this answer.
    left_ids: list[bytes]


def fetch_message(request: node_pb2.FetchRequest, response: node_pb2.FetchResponse) -> bytes:
    """What a full node signs: the query, and all of the answer (nodes/README.md)."""
    signed = [
        TAG,
        _sized(response.delegate_id.encode()),
        _sized(request.nonce),
        _counted(request.transaction_ids),
        len(response.transactions).to_bytes(4, "big"),
    ]
    for one in response.transactions:
        votes = hashlib.sha256()
        for vote in one.votes:
            votes.update(_sized(vote.delegate_id.encode()) + vote.epoch.to_bytes(8, "big"))
            votes.update(_sized(vote.signature))
        signed += [
            _sized(one.transaction_id),
            hashlib.sha256(one.stored_item).digest(),
            hashlib.sha256(one.wrapped_key).digest(),
            votes.digest(),
        ]
    signed += [_counted(response.missing_ids), _counted(response.left_ids)]
    return b"".join(signed)


def check_fetched(
    request: node_pb2.FetchRequest,
    response: node_pb2.FetchResponse,
    delegate_id: str,
    key: PublicKey,
    electorate: Electorate,
    epoch: int,
) -> Fetched:
    """Verify an answer, and each of its transactions by its sender's signature.

    Parameters
    ----------
    request : FetchRequest
        With the nonce that was made for it, used once.
    delegate_id, key
        Whom was asked.
    electorate, epoch
        To verify votes with; those that don't verify are left out.

    Raises
    ------
    NotGenuine
        Says what doesn't hold.
    """
    if response.delegate_id != delegate_id or response.algorithm != key.algorithm:
        raise NotGenuine(f"an answer of {response.delegate_id!r}, not of {delegate_id}")
    message = fetch_message(request, response)
    if not federation_dag.batch_verify([(*key, message, response.signature)])[0]:
        raise NotGenuine(f"the signature is not {delegate_id}'s over this query and answer")
    given = [one.transaction_id for one in response.transactions]
    spoken_of = [*given, *response.missing_ids, *response.left_ids]
    if sorted(spoken_of) != sorted(set(request.transaction_ids)):
        raise NotGenuine("the answer is not about the ids that were asked for, each of them once")
    try:
        items = check_pulled(response.transactions, electorate, epoch)
    except ValueError as error:
        raise NotGenuine(str(error)) from None
    return Fetched(items, list(response.missing_ids), list(response.left_ids))


def _sized(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def _counted(ids: Iterable[bytes]) -> bytes:
    parts = list(ids)
    return len(parts).to_bytes(4, "big") + b"".join(_sized(one) for one in parts)
