"""Shards are stable, groups lose nobody, rewards sum exactly."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import flag_rust
from federation.batch import Batch, Grouped, Item, Place
from federation.limits import SHARDS_PER_CONTINENT
from federation.regions import CONTINENTS
from federation.transaction import Envelope, Header, Position, Sealed
from reward.split import reward_groups, split
from shard.grouping import group_by_continent, home_of
from shard.rendezvous import shard_of

ACCOUNTS = st.text("0123456789abcdef", min_size=64, max_size=64)
HOMES = st.sampled_from([*(one.value for one in CONTINENTS), None])
STAKES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 10**18), max_size=9
)


def item(sender: str, home: str | None, nonce: int, key: str = "k") -> Item:
    position = Position(0, 0, 1, 0)
    header = Header(1, f"{nonce:064x}", sender, "b" * 64, 1, nonce, position, [], [])
    return Item(Envelope(header, "Ed25519", "", "", Sealed(key, ""), 0, "r", home))


@settings(deadline=None)
@given(st.lists(st.tuples(ACCOUNTS, HOMES), max_size=12))
def test_every_item_is_in_one_group_with_its_key(senders: list[tuple[str, str | None]]) -> None:
    items = [item(who, home, n, f"k{n % 2}") for n, (who, home) in enumerate(senders)]
    grouped = group_by_continent(Batch("b", {"k0": "K0", "k1": "K1"}, items))
    found = [one for group in grouped.groups for one in group.items]
    assert sorted(one.envelope.header.nonce for one in found) == list(range(len(items)))
    for group in grouped.groups:
        assert set(group.wrapped_keys) == {one.envelope.sealed.key_id for one in group.items}
        for one in group.items:
            assert one.continent == group.continent
            assert one.envelope.home_continent in (None, group.continent)
            assert one.shard is not None
            assert 0 <= one.shard < SHARDS_PER_CONTINENT


@given(ACCOUNTS, HOMES, HOMES)
def test_home_is_by_the_certificate_then_by_the_place_and_never_none(
    sender: str, certified: str | None, placed: str | None
) -> None:
    one = item(sender, certified, 0)
    if placed is not None:
        place = Place("populated", "City", "XX", placed, "8" * 15, 0)
        one = msgspec.structs.replace(one, place=place)
    home = home_of(one)
    assert home == (certified or placed or home)
    assert home in {continent.value for continent in CONTINENTS}
    assert home == home_of(one)


@settings(deadline=None)
@given(ACCOUNTS)
def test_one_more_shard_moves_only_what_it_wins(account: str) -> None:
    before, after = shard_of("Asia", account, 8), shard_of("Asia", account, 9)
    assert after in (before, 8)


@given(STAKES, st.integers(0, 10**12), ACCOUNTS)
def test_a_split_is_exact_and_by_stake(stakes: dict[str, int], amount: int, name: str) -> None:
    entries = dict(split(amount, stakes, name))
    if not stakes or amount == 0:
        assert entries == {}
        return
    total = sum(stakes.values())
    assert sum(entries.values()) == amount
    for one, stake in stakes.items():
        assert amount * stake // total <= entries.get(one, 0) <= amount * stake // total + 1


def test_equal_remainders_do_not_always_go_to_the_same_delegate() -> None:
    winners = {
        max(split(10, {"a": 1, "b": 1, "c": 1}, str(n)), key=lambda e: e[1])[0] for n in range(64)
    }
    assert winners == {"a", "b", "c"}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8), st.integers(1, 5000))
def test_only_what_is_final_pays_and_the_batch_is_the_sum(
    kinds: list[tuple[bool, bool]], per_transaction: int
) -> None:
    voted = flag_rust.VERIFIED | flag_rust.VOTED | flag_rust.FINAL
    items = [
        msgspec.structs.replace(
            item("a" * 64, "Asia", n),
            outcome="accepted" if accepted else "rejected",
            final=final,
            flags=voted if final else 0,
            votes=[("x", ""), ("y", "")] if final else [],
        )
        for n, (accepted, final) in enumerate(kinds)
    ]
    grouped = group_by_continent(Batch("b", {}, items))
    rewarded: Grouped = reward_groups(grouped, {"x": 2, "y": 1, "absent": 9}, per_transaction)
    paying = sum(accepted and final for accepted, final in kinds)
    assert sum(amount for _, amount in rewarded.rewards) == paying * per_transaction
    for group in rewarded.groups:
        for one in group.items:
            flag_rust.check(one.flags)
            earned = sum(amount for _, amount in one.rewards)
            pays = one.outcome == "accepted" and one.final
            assert earned == (per_transaction if pays else 0)
            assert bool(one.flags & flag_rust.REWARDED) == pays
