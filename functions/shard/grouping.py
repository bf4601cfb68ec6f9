"""Groups a batch by home continent and gives every item its shard."""

import msgspec

import flag_rust
from federation.batch import Batch, Group, Grouped, Item
from shard.rendezvous import continent_of_last_resort, shard_of


def group_by_continent(batch: Batch) -> Grouped:
    """Each item in the group of its continent, in the order of the batch.

    The home continent is that of the sender's certificate, else the nearest by position. Rejected
    items are grouped too: `persist` records their rejection. A group carries the wrapped keys of
    its own items only.
    """
    by_continent: dict[str, list[Item]] = {}
    for item in batch.items:
        sharded = _sharded(item)
        by_continent.setdefault(str(sharded.continent), []).append(sharded)
    groups = [
        Group(
            batch_id=batch.batch_id,
            continent=continent,
            wrapped_keys=_keys_of(items, batch.wrapped_keys),
            items=items,
        )
        for continent, items in sorted(by_continent.items())
    ]
    return Grouped(batch_id=batch.batch_id, groups=groups)


def home_of(item: Item) -> str:
    """The continent whose store takes the item."""
    if item.envelope.home_continent is not None:
        return item.envelope.home_continent
    if item.place is not None:
        return item.place.continent
    return continent_of_last_resort(item.envelope.header.sender).value


def _sharded(item: Item) -> Item:
    header, continent = item.envelope.header, home_of(item)
    shard = shard_of(continent, header.sender)
    accepted = item.outcome == "accepted"
    return msgspec.structs.replace(
        item,
        continent=continent,
        shard=shard,
        # The recipient's continent isn't known here; in the sender's it has this shard.
        cross_shard=shard_of(continent, header.recipient) != shard,
        flags=flag_rust.merge(item.flags, flag_rust.SHARDED) if accepted else item.flags,
    )


def _keys_of(items: list[Item], wrapped_keys: dict[str, str]) -> dict[str, str]:
    wanted = {item.envelope.sealed.key_id for item in items}
    return {key_id: key for key_id, key in wrapped_keys.items() if key_id in wanted}
