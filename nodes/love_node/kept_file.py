"""One SQLite file of a full node: insert-only transactions, votes, proofs, each row with a checksum."""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from love_node.errors import DatabaseDamaged
from love_node.group_commit import GroupCommit, connect, fault_of
from love_node.kept import ID_BYTES, KeptItem, KeptVote, digest, voters_digest
from love_node.ranges import Range
from love_node.v1 import node_pb2

#: One pair proves it; a delegate that votes twice for everything must not fill the disk.
PROOFS_MAX: Final = 16
#: Rows that the scrub reads in one go.
PAGE_ROWS: Final = 200

SCHEMA: Final = (
    """
CREATE TABLE IF NOT EXISTS kept (
    number INTEGER PRIMARY KEY,
    transaction_id BLOB NOT NULL,
    sender BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    stored_item BLOB NOT NULL,
    wrapped_key BLOB NOT NULL,
    checksum BLOB NOT NULL
) STRICT
""",
    # Short rows in the order of their ids: the digests of ranges are made of them.
    """
CREATE TABLE IF NOT EXISTS entry (
    transaction_id BLOB PRIMARY KEY,
    number INTEGER NOT NULL,
    voters BLOB NOT NULL,
    kept_checksum BLOB NOT NULL,
    checksum BLOB NOT NULL
) WITHOUT ROWID, STRICT
""",
    """
CREATE TABLE IF NOT EXISTS vote (
    sender BLOB NOT NULL,
    nonce INTEGER NOT NULL,
    delegate_id TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    transaction_id BLOB NOT NULL,
    signature BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (sender, nonce, delegate_id, epoch, transaction_id)
) WITHOUT ROWID, STRICT
""",
    """
CREATE TABLE IF NOT EXISTS double_vote (
    epoch INTEGER NOT NULL,
    delegate_id TEXT NOT NULL,
    rank INTEGER NOT NULL,
    proof BLOB NOT NULL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (epoch, delegate_id, rank)
) WITHOUT ROWID, STRICT
""",
)
_ITEM: Final = "SELECT transaction_id, sender, nonce, stored_item, wrapped_key, checksum FROM kept"
_VOTES: Final = """
SELECT sender, nonce, delegate_id, epoch, transaction_id, signature, checksum FROM vote
WHERE sender = ? AND nonce = ?
"""


class Entry(NamedTuple):
    """A transaction's short row: where its whole one is, who voted for it, and what that one sums to."""

    transaction_id: bytes
    number: int
    voters: bytes
    kept_checksum: bytes


class Read(NamedTuple):
    """What was asked for and is whole, and the ids whose rows are damaged."""

    items: list[KeptItem]
    damaged: list[bytes]


class VoteRow(NamedTuple):
    """A vote as it is kept."""

    sender: bytes
    nonce: int
    delegate_id: str
    epoch: int
    transaction_id: bytes
    signature: bytes


class KeptFile(GroupCommit[Callable[[], int], int]):
    """The file, its one writer and one reader; safe for threads, and for a crash at any point.

    Raises
    ------
    DatabaseFault
        The file can't be written; `DatabaseDamaged`, from any method, if something in it other
        than a transaction's row is not as it was written.
    """

    def __init__(self, path: Path, on_commit: Callable[[float], None] = lambda _: None) -> None:
        super().__init__(path, SCHEMA, on_commit, check=False)
        self._touched = [0] * 256
        self._ranges: dict[int, tuple[int, Range]] = {}
        self._reader_mutex = threading.Lock()
        try:
            self._reader = connect(path)
            [count] = self._reader.execute("SELECT count(*) FROM entry").fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise fault_of(path, error) from error
        self._count = int(count)

    @property
    def count(self) -> int:
        """How many transactions are kept."""
        return self._count

    def close(self) -> None:
        """Write everything back, and let go of the file."""
        with self._reader_mutex:
            self._reader.close()
        super().close()

    def keep(self, items: Sequence[KeptItem]) -> int:
        """Keep each once, and unite its votes with those that are there; gives how many were new."""
        new = self.submit(lambda: sum([self._keep(one) for one in items]))
        self._touch(one.transaction_id for one in items)
        # Only a figure: what is exact is on the disk.
        self._count += new
        return new

    def unite(self, votes: Iterable[VoteRow]) -> int:
        """Add votes to transactions that are kept; of others they are left out.

        Gives to how many transactions something was added.
        """
        of: dict[bytes, list[VoteRow]] = {}
        for one in votes:
            of.setdefault(one.transaction_id, []).append(one)
        changed = self.submit(lambda: sum([self._unite(*each) for each in of.items()]))
        self._touch(of)
        return changed

    def prove(self, proofs: Iterable[node_pb2.DoubleVote]) -> int:
        """Keep proofs of double votes that were verified; gives how many were new."""
        given = list(proofs)
        return self.submit(lambda: sum([self._prove(one) for one in given])) if given else 0

    def mend(self, item: KeptItem) -> int:
        """Write a transaction's damaged row anew; what is whole stays as it is."""
        return self.submit(lambda: self._mend(item))

    def read(self, transaction_ids: Iterable[bytes]) -> Read:
        """Those that are kept, with their votes, each verified against its checksum."""
        with self._reading() as db:
            read = Read([], [])
            for transaction_id in transaction_ids:
                entry = self._entry(db, transaction_id)
                if entry is None:
                    continue
                item = _item(db, entry)
                if item is None:
                    read.damaged.append(transaction_id)
                else:
                    read.items.append(item)
            return read

    def kept_checksum(self, transaction_id: bytes) -> bytes | None:
        """What a transaction's whole row sums to; None if it is not kept."""
        with self._reading() as db:
            entry = self._entry(db, transaction_id)
            return None if entry is None else entry.kept_checksum

    def summary(self, prefix: bytes) -> Range:
        """The range of a prefix; those of one byte are remembered while nothing comes into them."""
        if len(prefix) != 1:
            return Range.of(self.entries(prefix))
        touched = self._touched[prefix[0]]
        known = self._ranges.get(prefix[0])
        if known is not None and known[0] == touched:
            return known[1]
        found = Range.of(self.entries(prefix))
        self._ranges[prefix[0]] = (touched, found)
        return found

    def entries(self, prefix: bytes) -> list[bytes]:
        """Each of the range's transaction ids with the digest of its voters, ascending."""
        first, last = prefix.ljust(ID_BYTES, b"\0"), prefix.ljust(ID_BYTES, b"\xff")
        query = "SELECT * FROM entry WHERE transaction_id BETWEEN ? AND ? ORDER BY transaction_id"
        with self._reading() as db:
            found = [self._checked_entry(row) for row in db.execute(query, (first, last))]
        return [one.transaction_id + one.voters for one in found]

    def proofs(self, epoch: int = 0) -> list[node_pb2.DoubleVote]:
        """Double votes of an epoch (0: of all), each delegate's first ones first."""
        query = "SELECT * FROM double_vote WHERE ?1 = 0 OR epoch = ?1 ORDER BY rank, delegate_id"
        with self._reading() as db:
            rows = db.execute(query, (epoch,)).fetchall()
        return [node_pb2.DoubleVote.FromString(self._checked(row)[3]) for row in rows]

    def scrub(self, rest: Callable[[], bool]) -> Iterator[bytes]:
        """Read everything from the disk; gives the ids whose rows are damaged.

        Parameters
        ----------
        rest : callable
            Called between pages of rows; True ends the scrub.
        """
        # A connection of its own has nothing in its cache.
        db = connect(self._path)
        try:
            db.execute("PRAGMA query_only=1")
            [check] = db.execute("PRAGMA quick_check(1)").fetchone()
            if check != "ok":
                raise DatabaseDamaged(f"database {self._path}: {check}")
            last = b""
            while page := self._scrub_page(db, last):
                yield from (one for one, whole in page if not whole)
                last = page[-1][0]
                if rest():
                    return
            db.execute("BEGIN")
            [entries] = db.execute("SELECT count(*) FROM entry").fetchone()
            [kept] = db.execute("SELECT count(*) FROM kept").fetchone()
            if entries != kept:
                raise DatabaseDamaged(f"database {self._path}: {kept} rows for {entries} ids")
            for row in db.execute("SELECT * FROM double_vote"):
                self._checked(row)
        except sqlite3.Error as error:
            raise fault_of(self._path, error) from error
        finally:
            db.close()

    def _scrub_page(self, db: sqlite3.Connection, last: bytes) -> list[tuple[bytes, bool]]:
        query = f"SELECT * FROM entry WHERE transaction_id > ? ORDER BY 1 LIMIT {PAGE_ROWS}"  # noqa: S608
        db.execute("BEGIN")
        try:
            entries = [self._checked_entry(row) for row in db.execute(query, (last,)).fetchall()]
            return [(one.transaction_id, self._is_whole(db, one)) for one in entries]
        finally:
            db.execute("COMMIT")

    def _is_whole(self, db: sqlite3.Connection, entry: Entry) -> bool:
        item = _item(db, entry)
        if item is not None and _voters(item.votes) != entry.voters:
            raise DatabaseDamaged(
                f"database {self._path}: votes for {entry.transaction_id.hex()} were changed or are lost"
            )
        return item is not None

    def _write(self, works: Sequence[Callable[[], int]]) -> list[int]:
        return [work() for work in works]

    def _committed(self) -> None:
        """Nothing depends on it: ranges are looked at again once `submit` has returned."""

    def _touch(self, transaction_ids: Iterable[bytes]) -> None:
        for first in {one[0] for one in transaction_ids}:
            self._touched[first] += 1

    def _keep(self, item: KeptItem) -> int:
        known = self._entry(self._db, item.transaction_id)
        entry = known
        if entry is None:
            # The writer alone adds rows, one transaction after the other.
            inserted = self._db.execute(
                "INSERT INTO kept VALUES (NULL, ?, ?, ?, ?, ?, ?)", _values(item)
            )
            assert inserted.lastrowid is not None
            entry = Entry(item.transaction_id, inserted.lastrowid, voters_digest(()), item.checksum)
        united = self._united(
            entry,
            [
                VoteRow(item.sender, item.nonce, *vote[:2], item.transaction_id, vote.signature)
                for vote in item.votes
            ],
        )
        if united != known:
            self._write_entry(united)
        return int(known is None)

    def _unite(self, transaction_id: bytes, votes: Sequence[VoteRow]) -> int:
        entry = self._entry(self._db, transaction_id)
        if entry is None:
            return 0
        united = self._united(entry, votes)
        if united != entry:
            self._write_entry(united)
        return int(united != entry)

    def _united(self, entry: Entry, votes: Sequence[VoteRow]) -> Entry:
        """The entry with these votes for its transaction, which are written if they are new."""
        if not votes:
            return entry
        rows = self._db.execute(_VOTES, votes[0][:2]).fetchall()
        of_nonce = [VoteRow(*self._checked(row)) for row in rows]
        for vote in votes:
            rivals = [one for one in of_nonce if one[2:4] == vote[2:4]]
            if any(one.transaction_id == vote.transaction_id for one in rivals):
                continue
            self._db.execute(
                "INSERT INTO vote VALUES (?, ?, ?, ?, ?, ?, ?)", (*vote, digest(*vote))
            )
            of_nonce.append(vote)
            for rival in rivals:
                self._prove(_double_vote(rival, vote))
        voters = [one[2:4] for one in of_nonce if one.transaction_id == entry.transaction_id]
        return entry._replace(voters=voters_digest(voters))

    def _prove(self, proof: node_pb2.DoubleVote) -> int:
        query = "SELECT * FROM double_vote WHERE epoch = ? AND delegate_id = ?"
        rows = self._db.execute(query, (proof.epoch, proof.delegate_id)).fetchall()
        known = [node_pb2.DoubleVote.FromString(self._checked(row)[3]) for row in rows]
        same = any((one.sender, one.nonce) == (proof.sender, proof.nonce) for one in known)
        if same or len(known) >= PROOFS_MAX:
            return 0
        whole = proof.SerializeToString(deterministic=True)
        row = (proof.epoch, proof.delegate_id, len(known), whole)
        self._db.execute("INSERT INTO double_vote VALUES (?, ?, ?, ?, ?)", (*row, digest(*row)))
        return 1

    def _mend(self, item: KeptItem) -> int:
        entry = self._entry(self._db, item.transaction_id)
        if entry is None:
            return self._keep(item)
        row = (entry.number, *_values(item))
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self._write_entry(entry._replace(kept_checksum=item.checksum))
        return 1

    def _entry(self, db: sqlite3.Connection, transaction_id: bytes) -> Entry | None:
        query = "SELECT * FROM entry WHERE transaction_id = ?"
        row = db.execute(query, (transaction_id,)).fetchone()
        return None if row is None else self._checked_entry(row)

    def _write_entry(self, entry: Entry) -> None:
        row = (*entry, digest(*entry))
        self._db.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", row)

    def _checked_entry(self, row: tuple[Any, ...]) -> Entry:
        return Entry(*self._checked(row))

    def _checked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        if not _holds(row):
            raise DatabaseDamaged(f"database {self._path}: a row is not as it was written")
        return row[:-1]

    def _reading(self) -> "_Reading":
        return _Reading(self._path, self._reader, self._reader_mutex)


class _Reading:
    """One view of the file, for one thread at a time; SQLite's errors become the node's."""

    def __init__(self, path: Path, db: sqlite3.Connection, mutex: threading.Lock) -> None:
        self._path, self._db, self._mutex = path, db, mutex

    def __enter__(self) -> sqlite3.Connection:
        self._mutex.acquire()
        try:
            self._db.execute("BEGIN")
        except sqlite3.Error as error:
            self._mutex.release()
            raise fault_of(self._path, error) from error
        return self._db

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as other:
            error = error or other
        finally:
            self._mutex.release()
        if isinstance(error, sqlite3.Error):
            raise fault_of(self._path, error) from error


def salvage(path: Path) -> Iterator[KeptItem | VoteRow | node_pb2.DoubleVote]:
    """All rows of a damaged file that can be read and are whole: transactions, votes, proofs."""
    try:
        db = connect(path)
    except sqlite3.Error:
        return
    try:
        for row in _readable(db, "kept"):
            if _holds(row[1:]):
                yield KeptItem(*row[1:-1])
        for row in _readable(db, "vote"):
            if _holds(row):
                yield VoteRow(*row[:-1])
        for row in _readable(db, "double_vote"):
            if _holds(row):
                yield node_pb2.DoubleVote.FromString(row[3])
    finally:
        db.close()


def _readable(db: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    # From either end as far as the damaged page; what lies between comes from the peers.
    for order in ("", " ORDER BY 1 DESC"):
        try:
            yield from db.execute(f"SELECT * FROM {table}{order}")  # noqa: S608
        except sqlite3.Error:
            continue
        return


def _item(db: sqlite3.Connection, entry: Entry) -> KeptItem | None:
    row = db.execute(f"{_ITEM} WHERE number = ?", (entry.number,)).fetchone()
    if row is None or row[0] != entry.transaction_id or row[-1] != entry.kept_checksum:
        return None
    if not _holds(row):
        return None
    votes = [
        VoteRow(*vote[:-1])
        for vote in db.execute(_VOTES, row[1:3]).fetchall()
        if vote[4] == entry.transaction_id and _holds(vote)
    ]
    kept_votes = tuple(KeptVote(*one[2:4], one.signature) for one in votes)
    return KeptItem(*row[:-1])._replace(votes=kept_votes)


def _holds(row: tuple[Any, ...]) -> bool:
    return bool(digest(*row[:-1]) == row[-1])


def _values(item: KeptItem) -> tuple[Any, ...]:
    return (*item[:5], item.checksum)


def _voters(votes: Iterable[KeptVote]) -> bytes:
    return voters_digest((one.delegate_id, one.epoch) for one in votes)


def _double_vote(first: VoteRow, second: VoteRow) -> node_pb2.DoubleVote:
    return node_pb2.DoubleVote(
        delegate_id=second.delegate_id,
        epoch=second.epoch,
        sender=second.sender,
        nonce=second.nonce,
        transaction_ids=[first.transaction_id, second.transaction_id],
        signatures=[first.signature, second.signature],
    )
