"""How a delegate votes: it checks the sender's signature, locks the nonce, then signs."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

import federation_dag
from love_node.locks import VoteLocks
from love_node.v1 import node_pb2

ITEMS_MAX: Final = 1_000
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024

_HASH_BYTES: Final = 32
_NONCE_MAX: Final = 2**53 - 1


class _Named(msgspec.Struct, frozen=True):
    """The members of a header that a vote is about."""

    transaction_id: str
    sender: str
    nonce: int


class Ballot(msgspec.Struct, frozen=True):
    """A header that was parsed: what a vote on it says."""

    transaction_id: bytes
    sender: bytes
    nonce: int


class Delegate:
    """One delegate's vote.

    Parameters
    ----------
    delegate_id : str
    epoch : int
    key : private key with `sign(bytes) -> bytes`
    locks : VoteLocks
    """

    def __init__(self, delegate_id: str, epoch: int, key: Any, locks: VoteLocks) -> None:
        self._delegate_id = delegate_id
        self._epoch = epoch
        self._key = key
        self._locks = locks

    def vote(self, epoch: int, items: Sequence[node_pb2.SignedHeader]) -> node_pb2.VoteResponse:
        """A vote for each item, in their order.

        The locks of the whole batch are durable before the first signature is made.
        """
        answers: list[node_pb2.Vote] = [node_pb2.Vote()] * len(items)
        ballots: dict[int, Ballot] = {}
        for n, item in enumerate(items):
            ballot = parse_header(item.header)
            if epoch != self._epoch:
                answers[n] = _refused("wrong_epoch", ballot)
            elif ballot is None:
                answers[n] = _refused("malformed", None)
            else:
                ballots[n] = ballot
        for n in self._badly_signed(items, ballots):
            answers[n] = _refused("bad_signature", ballots.pop(n))
        for n in [n for n, ballot in ballots.items() if not _is_senders(items[n], ballot)]:
            answers[n] = _refused("not_the_sender", ballots.pop(n))
        held = self._locks.lock([(b.sender, b.nonce, b.transaction_id) for b in ballots.values()])
        for (n, ballot), holder in zip(ballots.items(), held, strict=True):
            answers[n] = self._answer(ballot, holder)
        return node_pb2.VoteResponse(
            delegate_id=self._delegate_id, epoch=self._epoch, votes=answers
        )

    def _badly_signed(
        self, items: Sequence[node_pb2.SignedHeader], ballots: dict[int, Ballot]
    ) -> list[int]:
        order = list(ballots)
        good = federation_dag.batch_verify(
            [
                (items[n].algorithm, items[n].public_key, items[n].header, items[n].signature)
                for n in order
            ]
        )
        return [n for n, verified in zip(order, good, strict=True) if not verified]

    def _answer(self, ballot: Ballot, holder: bytes) -> node_pb2.Vote:
        if holder != ballot.transaction_id:
            return _refused("nonce_locked", ballot, holder)
        message = federation_dag.vote_message(
            self._epoch, ballot.transaction_id, ballot.sender, ballot.nonce
        )
        return node_pb2.Vote(
            transaction_id=ballot.transaction_id,
            status=node_pb2.Vote.SIGNED,
            signature=self._key.sign(message),
        )


def parse_header(header: bytes) -> Ballot | None:
    """What a header's vote would be about; `None` unless it is canonical and strict."""
    try:
        if federation_dag.canonicalize(header) != header:
            return None
        named = msgspec.json.decode(header, type=_Named)
        ballot = Ballot(
            bytes.fromhex(named.transaction_id), bytes.fromhex(named.sender), named.nonce
        )
    except ValueError:  # CanonicalError, msgspec's errors, fromhex
        return None
    whole = len(ballot.transaction_id) == len(ballot.sender) == _HASH_BYTES
    return ballot if whole and 0 <= ballot.nonce <= _NONCE_MAX else None


def _is_senders(item: node_pb2.SignedHeader, ballot: Ballot) -> bool:
    try:
        owner: bytes = federation_dag.account_id(item.algorithm, item.public_key)
    except ValueError:
        return False
    return owner == ballot.sender


def _refused(reason: str, ballot: Ballot | None, holder: bytes = b"") -> node_pb2.Vote:
    return node_pb2.Vote(
        transaction_id=b"" if ballot is None else ballot.transaction_id,
        status=node_pb2.Vote.REFUSED,
        reason=reason,
        locked_transaction_id=holder,
    )
