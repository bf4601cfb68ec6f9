"""Each rule of Proof of Place at its limit and one past it."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.batch import Batch, Item
from federation.transaction import Envelope, Header, Position, Sealed
from pop.place import LastPosition, PlaceLimits, prove_places

NOW_MS = 1_800_000_000_000
FRANKFURT = (501_109_000, 86_821_000)
SYDNEY = (-338_678_000, 1_512_073_000)
AT_SEA = (-480_000_000, -1_230_000_000)


def item(
    place: tuple[int, int] = FRANKFURT, *, age_ms: int = 0, accuracy_m: int = 10, nonce: int = 0
) -> Item:
    position = Position(place[0], place[1], accuracy_m, NOW_MS - age_ms)
    header = Header(1, f"{nonce:064x}", "a" * 64, "b" * 64, 1, nonce, position, [], [])
    return Item(Envelope(header, "Ed25519", "", "", Sealed("k", ""), NOW_MS, "r"))


def judge(
    *items: Item, limits: PlaceLimits | None = None, last: LastPosition | None = None
) -> list[str | None]:
    batch, _ = prove_places(
        Batch("b", {}, list(items)), limits or PlaceLimits(), {"a" * 64: last} if last else {}
    )
    return [one.reason for one in batch.items]


@pytest.mark.parametrize(
    ("good", "bad", "reason"),
    [
        (item(age_ms=120_000), item(age_ms=120_001), "observation_stale"),
        (item(age_ms=-5_000), item(age_ms=-5_001), "observation_from_future"),
        (item(accuracy_m=1_000), item(accuracy_m=1_001), "accuracy_too_low"),
        (item((900_000_000, 0)), item((900_000_001, 0)), "position_out_of_range"),
        (item((0, -1_800_000_000)), item((0, -1_800_000_001)), "position_out_of_range"),
    ],
)
def test_a_rule_holds_to_its_limit_and_not_one_past_it(good: Item, bad: Item, reason: str) -> None:
    assert judge(good) == [None]
    assert judge(bad) == [reason]


def test_far_from_every_city_is_noted_and_refused_only_when_strict() -> None:
    batch, _ = prove_places(Batch("b", {}, [item(AT_SEA)]), PlaceLimits(), {})
    place = batch.items[0].place
    assert place is not None
    assert (batch.items[0].outcome, place.status) == ("accepted", "unpopulated")
    assert judge(item(AT_SEA), limits=PlaceLimits(strict_place=True)) == ["unpopulated"]


def test_faster_than_the_limit_since_the_last_position_is_refused() -> None:
    def seen(minutes_ago: int) -> LastPosition:
        return LastPosition("0" * 64, *SYDNEY, 10, NOW_MS - minutes_ago * 60_000)

    # Sydney to Frankfurt is about 16,500 km: 16.5 hours at 1,000 km/h.
    assert judge(item(), last=seen(17 * 60)) == [None]
    assert judge(item(), last=seen(16 * 60)) == ["impossible_travel"]


def test_items_of_one_sender_are_checked_against_each_other() -> None:
    here, there = item(age_ms=60_000, nonce=1), item(SYDNEY, nonce=2)
    assert judge(there, here) == ["impossible_travel", None]


@given(place=st.tuples(st.integers(-900_000_000, 900_000_000), st.integers(-(10**9), 10**9)))
def test_the_same_transaction_again_is_accepted_again(place: tuple[int, int]) -> None:
    first = item(place)
    batch, newest = prove_places(Batch("b", {}, [first]), PlaceLimits(), {})
    again, _ = prove_places(Batch("c", {}, [first]), PlaceLimits(), newest)
    assert msgspec.structs.asdict(again.items[0]) == msgspec.structs.asdict(batch.items[0])
