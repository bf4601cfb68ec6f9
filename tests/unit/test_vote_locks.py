"""Vote locks whose file was changed by another hand: found at start or when used, and no promise."""

import sqlite3
from pathlib import Path

import pytest

from love_node.errors import DatabaseDamaged
from love_node.locks import VoteLocks

SENDER = b"sender " + b"s" * 25
ID, RIVAL = b"first  " + b"i" * 25, b"rival  " + b"r" * 25
NONCE = 500
#: Of SQLite's log: its header, and a page with the header before it.
LOG_HEADER, FRAME = 32, 24 + 4096
OTHERS = [(SENDER, nonce, bytes([nonce % 251]) * 32) for nonce in range(1_000) if nonce != NONCE]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "votes.sqlite3"
    locks = VoteLocks(path)
    locks.lock(OTHERS)
    assert locks.lock([(SENDER, NONCE, ID)]) == [ID]
    locks.close()
    return path


def flip(path: Path, what: bytes) -> None:
    """Change one bit of the one place on the disk that holds these bytes."""
    whole = bytearray(path.read_bytes())
    assert whole.count(what) == 1
    whole[whole.index(what) + 1] ^= 1
    path.write_bytes(whole)


def change_key(path: Path) -> None:
    """Change the nonce in place: NONCE (500, two bytes) and the id behind it become 501's."""
    whole = bytearray(path.read_bytes())
    at = whole.index(NONCE.to_bytes(2, "big") + ID)
    whole[at + 1] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize("damage", [lambda path: flip(path, ID), change_key], ids=["id", "key"])
def test_a_flipped_byte_is_found_at_start(path: Path, damage: "object") -> None:
    assert callable(damage)
    damage(path)
    with pytest.raises(DatabaseDamaged, match="not as it was written"):
        VoteLocks(path)


@pytest.mark.parametrize("damage", [lambda path: flip(path, ID), change_key], ids=["id", "key"])
def test_a_flipped_byte_is_found_when_its_lock_is_asked_for_and_nothing_is_promised_after(
    path: Path, damage: "object"
) -> None:
    locks = VoteLocks(path)
    assert callable(damage)
    damage(path)
    # What the cache of SQLite holds is not read from the disk again.
    locks._db.execute("PRAGMA shrink_memory")
    with pytest.raises(DatabaseDamaged, match="not as it was written"):
        locks.lock([(SENDER, NONCE, RIVAL)])
    with pytest.raises(DatabaseDamaged):
        locks.lock([(SENDER, 5_000, RIVAL)])
    with pytest.raises(DatabaseDamaged):
        locks.probe()
    locks.close()


def test_a_lock_that_is_gone_is_found_at_start(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM vote_lock WHERE nonce = ?", (NONCE,))
    other.close()
    with pytest.raises(DatabaseDamaged, match="changed or is lost"):
        VoteLocks(path)


def test_a_damaged_page_is_found_at_start(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    page = whole.index(ID) // 4096 * 4096
    # The number of cells in the page's header.
    whole[page + 3 : page + 5] = b"\xff\xff"
    path.write_bytes(whole)
    with pytest.raises(DatabaseDamaged):
        VoteLocks(path)


def test_whole_locks_are_taken_up_again_with_their_count_and_time(path: Path) -> None:
    locks = VoteLocks(path)
    assert locks.count == len(OTHERS) + 1
    assert locks.written_at_ms > 0
    assert locks.lock([(SENDER, NONCE, RIVAL), OTHERS[0]]) == [ID, OTHERS[0][2]]
    assert locks.count == len(OTHERS) + 1
    locks.close()


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A database and its log as a crash leaves them, with six commits in the log."""
    locks = VoteLocks(tmp_path / "running.sqlite3")
    for nonce in range(6):
        locks.lock([(SENDER, nonce, ID[:31] + bytes([nonce]))])
    for end in ("", "-wal"):
        copy = (tmp_path / f"running.sqlite3{end}").read_bytes()
        (tmp_path / f"crashed.sqlite3{end}").write_bytes(copy)
    locks.close()
    return tmp_path / "crashed.sqlite3"


def test_a_log_that_a_crash_left_is_taken_up(crashed: Path) -> None:
    locks = VoteLocks(crashed)
    assert locks.count == 6
    locks.close()


def test_a_flipped_byte_in_the_log_does_not_undo_locks_unseen(crashed: Path) -> None:
    log = crashed.with_name("crashed.sqlite3-wal")
    whole = log.read_bytes()
    for at in (20, whole.index(ID[:31] + b"\1"), len(whole) - 2 * FRAME - 100):
        changed = bytearray(whole)
        changed[at] ^= 1
        log.write_bytes(changed)
        with pytest.raises(DatabaseDamaged, match="log"):
            VoteLocks(crashed)


def test_what_a_power_cut_left_of_the_last_commit_is_no_damage(crashed: Path) -> None:
    log = crashed.with_name("crashed.sqlite3-wal")
    whole = bytearray(log.read_bytes())
    # The first frame of the last commit is missing, its last one is there.
    at = (whole.index(ID[:31] + b"\5") - LOG_HEADER) // FRAME * FRAME + LOG_HEADER
    assert at == len(whole) - 2 * FRAME
    whole[at : at + FRAME] = bytes(FRAME)
    log.write_bytes(whole)
    locks = VoteLocks(crashed)
    assert locks.count == 5
    locks.close()
