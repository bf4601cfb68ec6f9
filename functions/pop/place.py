"""The rules of Proof of Place; each has a reason code and a limit that an operator may set."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

import federation_dag
import flag_rust
from federation.batch import Batch, Item, Place, rejected
from federation.transaction import Position

#: An hour in milliseconds over a kilometre in metres: km/h to m/ms.
_KMH_PER_M_MS: Final = 3600


class PlaceLimits(msgspec.Struct, frozen=True):
    """Limits of the rules; the names carry the units."""

    observation_age_max_s: int = 120
    observation_skew_max_s: int = 5
    accuracy_max_m: int = 1_000
    city_distance_max_m: int = 300_000
    speed_max_kmh: int = 1_000
    strict_place: bool = False


class LastPosition(msgspec.Struct, frozen=True):
    """Where a sender was seen last, and by which accepted transaction."""

    transaction_id: str
    latitude_e7: int
    longitude_e7: int
    accuracy_m: int
    observed_at_ms: int


def prove_places(
    batch: Batch, limits: PlaceLimits, last: Mapping[str, LastPosition]
) -> tuple[Batch, dict[str, LastPosition]]:
    """Give every item its place, or its reason why not.

    Freshness is judged against `accepted_at_ms`, never the clock: waiting in the queue must not
    make good money stale.

    Parameters
    ----------
    last : mapping of sender to LastPosition
        Known last positions; a sender that is missing is not checked for impossible travel.

    Returns
    -------
    Batch
        The items in their order; `place` set where the position is on the globe.
    dict of sender to LastPosition
        The newest accepted position of each sender in this batch.
    """
    items = [_on_the_globe(item) for item in batch.items]
    on_globe = [n for n, item in enumerate(items) if item.envelope.header.position.in_range()]
    positions = [items[n].envelope.header.position for n in on_globe]
    found = federation_dag.locate([(one.latitude_e7, one.longitude_e7) for one in positions])
    for n, where in zip(on_globe, found, strict=True):
        place = Place(
            status=(
                "populated" if where.distance_m <= limits.city_distance_max_m else "unpopulated"
            ),
            city=where.city,
            country=where.country,
            continent=where.continent,
            h3_cell=where.h3_cell,
            distance_m=where.distance_m,
        )
        items[n] = _judged(msgspec.structs.replace(items[n], place=place), place, limits)
    newest = _without_impossible_travel(items, limits, last)
    return msgspec.structs.replace(batch, items=[_flagged(item) for item in items]), newest


def _on_the_globe(item: Item) -> Item:
    if item.envelope.header.position.in_range():
        return item
    return rejected(item, "position_out_of_range")


def _judged(item: Item, place: Place, limits: PlaceLimits) -> Item:
    position = item.envelope.header.position
    age_ms = item.envelope.accepted_at_ms - position.observed_at_ms
    if age_ms > limits.observation_age_max_s * 1000:
        return rejected(item, "observation_stale")
    if -age_ms > limits.observation_skew_max_s * 1000:
        return rejected(item, "observation_from_future")
    if position.accuracy_m > limits.accuracy_max_m:
        return rejected(item, "accuracy_too_low")
    if place.status == "unpopulated" and limits.strict_place:
        return rejected(item, "unpopulated")
    return item


def _without_impossible_travel(
    items: list[Item], limits: PlaceLimits, last: Mapping[str, LastPosition]
) -> dict[str, LastPosition]:
    """Reject, in place, what moved too fast; items of one sender in the order of observation."""
    by_sender: defaultdict[str, list[int]] = defaultdict(list)
    for n, item in enumerate(items):
        if item.outcome == "accepted":
            by_sender[item.envelope.header.sender].append(n)
    newest: dict[str, LastPosition] = {}
    for sender, mine in by_sender.items():
        before = last.get(sender)
        for n in sorted(mine, key=lambda n: items[n].envelope.header.position.observed_at_ms):
            header = items[n].envelope.header
            if before is not None and too_fast(before, header.position, limits.speed_max_kmh):
                items[n] = rejected(items[n], "impossible_travel")
                continue
            if before is None or header.position.observed_at_ms >= before.observed_at_ms:
                before = _last_of(header.transaction_id, header.position)
                newest[sender] = before
    return newest


def too_fast(before: LastPosition, now: Position, speed_max_kmh: int) -> bool:
    """Whether the way between two observations, less both accuracies, needs more than that speed.

    Examples
    --------
    The same place is never too fast, whatever the time between.
    """
    here, there = (
        (now.latitude_e7, now.longitude_e7),
        (before.latitude_e7, before.longitude_e7),
    )
    if here == there:
        return False
    way_m = federation_dag.distance_m(here, there) - now.accuracy_m - before.accuracy_m
    elapsed_ms = abs(now.observed_at_ms - before.observed_at_ms)
    return way_m * _KMH_PER_M_MS > speed_max_kmh * elapsed_ms


def _last_of(transaction_id: str, position: Position) -> LastPosition:
    return LastPosition(
        transaction_id=transaction_id,
        latitude_e7=position.latitude_e7,
        longitude_e7=position.longitude_e7,
        accuracy_m=position.accuracy_m,
        observed_at_ms=position.observed_at_ms,
    )


def _flagged(item: Item) -> Item:
    if item.place is None or item.outcome == "rejected":
        return item
    return msgspec.structs.replace(item, flags=flag_rust.merge(item.flags, flag_rust.PLACED))


def senders_of(items: Sequence[Item]) -> list[str]:
    """Each sender once, in order of first appearance."""
    return list(dict.fromkeys(item.envelope.header.sender for item in items))
