"""The audit trail in immuDB: appends events to its chain, each once, whoever else is writing."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from federation.audit_chain import (
    HEAD_KEY,
    START,
    Appended,
    append,
    entry_key,
    event_key,
    head_value,
    read_head,
)
from federation.errors import FederationError
from federation.immudb_session import (
    Access,
    ConditionFailed,
    DatabaseAbsent,
    ImmudbSession,
    absent,
    create_database,
    unchanged,
)

#: Of the secret `love/immudb`.
DATABASE_MEMBER: Final = "audit_database"
#: Another writer that is first costs a round; there are two only while a function is replaced.
ROUNDS_MAX: Final = 8


class TrailBusy(FederationError):
    """Other writers were first each time; nothing was written."""

    def __init__(self) -> None:
        super().__init__("trail_busy", "other writers of the audit trail were first each time")


class TrailBroken(FederationError):
    """immuDB gave back another entry than was written."""

    def __init__(self, sequence: int) -> None:
        super().__init__("trail_broken", f"entry {sequence} of the audit trail is not as written")


class AuditTrail:
    """One chain in one database; made if it is absent.

    Parameters
    ----------
    access : callable
        Gives the secret `love/immudb`; `audit_database` names the database.
    timeout_s, cold_timeout_s : float
        For a call, and for the first one of a session.
    """

    def __init__(self, access: Access, timeout_s: float, cold_timeout_s: float) -> None:
        self._access = access
        self._cold_timeout_s = cold_timeout_s
        self._session = ImmudbSession(access, DATABASE_MEMBER, timeout_s, cold_timeout_s)

    def append(self, events: Sequence[Mapping[str, Any]]) -> int:
        """Append those that the trail doesn't hold, in their order; gives how many these were.

        All of them in one transaction of immuDB, whose conditions are that no new entry and no new
        event exists, and that the head is the one that they follow. So a repetition, a second
        writer or a crash at any moment neither forks the chain, nor leaves a gap, nor doubles an
        event. Each entry is read again afterwards, with its proof.

        Raises
        ------
        ImmudbUnavailable
            Nothing is known to be written; to append the same again is harmless.
        EntryDamaged, TrailBroken, TrailBusy
        """
        for _ in range(ROUNDS_MAX):
            try:
                return self._append_once(events)
            except ConditionFailed:
                continue
            except DatabaseAbsent:
                create_database(self._access, DATABASE_MEMBER, self._cold_timeout_s)
        raise TrailBusy

    def close(self) -> None:
        """Give the connection back."""
        self._session.close()

    def _append_once(self, events: Sequence[Mapping[str, Any]]) -> int:
        stored = self._session.get(HEAD_KEY)
        head = START if stored is None else read_head(stored.value)
        fresh: dict[str, Mapping[str, Any]] = {}
        for event in events:
            if self._session.get(event_key(str(event["id"]))) is None:
                fresh.setdefault(str(event["id"]), event)
        if not fresh:
            return 0
        appended = append(head, fresh.values())
        values = _values(appended)
        conditions = [absent(key) for key in values if key != HEAD_KEY]
        conditions.append(
            absent(HEAD_KEY) if stored is None else unchanged(HEAD_KEY, stored.transaction)
        )
        self._session.set(values, conditions)
        self._check(appended)
        return len(fresh)

    def _check(self, appended: Appended) -> None:
        for entry, written in appended.entries:
            found = self._session.get(entry_key(entry.sequence))
            if found is None or found.value != written:
                raise TrailBroken(entry.sequence)


def _values(appended: Appended) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {HEAD_KEY: head_value(appended.head)}
    for entry, stored in appended.entries:
        values[entry_key(entry.sequence)] = stored
        values[event_key(entry.event_id)] = str(entry.sequence).encode()
    return values
