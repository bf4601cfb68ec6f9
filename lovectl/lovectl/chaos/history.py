"""The client's own log of a run: what it sent, what it was answered, what was broken meanwhile.

JSON lines (one event a line), only ever appended to. Each answer of 202 is on disk before the
simulator goes on, so that a crash of the simulator itself hides no promise that it was given.
"""

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

import msgspec

from lovectl.chaos.canonical import transaction_id
from lovectl.paths import private_directory

ACCEPTED: Final = 202
#: The status of an answer that never came.
NO_ANSWER: Final = 0


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A transaction as it was posted, content and all, written before it is posted.

    Attributes
    ----------
    home : str
        The continent in the sender's certificate.
    algorithm, public_key : str
        Of the sender's key; the key is base64.
    """

    at_ms: int
    scenario: str
    home: str
    algorithm: str
    public_key: str
    document: dict[str, Any]


class Answered(msgspec.Struct, frozen=True, tag="answered"):
    """What the API said to one post; `status` is 0 when it said nothing.

    Attributes
    ----------
    sent : list of str
        Ids of the transactions in the post, as the client named them.
    claimed : list of str
        Ids that a 202 named.
    """

    at_ms: int
    scenario: str
    status: int
    sent: list[str]
    claimed: list[str] = []
    detail: str = ""
    took_ms: int = 0


class Seen(msgspec.Struct, frozen=True, tag="seen"):
    """The receipt that the API gave for a transaction."""

    at_ms: int
    scenario: str
    transaction_id: str
    receipt: dict[str, Any]


class Found(msgspec.Struct, frozen=True, tag="found"):
    """A copy that the checker read straight from a store: for the report, no judge believes it."""

    at_ms: int
    scenario: str
    transaction_id: str
    tier: str
    place: str
    stored_at_ms: int
    final: bool
    reconciled: bool = False


class FaultEdge(msgspec.Struct, frozen=True, tag="fault"):
    """A fault begins or ends at a target."""

    at_ms: int
    scenario: str
    fault: str
    target: str
    edge: Literal["begins", "ends"]


class Mark(msgspec.Struct, frozen=True, tag="mark"):
    """A step of the run, for people: a scenario begins, reconcile ran, the checker looked."""

    at_ms: int
    scenario: str
    what: str
    detail: dict[str, Any] = {}


Event = Sent | Answered | Seen | Found | FaultEdge | Mark


class HistoryLog:
    """Appends events to a file; safe for threads.

    Parameters
    ----------
    path : Path
        Readable by this user only: contents stand in it in clear.
    """

    def __init__(self, path: Path) -> None:
        private_directory(path.parent)
        self.path = path
        self._encoder = msgspec.json.Encoder()
        self._lock = threading.Lock()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._file = os.fdopen(descriptor, "ab")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._file.close()

    def write(self, *events: Event) -> None:
        """Append; an answer of 202 (and all that was written before it) is on disk afterwards."""
        lines = b"".join(self._encoder.encode(event) + b"\n" for event in events)
        promised = any(isinstance(one, Answered) and one.status == ACCEPTED for one in events)
        with self._lock:
            self._file.write(lines)
            self._file.flush()
            if promised:
                os.fsync(self._file.fileno())

    def size_bytes(self) -> int:
        """How long the file is: the offset of the next event."""
        with self._lock:
            return self.path.stat().st_size


class History:
    """A log that was read back; ids are computed anew from the documents that were sent.

    Attributes
    ----------
    events : tuple of Event
        In the order in which they were written.
    """

    def __init__(self, events: Iterable[Event]) -> None:
        self.events = tuple(events)

    @classmethod
    def read(cls, path: Path, offset: int = 0) -> "History":
        """Read a log; a last line that a crash has torn is left out, it promised nothing yet.

        Parameters
        ----------
        offset : int
            In bytes: where an event begins; what is before it is left out.

        Raises
        ------
        msgspec.DecodeError
            A whole line is not an event.
        """
        with path.open("rb") as file:
            file.seek(offset)
            *lines, _ = file.read().split(b"\n")
        decoder = msgspec.json.Decoder(Event)
        return cls(decoder.decode(line) for line in lines)

    def of(self, *scenarios: str) -> "History":
        """The part of it that belongs to these scenarios."""
        return History(one for one in self.events if one.scenario in scenarios)

    @cached_property
    def sent(self) -> dict[str, Sent]:
        """Everything that was posted, whatever the answer, by id."""
        return {transaction_id(one.document): one for one in self._all(Sent)}

    @cached_property
    def accepted_at_ms(self) -> dict[str, int]:
        """Id to the time of its first 202; ids as the API named them."""
        found: dict[str, int] = {}
        for one in self._all(Answered):
            if one.status == ACCEPTED:
                for claimed in one.claimed:
                    found.setdefault(claimed, one.at_ms)
        return found

    @cached_property
    def senders(self) -> frozenset[str]:
        """The accounts of this history."""
        return frozenset(str(one.document["sender"]) for one in self._all(Sent))

    @cached_property
    def answers(self) -> list[Answered]:
        """All answers to posts."""
        return self._all(Answered)

    @cached_property
    def receipts(self) -> list[Seen]:
        """All receipts that were seen."""
        return self._all(Seen)

    @cached_property
    def found(self) -> list[Found]:
        """All copies that the checker read."""
        return self._all(Found)

    def marks(self, what: str) -> list[Mark]:
        """The marks of this kind."""
        return [one for one in self._all(Mark) if one.what == what]

    def faults(self) -> list[tuple[str, str, int, int]]:
        """(fault, target, begin, end) in Unix ms; one that never ended lasts to the last event."""
        last_ms = max((one.at_ms for one in self.events), default=0)
        began: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        spans = []
        for one in self._all(FaultEdge):
            key = (one.scenario, one.fault, one.target)
            if one.edge == "begins":
                began[key].append(one.at_ms)
            elif began[key]:
                spans.append((one.fault, one.target, began[key].pop(), one.at_ms))
        spans += [
            (key[1], key[2], start, last_ms) for key, starts in began.items() for start in starts
        ]
        return sorted(spans, key=lambda span: span[2])

    def _all(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.events if isinstance(one, kind)]


def now_ms() -> int:
    """Unix time in milliseconds, as every event has it."""
    return time.time_ns() // 1_000_000


def ids(documents: Sequence[dict[str, Any]]) -> list[str]:
    """The ids of documents as the client names them."""
    return [transaction_id(one) for one in documents]
