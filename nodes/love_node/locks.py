"""Vote locks: which transaction this delegate has promised its vote to, for each (sender, nonce).

The promise is on the disk before any signature is made: SQLite with WAL and `synchronous=FULL`.
Batches that wait while another one is written go to the disk together, by one fsync (group commit).
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from love_node.errors import DatabaseFault

BUSY_TIMEOUT_S: Final = 5.0

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vote_lock (
    sender BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    transaction_id BLOB NOT NULL,
    PRIMARY KEY (sender, nonce)
) WITHOUT ROWID, STRICT
"""
_CLOCK_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    written_at_ms INTEGER NOT NULL
) STRICT
"""
_CLOCK: Final = """
INSERT INTO clock VALUES (1, ?)
ON CONFLICT (one) DO UPDATE SET written_at_ms = max(written_at_ms, excluded.written_at_ms)
"""

#: (sender, nonce, transaction_id)
Wanted = Sequence[tuple[bytes, int, bytes]]


class _Waiting:
    """A batch on its way to the disk: what it wants, and then what holds, or why nothing does."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.held: list[bytes] | None = None
        self.fault: DatabaseFault | None = None


class VoteLocks:
    """The locks of one delegate; safe for threads, and for a crash at any point.

    Parameters
    ----------
    path : Path
    on_commit : callable, optional
        Told how long each write to the disk took, in seconds.

    Raises
    ------
    DatabaseFault
        The file is damaged, or can't be written.
    """

    def __init__(self, path: Path, on_commit: Callable[[float], None] = lambda _: None) -> None:
        self._path = path
        self._on_commit = on_commit
        self._mutex = threading.Lock()
        self._queue: list[_Waiting] = []
        self._queue_mutex = threading.Lock()
        try:
            self._db = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
            self._db.execute(_CLOCK_SCHEMA)
            [check] = self._db.execute("PRAGMA quick_check").fetchone()
            [count] = self._db.execute("SELECT count(*) FROM vote_lock").fetchone()
            written = self._db.execute("SELECT written_at_ms FROM clock").fetchone()
        except sqlite3.Error as error:
            raise DatabaseFault(f"database {path}: {error}") from error
        if check != "ok":
            raise DatabaseFault(f"database {path}: {check}")
        self._count = int(count)
        self._written_at_ms = 0 if written is None else int(written[0])

    @property
    def count(self) -> int:
        """How many nonces are promised."""
        return self._count

    @property
    def written_at_ms(self) -> int:
        """When these locks were last written by this machine's clock, in Unix ms; 0 if never."""
        return self._written_at_ms

    def lock(self, wanted: Wanted) -> list[bytes]:
        """Promise each (sender, nonce) to its transaction, unless it is promised already.

        Parameters
        ----------
        wanted : sequence of (sender, nonce, transaction_id)

        Returns
        -------
        list of bytes
            The transaction that holds each lock now; durable when this returns.

        Raises
        ------
        DatabaseFault
            Nothing of this batch is promised.
        """
        mine = _Waiting(wanted)
        with self._queue_mutex:
            self._queue.append(mine)
        with self._mutex:
            # Whoever had the mutex before may have written this batch along with its own.
            if mine.held is None and mine.fault is None:
                with self._queue_mutex:
                    group, self._queue = self._queue, []
                self._commit(group)
        if mine.held is None:
            raise mine.fault or DatabaseFault(f"database {self._path}: the batch was not written")
        return mine.held

    def probe(self) -> None:
        """Write to the disk, to see that it can be done.

        Raises
        ------
        DatabaseFault
        """
        self.lock([])

    def close(self) -> None:
        """Write everything back, and let go of the file."""
        with self._mutex:
            self._db.close()

    def _commit(self, group: Sequence[_Waiting]) -> None:
        now_ms = time.time_ns() // 1_000_000
        began_s = time.perf_counter()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            before = self._db.total_changes
            answers = [self._promised(one.wanted) for one in group]
            added = self._db.total_changes - before
            self._db.execute(_CLOCK, (now_ms,))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            for one in group:
                one.fault = DatabaseFault(f"database {self._path}: {error}")
            return
        except BaseException as error:
            self._roll_back()
            for one in group:
                one.fault = DatabaseFault(f"database {self._path}: {error!r}")
            raise
        self._count += added
        self._written_at_ms = max(self._written_at_ms, now_ms)
        self._on_commit(time.perf_counter() - began_s)
        for one, held in zip(group, answers, strict=True):
            one.held = held

    def _promised(self, wanted: Wanted) -> list[bytes]:
        self._db.executemany("INSERT OR IGNORE INTO vote_lock VALUES (?, ?, ?)", wanted)
        return [self._holder(sender, nonce) for sender, nonce, _ in wanted]

    def _roll_back(self) -> None:
        # A COMMIT that failed may have left its transaction open, which would spoil the next one.
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error:
            # The next BEGIN says so again; until then nothing is promised.
            return

    def _holder(self, sender: bytes, nonce: int) -> bytes:
        query = "SELECT transaction_id FROM vote_lock WHERE sender = ? AND nonce = ?"
        found: tuple[bytes] = self._db.execute(query, (sender, nonce)).fetchone()
        return found[0]
