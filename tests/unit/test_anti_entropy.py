"""Rounds with peers that are down, hang or lie: each costs an audit line, and the others are heard."""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from voting.transactions import WRAPPED_KEY, electorate_of, id_of, stored_item

from love_node.anti_entropy import AntiEntropy
from love_node.fetched import Fetched
from love_node.kept import KeptItem, check_items
from love_node.metrics import StoreMetrics
from love_node.peers import PeerLies, PeerUnreachable
from love_node.ranges import Range
from love_node.store import Store
from love_node.v1 import node_pb2
from lovectl.delegates import EPOCH


class Voter:
    """A delegate's key."""

    def __init__(self, delegate_id: str) -> None:
        self.delegate_id = delegate_id
        self._key = Ed25519PrivateKey.generate()


ANNA = Voter("anna")


class StorePeer:
    """An honest peer: its answers come out of a real store."""

    def __init__(self, delegate_id: str, store: Store) -> None:
        self.delegate_id = delegate_id
        self.store = store

    def ranges(self, prefixes: Sequence[bytes]) -> list[Range]:
        return [self.store.summary(one) for one in prefixes]

    def fetch(self, transaction_ids: Sequence[bytes]) -> Fetched:
        items = self.store.read(transaction_ids)
        given = {one.transaction_id for one in items}
        return Fetched(items, [one for one in transaction_ids if one not in given], [])

    def evidence(self) -> list[node_pb2.DoubleVote]:
        return self.store.proofs(0)


class Down(StorePeer):
    """It can't be asked."""

    def ranges(self, prefixes: Sequence[bytes]) -> list[Range]:
        raise PeerUnreachable("UNAVAILABLE: down")

    fetch = evidence = ranges  # type: ignore[assignment]


class Forger(StorePeer):
    """Its ranges name what it has, its answers to Fetch don't verify."""

    def fetch(self, transaction_ids: Sequence[bytes]) -> Fetched:
        raise PeerLies("the signature is not its own")


class Muddler(StorePeer):
    """Its ranges contradict themselves."""

    def ranges(self, prefixes: Sequence[bytes]) -> list[Range]:
        return [Range(1, b"d" * 32, b"e" * 64)] * len(prefixes)


class Withholder(StorePeer):
    """It names what it has, and leaves all of it for another answer, again and again."""

    def fetch(self, transaction_ids: Sequence[bytes]) -> Fetched:
        return Fetched([], [], list(transaction_ids))


@pytest.fixture
def store_of(tmp_path: Path) -> Iterator[Callable[[str], Store]]:
    made: list[Store] = []

    def make(name: str) -> Store:
        made.append(Store(name, tmp_path / f"{name}.sqlite3", StoreMetrics(CollectorRegistry())))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kept(*numbers: int) -> list[KeptItem]:
    items = [(stored_item(n, voters=[ANNA]), WRAPPED_KEY) for n in numbers]
    return list(check_items(items, electorate_of([ANNA]), EPOCH).kept.values())


def said(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    events: list[dict[str, Any]] = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    return [(one["subject"], one["data"]["reason"]) for one in events]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Down, "peer_unreachable"),
        (Forger, "peer_lies"),
        (Muddler, "peer_lies"),
        (Withholder, "peer_lies"),
    ],
)
def test_a_peer_that_fails_costs_an_audit_line_and_the_others_are_heard(
    kind: type[StorePeer],
    reason: str,
    store_of: Callable[[str], Store],
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there, elsewhere = store_of("here"), store_of("there"), store_of("elsewhere")
    there.keep(kept(*range(300)))
    # One more, so that it is asked for something even if it comes last.
    elsewhere.keep(kept(*range(301)))
    peers = [kind("bad", elsewhere), StorePeer("good", there)]
    AntiEntropy("here", here, peers, StoreMetrics(CollectorRegistry())).round()
    assert here.entries(b"") == there.entries(b"")
    assert len(here.entries(b"")) == 300
    assert said(capsys) == [("bad", reason)]


def test_one_that_is_down_is_said_once_and_again_after_it_was_back(
    store_of: Callable[[str], Store], capsys: pytest.CaptureFixture[str]
) -> None:
    peer = StorePeer("peer", store_of("there"))
    anti_entropy = AntiEntropy("here", store_of("here"), [peer], StoreMetrics(CollectorRegistry()))
    for down in (True, True, False, True):
        peer.__class__ = Down if down else StorePeer
        anti_entropy.round()
    assert said(capsys) == [("peer", "peer_unreachable")] * 2


def test_a_damaged_row_is_mended_by_the_very_bytes_though_another_peer_offers_others(
    store_of: Callable[[str], Store], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there, other = store_of("here"), store_of("there"), store_of("other")
    items = kept(1, 2, 3)
    here.keep(items)
    there.keep(items)
    different = stored_item(2, voters=[ANNA])
    # Validly signed by the sender, but not what was stored here: another batch's request.
    different.request_id = "another"
    other.keep(
        list(check_items([(different, WRAPPED_KEY)], electorate_of([ANNA]), EPOCH).kept.values())
    )
    wanted = id_of(different.header)
    with sqlite3.connect(tmp_path / "here.sqlite3") as db:
        db.execute(
            "UPDATE kept SET stored_item = zeroblob(100) WHERE transaction_id = ?", (wanted,)
        )
    db.close()
    assert here.read([wanted]) == []
    assert here.damaged_ids == {wanted}
    peers = [StorePeer("other", other), StorePeer("there", there)]
    AntiEntropy("here", here, peers, StoreMetrics(CollectorRegistry())).round()
    assert here.read([wanted]) == there.read([wanted])
    assert here.damaged_ids == frozenset()
    [damaged, repaired] = [json.loads(one) for one in capsys.readouterr().out.splitlines()]
    assert damaged["data"]["reason"] == "row_damaged"
    assert repaired["data"]["detail"] == "from there"
