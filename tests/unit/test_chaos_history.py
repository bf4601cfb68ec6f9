"""The client's log: what it holds after a crash, and what is read back of it."""

import os
from pathlib import Path

import msgspec
import pytest

from lovectl.chaos.canonical import transaction_id
from lovectl.chaos.history import Answered, FaultEdge, History, HistoryLog, Mark, Seen, Sent

DOCUMENT = {"sender": "aa" * 32, "nonce": 1, "content": {"salt": "0" * 32}, "signature": "s"}
SENT = Sent(1, "one", "Europe", "Ed25519", "key", DOCUMENT)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "history.jsonl"


def test_every_event_is_read_back_as_it_was_written(path: Path) -> None:
    name = transaction_id(DOCUMENT)
    events = (
        SENT,
        Answered(2, "one", 202, [name], [name], took_ms=5),
        Seen(3, "one", name, {"tier": "atlas"}),
        FaultEdge(4, "two", "hang", "mongo-asia", "begins"),
        Mark(5, "two", "reconciled", {"moved": 3}),
    )
    with HistoryLog(path) as log:
        log.write(*events)
    history = History.read(path)
    assert history.events == events
    assert list(history.sent) == [name]
    assert history.accepted_at_ms == {name: 2}
    assert history.senders == {"aa" * 32}
    assert history.of("two").events == events[3:]


def test_an_acceptance_is_on_disk_before_the_simulator_goes_on(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sizes: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        sizes.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    with HistoryLog(path) as log:
        log.write(SENT)
        assert not synced
        log.write(Answered(2, "one", 202, ["a"], ["a"]))
        assert len(synced) == 1
        assert sizes == [path.stat().st_size]
        log.write(Answered(2, "one", 503, ["a"]))
        assert len(synced) == 1


def test_a_line_that_a_crash_has_torn_is_left_out(path: Path) -> None:
    with HistoryLog(path) as log:
        log.write(SENT)
    with path.open("ab") as file:
        file.write(b'{"type":"answered","at_ms":2,"sc')
    assert History.read(path).events == (SENT,)


def test_a_whole_line_that_is_no_event_is_an_error(path: Path) -> None:
    with HistoryLog(path) as log:
        log.write(SENT)
    with path.open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(msgspec.ValidationError):
        History.read(path)


def test_a_log_is_appended_to_and_private(path: Path) -> None:
    for _ in range(2):
        with HistoryLog(path) as log:
            log.write(SENT)
    assert len(History.read(path).events) == 2
    assert path.stat().st_mode & 0o077 == 0


def test_a_fault_that_never_ends_lasts_to_the_end_of_the_history() -> None:
    history = History(
        [
            FaultEdge(1, "one", "hang", "kms", "begins"),
            FaultEdge(2, "one", "hang", "inbox", "begins"),
            FaultEdge(5, "one", "hang", "kms", "ends"),
            Mark(9, "one", "checked"),
        ]
    )
    assert history.faults() == [("hang", "kms", 1, 5), ("hang", "inbox", 2, 9)]


def test_a_part_of_a_log_is_read_from_where_it_begins(path: Path) -> None:
    with HistoryLog(path) as log:
        log.write(SENT)
        offset = log.size_bytes()
        log.write(Mark(5, "two", "begins"))
    assert History.read(path, offset).events == (Mark(5, "two", "begins"),)
