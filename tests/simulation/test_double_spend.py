"""Conflicting transactions race to delegates that crash and lie: no pair is final twice."""

from pathlib import Path

from lovectl.simulation.double_spend import BYZANTINE, double_spend

SEED = 20261126


def test_of_conflicting_transactions_one_is_final_at_most_and_double_voters_are_named(
    tmp_path: Path,
) -> None:
    report = double_spend(pairs=40, seed=SEED, directory=tmp_path)
    assert report["both_final"] == 0, report["both_final_ids"]
    assert report["one_final"] + report["none_final"] == report["pairs"] == 40
    assert report["one_final"] > 0
    assert report["crashes"] >= 2
    assert report["partitions"] == 2
    assert {one["delegate_id"] for one in report["evidence"]} == BYZANTINE.keys()
    assert report["witnesses"] == {name: sorted(BYZANTINE) for name in ("node-asia", "node-global")}
    assert report["tally_disagreements"] == 0
    assert report["verdict"] == "holds"
    for side in ("east", "west"):
        # Rivals met a lock: the race was real.
        assert report["votes"][side]["nonce_locked"] > 0
    # And so were the faults.
    assert report["votes"]["east"]["UNAVAILABLE"] > 0
    assert report["votes"]["west"]["unreachable"] > 0


def test_delegates_whose_locks_hold_nothing_are_found_out(tmp_path: Path) -> None:
    defective = ("node-tokyo", "node-nairobi")
    report = double_spend(pairs=20, seed=SEED, defective=defective, directory=tmp_path)
    assert report["both_final"] > 0
    assert report["honest_accused"] == sorted(defective)
    assert report["verdict"] == "broken"
