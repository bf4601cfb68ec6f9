"""Proves votes by the delegates' keys, out of the secret `love/delegates`."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

import federation_dag
from federation.batch import Item


class Electorate(msgspec.Struct, frozen=True):
    """The delegates of an epoch: (delegate_id, algorithm, public key, stake) each."""

    epoch: int
    delegates: list[tuple[str, str, bytes, int]]

    @classmethod
    def of_secret(cls, secret: Mapping[str, Any]) -> "Electorate":
        """Read the secret."""
        return cls(
            epoch=secret["epoch"],
            delegates=[
                (
                    one["delegate_id"],
                    one["algorithm"],
                    b64decode(one["public_key"]),
                    one["stake"],
                )
                for one in secret["delegates"]
            ],
        )

    def proven(self, items: Sequence[Item]) -> dict[str, tuple[frozenset[str], int]]:
        """Ids of the items that are final, each with its voters and their stake.

        Votes of another epoch don't verify under this one: such an item stays pending, and its
        votes are collected again.
        """
        votes = []
        for item in items:
            header = item.envelope.header
            for delegate_id, signature in item.votes:
                votes.append(
                    (
                        delegate_id,
                        bytes.fromhex(header.transaction_id),
                        bytes.fromhex(header.sender),
                        header.nonce,
                        b64decode(signature),
                    )
                )
        accepted = {
            item.envelope.header.transaction_id for item in items if item.outcome == "accepted"
        }
        tallies = federation_dag.dpos_parallel_collect(votes, self.delegates, self.epoch)
        return {
            tally.transaction_id.hex(): (frozenset(tally.voters), tally.stake)
            for tally in tallies
            if tally.final and tally.transaction_id.hex() in accepted
        }
