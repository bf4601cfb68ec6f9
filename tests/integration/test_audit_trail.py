"""The audit trail on a real immuDB: each event once and in order, and no tampering unnoticed."""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.trail import AuditTrail, TrailBusy
from federation.audit_chain import HEAD_KEY, entry_key, event_key, read_entry
from federation.immudb_session import (
    ImmudbSession,
    ImmudbUnavailable,
    LoginRefused,
    RecordCorrupted,
)
from lovectl import audit_commands
from lovectl.audit_trail import TrailReader
from lovectl.audit_verify import verify
from lovectl.checker import ImmudbAccess
from lovectl.pki import TransportPki
from lovectl.processes import free_ports
from lovectl.servers import ImmuDbServer

PASSWORD = "Correct-Horse-1"
TIMEOUT_S = 2.0
COLD_S = 5.0
WRITERS = 4
#: Longer than any restart takes.
PATIENCE_S = 60.0


@dataclass
class Bench:
    """One immuDB with its data directory, and the audit trail in it."""

    server: ImmuDbServer
    directory: Path

    @property
    def secret(self) -> dict[str, Any]:
        """As in the secret `love/immudb`."""
        return {
            "address": self.server.address,
            "username": self.server.username,
            "password": self.server.password,
            "database": self.server.database,
            "audit_database": "audit",
            "server_ca_pem": self.server.pki.ca_file.read_text(),
            "client_pem": self.server.pki.client_pem_file.read_text(),
        }

    @property
    def access(self) -> ImmudbAccess:
        """As `lovectl` knows it."""
        return ImmudbAccess(
            address=self.server.address,
            username=self.server.username,
            password=self.server.password,
            database=self.server.database,
            server_ca_pem=self.server.pki.ca_file.read_text(),
            client_pem=self.server.pki.client_pem_file.read_text(),
        )

    def trail(self) -> AuditTrail:
        """A writer, as another execution environment would be."""
        return AuditTrail(lambda: self.secret, TIMEOUT_S, COLD_S)

    def session(self) -> ImmudbSession:
        """What an administrator could do."""
        return ImmudbSession(lambda: self.secret, "audit_database", TIMEOUT_S, COLD_S)

    def reader(self) -> TrailReader:
        return TrailReader(self.access, "audit")

    def order(self) -> list[str]:
        """The ids of all events, in the trail's order."""
        reader = self.reader()
        return [one.event_id for one in reader.entries(1, reader.head().sequence)]


@pytest.fixture
def bench(tmp_path: Path, transport_pki: TransportPki) -> Iterator[Bench]:
    """An immuDB of its own, since most tests here harm it."""
    directory = tmp_path / "immudb"
    server = ImmuDbServer(directory, free_ports(1)[0], transport_pki, PASSWORD)
    server.start()
    yield Bench(server, directory)
    server.stop()


def event(event_id: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/functions/authorize",
        "type": "org.lovecurrency.access.refused",
        "subject": f"subject of {event_id}",
        "time": "2026-11-25T00:00:00.000Z",
        "data": {"reason": "token_expired", "address": "192.0.2.1", "request_id": f"r-{event_id}"},
    }


def fill(bench: Bench, count: int, tag: str = "event", batch: int = 3) -> None:
    trail = bench.trail()
    names = [f"{tag}-{n}" for n in range(1, count + 1)]
    for start in range(0, count, batch):
        trail.append([event(one) for one in names[start : start + batch]])
    trail.close()


# ── writing ─────────────────────────────────────────────────────────────────────────────────────


def test_events_are_appended_once_though_their_messages_come_again(bench: Bench) -> None:
    trail = bench.trail()
    assert trail.append([event("a"), event("b")]) == 2
    assert trail.append([event("a"), event("b")]) == 0
    assert bench.trail().append([event("b"), event("c"), event("c")]) == 1
    assert bench.order() == ["a", "b", "c"]
    assert verify(bench.reader()).clean


def test_writers_at_the_same_time_neither_fork_nor_double_the_chain(bench: Bench) -> None:
    bench.trail().append([])
    start = threading.Barrier(WRITERS)

    def write(writer: int) -> None:
        trail = bench.trail()
        start.wait(30)
        for n in range(8):
            mine = [event(f"{writer}-{2 * n}"), event(f"{writer}-{2 * n + 1}")]
            while True:
                try:
                    trail.append([*mine, event(f"shared-{n}")])
                    break
                except TrailBusy:
                    continue  # as the spool does: the same again

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(write, range(WRITERS)))
    order = bench.order()
    assert len(order) == len(set(order)) == WRITERS * 16 + 8
    for writer in range(WRITERS):
        mine = [one for one in order if one.startswith(f"{writer}-")]
        assert mine == [f"{writer}-{n}" for n in range(16)]
    assert verify(bench.reader()).clean


def test_a_killed_immudb_loses_no_acknowledged_event_and_doubles_none(bench: Bench) -> None:
    names = [f"event-{n}" for n in range(200)]
    acknowledged: list[str] = []
    failures = 0

    def write() -> None:
        nonlocal failures
        trail = bench.trail()
        for start in range(0, len(names), 4):
            batch = names[start : start + 4]
            end_s = time.monotonic() + PATIENCE_S
            while time.monotonic() < end_s:
                try:
                    trail.append([event(one) for one in batch])
                    acknowledged.extend(batch)
                    break
                except ImmudbUnavailable:
                    failures += 1  # as the spool does: the same again
                    time.sleep(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    for share in (0.1, 0.4, 0.7):
        end_s = time.monotonic() + PATIENCE_S
        while len(acknowledged) < share * len(names) and time.monotonic() < end_s:
            time.sleep(0.001)
        bench.server.kill()
        bench.server.start()
    writer.join(PATIENCE_S)
    assert acknowledged == names
    assert failures > 0
    assert bench.order() == names
    assert verify(bench.reader()).clean


def test_sessions_are_given_back_though_immudb_has_room_for_a_hundred_only(bench: Bench) -> None:
    fill(bench, 1)
    for _ in range(110):
        reader = bench.reader()
        assert reader.head().sequence == 1
        reader.close()


def test_a_login_that_immudb_refuses_is_told_from_an_immudb_that_is_down(bench: Bench) -> None:
    secret = {**bench.secret, "password": "Wrong-Horse-1"}
    wrong = AuditTrail(lambda: secret, TIMEOUT_S, COLD_S)
    with pytest.raises(LoginRefused):
        wrong.append([event("a")])
    bench.server.stop()
    with pytest.raises(ImmudbUnavailable) as down:
        bench.trail().append([event("a")])
    assert not isinstance(down.value, LoginRefused)


# ── tampering ───────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def lovectl(
    bench: Bench, ministack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, Any]]]:
    """`lovectl audit …` on this immuDB: its exit code and its JSON document."""
    sqs = ministack.client("sqs")
    queues = {
        name: sqs.create_queue(
            QueueName=f"{name}-{tmp_path.name}.fifo"[-80:], Attributes={"FifoQueue": "true"}
        )["QueueUrl"]
        for name in ("AuditSpoolUrl", "AuditDeadLettersUrl")
    }
    running = SimpleNamespace(
        stores=SimpleNamespace(immudb=bench.access),
        directory=tmp_path / "stack",
        aws=ministack.client,
        outputs=queues,
    )
    monkeypatch.setattr(audit_commands, "running_access", lambda name: running)

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = CliRunner().invoke(audit_commands.app, [*arguments, "--json"])
        assert done.exit_code in (0, 1, 2), done.exception
        return done.exit_code, json.loads(done.stdout)

    return run


def sequences(report: dict[str, Any]) -> list[int]:
    return [n for one in report["findings"] for n in range(one["sequence"], one["through"] + 1)]


def test_a_whole_trail_is_proved_again_and_again_while_it_grows(bench: Bench, lovectl: Any) -> None:
    assert lovectl("verify")[1]["entries"] == 0
    for count in (5, 9):
        fill(bench, count)
        code, report = lovectl("verify")
        assert (code, report["verdict"], report["entries"]) == (0, "whole", count)
        assert report["spool"] == {"waiting": 0, "dead_letters": 0}
    assert report["verified_before"] == 5


@pytest.mark.parametrize("sequence", [1, 5, 9])
def test_a_record_changed_in_immudb_s_files_is_named_and_no_other(
    sequence: int, bench: Bench, lovectl: Any
) -> None:
    fill(bench, 9)
    assert lovectl("verify")[0] == 0
    bench.server.stop()
    _edit_files(
        bench, f"subject of event-{sequence}".encode(), f"s_bject of event-{sequence}".encode()
    )
    bench.server.start()
    code, report = lovectl("verify")
    assert (code, report["verdict"]) == (1, "broken")
    [finding] = report["findings"]
    assert finding["sequence"] == finding["through"] == sequence
    assert finding["event_id"] == f"event-{sequence}"
    assert finding["problem"] == "changed"
    # The anchor is not moved by what isn't whole, and the next run says the same.
    fill(bench, 12, "later")
    assert sequences(lovectl("verify")[1]) == [sequence]


def test_the_index_and_the_head_are_watched_too(bench: Bench, lovectl: Any) -> None:
    fill(bench, 6)
    session = bench.session()
    session.set({event_key("event-4"): b"2"}, [])
    assert sequences(lovectl("verify")[1]) == [4]
    head = session.get(HEAD_KEY)
    assert head is not None
    session.set({HEAD_KEY: head.value.replace(b'"sequence":6', b'"sequence":5')}, [])
    assert 6 in sequences(lovectl("verify")[1])


def test_an_entry_that_an_administrator_writes_over_is_named(bench: Bench, lovectl: Any) -> None:
    fill(bench, 7)
    session = bench.session()
    old = session.get(entry_key(3))
    assert old is not None
    session.set({entry_key(3): old.value.replace(b"token_expired", b"token_missing")}, [])
    code, report = lovectl("verify")
    assert (code, sequences(report)) == (1, [3])
    # The very bytes as they were, but written again: still said.
    session.set({entry_key(3): old.value}, [])
    assert sequences(lovectl("verify")[1]) == [3]


def test_another_consistent_history_in_immudb_s_place_is_found(
    bench: Bench, lovectl: Any, tmp_path: Path
) -> None:
    fill(bench, 6)
    assert lovectl("verify")[0] == 0
    bench.server.stop()
    shutil.rmtree(bench.directory)
    bench.server.start()
    fill(bench, 8, "other")
    assert verify(bench.reader()).clean  # by itself nothing tells
    code, report = lovectl("verify")
    assert (code, report["findings"][0]["problem"]) == (1, "other_history")
    assert 6 in sequences(report)  # not the entry that was verified
    # Without the state the anchor alone finds it, and names that entry.
    (tmp_path / "stack" / "audit" / "state.json").unlink()
    code, report = lovectl("verify")
    assert (code, sequences(report)) == (1, [6])


def test_an_older_copy_of_immudb_is_found_and_what_it_lacks_is_named(
    bench: Bench, lovectl: Any, tmp_path: Path
) -> None:
    fill(bench, 4)
    bench.server.stop()
    shutil.copytree(bench.directory, tmp_path / "older")
    bench.server.start()
    fill(bench, 9)
    assert lovectl("verify")[0] == 0
    bench.server.stop()
    shutil.rmtree(bench.directory)
    shutil.copytree(tmp_path / "older", bench.directory)
    bench.server.start()
    code, report = lovectl("verify")
    assert (code, report["findings"][0]["problem"]) == (1, "other_history")
    assert sequences(report) == [0, 5, 6, 7, 8, 9]


def test_an_emptied_immudb_is_found(bench: Bench, lovectl: Any) -> None:
    fill(bench, 3)
    assert lovectl("verify")[0] == 0
    bench.server.stop()
    shutil.rmtree(bench.directory)
    bench.server.start()
    code, report = lovectl("verify")
    assert (code, sequences(report)) == (1, [0, 1, 2, 3])


def test_with_immudb_down_nothing_is_said_to_be_proved(bench: Bench, lovectl: Any) -> None:
    fill(bench, 2)
    bench.server.stop()
    code, report = lovectl("verify")
    assert (code, report["verdict"]) == (2, "unknown")


def test_the_newest_events_are_shown_with_who_what_where_when_and_why(
    bench: Bench, lovectl: Any
) -> None:
    fill(bench, 5)
    code, shown = lovectl("tail", "-n", "2")
    assert code == 0
    assert [one["event_id"] for one in shown["events"]] == ["event-4", "event-5"]
    last = shown["events"][-1]
    assert (last["who"], last["where"]) == ("subject of event-5", "192.0.2.1")
    assert (last["what"], last["why"]) == ("org.lovecurrency.access.refused", "token_expired")
    assert (last["when"], last["request_id"]) == ("2026-11-25T00:00:00.000Z", "r-event-5")


def test_new_events_are_shown_as_they_come_until_it_is_interrupted(
    bench: Bench, lovectl: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(bench, 3)
    coming = iter([["later-1", "later-2"], []])

    def wait(_: float) -> None:
        batch = next(coming, None)
        if batch is None:
            raise KeyboardInterrupt
        bench.trail().append([event(one) for one in batch])

    monkeypatch.setattr(audit_commands.time, "sleep", wait)
    done = CliRunner().invoke(audit_commands.app, ["tail", "-n", "1", "--follow", "--json"])
    shown = [json.loads(line)["event_id"] for line in done.stdout.splitlines()]
    assert (done.exit_code, shown) == (0, ["event-3", "later-1", "later-2"])


def test_people_are_told_the_number_of_the_entry_and_what_is_wrong(
    bench: Bench, lovectl: Any
) -> None:
    fill(bench, 3)
    bench.session().set({event_key("event-2"): b"3"}, [])
    done = CliRunner().invoke(audit_commands.app, ["verify"])
    assert done.exit_code == 1
    assert "broken: 3 entries" in done.stdout
    [row] = [line for line in done.stdout.splitlines() if "event-2" in line]
    assert row.split("│")[1].strip() == "2"


def test_a_corrupted_record_is_told_by_the_session_and_does_not_end_it(bench: Bench) -> None:
    fill(bench, 3)
    bench.server.stop()
    _edit_files(bench, b"subject of event-2", b"subject of evil-02")
    bench.server.start()
    session = bench.session()
    with pytest.raises(RecordCorrupted):
        session.get(entry_key(2))
    found = session.get(entry_key(3))
    assert found is not None
    assert read_entry(found.value).event_id == "event-3"


def _edit_files(bench: Bench, old: bytes, new: bytes) -> None:
    """Change the bytes of a value where immuDB keeps them: in the value log of the database."""
    assert len(old) == len(new)
    edited = 0
    for path in (bench.directory / "audit").rglob("*"):
        if path.is_file() and old in (content := path.read_bytes()):
            path.write_bytes(content.replace(old, new))
            edited += content.count(old)
    assert edited == 1
