"""How a delegate votes: it checks the sender's signature, locks the nonce, then signs."""

from collections.abc import Sequence
from typing import Any, Final

import federation_dag
from love_node.locks import VoteLocks
from love_node.v1 import node_pb2

ITEMS_MAX: Final = 1_000
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024


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
        if epoch != self._epoch:
            answers = [_refused("wrong_epoch") for _ in items]
        else:
            answers = self._answers(items)
        return node_pb2.VoteResponse(
            delegate_id=self._delegate_id, epoch=self._epoch, votes=answers
        )

    def _answers(self, items: Sequence[node_pb2.SignedHeader]) -> list[node_pb2.Vote]:
        batch = federation_dag.verify_headers(
            [(item.algorithm, item.public_key, item.header, item.signature) for item in items]
        )
        answers = [_refused(reason or "") for reason in batch.reasons]
        ballots: dict[int, federation_dag.VerifiedHeader] = {}
        for n, (item, header) in enumerate(zip(items, batch, strict=True)):
            if header is not None and header.signing_bytes == item.header:
                ballots[n] = header
            elif header is not None:
                # Signed, but not written in its one form: whoever passed it on has changed it.
                answers[n] = _refused("malformed")
        held = self._locks.lock([(b.sender, b.nonce, b.transaction_id) for b in ballots.values()])
        for (n, ballot), holder in zip(ballots.items(), held, strict=True):
            answers[n] = self._answer(ballot, holder)
        return answers

    def _answer(self, ballot: federation_dag.VerifiedHeader, holder: bytes) -> node_pb2.Vote:
        if holder != ballot.transaction_id:
            return _refused("nonce_locked", ballot, holder)
        message = federation_dag.vote_message(
            self._epoch, ballot.transaction_id, ballot.sender, ballot.nonce
        )
        return node_pb2.Vote(
            transaction_id=ballot.transaction_id,
            status=node_pb2.Vote.STATUS_SIGNED,
            signature=self._key.sign(message),
        )


def _refused(
    reason: str, ballot: federation_dag.VerifiedHeader | None = None, holder: bytes = b""
) -> node_pb2.Vote:
    return node_pb2.Vote(
        transaction_id=b"" if ballot is None else ballot.transaction_id,
        status=node_pb2.Vote.STATUS_REFUSED,
        reason=reason,
        locked_transaction_id=holder,
    )
