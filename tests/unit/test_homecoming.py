"""Copies that reconcile has marked as brought home don't count as money; all others do."""

from typing import Any

import pytest

from lovectl.simulation import homecoming
from lovectl.verdict import Copy


def copy(name: str, tier: Any) -> Copy:
    return Copy(name, f"sender of {name}", 0, tier, "Europe")


COPIES = [
    copy("a", "atlas"),
    copy("b", "atlas"),
    copy("b", "dynamodb"),
    copy("c", "dynamodb"),
    copy("d", "atlas"),
    copy("d", "immudb"),
    copy("e", "immudb"),
]


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Any:
    marked = [{"pk": {"S": "transaction#b"}, "reconciled_at_ms": {"N": "1"}}]
    monkeypatch.setattr(homecoming, "read_copies", lambda _: list(COPIES))
    monkeypatch.setattr(
        homecoming, "dynamodb_records", lambda _: [*marked, {"pk": {"S": "transaction#c"}}]
    )
    monkeypatch.setattr(
        homecoming,
        "immudb_found",
        lambda _, keys: [b"{}" if key == b"reconciled:d" else None for key in keys],
    )

    class Anything:
        immudb = None

    return Anything()


def test_a_marked_copy_does_not_count_and_an_unmarked_one_does(stores: Any) -> None:
    assert homecoming.live_copies(stores) == [
        one
        for one in COPIES
        if (one.transaction_id, one.tier) not in {("b", "dynamodb"), ("d", "immudb")}
    ]


def test_what_lies_unmarked_in_a_fallback_is_still_away(stores: Any) -> None:
    assert homecoming._away(stores, {"a", "c"})
    assert homecoming._away(stores, {"e"})
    assert not homecoming._away(stores, {"a", "b", "d"})


def test_a_mark_that_cannot_be_read_is_not_taken_for_none(
    stores: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homecoming, "immudb_found", lambda _, keys: [OSError("gone")] * len(keys))
    with pytest.raises(OSError, match="gone"):
        homecoming.live_copies(stores)
