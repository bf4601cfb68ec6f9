"""dpos and seven delegates as real processes: who answers makes it final, whoever hangs or is dead."""

import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest
from voting.node_process import Node, node_ports, signed_header
from voting.served_node import until
from voting.transactions import KEY_ID, WRAPPED_KEY, id_of

from dpos.delegates import Delegates
from dpos.electorate import GrpcElectorate
from dpos.voting import collect_votes
from federation.batch import Batch, Item
from federation.telemetry import stage_logger
from federation.transaction import Envelope, Header, Sealed
from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.delegates import EPOCH, FULL_NODES, LIGHT_NODES, STAKES, make_delegates
from lovectl.pki import TransportPki

#: More than the stack's 80 ms: these tests share their cores, and prove no speed.
DEADLINE_MS = 2_000
ALL_STAKE = sum(STAKES.values())


class Federation:
    """Seven nodes, not started, and a way to collect their votes."""

    def __init__(self, directory: Path, pki: TransportPki) -> None:
        delegates = make_delegates(directory / "nodes", node_ports(), pki)
        self.nodes = {
            one.delegate_id: Node(one, pki, directory / f"{one.delegate_id}.log")
            for one in delegates
        }
        self._public = [one.public(f"127.0.0.1:{one.port}") for one in delegates]
        self._pki = pki

    def start(self, *names: str) -> None:
        """Start these side by side."""
        for name in names:
            self.nodes[name].server.launch()
        for name in names:
            self.nodes[name].server.wait_ready()

    def electorate(self, pki: TransportPki | None = None) -> tuple[Delegates, GrpcElectorate]:
        """The delegates and new connections to them, by these certificates."""
        shown = pki or self._pki
        client = shown.client_pem_file.read_text()
        delegates = Delegates.of_secret(
            {
                "epoch": EPOCH,
                "delegates": self._public,
                "ca_pem": shown.ca_file.read_text(),
                "client_cert_pem": client,
                "client_key_pem": client,
            }
        )
        log = stage_logger("dpos")
        return delegates, GrpcElectorate(delegates, DEADLINE_MS, DEADLINE_MS, log)

    def keeps(self, name: str, nonce: int) -> bool:
        """Whether this full node has the transaction of `item(nonce)`."""
        request = node_pb2.FetchRequest(
            nonce=b"n" * 16, transaction_ids=[id_of(signed_header(nonce))]
        )
        with self.nodes[name].channel() as channel:
            stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
            try:
                return not stub.Fetch(request, timeout=10).missing_ids
            except grpc.RpcError:
                return False


def item(nonce: int, amount: int = 1) -> Item:
    """A transaction as it comes to dpos."""
    signed = signed_header(nonce, amount)
    return Item(
        Envelope(
            header=msgspec.json.decode(signed.header, type=Header),
            algorithm=signed.algorithm,
            public_key=b64encode(signed.public_key).decode(),
            signature=b64encode(signed.signature).decode(),
            sealed=Sealed(KEY_ID, b64encode(b"sealed").decode()),
            accepted_at_ms=time.time_ns() // 1_000_000,
            request_id=f"request-{nonce}",
        )
    )


def batch_of(*items: Item) -> Batch:
    return Batch("batch", {KEY_ID: b64encode(WRAPPED_KEY).decode()}, list(items))


@pytest.fixture
def federation(tmp_path: Path, transport_pki: TransportPki) -> Iterator[Federation]:
    federation = Federation(tmp_path, transport_pki)
    yield federation
    for node in federation.nodes.values():
        node.server.resume()
        node.server.stop()


def test_light_nodes_make_it_final_and_full_nodes_keep_it(federation: Federation) -> None:
    federation.start(*LIGHT_NODES, *FULL_NODES)
    after = collect_votes(batch_of(item(1), item(2)), *federation.electorate())
    for one in after.items:
        assert one.final
        assert {voter for voter, _ in one.votes} <= {*LIGHT_NODES, *FULL_NODES}
        assert 3 * one.stake >= 2 * ALL_STAKE
    for name in FULL_NODES:
        until(lambda name=name: federation.keeps(name, 1) and federation.keeps(name, 2))


def test_a_light_node_that_hangs_or_is_dead_is_made_up_for_by_a_full_node(
    federation: Federation,
) -> None:
    federation.start(*LIGHT_NODES, "node-global")
    delegates, electorate = federation.electorate()
    assert collect_votes(batch_of(item(1)), delegates, electorate).items[0].final
    hanging, *others = LIGHT_NODES
    federation.nodes[hanging].server.pause()
    for nonce in (2, 3):
        [one] = collect_votes(batch_of(item(nonce)), delegates, electorate).items
        assert one.final
        assert {voter for voter, _ in one.votes} == {*others, "node-global"}
    federation.nodes[hanging].server.kill()
    for nonce in (4, 5):
        [one] = collect_votes(batch_of(item(nonce)), delegates, electorate).items
        assert one.final
        assert {voter for voter, _ in one.votes} == {*others, "node-global"}


def test_without_light_nodes_it_is_pending_kept_and_final_when_they_are_back(
    federation: Federation,
) -> None:
    federation.start(*FULL_NODES)
    delegates, electorate = federation.electorate()
    [pending] = collect_votes(batch_of(item(1)), delegates, electorate).items
    assert (pending.outcome, pending.final) == ("accepted", False)
    assert {voter for voter, _ in pending.votes} == set(FULL_NODES)
    until(lambda: all(federation.keeps(name, 1) for name in FULL_NODES))
    federation.start(*LIGHT_NODES)
    # Those that refused connections have their rest first.
    until(lambda: collect_votes(batch_of(item(1)), delegates, electorate).items[0].final)


def test_of_two_rivals_one_is_final_and_the_other_is_a_conflict(federation: Federation) -> None:
    federation.start(*LIGHT_NODES)
    delegates, electorate = federation.electorate()
    assert collect_votes(batch_of(item(1, amount=1)), delegates, electorate).items[0].final
    rival, own = collect_votes(batch_of(item(1, amount=2), item(2)), delegates, electorate).items
    assert (rival.outcome, rival.reason, rival.final) == ("rejected", "nonce_conflict", False)
    assert own.final


def test_certificates_of_another_federation_get_no_votes(
    federation: Federation, foreign_pki: TransportPki
) -> None:
    federation.start(*LIGHT_NODES)
    [one] = collect_votes(batch_of(item(1)), *federation.electorate(foreign_pki)).items
    assert (one.outcome, one.final, one.votes) == ("accepted", False, [])
