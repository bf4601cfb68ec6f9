"""Last positions: money never waits long for them, and not at all once their table is known to be down."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from federation.breaker import calling_as
from lovectl.measures import metric_values
from pop import app
from pop.place import LastPosition
from pop.positions import REST_S, Positions

POSITION = LastPosition(
    transaction_id="ab" * 32, latitude_e7=1, longitude_e7=2, accuracy_m=3, observed_at_ms=4
)


class Table:
    """A DynamoDB client that may refuse, or hang at writes, and counts how often it is asked."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.refuses_reads = False
        self.hangs: threading.Event | None = None
        self.asked = 0

    def batch_get_item(self, RequestItems: Any) -> Any:
        self.asked += 1
        if self.refuses_reads:
            raise ReadTimeoutError(endpoint_url="dynamodb")
        keys = [one["sender"]["S"] for one in RequestItems["positions"]["Keys"]]
        return {"Responses": {"positions": [self.items[one] for one in keys if one in self.items]}}

    def put_item(self, Item: Any, **_: Any) -> None:
        self.asked += 1
        if self.hangs is not None:
            self.hangs.wait(60)
        self.items[Item["sender"]["S"]] = Item


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table()
    yield made
    if made.hangs is not None:
        made.hangs.set()


@pytest.fixture
def positions(table: Table) -> Positions:
    return Positions(table, "positions", timeout_ms=20)


def batch(positions: Positions, sender: str) -> dict[str, LastPosition]:
    """What `pop` does for a batch of one sender."""
    known = positions.read([sender])
    positions.write({sender: POSITION})
    return known


def test_what_was_written_is_read(positions: Positions) -> None:
    assert batch(positions, "a") == {}
    assert batch(positions, "a") == {"a": POSITION}


def test_a_table_that_refuses_is_left_alone_after_two_batches(
    positions: Positions, table: Table
) -> None:
    table.refuses_reads = True
    batch(positions, "a")
    batch(positions, "a")
    asked = table.asked
    for _ in range(5):
        assert batch(positions, "a") == {}
    assert table.asked == asked


def test_for_whom_the_travel_rule_is_skipped_is_counted(
    positions: Positions,
    table: Table,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(app, "_positions", lambda: positions)
    monkeypatch.setenv("POSITIONS_TABLE", "positions")
    app._settings.cache_clear()
    sender = "cd" * 32
    monkeypatch.setattr(app, "senders_of", lambda items: [sender])

    def skipped() -> dict[str, list[float]]:
        app.handler({"batch_id": "b", "wrapped_keys": {}, "items": []}, None)
        return metric_values(capsys.readouterr().out.splitlines(), "travel_rule_skipped")

    assert skipped() == {}
    table.refuses_reads = True
    # Twice as the table refuses, then as nobody asks it any more.
    assert [skipped() for _ in range(3)] == [{"pop": [1.0]}] * 3
    app._settings.cache_clear()


def test_keys_that_dynamodb_leaves_out_of_an_answer_are_counted(
    positions: Positions, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out = {"Keys": [{"sender": {"S": "b"}}]}
    answer = {"Responses": {}, "UnprocessedKeys": {"positions": left_out}}
    monkeypatch.setattr(table, "batch_get_item", lambda RequestItems: answer)
    assert positions.read(["a", "b"]) == {}
    assert positions.unread == 1


def test_writes_that_hang_open_it_though_reads_are_answered(
    positions: Positions, table: Table
) -> None:
    table.hangs = threading.Event()
    batch(positions, "a")
    batch(positions, "a")
    asked = table.asked
    batch(positions, "a")
    assert table.asked == asked


def test_one_batch_tries_again_after_a_rest(positions: Positions, table: Table) -> None:
    table.refuses_reads = True
    batch(positions, "a")
    batch(positions, "a")
    table.refuses_reads = False
    assert positions.read(["a"]) == {}
    now_s = positions._breaker._clock()
    positions._breaker._clock = lambda: now_s + REST_S + 1
    asked = table.asked
    assert batch(positions, "b") == {}
    assert batch(positions, "b") == {"b": POSITION}
    assert table.asked > asked
    with calling_as("payment"):
        assert positions._breaker.state().state == "closed"
