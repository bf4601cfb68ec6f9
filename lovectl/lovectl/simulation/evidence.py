"""Proofs of double votes: two signatures by one delegate's key for two transactions of one nonce."""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import federation_dag
from lovectl.simulation.ballots import Ballot
from lovectl.simulation.collector import VoteLog, Voter, holds, vote_bytes

Pairs = Sequence[tuple[Ballot, Ballot]]


@dataclass(frozen=True)
class Proof:
    """Two votes of one delegate that may not both be."""

    delegate_id: str
    ballots: tuple[Ballot, Ballot]
    signatures: tuple[bytes, bytes]

    def holds(self, public_key: bytes, epoch: int) -> bool:
        """Whether anybody who has the key must believe it."""
        first, second = self.ballots
        return (
            (first.sender, first.nonce) == (second.sender, second.nonce)
            and first.transaction_id != second.transaction_id
            and all(
                holds(public_key, vote_bytes(epoch, ballot), signature)
                for ballot, signature in zip(self.ballots, self.signatures, strict=True)
            )
        )

    def document(self) -> dict[str, Any]:
        """As it is shown."""
        return {
            "sender": self.ballots[0].sender.hex(),
            "nonce": self.ballots[0].nonce,
            "transaction_ids": [one.transaction_id.hex() for one in self.ballots],
            "signatures": [b64encode(one).decode() for one in self.signatures],
        }


def find_proofs(pairs: Pairs, logs: Sequence[VoteLog]) -> list[Proof]:
    """Hold the logs of both sides against each other."""
    proofs = []
    for first, second in pairs:
        one, other = (_votes(each, logs) for each in (first, second))
        proofs += [
            Proof(name, (first, second), (one[name], other[name]))
            for name in sorted(one.keys() & other.keys())
        ]
    return proofs


def core_proofs(
    pairs: Pairs, logs: Sequence[VoteLog], voters: Sequence[Voter], epoch: int
) -> set[tuple[str, bytes, int]]:
    """(delegate, sender, nonce) that `federation_dag.dpos_parallel_collect` proves by the same votes."""
    votes = [
        (name, ballot.transaction_id, ballot.sender, ballot.nonce, signature)
        for pair in pairs
        for ballot in pair
        for name, signature in _votes(ballot, logs).items()
    ]
    keys = [(one.delegate_id, "Ed25519", one.public_key, one.stake) for one in voters]
    return {
        (proof.delegate_id, proof.sender, proof.nonce)
        for tally in federation_dag.dpos_parallel_collect(votes, keys, epoch)
        for proof in tally.double_votes
    }


def confessed(files: Iterable[Path]) -> dict[str, int]:
    """Delegates that signed two transactions of a nonce by their own account, and how often."""
    signed: dict[tuple[str, str, int], set[str]] = {}
    for file in files:
        for line in file.read_text().splitlines() if file.exists() else ():
            said = json.loads(line)
            about = said["delegate_id"], said["sender"], said["nonce"]
            signed.setdefault(about, set()).add(said["transaction_id"])
    found: dict[str, int] = {}
    for (delegate_id, _, _), ids in signed.items():
        if len(ids) > 1:
            found[delegate_id] = found.get(delegate_id, 0) + 1
    return found


def _votes(ballot: Ballot, logs: Sequence[VoteLog]) -> Mapping[str, bytes]:
    return {
        name: signature
        for log in logs
        for name, signature in log.signatures.get(ballot.transaction_id, {}).items()
    }
