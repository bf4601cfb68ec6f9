"""Proves votes by the keys of the delegates that the registry elects."""

from base64 import b64decode
from collections.abc import Sequence

import msgspec

import federation_dag
from federation.batch import Item


class Electorate(msgspec.Struct, frozen=True):
    """The delegates of an epoch: (delegate_id, algorithm, public key, stake) each."""

    epoch: int
    delegates: list[tuple[str, str, bytes, int]]

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
