"""Writes down what a delegate did against its promise, with the proof."""

from base64 import b64encode
from collections.abc import Iterable

import msgspec

import federation_dag
from federation.audit import record_refusal


def record_double_votes(tallies: Iterable[federation_dag.Tally], batch_id: str) -> None:
    """One audit record for each pair of votes that one delegate gave to one nonce.

    Its detail holds both transactions with both signatures, so that anybody who knows the
    delegate's key can check it (DESIGN section 3).
    """
    # Both transactions' tallies carry the proof.
    proofs = {proof.signatures: proof for tally in tallies for proof in tally.double_votes}
    for proof in proofs.values():
        votes = [
            {"transaction_id": transaction_id.hex(), "signature": b64encode(signature).decode()}
            for transaction_id, signature in zip(
                proof.transaction_ids, proof.signatures, strict=True
            )
        ]
        detail = {"sender": proof.sender.hex(), "nonce": proof.nonce, "votes": votes}
        record_refusal(
            source="dpos",
            reason="double_vote",
            subject=proof.delegate_id,
            request_id=batch_id,
            detail=msgspec.json.encode(detail).decode(),
        )
