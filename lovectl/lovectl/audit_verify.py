"""Proves that no entry of an audit trail is missing or changed, and names those that are."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

from federation.audit_chain import (
    HEAD_KEY,
    START,
    Entry,
    EntryDamaged,
    Head,
    entry_hash,
    entry_key,
    event_key,
    read_entry,
    read_head,
)
from federation.immudb_session import Found, ProofFailed, RecordCorrupted
from federation.limits import AUDIT_EVENT_ID_CHARACTERS_MAX

Problem = Literal["changed", "missing", "out_of_order", "doubled", "behind_head", "other_history"]

#: Said of one entry; more would only repeat.
_DETAILS_MAX: Final = 3


class Reader(Protocol):
    """Where a trail is kept; `federation.immudb_session.ImmudbSession` is one with proofs."""

    def get(self, key: bytes) -> Found | None:
        """What lies under `key`.

        Raises
        ------
        RecordCorrupted
            The store knows itself that it is not what was written.
        ProofFailed
            It does not belong to the history that was seen before.
        """
        ...

    def event_id_of(self, sequence: int) -> str:
        """The id of the event that the index has in this place; empty if it can't be told."""
        ...


@dataclass(frozen=True)
class Finding:
    """What is wrong with one entry, or with all from `sequence` to `through`.

    Attributes
    ----------
    sequence, through : int
        0 when it is about the whole history.
    event_id : str
        Empty if it can't be read.
    """

    problem: Problem
    sequence: int
    through: int
    event_id: str
    detail: str


@dataclass(frozen=True)
class Verdict:
    """What the verification of a trail came to.

    Attributes
    ----------
    head : Head
        The last entry that lies there; to be kept as the next anchor, if the verdict is clean.
    findings : tuple of Finding
        In the order of the entries.
    """

    head: Head
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing is missing and nothing is changed."""
        return not self.findings


def verify(
    reader: Reader,
    anchor: Head | None = None,
    without_memory: Callable[[], Reader] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Verdict:
    """Read the whole trail, from its head to its start.

    From the end, because each entry vouches for the one before: an entry whose own hash is vouched
    for holds the true hash of its predecessor, so that a changed entry is told from its innocent
    neighbours.

    Parameters
    ----------
    reader : Reader
    anchor : Head, optional
        The last entry of an earlier verification: it must still be there, the same.
    without_memory : callable, optional
        Gives a reader that remembers no history; with it the trail is looked through even if its
        history is another one.
    progress : callable, optional
        Called with the number of entries read.

    Raises
    ------
    ImmudbUnavailable
        The store can't be reached; nothing is proved.
    """
    findings = _Findings()
    try:
        stored_head = _settled_head(reader, findings)
    except ProofFailed as error:
        findings.add("other_history", 0, "", error.detail)
        if without_memory is None:
            return Verdict(START, findings.sorted())
        reader = without_memory()
        stored_head = _settled_head(reader, findings)
    last, vouched = _end(reader, stored_head, anchor, findings)
    head = START
    for sequence in range(last, 0, -1):
        looked = _look(reader, sequence, findings)
        if looked is None:
            vouched = None
        else:
            entry, own_hash = looked
            if head == START:
                head = Head(sequence, own_hash)
            if vouched is not None and vouched != own_hash:
                by = "the head" if sequence == last else f"entry {sequence + 1}"
                detail = f"its hash is not the one that {by} holds"
                findings.add("changed", sequence, entry.event_id, detail)
            sound = not findings.has(sequence)
            if anchor is not None and sequence == anchor.sequence and own_hash != anchor.hash:
                detail = "its hash is not the one of the last verification"
                findings.add("changed", sequence, entry.event_id, detail)
            vouched = entry.previous_hash if sound else None
        if progress is not None:
            progress(1)
    if last and vouched is not None and vouched != START.hash:
        findings.add("changed", 1, reader.event_id_of(1), "it is not the start of a chain")
    return Verdict(head, findings.sorted())


@dataclass
class _Findings:
    found: dict[int, Finding] = field(default_factory=dict)

    def add(
        self, problem: Problem, sequence: int, event_id: str, detail: str, through: int = 0
    ) -> None:
        known = self.found.get(sequence)
        if known is None:
            new = Finding(problem, sequence, through or sequence, event_id, detail)
        elif known.detail.count("; ") >= _DETAILS_MAX - 1:
            return
        else:
            new = Finding(
                known.problem,
                sequence,
                max(known.through, through),
                known.event_id or event_id,
                f"{known.detail}; {detail}",
            )
        self.found[sequence] = new

    def has(self, sequence: int) -> bool:
        return sequence in self.found

    def sorted(self) -> tuple[Finding, ...]:
        return tuple(self.found[sequence] for sequence in sorted(self.found))


def _settled_head(reader: Reader, findings: _Findings) -> Head | None:
    """The head with nothing behind it, though somebody may be appending meanwhile."""
    head = _head(reader, findings)
    while not findings.has(0) and _is_there(reader, (head or START).sequence + 1):
        newer = _head(reader, findings)
        if newer is None or newer.sequence <= (head or START).sequence:
            break
        head = newer
    return head


def _head(reader: Reader, findings: _Findings) -> Head | None:
    """The head as it is stored; None if there is none, or none that can be believed."""
    try:
        found = reader.get(HEAD_KEY)
        return None if found is None else read_head(found.value)
    except (RecordCorrupted, EntryDamaged) as error:
        findings.add("changed", 0, "", f"the head of the trail: {error.detail}")
        return None


def _end(
    reader: Reader, stored_head: Head | None, anchor: Head | None, findings: _Findings
) -> tuple[int, str | None]:
    """The last entry that lies there or must, and what its hash has to be, if that is known."""
    last, vouched = (stored_head.sequence, stored_head.hash) if stored_head else (0, None)
    if stored_head is None or not _is_there(reader, last):
        # No head, or one of an entry that isn't there: find the end by looking.
        seen = anchor.sequence if anchor and _is_there(reader, anchor.sequence) else 0
        while _is_there(reader, seen + 1):
            seen += 1
        if stored_head is None:
            if seen and not findings.has(0):
                findings.add("missing", 0, "", "the head of the trail")
        elif seen < last:
            findings.add("missing", seen + 1, "", "the head counts it", through=last)
        elif seen > last:
            findings.add("changed", 0, "", "the head of the trail is older than its entries")
        last, vouched = seen, None
    beyond = last + 1
    while _is_there(reader, beyond):
        newer = None if findings.has(0) else _head(reader, findings)
        if newer is not None and newer.sequence >= beyond:
            break  # it was appended meanwhile
        detail = "it lies behind the head of the trail"
        findings.add("behind_head", beyond, reader.event_id_of(beyond), detail)
        beyond += 1
    if anchor is not None and anchor.sequence >= beyond:
        detail = "the last verification saw it"
        findings.add("missing", last + 1, "", detail, through=anchor.sequence)
    return last, vouched


def _is_there(reader: Reader, sequence: int) -> bool:
    try:
        return sequence > 0 and reader.get(entry_key(sequence)) is not None
    except (RecordCorrupted, ProofFailed):
        return True


def _look(reader: Reader, sequence: int, findings: _Findings) -> tuple[Entry, str] | None:
    """One entry and its hash; None if there is none that could vouch for another."""
    try:
        found = reader.get(entry_key(sequence))
        if found is None:
            findings.add("missing", sequence, reader.event_id_of(sequence), "there is no entry")
            return None
        entry = read_entry(found.value)
    except (RecordCorrupted, ProofFailed, EntryDamaged) as error:
        findings.add("changed", sequence, reader.event_id_of(sequence), error.detail)
        return None
    if found.revision > 1:
        detail = f"it was written {found.revision} times"
        findings.add("changed", sequence, entry.event_id, detail)
    if entry.sequence != sequence:
        detail = f"entry {entry.sequence} lies in its place"
        findings.add("out_of_order", sequence, entry.event_id, detail)
    _check_index(reader, sequence, entry, findings)
    return entry, entry_hash(found.value)


def _check_index(reader: Reader, sequence: int, entry: Entry, findings: _Findings) -> None:
    """The event's own key must lead here: so no event is in the trail twice."""
    if not 0 < len(entry.event_id) <= AUDIT_EVENT_ID_CHARACTERS_MAX:
        findings.add("changed", sequence, "", "its event has no id that could be recorded")
        return
    try:
        found = reader.get(event_key(entry.event_id))
    except (RecordCorrupted, ProofFailed) as error:
        findings.add("changed", sequence, entry.event_id, f"its place in the index: {error.detail}")
        return
    if found is None:
        findings.add("changed", sequence, entry.event_id, "the index doesn't have its event")
    elif found.value != str(sequence).encode():
        other = found.value.decode(errors="replace")
        findings.add("doubled", sequence, entry.event_id, f"the index has its event as {other}")
