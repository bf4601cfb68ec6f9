"""Vote locks: which transaction this delegate has promised its vote to, for each (sender, nonce).

The promise is on the disk before any signature is made. Each row has a checksum, and a seal counts
and sums all of them: a lock that was changed or lost is found at start, or when it would be used.
"""

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from love_node.errors import DatabaseDamaged
from love_node.group_commit import GroupCommit, fault_of
from love_node.wal import check_log

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vote_lock (
    sender BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    transaction_id BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (sender, nonce)
) WITHOUT ROWID, STRICT
"""
_SEAL_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seal (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    written_at_ms INTEGER NOT NULL,
    locks INTEGER NOT NULL,
    total BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT
"""
#: The lock itself, or else the one before its place; and the one behind. A key that was changed on
#: the disk still stands where it stood, so that whoever looks for the true one ends beside it.
_AROUND: Final = """
SELECT * FROM (SELECT * FROM vote_lock WHERE (sender, nonce) <= (:sender, :nonce)
               ORDER BY sender DESC, nonce DESC LIMIT 1)
UNION ALL
SELECT * FROM (SELECT * FROM vote_lock WHERE (sender, nonce) > (:sender, :nonce)
               ORDER BY sender, nonce LIMIT 1)
"""
_TOTAL_BYTES: Final = 32
_TOTAL_MODULUS: Final = 2 ** (8 * _TOTAL_BYTES)

#: (sender, nonce, transaction_id)
Wanted = Sequence[tuple[bytes, int, bytes]]
_Row = tuple[bytes, int, bytes, bytes]


class _Seal(NamedTuple):
    """What all locks come to: when they were last written, how many, the sum of their checksums."""

    written_at_ms: int = 0
    locks: int = 0
    total: int = 0

    def row(self) -> tuple[int, int, bytes, bytes]:
        """As it is kept."""
        total = self.total.to_bytes(_TOTAL_BYTES, "big")
        return self.written_at_ms, self.locks, total, _digest(self.written_at_ms, self.locks, total)


class VoteLocks(GroupCommit[Wanted, list[bytes]]):
    """The locks of one delegate; safe for threads, and for a crash at any point.

    Once damage was found nothing is promised any more: locks can't be rebuilt from others, since
    nobody else knows what this delegate has signed.

    Parameters
    ----------
    path : Path
    on_commit : callable, optional
        Told how long each write to the disk took, in seconds.
    now_ms : callable, optional
        The clock, in Unix ms.

    Raises
    ------
    DatabaseFault
        The file can't be written; `DatabaseDamaged` if a lock was changed or lost.
    """

    def __init__(
        self,
        path: Path,
        on_commit: Callable[[float], None] = lambda _: None,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        check_log(path)
        super().__init__(path, (_SCHEMA, _SEAL_SCHEMA), on_commit)
        self._now_ms = now_ms
        self._damage: DatabaseDamaged | None = None
        try:
            self._seal = self._next_seal = self._checked_seal()
        except sqlite3.Error as error:
            raise fault_of(path, error) from error

    @property
    def count(self) -> int:
        """How many nonces are promised."""
        return self._seal.locks

    @property
    def written_at_ms(self) -> int:
        """When these locks were last written by this machine's clock, in Unix ms; 0 if never."""
        return self._seal.written_at_ms

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
            Nothing of this batch is promised; after `DatabaseDamaged`, nothing ever will be.
        """
        try:
            return self.submit(wanted)
        except DatabaseDamaged as damage:
            self._damage = damage
            raise

    def probe(self) -> None:
        """Write to the disk, to see that it can be done.

        Raises
        ------
        DatabaseFault
        """
        self.lock([])

    def _write(self, works: Sequence[Wanted]) -> list[list[bytes]]:
        if self._damage is not None:
            raise self._damage
        self._next_seal = self._seal
        answers = [[self._holder(*one) for one in wanted] for wanted in works]
        written_at_ms = max(self._seal.written_at_ms, self._now_ms())
        self._next_seal = self._next_seal._replace(written_at_ms=written_at_ms)
        self._db.execute(
            "INSERT OR REPLACE INTO seal VALUES (1, ?, ?, ?, ?)", self._next_seal.row()
        )
        return answers

    def _committed(self) -> None:
        self._seal = self._next_seal

    def _holder(self, sender: bytes, nonce: int, transaction_id: bytes) -> bytes:
        near = self._db.execute(_AROUND, {"sender": sender, "nonce": nonce}).fetchall()
        self._check(near)
        for row in near:
            if row[:2] == (sender, nonce):
                return bytes(row[2])
        checksum = _digest(sender, nonce, transaction_id)
        self._db.execute(
            "INSERT INTO vote_lock VALUES (?, ?, ?, ?)", (sender, nonce, transaction_id, checksum)
        )
        self._next_seal = _with(self._next_seal, checksum)
        return transaction_id

    def _checked_seal(self) -> _Seal:
        found = _Seal()
        for row in self._db.execute("SELECT * FROM vote_lock"):
            self._check([row])
            found = _with(found, row[3])
        kept = self._db.execute(
            "SELECT written_at_ms, locks, total, checksum FROM seal WHERE one = 1"
        ).fetchone()
        if kept is not None:
            found = found._replace(written_at_ms=kept[0])
        if (found.locks and kept is None) or (kept is not None and kept != found.row()):
            raise DatabaseDamaged(f"database {self._path}: a vote lock was changed or is lost")
        return found

    def _check(self, rows: Iterable[_Row]) -> None:
        for sender, nonce, transaction_id, checksum in rows:
            if _digest(sender, nonce, transaction_id) != checksum:
                raise DatabaseDamaged(
                    f"database {self._path}: the vote lock of sender {sender.hex()} nonce {nonce}"
                    " is not as it was written"
                )


def _with(seal: _Seal, checksum: bytes) -> _Seal:
    total = (seal.total + int.from_bytes(checksum, "big")) % _TOTAL_MODULUS
    return seal._replace(locks=seal.locks + 1, total=total)


def _digest(*parts: object) -> bytes:
    whole = hashlib.sha256()
    for part in parts:
        if isinstance(part, int):
            whole.update(part.to_bytes(8, "big", signed=True))
        elif isinstance(part, bytes):
            whole.update(part)
        else:
            # A damaged row may hold anything; this one's checksum must not hold.
            whole.update(b"neither bytes nor an integer")
    return whole.digest()
