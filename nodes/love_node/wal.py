"""Whether a crash's write-ahead log is whole (sqlite.org/fileformat2.html, section 4).

SQLite reads a log as far as its checksums hold and forgets the rest without a word, as it should
after a power cut. A byte that was changed in the middle would so undo everything written after it.
"""

import struct
from pathlib import Path
from typing import Final

from love_node.errors import DatabaseDamaged

_HEADER: Final = struct.Struct(">8I")
_FRAME_HEADER: Final = struct.Struct(">6I")
_MAGICS: Final = {0x377F0682: "<", 0x377F0683: ">"}
_WORD: Final = 0xFFFFFFFF

_Sums = tuple[int, int]


def check_log(database: Path) -> None:
    """Look for commits from the first frame on that doesn't hold.

    What a power cut leaves of the last, unanswered commit may have a gap, too: one commit from
    there on is no damage. The next one was begun after that one was on the disk, so that two are.

    Raises
    ------
    DatabaseDamaged
        Commits that were on the disk would be lost.
    """
    log = database.with_name(f"{database.name}-wal")
    whole = log.read_bytes() if log.exists() else b""
    if len(whole) <= _HEADER.size:
        return
    magic, _, page_bytes, _, *salts, sum1, sum2 = _HEADER.unpack_from(whole)
    order = _MAGICS.get(magic, "")
    header = whole[: _HEADER.size - 8]
    if not order or _sums(header, order, (0, 0)) != (sum1, sum2):
        raise DatabaseDamaged(
            f"database {database}: the header of its log is not as it was written"
        )
    sums = (sum1, sum2)
    holds, lost = True, 0
    size = _FRAME_HEADER.size + page_bytes
    for at in range(_HEADER.size, len(whole) - size + 1, size):
        _, pages, salt1, salt2, sum1, sum2 = _FRAME_HEADER.unpack_from(whole, at)
        ours = [salt1, salt2] == salts
        if holds:
            page = whole[at + _FRAME_HEADER.size : at + size]
            sums = _sums(page, order, _sums(whole[at : at + 8], order, sums))
            holds = ours and sums == (sum1, sum2)
        if not holds and ours and pages:
            lost += 1
    if lost > 1:
        raise DatabaseDamaged(
            f"database {database}: its log was changed, {lost} commits would be lost"
        )


def _sums(data: bytes, order: str, sums: _Sums) -> _Sums:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for n in range(0, len(words), 2):
        first = (first + words[n] + second) & _WORD
        second = (second + words[n + 1] + first) & _WORD
    return first, second
