"""Group commit over SQLite: what waits while the disk is written goes along with the next write.

SQLite with WAL and `synchronous=FULL`: what `submit` has answered outlives a crash at any point.
"""

import abc
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

from love_node.errors import DatabaseDamaged, DatabaseFault

BUSY_TIMEOUT_S: Final = 5.0
#: SQLite's own words for a file that is not what it wrote (sqlite.org/rescode.html).
_DAMAGE: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRIMARY_CODE: Final = 0xFF

Work = TypeVar("Work")
Answer = TypeVar("Answer")


class _Waiting(Generic[Work, Answer]):
    """Work on its way to the disk: what it is, and then its answer, or why there is none."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.answers: list[Answer] = []
        self.fault: DatabaseFault | None = None


class GroupCommit(abc.ABC, Generic[Work, Answer]):
    """One database file and its writers; each group of waiting work costs one fsync.

    Safe for threads, and for a crash at any point.

    Parameters
    ----------
    path : Path
    schema : sequence of str
        Statements that make what is not there yet.
    on_commit : callable
        Told how long each write to the disk took, in seconds.
    check : bool
        Whether to read the whole file's structure at once, which takes as long as the file is large.

    Raises
    ------
    DatabaseFault
        The file can't be opened or written; `DatabaseDamaged` if it is not what was written.
    """

    def __init__(
        self,
        path: Path,
        schema: Sequence[str],
        on_commit: Callable[[float], None],
        *,
        check: bool = True,
    ) -> None:
        self._path = path
        self._on_commit = on_commit
        self._mutex = threading.Lock()
        self._queue: list[_Waiting[Work, Answer]] = []
        self._queue_mutex = threading.Lock()
        try:
            self._db = connect(path)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            for statement in schema:
                self._db.execute(statement)
            if check:
                [found] = self._db.execute("PRAGMA quick_check(1)").fetchone()
                if found != "ok":
                    raise DatabaseDamaged(f"database {path}: {found}")
        except sqlite3.Error as error:
            raise fault_of(path, error) from error

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    def submit(self, work: Work) -> Answer:
        """Write this; durable when it returns.

        Raises
        ------
        DatabaseFault
            Nothing of it was written.
        """
        mine: _Waiting[Work, Answer] = _Waiting(work)
        with self._queue_mutex:
            self._queue.append(mine)
        with self._mutex:
            # Whoever had the mutex before may have written this along with its own.
            if not mine.answers and mine.fault is None:
                with self._queue_mutex:
                    group, self._queue = self._queue, []
                self._commit(group)
        if mine.fault is not None:
            raise mine.fault
        return mine.answers[0]

    def close(self) -> None:
        """Write everything back, and let go of the file."""
        with self._mutex:
            self._db.close()

    @abc.abstractmethod
    def _write(self, works: Sequence[Work]) -> list[Answer]:
        """Write a group within the open transaction; an answer for each, in their order."""

    @abc.abstractmethod
    def _committed(self) -> None:
        """The last group that was written is on the disk."""

    def _commit(self, group: Sequence[_Waiting[Work, Answer]]) -> None:
        began_s = time.perf_counter()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            answers = self._write([one.work for one in group])
            self._db.execute("COMMIT")
        except (sqlite3.Error, DatabaseFault) as error:
            self._fail(group, fault_of(self._path, error))
            return
        except BaseException as error:
            self._fail(group, DatabaseFault(f"database {self._path}: {error!r}"))
            raise
        self._committed()
        self._on_commit(time.perf_counter() - began_s)
        for one, answer in zip(group, answers, strict=True):
            one.answers.append(answer)

    def _fail(self, group: Sequence[_Waiting[Work, Answer]], fault: DatabaseFault) -> None:
        for one in group:
            one.fault = fault
        # A COMMIT that failed may have left its transaction open, which would spoil the next one.
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            # The next BEGIN says so again; until then nothing is written.
            return


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, for any thread; the caller keeps them apart."""
    return sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def fault_of(path: Path, error: Exception) -> DatabaseFault:
    """What SQLite's error means for the node."""
    if isinstance(error, DatabaseFault):
        return error
    code = getattr(error, "sqlite_errorcode", 0) or 0
    kind = DatabaseDamaged if code & _PRIMARY_CODE in _DAMAGE else DatabaseFault
    return kind(f"database {path}: {error}")
