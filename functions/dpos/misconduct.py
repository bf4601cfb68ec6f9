"""Writes down what a delegate did against its promise, with the proof."""

from base64 import b64encode
from collections.abc import Iterable

import msgspec

import federation_dag
from federation.audit import record_refusal


def record_double_votes(tallies: Iterable[federation_dag.Tally], batch_id: str) -> None:
    """One audit record for each delegate that gave a nonce twice in this batch.

    Its detail holds the first such pair, both transactions with both signatures, so that anybody
    who knows the delegate's key can check it (DESIGN section 3). One pair proves it; were each
    written, a delegate could hold up a batch by many of them.
    """
    pairs: dict[str, set[tuple[bytes, bytes]]] = {}
    first: dict[str, federation_dag.DoubleVote] = {}
    for tally in tallies:
        # Both transactions' tallies carry the proof.
        for proof in tally.double_votes:
            first.setdefault(proof.delegate_id, proof)
            pairs.setdefault(proof.delegate_id, set()).add(proof.signatures)
    for delegate_id, proof in first.items():
        votes = [
            {"transaction_id": transaction_id.hex(), "signature": b64encode(signature).decode()}
            for transaction_id, signature in zip(
                proof.transaction_ids, proof.signatures, strict=True
            )
        ]
        detail = {
            "sender": proof.sender.hex(),
            "nonce": proof.nonce,
            "votes": votes,
            "pairs": len(pairs[delegate_id]),
        }
        record_refusal(
            source="dpos",
            reason="double_vote",
            subject=delegate_id,
            request_id=batch_id,
            detail=msgspec.json.encode(detail).decode(),
        )
