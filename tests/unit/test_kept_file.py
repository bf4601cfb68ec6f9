"""What a full node's file keeps: each transaction once, votes united, proofs of double votes."""

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from voting.transactions import WRAPPED_KEY, electorate_of, stored_item, vote_of

from love_node.errors import DatabaseDamaged
from love_node.kept import KeptItem, check_items, check_proof
from love_node.kept_file import PROOFS_MAX, KeptFile, salvage
from love_node.ranges import TOP
from love_node.v1 import node_pb2
from lovectl.delegates import EPOCH


class Voter:
    """A delegate's key."""

    def __init__(self, delegate_id: str) -> None:
        self.delegate_id = delegate_id
        self._key = Ed25519PrivateKey.generate()


ANNA, BELA = Voter("anna"), Voter("bela")
ELECTORATE = electorate_of([ANNA, BELA])


@pytest.fixture
def file(tmp_path: Path) -> Iterator[KeptFile]:
    file = KeptFile(tmp_path / "kept.sqlite3")
    yield file
    file.close()


def checked(*items: node_pb2.StoredItem) -> list[KeptItem]:
    """The items, none of them refused."""
    outcome = check_items([(one, WRAPPED_KEY) for one in items], ELECTORATE, EPOCH)
    assert not outcome.refusals
    return list(outcome.kept.values())


def kept(*numbers: int, voters: tuple[Voter, ...] = (ANNA,)) -> list[KeptItem]:
    return checked(*(stored_item(n, voters=voters) for n in numbers))


def test_the_same_item_again_is_kept_once_and_its_votes_are_united(file: KeptFile) -> None:
    [by_anna], [by_bela] = kept(1), kept(1, voters=(BELA,))
    assert [file.keep([by_anna]), file.keep([by_anna, by_bela])] == [1, 0]
    [read] = file.read([by_anna.transaction_id]).items
    assert read.stored_item == by_anna.stored_item
    assert {one.delegate_id for one in read.votes} == {"anna", "bela"}
    assert file.count == 1


def test_what_is_kept_is_there_after_the_file_was_opened_again(file: KeptFile) -> None:
    items = kept(*range(50))
    file.keep(items)
    again = KeptFile(file.path)
    assert again.read([one.transaction_id for one in items]).items == items
    assert again.count == 50
    again.close()


def test_votes_in_another_order_give_the_same_digest(file: KeptFile, tmp_path: Path) -> None:
    other = KeptFile(tmp_path / "other.sqlite3")
    file.keep(kept(1, 2, 3, voters=(ANNA, BELA)))
    other.keep(kept(3, 2, voters=(BELA,)))
    before = [other.summary(prefix) for prefix in TOP]
    other.keep(kept(1, 2, 3, voters=(BELA, ANNA)))
    assert [file.summary(prefix) for prefix in TOP] == [other.summary(prefix) for prefix in TOP]
    assert [file.summary(prefix) for prefix in TOP] != before
    other.close()


def test_two_votes_of_a_delegate_for_one_nonce_become_a_proof_that_anybody_can_check(
    file: KeptFile,
) -> None:
    [first], [second] = (
        checked(stored_item(1, 1, voters=[ANNA, BELA])),
        checked(stored_item(1, 2, voters=[ANNA])),
    )
    file.keep([first])
    assert file.proofs() == []
    file.keep([second])
    [proof] = file.proofs(EPOCH)
    assert proof.delegate_id == "anna"
    assert set(proof.transaction_ids) == {first.transaction_id, second.transaction_id}
    assert check_proof(proof, ELECTORATE)
    assert file.proofs(EPOCH + 1) == []
    proof.signatures[0], proof.signatures[1] = proof.signatures[1], proof.signatures[0]
    assert not check_proof(proof, ELECTORATE)


def test_a_delegate_that_votes_twice_for_everything_does_not_fill_the_disk(file: KeptFile) -> None:
    for amount in (1, 2):
        file.keep(checked(*(stored_item(n, amount, voters=[ANNA]) for n in range(20))))
    assert len(file.proofs()) == PROOFS_MAX


def test_votes_that_do_not_verify_are_dropped_and_counted() -> None:
    item = stored_item(1, voters=[ANNA])
    good = item.votes[0]
    item.votes.append(
        node_pb2.SignedVote(delegate_id="bela", epoch=EPOCH, signature=good.signature)
    )
    item.votes.append(node_pb2.SignedVote(delegate_id="nobody", epoch=EPOCH, signature=b"s"))
    ahead = vote_of(BELA, b"t" * 32, 1)
    ahead.epoch = EPOCH + 1
    item.votes.append(ahead)
    outcome = check_items([(item, WRAPPED_KEY)], ELECTORATE, EPOCH)
    assert outcome.dropped_votes == 3
    assert [one.delegate_id for one in outcome.kept[0].votes] == ["anna"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda item: setattr(item.header, "signature", bytes(64)), "bad_signature"),
        (lambda item: setattr(item.header, "header", b"{}"), "malformed"),
        (lambda item: setattr(item.header, "header", item.header.header + b" "), "malformed"),
        (lambda item: setattr(item.sealed, "ciphertext", b""), "malformed"),
        (lambda item: setattr(item.sealed, "ciphertext", bytes(40_000)), "malformed"),
        (lambda item: setattr(item, "home_continent", "x" * 200), "malformed"),
    ],
)
def test_an_item_that_can_not_be_checked_is_refused_by_its_reason(
    change: object, reason: str
) -> None:
    assert callable(change)
    good, bad = stored_item(1), stored_item(2)
    change(bad)
    outcome = check_items([(bad, WRAPPED_KEY), (good, WRAPPED_KEY), (good, b"")], ELECTORATE, EPOCH)
    assert outcome.refusals == {0: reason, 2: "wrapped_key_missing"}
    assert list(outcome.kept) == [1]


def flip(file: Path, what: bytes) -> None:
    """Change one bit behind the first place on the disk that holds these bytes."""
    whole = file.read_bytes()
    with file.open("r+b") as disk:
        disk.seek(whole.index(what) + len(what))
        disk.write(bytes([whole[whole.index(what) + len(what)] ^ 1]))
        os.fsync(disk.fileno())


def scrubbed(file: KeptFile) -> list[bytes]:
    return list(file.scrub(lambda: False))


def checkpoint(file: KeptFile) -> None:
    with sqlite3.connect(file.path) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    db.close()


def test_a_flipped_byte_in_a_transaction_is_found_by_the_scrub_and_mended(file: KeptFile) -> None:
    items = kept(*range(30))
    file.keep(items)
    checkpoint(file)
    assert scrubbed(file) == []
    flip(file.path, items[7].stored_item[-200:-20])
    assert scrubbed(file) == [items[7].transaction_id]
    file.mend(items[7])
    checkpoint(file)
    assert scrubbed(file) == []
    assert file.read([items[7].transaction_id]).items == [items[7]]


@pytest.mark.parametrize("table", ["entry", "vote", "double_vote"])
def test_any_other_row_that_was_changed_is_found_by_the_scrub(file: KeptFile, table: str) -> None:
    for amount in (1, 2):
        file.keep(checked(*(stored_item(n, amount, voters=[ANNA]) for n in range(30))))
    change = {
        "entry": "UPDATE entry SET voters = zeroblob(32) WHERE number = 9",
        "vote": "DELETE FROM vote WHERE nonce = 9",
        "double_vote": "UPDATE double_vote SET rank = 40 WHERE rank = 4",
    }[table]
    with sqlite3.connect(file.path) as db:
        db.execute(change)
    db.close()
    with pytest.raises(DatabaseDamaged):
        scrubbed(file)


def test_what_is_whole_in_a_damaged_file_is_salvaged(tmp_path: Path) -> None:
    file = KeptFile(tmp_path / "kept.sqlite3")
    items = kept(*range(60))
    file.keep(items)
    file.close()
    whole = bytearray(file.path.read_bytes())
    page = whole.index(items[30].stored_item[-200:]) // 4096 * 4096
    whole[page : page + 4096] = b"\xaa" * 4096
    file.path.write_bytes(whole)
    rows = list(salvage(file.path))
    bare = {one._replace(votes=()) for one in items}
    salvaged = {one for one in rows if isinstance(one, KeptItem)}
    assert salvaged <= bare
    assert 50 <= len(salvaged) < 60
