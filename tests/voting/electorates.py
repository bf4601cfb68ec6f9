"""Delegates in memory with real keys, as `dpos` asks them."""

from base64 import b64encode
from collections.abc import Sequence
from typing import Any, NamedTuple

import federation_dag
from dpos.delegates import Delegate, Delegates
from dpos.voting import Ballot, StoredItem
from lovectl.accounts import ALGORITHMS, Algorithm
from reconcile.electorate import Electorate

EPOCH = 5


class Outcome(NamedTuple):
    """What the Rust core gives for a ballot."""

    tally: federation_dag.Tally
    signatures: list[tuple[str, bytes]]
    locked_stake: int


class SigningElectorate:
    """All of its delegates answer, each with a signature of its own; the tally is the Rust core's.

    Parameters
    ----------
    algorithms, stakes : sequences of the same length
        Of the delegates.
    name : str
        What the delegates' names end in.
    """

    def __init__(
        self,
        algorithms: Sequence[Algorithm],
        stakes: Sequence[int] | None = None,
        name: str = "node",
        silent: frozenset[str] = frozenset(),
    ) -> None:
        self._silent = silent
        self._keys: dict[str, Any] = {
            f"{n:02}-{name}": ALGORITHMS[one].generate() for n, one in enumerate(algorithms)
        }
        self.kept: list[StoredItem] = []
        self.delegates = Delegates(
            EPOCH,
            tuple(
                Delegate(name, "city", "", algorithm, key.public_key().public_bytes_raw(), stake)
                for (name, key), algorithm, stake in zip(
                    self._keys.items(), algorithms, stakes or [1] * len(algorithms), strict=True
                )
            ),
            "",
            "",
            "",
        )
        self._voting_keys = [
            (one.delegate_id, one.algorithm, one.public_key, one.stake)
            for one in self.delegates.delegates
        ]
        #: Proves votes as `reconcile` does.
        self.proving = Electorate(EPOCH, self._voting_keys)

    def collect(self, ballots: Sequence[Ballot]) -> list[Outcome]:
        """Every delegate but the silent ones signs."""
        return [self._outcome(one) for one in ballots]

    def keep(
        self, batch_id: str, wrapped_keys: dict[str, bytes], items: Sequence[StoredItem]
    ) -> list[str]:
        """In memory."""
        self.kept += items
        return ["full"]

    def _outcome(self, one: Ballot) -> Outcome:
        message = federation_dag.vote_message(EPOCH, one.transaction_id, one.sender, one.nonce)
        about = (one.transaction_id, one.sender, one.nonce)
        signed = {
            name: key.sign(message) for name, key in self._keys.items() if name not in self._silent
        }
        votes = [(name, *about, signature) for name, signature in signed.items()]
        [tally] = federation_dag.dpos_parallel_collect(votes, self._voting_keys, EPOCH)
        return Outcome(tally, [(name, signed[name]) for name in tally.voters], 0)

    def text(self, item: StoredItem) -> list[tuple[str, str]]:
        """The votes that a full node was given, as an item has them."""
        return [(name, b64encode(signature).decode()) for name, signature in item.votes]
