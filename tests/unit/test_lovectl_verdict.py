"""The judge of a simulation finds what is lost and what is doubled."""

from hypothesis import given
from hypothesis import strategies as st

from lovectl.verdict import Copy, judge


def copy(name: str, *, sender: str = "s", nonce: int | None = None, tier: str = "atlas") -> Copy:
    return Copy(name, sender, hash(name) if nonce is None else nonce, tier, "Asia")  # type: ignore[arg-type]


def test_an_accepted_transaction_in_no_store_is_lost() -> None:
    verdict = judge({"a", "b"}, [copy("a")])
    assert verdict.lost == ("b",)
    assert not verdict.holds


def test_two_copies_in_two_tiers_are_one_duplicate() -> None:
    verdict = judge({"a"}, [copy("a"), copy("a", tier="immudb")])
    assert verdict.duplicated == ("a",)
    assert verdict.stored == 1


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
