"""Which of the votes a batch takes along, so that no later state's payload breaks Step Functions' quota.

A payload above 256 KiB ends the execution with an error that no state can catch, each time that
the batch comes again: a vote that is left out is collected later, a batch that can't pass is stuck.
"""

from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256

import msgspec

from dpos.delegates import Delegates
from federation.batch import Batch, Item
from federation.limits import (
    ITEM_GROWTH_BYTES_MAX,
    PIPELINE_BYTES_MAX,
    PIPELINE_RESERVE_BYTES,
    VOTE_GROWTH_BYTES_MAX,
)

#: (delegate_id, base64 signature), as an item has them.
Vote = tuple[str, str]


def votes_with_room(
    batch: Batch, collected: Sequence[Sequence[tuple[str, bytes]]], delegates: Delegates
) -> list[list[Vote]]:
    """The votes that each item of a batch takes along.

    All of them, if all have room. Else each item keeps what a quorum needs; those that then have a
    quorum come first, in their order, and one whose votes still have no room goes without.

    Parameters
    ----------
    batch : Batch
        Without votes.
    collected : sequence of (delegate_id, signature) of each item
        Verified, each delegate once.
    """
    votes = [
        [(name, b64encode(signature).decode()) for name, signature in one] for one in collected
    ]
    room_bytes = _room_bytes(batch)
    if sum(map(_size_bytes, votes)) <= room_bytes:
        return votes
    stakes = {one.delegate_id: one.stake for one in delegates.delegates}
    needed = [
        _needed(item, one, stakes, delegates) for item, one in zip(batch.items, votes, strict=True)
    ]
    taken: list[list[Vote]] = [[] for _ in votes]
    for wants_quorum in (True, False):
        for n, one in enumerate(needed):
            size_bytes = _size_bytes(one)
            is_final = delegates.is_quorum(sum(stakes[name] for name, _ in one))
            if is_final is wants_quorum and size_bytes <= room_bytes:
                taken[n] = one
                room_bytes -= size_bytes
    return taken


def _room_bytes(batch: Batch) -> int:
    """What is left of the quota after all that the other states add to this batch at most."""
    # `shard` gives each continent's group its own copy of the wrapped keys that it uses.
    uses = Counter(key_id for key_id, _ in {(_key_id(one), _group(one)) for one in batch.items})
    copies_bytes = sum(
        (uses[name] - 1) * (len(name) + len(key) + ITEM_GROWTH_BYTES_MAX)
        for name, key in batch.wrapped_keys.items()
        if uses[name] > 1
    )
    return (
        PIPELINE_BYTES_MAX
        - PIPELINE_RESERVE_BYTES
        - len(msgspec.json.encode(batch))
        - copies_bytes
        - len(batch.items) * ITEM_GROWTH_BYTES_MAX
    )


def _key_id(item: Item) -> str:
    return item.envelope.sealed.key_id


def _group(item: Item) -> str:
    """Tells items apart that `shard` may put into different groups."""
    place = item.place.continent if item.place else None
    return item.envelope.home_continent or place or item.envelope.header.sender


def _size_bytes(votes: Sequence[Vote]) -> int:
    """In JSON, with the rewards of these voters."""
    return sum(
        len(signature) + 2 * len(delegate_id) + VOTE_GROWTH_BYTES_MAX
        for delegate_id, signature in votes
    )


def _needed(
    item: Item, votes: Sequence[Vote], stakes: Mapping[str, int], delegates: Delegates
) -> list[Vote]:
    """Votes of a quorum that take little room; all, if they are none.

    Those that bring the most stake a byte come first; equal ones by a hash of transaction and
    delegate, so that no delegate is always the one that is left out.
    """

    def worth(vote: Vote) -> tuple[float, bytes]:
        name, _ = vote
        named = f"{item.envelope.header.transaction_id}\0{name}".encode()
        return -stakes[name] / _size_bytes([vote]), sha256(named).digest()

    stake, kept = 0, list[Vote]()
    for vote in sorted(votes, key=worth):
        if delegates.is_quorum(stake):
            break
        kept.append(vote)
        stake += stakes[vote[0]]
    else:
        if not delegates.is_quorum(stake):
            return list(votes)
    # The last one may have made an earlier one, that weighs less, superfluous.
    for vote in sorted(kept, key=lambda one: -len(one[1])):
        if delegates.is_quorum(stake - stakes[vote[0]]):
            kept.remove(vote)
            stake -= stakes[vote[0]]
    return [vote for vote in votes if vote in kept]
