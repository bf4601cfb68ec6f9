"""Proves votes by the keys of the delegates that the registry elects."""

from base64 import b64decode
from collections.abc import Iterable, Sequence

import msgspec

import federation_dag
from federation.batch import Item
from federation.transaction import Header

#: (delegate_id, transaction_id, sender, nonce, signature)
_Vote = tuple[str, bytes, bytes, int, bytes]


class Electorate(msgspec.Struct, frozen=True):
    """The delegates of an epoch: (delegate_id, algorithm, public key, stake) each."""

    epoch: int
    delegates: list[tuple[str, str, bytes, int]]

    def proven(self, items: Sequence[Item]) -> dict[str, tuple[frozenset[str], int]]:
        """Ids of the items that are final, each with its voters and their stake.

        Votes of another epoch don't verify under this one: such an item stays pending, and its
        votes are collected again.
        """
        votes = [vote for item in items for vote in _cast(item.envelope.header, item.votes)]
        accepted = {
            item.envelope.header.transaction_id for item in items if item.outcome == "accepted"
        }
        return {name: one for name, one in self._final(votes).items() if name in accepted}

    def proof(
        self, header: Header, votes: Iterable[tuple[str, str]]
    ) -> tuple[frozenset[str], int] | None:
        """The voters and their stake if these votes make this transaction final, else None."""
        return self._final(_cast(header, votes)).get(header.transaction_id)

    def _final(self, votes: list[_Vote]) -> dict[str, tuple[frozenset[str], int]]:
        tallies = federation_dag.dpos_parallel_collect(votes, self.delegates, self.epoch)
        return {
            tally.transaction_id.hex(): (frozenset(tally.voters), tally.stake)
            for tally in tallies
            if tally.final
        }


def _cast(header: Header, votes: Iterable[tuple[str, str]]) -> list[_Vote]:
    """Votes as the Rust core takes them; one whose signature isn't base64 counts for nothing."""
    about = (bytes.fromhex(header.transaction_id), bytes.fromhex(header.sender), header.nonce)
    cast: list[_Vote] = []
    for delegate_id, text in votes:
        try:
            cast.append((delegate_id, *about, b64decode(text)))
        except ValueError:
            continue
    return cast
