"""Vote locks: which transaction this delegate has promised its vote to, for each (sender, nonce).

The promise is on the disk before any signature is made: SQLite with WAL and `synchronous=FULL`,
one transaction, so one fsync, a batch.
"""

import sqlite3
import threading
from collections.abc import Sequence
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


class VoteLocks:
    """The locks of one delegate; safe for threads, and for a crash at any point.

    Raises
    ------
    DatabaseFault
        The file is damaged, or can't be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._mutex = threading.Lock()
        try:
            self._db = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
            [check] = self._db.execute("PRAGMA quick_check").fetchone()
        except sqlite3.Error as error:
            raise DatabaseFault(f"database {path}: {error}") from error
        if check != "ok":
            raise DatabaseFault(f"database {path}: {check}")

    def lock(self, wanted: Sequence[tuple[bytes, int, bytes]]) -> list[bytes]:
        """Promise each (sender, nonce) to its transaction, unless it is promised already.

        Parameters
        ----------
        wanted : sequence of (sender, nonce, transaction_id)

        Returns
        -------
        list of bytes
            The transaction that holds each lock now; durable when this returns.
        """
        with self._mutex:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    self._db.executemany("INSERT OR IGNORE INTO vote_lock VALUES (?, ?, ?)", wanted)
                    held = [self._holder(sender, nonce) for sender, nonce, _ in wanted]
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                raise DatabaseFault(f"database {self._path}: {error}") from error
        return held

    def close(self) -> None:
        """Write everything back, and let go of the file."""
        with self._mutex:
            self._db.close()

    def _holder(self, sender: bytes, nonce: int) -> bytes:
        query = "SELECT transaction_id FROM vote_lock WHERE sender = ? AND nonce = ?"
        found: tuple[bytes] = self._db.execute(query, (sender, nonce)).fetchone()
        return found[0]
