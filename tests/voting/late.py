"""Delegates that vote on pending items, and stages as the state machine runs them."""

from base64 import b64encode
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
import flag_rust
from federation.batch import Batch, Grouped, Item
from reconcile.electorate import Electorate
from reward.split import reward_groups
from shard.grouping import group_by_continent

STAKE = 10
REWARD = 1_000


class LateDelegates:
    """Three delegates of equal stake; two of them are a quorum."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.keys = {f"node-{n}": Ed25519PrivateKey.generate() for n in range(3)}
        self.electorate = Electorate(
            epoch,
            [
                (name, "Ed25519", key.public_key().public_bytes_raw(), STAKE)
                for name, key in self.keys.items()
            ],
        )

    def vote(self, item: Item, voters: int = 3) -> Item:
        """The item with the votes of so many delegates."""
        header = item.envelope.header
        message = federation_dag.vote_message(
            self.epoch,
            bytes.fromhex(header.transaction_id),
            bytes.fromhex(header.sender),
            header.nonce,
        )
        votes = [
            (name, b64encode(key.sign(message)).decode())
            for name, key in list(self.keys.items())[:voters]
        ]
        if not votes:
            return item
        final = 3 * voters >= 2 * len(self.keys)
        flags = flag_rust.merge(item.flags, flag_rust.VOTED)
        return msgspec.structs.replace(
            item,
            votes=votes,
            stake=voters * STAKE,
            final=final,
            flags=flag_rust.merge(flags, flag_rust.FINAL) if final else flags,
        )

    def stages(self, batch: Batch, voters: int = 3) -> Grouped:
        """What dpos, shard and reward make of a batch, through JSON as between states."""
        voted = msgspec.structs.replace(
            batch, items=[self.vote(item, voters) for item in batch.items]
        )
        built: Any = msgspec.to_builtins(
            reward_groups(group_by_continent(voted), dict.fromkeys(self.keys, STAKE), REWARD)
        )
        return msgspec.convert(built, Grouped)
