"""The judge of a simulation finds what is lost and what is doubled."""

from hypothesis import given
from hypothesis import strategies as st

from lovectl.verdict import Copy, judge


def copy(
    name: str,
    *,
    sender: str = "s",
    nonce: int | None = None,
    tier: str = "atlas",
    reconciled: bool = False,
) -> Copy:
    number = hash(name) if nonce is None else nonce
    return Copy(name, sender, number, tier, "Asia", reconciled)  # type: ignore[arg-type]


def test_an_accepted_transaction_in_no_store_is_lost() -> None:
    verdict = judge({"a", "b"}, [copy("a")])
    assert verdict.lost == ("b",)
    assert not verdict.holds


def test_two_copies_in_two_tiers_are_one_duplicate() -> None:
    verdict = judge({"a"}, [copy("a"), copy("a", tier="immudb")])
    assert verdict.duplicated == ("a",)
    assert verdict.stored == 1


def test_a_marked_copy_beside_the_home_copy_is_no_duplicate() -> None:
    marked = [copy("a", tier=tier, reconciled=True) for tier in ("dynamodb", "immudb")]
    verdict = judge({"a"}, [copy("a"), *marked])
    assert verdict.holds
    assert (verdict.stored, verdict.reconciled) == (1, 2)
    assert verdict.stored_per_tier == {"atlas": 1, "dynamodb": 0, "immudb": 0}


def test_two_unmarked_copies_are_a_duplicate_whatever_is_marked_beside() -> None:
    copies = [copy("a"), copy("a", tier="dynamodb"), copy("a", tier="immudb", reconciled=True)]
    assert judge({"a"}, copies).duplicated == ("a",)


def test_a_marked_copy_alone_is_a_loss() -> None:
    assert judge({"a"}, [copy("a", tier="dynamodb", reconciled=True)]).lost == ("a",)


def test_a_marked_copy_still_tells_of_a_nonce_that_two_hold() -> None:
    copies = [copy("a", nonce=7), copy("b", nonce=7, tier="dynamodb", reconciled=True)]
    assert "s/7" in judge({"a", "b"}, copies).duplicated


def test_two_transactions_of_one_nonce_are_a_duplicate() -> None:
    verdict = judge({"a", "b"}, [copy("a", nonce=7), copy("b", nonce=7, tier="dynamodb")])
    assert verdict.duplicated == ("s/7",)


def test_money_of_other_runs_is_left_out() -> None:
    assert judge({"a"}, [copy("a"), copy("z"), copy("z")]).holds


@given(st.sets(st.text(min_size=1)), st.data())
def test_stored_and_lost_add_up_to_accepted(accepted: set[str], data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(sorted(accepted)))) if accepted else set()
    verdict = judge(accepted, [copy(name, sender=name) for name in kept])
    assert verdict.stored + len(verdict.lost) == verdict.accepted == len(accepted)
    assert not verdict.duplicated
