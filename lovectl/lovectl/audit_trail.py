"""The audit trail of a running stack: its reader with proofs, its spool, and what was seen before."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from immudb import ImmudbClient
from immudb.grpc import schema_pb2
from immudb.rootService import RootService, State

from federation.audit_chain import (
    EVENT_PREFIX,
    HEAD_KEY,
    START,
    Entry,
    Head,
    entry_key,
    read_entry,
    read_head,
)
from federation.immudb_session import (
    DatabaseAbsent,
    Found,
    ImmudbSession,
    ImmudbUnavailable,
    ProofFailed,
)
from lovectl.checker import SCAN_ENTRIES_MAX, ImmudbAccess
from lovectl.paths import private_directory, write_private

TIMEOUT_S: Final = 10.0


class TrailReader:
    """Reads a trail, each value proved by immuDB against the state that `known` keeps.

    Parameters
    ----------
    access : ImmudbAccess
    database : str
    known : KnownState, optional
        Without it the first state that the server tells is believed.
    """

    def __init__(
        self, access: ImmudbAccess, database: str, known: "KnownState | None" = None
    ) -> None:
        self._known = known
        secret = {**asdict(access), "database": database}
        self._session = ImmudbSession(lambda: secret, "database", TIMEOUT_S, TIMEOUT_S, known)

    def get(self, key: bytes) -> Found | None:
        """A verified read; None too while the database was never made.

        Raises
        ------
        ImmudbUnavailable
            RecordCorrupted and ProofFailed among them.
        """
        try:
            return self._session.get(key)
        except DatabaseAbsent as error:
            if self._known is not None and self._known.remembered:
                raise ProofFailed("the database that was seen before is gone") from error
            return None

    def event_id_of(self, sequence: int) -> str:
        """The id of the event that the index has at `sequence`; empty if it can't be told."""
        try:
            for key, value in self._scan(EVENT_PREFIX):
                if value == str(sequence).encode():
                    return key.removeprefix(EVENT_PREFIX).decode(errors="replace")
        except ImmudbUnavailable:  # a value of the index is corrupted too
            return ""
        return ""

    def head(self) -> Head:
        """The head of the trail; START if there is none yet."""
        found = self.get(HEAD_KEY)
        return START if found is None else read_head(found.value)

    def entries(self, first: int, last: int) -> Iterator[Entry]:
        """The entries from `first` to `last` that lie there."""
        for sequence in range(max(1, first), last + 1):
            found = self.get(entry_key(sequence))
            if found is not None:
                yield read_entry(found.value)

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        seek = b""
        while True:
            request = schema_pb2.ScanRequest(prefix=prefix, seekKey=seek, limit=SCAN_ENTRIES_MAX)
            found = self._session.call(partial(_scan, request))
            yield from ((bytes(entry.key), bytes(entry.value)) for entry in found.entries)
            if len(found.entries) < SCAN_ENTRIES_MAX:
                return
            seek = found.entries[-1].key


def _scan(request: schema_pb2.ScanRequest, client: ImmudbClient) -> Any:
    return client.stub.Scan(request)


class KnownState(RootService):  # type: ignore[misc]
    """What was seen of immuDB's history, kept in a file from one verification to the next.

    The file is written by `save` only: a state is worth keeping once the whole trail is clean.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: Any = None
        self._remembered = _read(path, _KeptState)

    @property
    def remembered(self) -> bool:
        """Whether an earlier verification left a state."""
        return self._remembered is not None

    def init(self, dbname: str, service: Any) -> None:
        """The kept state, or else the one that the server tells now."""
        kept = self._remembered
        if kept is None or kept.database != dbname:
            super().init(dbname, service)
            self._state = super().get()
        else:
            self._state = State(dbname, kept.transaction, bytes.fromhex(kept.hash), b"", b"")

    def get(self) -> Any:
        """The state that the next answer is proved against."""
        return self._state

    def set(self, root: Any) -> None:
        """A newer one, proved to follow."""
        self._state = root

    def save(self, database: str) -> None:
        """Keep the last state."""
        if self._state is not None:
            kept = _KeptState(database, int(self._state.txId), bytes(self._state.txHash).hex())
            _write(self._path, kept)


class _KeptState(msgspec.Struct, frozen=True):
    """The number of immuDB's last transaction, and the accumulated hash of its history."""

    database: str
    transaction: int
    hash: str


def read_anchor(path: Path) -> Head | None:
    """The last entry that was verified, if one was."""
    found: Head | None = _read(path, Head)
    return found


def write_anchor(path: Path, head: Head) -> None:
    """Keep the last entry that was verified."""
    _write(path, head)


def spool_counts(sqs: Any, outputs: Mapping[str, str]) -> dict[str, int]:
    """How many events wait in the spool, and how many could not be written at all.

    Parameters
    ----------
    sqs : boto3 client
    outputs : mapping
        Of template.yaml.
    """
    return {
        "waiting": _messages(sqs, outputs["AuditSpoolUrl"]),
        "dead_letters": _messages(sqs, outputs["AuditDeadLettersUrl"]),
    }


def _messages(sqs: Any, queue_url: str) -> int:
    names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ]
    found = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)["Attributes"]
    return sum(int(found[name]) for name in names)


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None


def _write(path: Path, value: Any) -> None:
    private_directory(path.parent)
    staging = path.with_suffix(".new")
    write_private(staging, msgspec.json.encode(value))
    staging.replace(path)
