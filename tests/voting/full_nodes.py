"""The three full nodes as processes of the real program, and a way to ask each."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import grpc

from love_node.fetched import Fetched, check_fetched
from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.delegates import EPOCH, FULL_NODES, make_delegates
from lovectl.pki import TransportPki
from voting.node_process import node_ports
from voting.served_node import WAIT_S, ServedNode
from voting.transactions import electorate_of, id_of, store_request

SERVICE = "/love.node.v1.DelegateService/"
NONCE = b"n" * 16


class FullNode(ServedNode):
    """A full node's process."""

    everyone: Sequence[Any] = ()

    @property
    def kept_file(self) -> Path:
        """Where it keeps transactions."""
        return self.delegate.directory / "kept.sqlite3"

    def ask(self, method: str, request: Any) -> Any:
        """Its answer, through a new channel."""
        with self.channel() as channel:
            stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
            return getattr(stub, method)(request, timeout=WAIT_S)

    def store(self, *items: node_pb2.StoredItem) -> node_pb2.StoreResponse:
        """Give it these to keep."""
        return self.ask("Store", store_request(*items))

    def fetch(self, *items: node_pb2.StoredItem) -> Fetched:
        """What it keeps of these, verified."""
        request = node_pb2.FetchRequest(
            nonce=NONCE, transaction_ids=[id_of(one.header) for one in items]
        )
        electorate = electorate_of(self.everyone)
        key = electorate[self.delegate.delegate_id]
        response = self.ask("Fetch", request)
        return check_fetched(request, response, self.delegate.delegate_id, key, electorate, EPOCH)

    def keeps(self, *items: node_pb2.StoredItem) -> bool:
        """Whether it keeps all of these."""
        try:
            return not self.fetch(*items).missing_ids
        except grpc.RpcError:
            return False

    def evidence(self) -> list[node_pb2.DoubleVote]:
        """The double votes that it knows."""
        return list(self.ask("Evidence", node_pb2.EvidenceRequest(epoch=EPOCH)).double_votes)


def full_nodes(directory: Path, pki: TransportPki, **settings: Any) -> list[FullNode]:
    """The three, not started; their peers are each other."""
    *ports, one, two, three = node_ports(len(FULL_NODES))
    delegates = make_delegates(directory / "nodes", ports, pki)
    nodes = []
    for delegate, http_port in zip(delegates[-len(FULL_NODES) :], (one, two, three), strict=True):
        node = FullNode(delegate, pki, directory / f"{delegate.delegate_id}.log")
        node.http_port = http_port
        node.everyone = delegates
        node.configure(http_address=f"127.0.0.1:{http_port}", **settings)
        nodes.append(node)
    return nodes


def start(nodes: Iterable[FullNode]) -> None:
    """Start them side by side."""
    launched = list(nodes)
    for node in launched:
        node.server.launch()
    for node in launched:
        node.server.wait_ready()
