"""Full nodes as real processes: they keep, give, converge, find damage and mend it."""

import random
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from voting.full_nodes import NONCE, SERVICE, FullNode, full_nodes, start
from voting.served_node import status_of, until
from voting.transactions import (
    WRAPPED_KEY,
    electorate_of,
    id_of,
    store_request,
    stored_item,
)

from love_node.fetched import FETCH_IDS_MAX, NotGenuine, check_fetched
from love_node.kept import check_proof
from love_node.ranges import PREFIXES_MAX
from love_node.v1 import node_pb2
from lovectl.delegates import EPOCH
from lovectl.pki import TransportPki

KILLS = 8
SEED = 11
#: Rounds follow each other quickly; the time-out is short where a peer hangs.
QUICK = {"anti_entropy_interval_s": 0.2, "scrub_interval_s": 0.2, "peer_timeout_s": 2.0}
SLOW = {"anti_entropy_interval_s": 3_600.0, "scrub_interval_s": 3_600.0}


@pytest.fixture
def three(tmp_path: Path, transport_pki: TransportPki) -> Iterator[list[FullNode]]:
    nodes = full_nodes(tmp_path, transport_pki, **QUICK)
    yield nodes
    for node in nodes:
        node.server.resume()
        node.server.stop()


@pytest.fixture(scope="module")
def alone(
    tmp_path_factory: pytest.TempPathFactory, transport_pki: TransportPki
) -> Iterator[FullNode]:
    """One full node whose peers are down."""
    node = full_nodes(tmp_path_factory.mktemp("alone"), transport_pki, **SLOW)[0]
    node.server.start()
    yield node
    node.server.stop()


def test_what_was_acknowledged_is_kept_whenever_the_node_is_killed(
    tmp_path: Path, transport_pki: TransportPki
) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    node = full_nodes(tmp_path, transport_pki, **SLOW)[0]
    acknowledged: list[node_pb2.StoredItem] = []

    def store(batch: list[node_pb2.StoredItem]) -> list[node_pb2.StoredItem]:
        try:
            return batch if node.store(*batch).kept == len(batch) else []
        except grpc.RpcError:
            return []

    for kill in range(KILLS):
        node.server.start()
        batches = [
            [stored_item(1_000 * kill + 20 * n + m, content=4_000) for m in range(20)]
            for n in range(12)
        ]
        with ThreadPoolExecutor(4) as pool:
            pending = [pool.submit(store, batch) for batch in batches]
            for one in pending[: chance.randint(1, len(pending) - 1)]:
                one.result()
            node.server.kill()
        acknowledged += [item for one in pending for item in one.result()]
    node.server.start()
    try:
        assert len(acknowledged) >= 20 * KILLS
        for n in range(0, len(acknowledged), FETCH_IDS_MAX):
            asked = acknowledged[n : n + FETCH_IDS_MAX]
            fetched = node.fetch(*asked)
            assert fetched.missing_ids == fetched.left_ids == []
            assert [one.stored_item for one in fetched.items] == [
                one.SerializeToString(deterministic=True) for one in asked
            ]
    finally:
        node.server.stop()


def test_three_nodes_keep_the_same_after_one_was_down_and_each_knows_who_voted_twice(
    three: list[FullNode],
) -> None:
    asia, europe, everywhere = three
    traitor, honest = asia.everyone[0], asia.everyone[1]
    start([asia, europe])
    items = [stored_item(n, voters=[honest]) for n in range(250)]
    for n in range(0, 250, 50):
        (asia if n % 100 else europe).store(*items[n : n + 50])
    # Nobody was shown both votes: they meet in what is kept.
    first, rival = stored_item(900, 1, voters=[traitor]), stored_item(900, 2, voters=[traitor])
    asia.store(first)
    europe.store(rival)
    asia.store(stored_item(7, voters=[traitor]))
    start([everywhere])
    for node in three:
        until(lambda node=node: node.figure("love_node_kept") == 252)
        until(lambda node=node: bool(node.evidence()))
        for n in range(0, 250, FETCH_IDS_MAX):
            assert node.keeps(*items[n : n + FETCH_IDS_MAX])
        [proof] = node.evidence()
        assert proof.delegate_id == traitor.delegate_id
        assert set(proof.transaction_ids) == {id_of(first.header), id_of(rival.header)}
        assert check_proof(proof, electorate_of(node.everyone))
        # Votes that came later are united, too.
        until(lambda node=node: len(node.fetch(items[7]).items[0].votes) == 2)
    assert everywhere.figure("love_node_pulled_total") == 252
    assert everywhere.figure("love_node_ranges_compared_total") > 0
    assert everywhere.figure('love_node_anti_entropy_lag_seconds{peer="node-asia"}') < 20


def test_a_flipped_byte_is_found_reported_and_repaired_byte_for_byte(
    three: list[FullNode],
) -> None:
    asia, europe, _ = three
    items = [stored_item(n, content=9_000) for n in range(40)]
    start([asia, europe])
    asia.store(*items)
    until(lambda: europe.keeps(*items))
    whole = europe.fetch(items[17]).items
    _checkpoint(asia.kept_file)
    _flip(asia.kept_file, items[17].sealed.ciphertext[4_600:4_700])
    until(lambda: bool(asia.events("node.repaired")))
    [damaged], [repaired] = asia.events("node.damaged"), asia.events("node.repaired")
    assert damaged["data"]["reason"] == "row_damaged"
    assert damaged["subject"] == repaired["subject"] == id_of(items[17].header).hex()
    assert repaired["data"]["detail"] == "from node-europe"
    assert asia.fetch(items[17]).items == whole
    _checkpoint(asia.kept_file)
    assert asia.kept_file.read_bytes().count(items[17].sealed.ciphertext[4_600:4_700]) == 1
    assert asia.figure("love_node_repaired_total") == 1
    assert asia.figure('love_node_damaged_total{what="row"}') == 1


@pytest.mark.parametrize("lives", [True, False], ids=["while it runs", "before it starts"])
def test_a_damaged_file_is_set_aside_and_filled_again_from_the_peers(
    three: list[FullNode], lives: bool
) -> None:
    asia, europe, _ = three
    items = [stored_item(n) for n in range(90)]
    start([asia, europe])
    asia.store(*items)
    until(lambda: europe.keeps(*items))
    if not lives:
        asia.server.stop()
    else:
        _checkpoint(asia.kept_file)
    with asia.kept_file.open("r+b") as disk:
        # The first page names the tables; nothing can be read without it.
        disk.write(b"\xaa" * 4_096)
    if not lives:
        asia.server.start()
    until(lambda: asia.keeps(*items))
    until(lambda: bool(asia.events("node.damaged")))
    assert asia.events("node.damaged")[0]["data"]["reason"] == "file_damaged"
    until(lambda: bool(list(asia.kept_file.parent.glob("kept.sqlite3.salvaged-*"))))
    assert asia.figure('love_node_damaged_total{what="file"}') == 1
    # Its vote goes on: the locks are another file.
    assert asia.vote(stored_item(5_000).header)[0].status == node_pb2.Vote.STATUS_SIGNED


def test_a_peer_that_hangs_costs_a_time_out_and_an_audit_line(three: list[FullNode]) -> None:
    asia, europe, everywhere = three
    start(three)
    everywhere.server.pause()
    item = stored_item(1)
    europe.store(item)
    until(lambda: asia.keeps(item))
    until(lambda: bool(asia.events("node.peer")))
    assert {one["data"]["reason"] for one in asia.events("node.peer")} == {"peer_unreachable"}


def test_fetch_is_signed_over_query_and_answer(alone: FullNode) -> None:
    items = [stored_item(n, voters=alone.everyone[:2]) for n in (60, 61)]
    alone.store(*items)
    unknown = b"u" * 32
    ids = [*(id_of(one.header) for one in items), unknown]
    request = node_pb2.FetchRequest(nonce=NONCE, transaction_ids=ids)
    answer = alone.ask("Fetch", request)
    electorate = electorate_of(alone.everyone)
    name = alone.delegate.delegate_id

    def check(query: node_pb2.FetchRequest, said: node_pb2.FetchResponse) -> None:
        check_fetched(query, said, name, electorate[name], electorate, EPOCH)

    check(request, answer)
    assert list(answer.missing_ids) == [unknown]
    assert [one.wrapped_key for one in answer.transactions] == [WRAPPED_KEY] * 2
    changes: list[Callable[[node_pb2.FetchResponse], object]] = [
        lambda said: setattr(said.transactions[0], "stored_item", said.transactions[1].stored_item),
        lambda said: setattr(said.transactions[0], "wrapped_key", b"another"),
        lambda said: said.transactions[0].votes.pop(),
        lambda said: said.transactions.pop(),
        lambda said: said.missing_ids.pop(),
        lambda said: said.left_ids.append(unknown),
        lambda said: setattr(said, "delegate_id", "node-global"),
        lambda said: setattr(said, "signature", bytes(64)),
    ]
    for change in changes:
        said = node_pb2.FetchResponse()
        said.CopyFrom(answer)
        change(said)
        with pytest.raises(NotGenuine):
            check(request, said)
    for other in (
        node_pb2.FetchRequest(nonce=b"m" * 16, transaction_ids=ids),
        node_pb2.FetchRequest(nonce=NONCE, transaction_ids=ids[:2]),
    ):
        with pytest.raises(NotGenuine):
            check(other, answer)


def test_a_batch_of_a_hundred_of_the_largest_contents_is_kept_and_given(alone: FullNode) -> None:
    items = [stored_item(10_000 + n, content=16 * 1024 + 64) for n in range(100)]
    assert alone.store(*items).kept == 100
    fetched = alone.fetch(*items)
    assert len(fetched.items) + len(fetched.left_ids) == 100
    assert fetched.items


def test_what_can_not_be_checked_is_refused_by_itself_and_audited(alone: FullNode) -> None:
    forged = stored_item(70)
    forged.header.signature = bytes(64)
    nobody = stored_item(71)
    nobody.sealed.key_id = "unknown"
    good = stored_item(72, voters=alone.everyone[:1])
    good.votes.append(node_pb2.SignedVote(delegate_id="node-kyoto", epoch=1, signature=b"s"))
    response = alone.store(forged, good, nobody)
    assert response.kept == 1
    assert [(one.index, one.reason) for one in response.refusals] == [
        (0, "bad_signature"),
        (2, "wrapped_key_missing"),
    ]
    assert alone.fetch(forged).missing_ids
    assert len(alone.fetch(good).items[0].votes) == 1
    assert alone.figure("love_node_dropped_votes_total") == 1
    said = {one["data"]["reason"]: one["data"]["detail"] for one in alone.refusals()}
    assert said["bad_signature"] == said["wrapped_key_missing"] == "1 of 3 items"


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("method", "message", "status", "reason"),
    [
        ("Store", store_request(stored_item(1), epoch=EPOCH + 1), INVALID, "future_epoch"),
        (
            "Store",
            node_pb2.StoreRequest(epoch=EPOCH, items=[node_pb2.StoredItem()] * 10_001),
            INVALID,
            "too_many_items",
        ),
        ("Store", b"\xff" * 4_000, INVALID, "malformed_message"),
        (
            "Store",
            bytes(33 * 1024 * 1024),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "no_whole_message",
        ),
        (
            "Fetch",
            node_pb2.FetchRequest(nonce=NONCE, transaction_ids=[b"i" * 32] * 10_001),
            INVALID,
            "too_many_items",
        ),
        ("Fetch", node_pb2.FetchRequest(nonce=b"short"), INVALID, "bad_nonce"),
        (
            "Fetch",
            node_pb2.FetchRequest(nonce=NONCE, transaction_ids=[b"short"]),
            INVALID,
            "malformed",
        ),
        ("Fetch", b"\xff" * 4_000, INVALID, "malformed_message"),
        ("Ranges", node_pb2.RangesRequest(prefixes=[b""]), INVALID, "malformed"),
        (
            "Ranges",
            node_pb2.RangesRequest(prefixes=[b"p"] * (PREFIXES_MAX + 1)),
            INVALID,
            "too_many_items",
        ),
        ("Evidence", node_pb2.EvidenceRequest(epoch=EPOCH + 1), INVALID, "future_epoch"),
        ("Evidence", b"\xff" * 4_000, INVALID, "malformed_message"),
    ],
)
def test_a_bad_request_gets_its_status_and_is_audited(
    alone: FullNode, method: str, message: object, status: grpc.StatusCode, reason: str
) -> None:
    before = len(alone.refusals())
    raw = message if isinstance(message, bytes) else message.SerializeToString()  # type: ignore[attr-defined]
    assert status_of(alone, SERVICE + method, raw) == status
    until(lambda: len(alone.refusals()) > before)
    event = alone.refusals()[-1]
    assert event["data"]["reason"] == reason
    assert "CN=" in event["subject"]


def test_a_client_without_a_certificate_of_ours_can_not_store(
    alone: FullNode, foreign_pki: TransportPki
) -> None:
    stranger = FullNode(alone.delegate, alone.pki, alone.server.log)
    stranger.channel = lambda: grpc.secure_channel(  # type: ignore[method-assign]
        f"127.0.0.1:{alone.delegate.port}",
        grpc.ssl_channel_credentials(
            alone.pki.ca_file.read_bytes(),
            foreign_pki.client_pem_file.read_bytes(),
            foreign_pki.client_pem_file.read_bytes(),
        ),
    )
    with pytest.raises(grpc.RpcError) as refused:
        stranger.store(stored_item(80))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


def test_a_light_node_keeps_nothing_and_says_so(
    tmp_path: Path, transport_pki: TransportPki
) -> None:
    node = full_nodes(tmp_path, transport_pki)[0]
    node.configure(level="city")
    node.server.start()
    try:
        for method, request in [
            ("Store", store_request(stored_item(1))),
            ("Fetch", node_pb2.FetchRequest(nonce=NONCE)),
            ("Ranges", node_pb2.RangesRequest(prefixes=[b"p"])),
        ]:
            status = status_of(node, SERVICE + method, request.SerializeToString())
            assert status == grpc.StatusCode.UNIMPLEMENTED
        assert node.evidence() == []
        assert not node.kept_file.exists()
        assert {one["data"]["reason"] for one in node.refusals()} == {"light_node"}
    finally:
        node.server.stop()


def _checkpoint(file: Path) -> None:
    """Have everything in the file itself, not in its log; waits for whoever reads."""

    def done() -> bool:
        with sqlite3.connect(file, timeout=5) as db:
            busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        db.close()
        return busy == 0

    until(done)


def _flip(file: Path, what: bytes) -> None:
    whole = file.read_bytes()
    assert whole.count(what) == 1
    with file.open("r+b") as disk:
        disk.seek(whole.index(what) + 50)
        disk.write(bytes([what[50] ^ 1]))
