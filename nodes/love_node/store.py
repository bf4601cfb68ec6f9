"""What a full node keeps, over damage: rows are mended, a damaged file is set aside and begun anew."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from love_node.audit import DAMAGED, REPAIRED, record_event
from love_node.batches import batches
from love_node.errors import DatabaseDamaged, DatabaseFault
from love_node.kept import KeptItem
from love_node.kept_file import KeptFile, Read, VoteRow, salvage
from love_node.metrics import StoreMetrics
from love_node.ranges import Range
from love_node.v1 import node_pb2

#: SQLite's files of one database.
_PARTS: Final = ("", "-wal", "-shm")
#: Not yet read for what is whole in it; and then read. Neither is ever deleted by the node.
_DAMAGED: Final = ".damaged-"
_SALVAGED: Final = ".salvaged-"
#: A file that is damaged again at once is a broken disk.
REBUILDS_MAX: Final = 2
SALVAGED_ROWS: Final = 100

T = TypeVar("T")


class Store:
    """The transactions, votes and proofs of one full node; safe for threads.

    Parameters
    ----------
    delegate_id : str
        Said in audit lines.
    path : Path
    metrics : StoreMetrics
    wake : callable
        Told when something was found to be damaged, so that it is repaired soon.

    Raises
    ------
    DatabaseFault
        From any method: the disk can't be written.
    """

    def __init__(
        self,
        delegate_id: str,
        path: Path,
        metrics: StoreMetrics,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._delegate_id = delegate_id
        self._path = path
        self._metrics = metrics
        self._wake = wake
        self._mutex = threading.Lock()
        self._damaged_ids: set[bytes] = set()
        try:
            self._file = self._open()
        except DatabaseDamaged as damage:
            self._file = self._begin_anew(damage)
        metrics.kept.set_function(lambda: self._file.count)
        metrics.awaiting_repair.set_function(lambda: len(self._damaged_ids))

    @property
    def damaged_ids(self) -> frozenset[bytes]:
        """The transactions whose rows wait to be mended."""
        with self._mutex:
            return frozenset(self._damaged_ids)

    def keep(self, items: Sequence[KeptItem]) -> int:
        """Keep each once, durable when this returns; gives how many were new."""
        return self._on_a_whole_file(lambda file: file.keep(items))

    def prove(self, proofs: Iterable[node_pb2.DoubleVote]) -> int:
        """Keep proofs that were verified; gives how many were new."""
        given = list(proofs)
        return self._on_a_whole_file(lambda file: file.prove(given))

    def read(self, transaction_ids: Sequence[bytes]) -> list[KeptItem]:
        """Those that are kept and whole; damage is reported, and mended soon."""
        read = self._on_a_whole_file(lambda file: file.read(transaction_ids))
        self._report(read)
        return read.items

    def proofs(self, epoch: int) -> list[node_pb2.DoubleVote]:
        """Double votes of an epoch; 0 is all."""
        return self._on_a_whole_file(lambda file: file.proofs(epoch))

    def summary(self, prefix: bytes) -> Range:
        """What is kept in the range of a prefix."""
        return self._on_a_whole_file(lambda file: file.summary(prefix))

    def entries(self, prefix: bytes) -> list[bytes]:
        """All entries of the range of a prefix, ascending."""
        return self._on_a_whole_file(lambda file: file.entries(prefix))

    def scrub(self, rest: Callable[[], bool]) -> None:
        """Read every row from the disk, and what is whole in files that were set aside.

        Parameters
        ----------
        rest : callable
            Called between pages of rows; True ends the scrub.
        """

        def read_all(file: KeptFile) -> None:
            for transaction_id in file.scrub(rest):
                self._report(Read([], [transaction_id]))

        self._on_a_whole_file(read_all)
        for aside in sorted(self._path.parent.glob(f"{self._path.name}{_DAMAGED}*")):
            if not aside.name.endswith(_PARTS[1:]):
                self._salvage(aside)
        self._metrics.scrubs.inc()

    def kept_checksum(self, transaction_id: bytes) -> bytes | None:
        """What a damaged row summed to when it was whole."""
        return self._on_a_whole_file(lambda file: file.kept_checksum(transaction_id))

    def mend(self, item: KeptItem, peer: str) -> None:
        """Put another node's copy, which was verified, in the place of a damaged row."""
        self._on_a_whole_file(lambda file: file.mend(item))
        with self._mutex:
            self._damaged_ids.discard(item.transaction_id)
        self._metrics.repaired.inc()
        self._say(REPAIRED, "row_repaired", item.transaction_id.hex(), f"from {peer}")

    def close(self) -> None:
        """Write everything back, and let go of the file."""
        self._file.close()

    def _open(self) -> KeptFile:
        return KeptFile(self._path, self._metrics.commit_s.observe)

    def _on_a_whole_file(self, work: Callable[[KeptFile], T]) -> T:
        for _ in range(REBUILDS_MAX):
            file = self._file
            try:
                return work(file)
            except DatabaseDamaged as damage:
                with self._mutex:
                    if self._file is file:
                        file.close()
                        self._file = self._begin_anew(damage)
            except DatabaseFault:
                # Another thread has closed the file, since it found the damage first.
                with self._mutex:
                    if self._file is file:
                        raise
        return work(self._file)

    def _begin_anew(self, damage: DatabaseDamaged) -> KeptFile:
        aside = f"{self._path}{_DAMAGED}{time.time_ns()}"
        for part in reversed(_PARTS):
            source = Path(f"{self._path}{part}")
            if source.exists():
                source.rename(f"{aside}{part}")
        self._metrics.damaged.labels("file").inc()
        self._say(DAMAGED, "file_damaged", self._path.name, f"{damage}; set aside as {aside}")
        # What was damaged lies in the file that is set aside; the new one asks the peers for it.
        self._damaged_ids.clear()
        file = self._open()
        self._wake()
        return file

    def _salvage(self, aside: Path) -> None:
        salvaged = 0
        for part in batches(salvage(aside), SALVAGED_ROWS):
            items = [one for one in part if isinstance(one, KeptItem)]
            votes = [one for one in part if isinstance(one, VoteRow)]
            proofs = [one for one in part if isinstance(one, node_pb2.DoubleVote)]
            salvaged += self.keep(items)
            self._on_a_whole_file(lambda file, votes=votes: file.unite(votes))  # type: ignore[misc]
            self.prove(proofs)
        for end in _PARTS:
            source = Path(f"{aside}{end}")
            if source.exists():
                source.rename(str(source).replace(_DAMAGED, _SALVAGED))
        self._metrics.repaired.inc(salvaged)
        self._say(REPAIRED, "file_salvaged", aside.name, f"{salvaged} transactions were whole")

    def _report(self, read: Read) -> None:
        for transaction_id in read.damaged:
            with self._mutex:
                known = transaction_id in self._damaged_ids
                self._damaged_ids.add(transaction_id)
            if not known:
                self._metrics.damaged.labels("row").inc()
                self._say(DAMAGED, "row_damaged", transaction_id.hex(), f"in {self._path.name}")
                self._wake()

    def _say(self, kind: str, reason: str, subject: str, detail: str) -> None:
        record_event(
            kind=kind, source=self._delegate_id, reason=reason, subject=subject, detail=detail
        )
