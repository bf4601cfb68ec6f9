"""The fault model's plan: names, groups, replay from a seed, and what is done to files."""

from collections import Counter
from pathlib import Path

import pytest

from lovectl.chaos.faults import KINDS, Fault
from lovectl.chaos.files import NothingToCorrupt, corrupted_byte, restored_byte
from lovectl.chaos.random_faults import POSSIBLE, STREAMS, planned
from lovectl.chaos.run import POSTS_AFTER, POSTS_BEFORE, POSTS_DURING
from lovectl.chaos.scenarios import SCENARIOS, chosen
from lovectl.chaos.traffic import POST_ITEMS


def test_there_are_more_than_thirty_scenarios_and_every_kind_of_fault_has_one() -> None:
    used = {fault.kind for one in SCENARIOS.values() for fault in one.faults}
    used |= {one.damage.kind for one in SCENARIOS.values() if one.damage}
    assert len(SCENARIOS) > 30
    assert used == set(KINDS)


def test_a_fault_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no kind 'explode'"):
        Fault("explode", "mongo-asia")


def test_scenarios_of_a_group_run_side_by_side_and_none_breaks_what_another_breaks() -> None:
    for group in chosen(list(SCENARIOS)):
        targets = Counter(fault.target for one in group for fault in one.faults)
        assert all(count == 1 for count in targets.values()), group


#: In the order in which a batch meets them, as logical ids and as wrapped stages.
WAY = (
    ("DispatchFunction", "dispatch"),
    ("PopFunction", "pop"),
    ("DposFunction", "dpos"),
    ("ShardFunction", "shard"),
    ("RewardFunction", "reward"),
    ("PersistAtlasFunction", "persist-atlas"),
)
LETS_WORK_THROUGH = ("cold_start", "out_of_memory", "skew")


def test_no_stage_fails_where_an_earlier_one_lets_nothing_through() -> None:
    for group in chosen(list(SCENARIOS)):
        faults = [fault for one in group for fault in one.faults]
        places = {
            n: fault.kind
            for n, names in enumerate(WAY)
            for fault in faults
            if fault.target in names
        }
        before_the_last = [places[n] for n in sorted(places)[:-1]]
        assert all(kind in LETS_WORK_THROUGH for kind in before_the_last), group


def test_every_continent_sends_while_a_fault_lasts() -> None:
    assert max(len(one.continents) for one in SCENARIOS.values()) <= POSTS_DURING
    assert (POSTS_BEFORE + POSTS_DURING + POSTS_AFTER) * POST_ITEMS >= 200


def test_scenarios_on_wrapped_handlers_come_last_since_they_need_another_stack() -> None:
    wrapped = [group[0].wrapped for group in chosen(list(SCENARIOS))]
    assert wrapped == sorted(wrapped)
    assert sum(wrapped) > 0


def test_a_name_that_no_scenario_has_is_refused() -> None:
    with pytest.raises(KeyError, match="no-such"):
        chosen(["no-such"])


def test_random_faults_replay_from_their_seed() -> None:
    assert planned(5, 1, 60.0) == planned(5, 1, 60.0)
    assert planned(5, 1, 60.0) != planned(6, 1, 60.0)
    assert planned(5, 1, 60.0) != planned(5, 2, 60.0)


@pytest.mark.parametrize("seed", range(20))
def test_random_faults_end_with_their_round_and_share_no_target(seed: int) -> None:
    streams = planned(seed, 1, 60.0)
    assert len(streams) == STREAMS
    for stream in streams:
        ends_s = 0.0
        for one in stream:
            assert one.begins_s > ends_s
            ends_s = one.begins_s + one.lasts_s
            assert one.fault in POSSIBLE
        assert ends_s <= 60.0
    targets = [{one.fault.target for one in stream} for stream in streams]
    assert not targets[0] & targets[1] | targets[1] & targets[2] | targets[0] & targets[2]


def test_one_bit_of_a_file_is_flipped_and_flipped_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "data"
    path.parent.mkdir()
    path.write_bytes(b"before needle after")
    flipped = corrupted_byte(tmp_path, [b"absent", b"needle"])
    changed = path.read_bytes()
    different = [
        n
        for n, pair in enumerate(zip(b"before needle after", changed, strict=True))
        if pair[0] != pair[1]
    ]
    assert different == [flipped.offset]
    assert 7 <= flipped.offset < 13
    assert restored_byte(flipped)
    assert path.read_bytes() == b"before needle after"


def test_what_a_store_has_mended_by_itself_is_not_damaged_again(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"before needle after")
    flipped = corrupted_byte(tmp_path, [b"needle"])
    path.write_bytes(b"before needle after")
    assert not restored_byte(flipped)
    assert path.read_bytes() == b"before needle after"


def test_damage_that_can_not_be_done_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"nothing of it")
    with pytest.raises(NothingToCorrupt):
        corrupted_byte(tmp_path, [b"needle"])
