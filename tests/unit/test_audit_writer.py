"""The writer of the trail acknowledges all of a batch or nothing, and appends each event once."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immudb.grpc import schema_pb2

from audit import app
from audit.trail import ROUNDS_MAX, AuditTrail, TrailBroken, TrailBusy
from federation.audit_chain import HEAD_KEY, EntryDamaged, entry_key, read_head
from federation.immudb_session import ConditionFailed, Found, ImmudbUnavailable
from lovectl.audit_verify import verify


class Store:
    """immuDB as far as the writer needs it: a log of transactions, with their conditions."""

    def __init__(self) -> None:
        self.transactions = 0
        self.values: dict[bytes, Found] = {}
        self.before_set: list[Any] = []

    def get(self, key: bytes) -> Found | None:
        return self.values.get(key)

    def event_id_of(self, sequence: int) -> str:
        return ""

    def set(self, entries: Mapping[bytes, bytes], conditions: Any) -> None:
        if self.before_set:
            self.before_set.pop(0)()
        for one in conditions:
            if not self._holds(one):
                raise ConditionFailed
        self.transactions += 1
        for key, value in entries.items():
            known = self.values.get(key)
            revision = 1 if known is None else known.revision + 1
            self.values[key] = Found(value, self.transactions, revision)

    def _holds(self, condition: schema_pb2.Precondition) -> bool:
        if condition.HasField("keyMustNotExist"):
            return condition.keyMustNotExist.key not in self.values
        known = self.values.get(condition.keyNotModifiedAfterTX.key)
        return known is None or known.transaction <= condition.keyNotModifiedAfterTX.txID


def trail(store: Store) -> AuditTrail:
    made = AuditTrail(dict, 1, 1)
    made._session = store  # type: ignore[assignment]
    return made


def events(*ids: str) -> list[dict[str, Any]]:
    return [{"id": one, "data": {}} for one in ids]


def order(store: Store) -> list[str]:
    head = store.get(HEAD_KEY)
    last = read_head(head.value).sequence if head else 0
    return [json.loads(store.values[entry_key(n)].value)["event"]["id"] for n in range(1, last + 1)]


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=5), max_size=8))
def test_an_event_is_appended_once_in_the_order_in_which_it_came_first(
    batches: list[list[str]],
) -> None:
    store = Store()
    for batch in batches:
        trail(store).append(events(*batch))
    assert order(store) == list(dict.fromkeys(one for batch in batches for one in batch))
    assert verify(store).clean


def test_a_writer_that_is_overtaken_follows_the_one_who_was_first() -> None:
    store = Store()
    trail(store).append(events("a"))
    store.before_set = [lambda: trail(store).append(events("x", "y"))]
    assert trail(store).append(events("b", "x", "c")) == 2
    assert order(store) == ["a", "x", "y", "b", "c"]
    assert verify(store).clean


def test_a_writer_that_is_always_overtaken_gives_up_and_has_written_nothing() -> None:
    store = Store()
    names = iter(range(ROUNDS_MAX))

    def overtake() -> None:
        waiting, store.before_set = store.before_set, []
        trail(store).append(events(f"other-{next(names)}"))
        store.before_set = waiting

    store.before_set = [overtake] * ROUNDS_MAX
    with pytest.raises(TrailBusy):
        trail(store).append(events("mine"))
    assert "mine" not in order(store)


def test_an_entry_that_comes_back_otherwise_is_told() -> None:
    class Lying(Store):
        def get(self, key: bytes) -> Found | None:
            found = super().get(key)
            if found is not None and key == entry_key(1):
                return Found(found.value + b" ", found.transaction, 1)
            return found

    with pytest.raises(TrailBroken, match="entry 1"):
        trail(Lying()).append(events("a"))


def test_nothing_is_appended_to_a_trail_whose_head_can_not_be_read() -> None:
    store = Store()
    store.set({HEAD_KEY: b"nonsense"}, [])
    with pytest.raises(EntryDamaged):
        trail(store).append(events("a"))
    assert set(store.values) == {HEAD_KEY}


# ── the handler ─────────────────────────────────────────────────────────────────────────────────


class Sqs:
    def __init__(self) -> None:
        self.put_back: list[tuple[str, int]] = []

    def change_message_visibility_batch(self, QueueUrl: str, Entries: Any) -> None:
        self.put_back += [(one["ReceiptHandle"], one["VisibilityTimeout"]) for one in Entries]


class Writer:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.taken: list[str] = []

    def append(self, events: list[dict[str, Any]]) -> int:
        if self.error is not None:
            raise self.error
        self.taken += [one["id"] for one in events]
        return len(events)


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sqs]:
    queue = Sqs()
    settings = app.Settings(audit_queue_url="url", immudb_secret="love/immudb")
    monkeypatch.setattr(app, "_settings", lambda: settings)
    monkeypatch.setattr(app, "_sqs", lambda: queue)
    monkeypatch.setenv("POWERTOOLS_TRACE_DISABLED", "true")
    return queue


def sqs_event(*bodies: str, receive_count: int = 1) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m-{n}",
                "receiptHandle": f"h-{n}",
                "body": body,
                "attributes": {
                    "ApproximateReceiveCount": str(receive_count),
                    "SentTimestamp": "1793500000000",
                },
            }
            for n, body in enumerate(bodies)
        ]
    }


def cloud_event(event_id: str) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": event_id,
            "source": "/functions/send",
            "type": "t",
            "subject": "s",
            "time": "2026-11-25T00:00:00Z",
            "data": {},
        }
    )


def test_what_is_written_is_acknowledged_and_what_can_not_be_read_is_written_too(
    sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer()
    monkeypatch.setattr(app, "_trail", lambda: writer)
    answer = app.handler(sqs_event(cloud_event("a"), "love", cloud_event("b")), None)
    assert answer == {"batchItemFailures": []}
    assert writer.taken == ["a", "unreadable-m-1", "b"]
    assert sqs.put_back == []


@pytest.mark.parametrize(
    "error",
    [ImmudbUnavailable("down"), EntryDamaged("its head"), TrailBusy(), TrailBroken(3)],
    ids=lambda error: error.reason,
)
def test_a_failure_gives_back_the_whole_batch_so_that_nothing_is_overtaken(
    error: Exception, sqs: Sqs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_trail", lambda: Writer(error))
    answer = app.handler(sqs_event(*map(cloud_event, "abc"), receive_count=4), None)
    assert [one["itemIdentifier"] for one in answer["batchItemFailures"]] == ["m-0", "m-1", "m-2"]
    assert sqs.put_back == [("h-0", 8), ("h-1", 8), ("h-2", 8)]
