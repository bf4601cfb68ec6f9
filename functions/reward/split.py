"""Splits rewards by stake and uptime, in integers, so that the sum is exact (largest remainder)."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import msgspec

import flag_rust
from federation.batch import Group, Grouped, Item


def split(amount: int, weights: Mapping[str, int], transaction_id: str) -> list[tuple[str, int]]:
    """Divide `amount` milli-LOVE in proportion to the weights.

    What whole division leaves goes, one each, to the largest remainders. Equal remainders are
    ordered by a hash of transaction and delegate, so no delegate always wins.

    Returns
    -------
    list of (delegate_id, amount)
        In the order of `weights`, without zeros; sums to `amount` exactly.

    Examples
    --------
    >>> split(10, {"a": 1, "b": 1}, "")
    [('a', 5), ('b', 5)]
    """
    total = sum(weights.values())
    if amount <= 0 or total <= 0:
        return []
    shares = {one: amount * weight // total for one, weight in weights.items()}
    by_remainder = sorted(
        weights, key=lambda one: (-(amount * weights[one] % total), _tie(transaction_id, one))
    )
    for one in by_remainder[: amount - sum(shares.values())]:
        shares[one] += 1
    return [(one, share) for one, share in shares.items() if share > 0]


def reward_groups(grouped: Grouped, weights: Mapping[str, int], per_transaction: int) -> Grouped:
    """Reward the voters of every accepted, final item; the batch's entries are the sums.

    `weights` are stake times uptime (`Registry.reward_weights`); who weighs nothing, as one that
    voted twice does, leaves his share to the others. The entries lie on the items, which are stored
    once: so a batch that comes again pays nothing twice.
    """
    sums: dict[str, int] = {}
    groups: list[Group] = []
    for group in grouped.groups:
        items = [_rewarded(item, weights, per_transaction) for item in group.items]
        groups.append(msgspec.structs.replace(group, items=items))
        for delegate_id, amount in (entry for item in items for entry in item.rewards):
            sums[delegate_id] = sums.get(delegate_id, 0) + amount
    return msgspec.structs.replace(grouped, groups=groups, rewards=sorted(sums.items()))


def _rewarded(item: Item, weights: Mapping[str, int], per_transaction: int) -> Item:
    if item.outcome != "accepted" or not item.final or not item.flags & flag_rust.VOTED:
        return item
    voters = {one: weights[one] for one in _voters(item.votes) if weights.get(one, 0) > 0}
    entries = split(per_transaction, voters, item.envelope.header.transaction_id)
    if not entries:
        return item
    flags = flag_rust.merge(item.flags, flag_rust.REWARDED)
    return msgspec.structs.replace(item, rewards=entries, flags=flags)


def _voters(votes: Sequence[tuple[str, str]]) -> list[str]:
    return sorted({delegate_id for delegate_id, _ in votes})


def _tie(transaction_id: str, delegate_id: str) -> bytes:
    return sha256(f"{transaction_id}\0{delegate_id}".encode()).digest()
