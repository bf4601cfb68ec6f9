"""Delegates as real processes: one vote for each nonce, kept through `kill -9`, for members only."""

import random
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from voting.node_process import Node, node_ports, signed_header

from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.delegates import EPOCH, make_delegates
from lovectl.pki import TransportPki

KILLS = 25
SEED = 7


@pytest.fixture
def node(tmp_path: Path, transport_pki: TransportPki) -> Iterator[Node]:
    delegate = make_delegates(tmp_path / "nodes", node_ports(), transport_pki)[0]
    node = Node(delegate, transport_pki, tmp_path / "node.log")
    node.server.start()
    try:
        yield node
    finally:
        node.server.stop()


def test_a_delegate_signs_one_transaction_of_a_nonce_and_the_same_again(node: Node) -> None:
    first, rival = signed_header(1, amount=1), signed_header(1, amount=2)
    [vote] = node.vote(first)
    assert vote.status == node_pb2.Vote.STATUS_SIGNED
    assert node.checks(vote, 1)
    [refused, again] = node.vote(rival, first)
    assert (refused.status, refused.reason) == (node_pb2.Vote.STATUS_REFUSED, "nonce_locked")
    assert refused.locked_transaction_id == vote.transaction_id
    assert (again.status, again.signature) == (node_pb2.Vote.STATUS_SIGNED, vote.signature)


def test_a_delegate_signs_nothing_that_it_could_not_check(node: Node) -> None:
    stranger = Ed25519PrivateKey.generate()
    not_canonical = signed_header(3)
    not_canonical.header = b" " + not_canonical.header
    other_key = signed_header(4, signer=stranger)
    other_key.public_key = stranger.public_key().public_bytes_raw()
    votes = node.vote(signed_header(2, signer=stranger), not_canonical, other_key)
    assert [vote.reason for vote in votes] == ["bad_signature", "malformed", "not_the_sender"]
    [vote] = node.vote(signed_header(5), epoch=EPOCH - 1)
    assert vote.reason == "wrong_epoch"
    # None of these has locked a nonce.
    assert all(
        vote.status == node_pb2.Vote.STATUS_SIGNED
        for vote in node.vote(*(signed_header(nonce) for nonce in (2, 3, 4, 5)))
    )


def test_a_client_without_a_certificate_of_ours_is_not_heard(
    node: Node, foreign_pki: TransportPki
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        node.vote(signed_header(1), pki=foreign_pki)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    credentials = grpc.ssl_channel_credentials(node.pki.ca_file.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{node.delegate.port}", credentials) as channel:
        stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError):
            stub.Vote(node_pb2.VoteRequest(epoch=EPOCH), timeout=5)


def test_more_than_the_limit_is_refused_and_the_delegate_stays_up(node: Node) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        node.vote(*[signed_header(1)] * 1001)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert node.vote(signed_header(1))[0].status == node_pb2.Vote.STATUS_SIGNED


def test_killed_at_any_moment_a_delegate_never_signs_both_of_two_rivals(node: Node) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    signed: dict[int, set[bytes]] = {}
    for kill in range(KILLS):
        nonces = range(kill * 20, kill * 20 + 40)
        rivals = [signed_header(nonce, amount=chance.randint(1, 2)) for nonce in nonces]
        client = node.pki.client_pem_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(node.pki.ca_file.read_bytes(), client, client)
        with grpc.secure_channel(f"127.0.0.1:{node.delegate.port}", credentials) as channel:
            grpc.channel_ready_future(channel).result(10)
            stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
            pending = [
                stub.Vote.future(node_pb2.VoteRequest(epoch=EPOCH, items=[one]), timeout=5)
                for one in rivals
            ]
            for call in pending[: chance.randint(0, len(pending) - 1)]:
                call.result()
            node.server.kill()
            for nonce, call in zip(nonces, pending, strict=True):
                if call.exception() is None:
                    for vote in call.result().votes:
                        if vote.status == node_pb2.Vote.STATUS_SIGNED:
                            signed.setdefault(nonce, set()).add(vote.transaction_id)
        node.server.start()
    assert len(signed) > KILLS
    assert all(len(ids) == 1 for ids in signed.values())


def test_a_damaged_database_is_said_at_start(node: Node, tmp_path: Path) -> None:
    node.vote(signed_header(1))
    node.server.stop()
    database = node.delegate.directory / "votes.sqlite3"
    database.write_bytes(b"not a database" * 400)
    with pytest.raises(Exception, match=r"love-node: database|node-tokyo"):
        node.server.start()
