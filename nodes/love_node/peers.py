"""Another full node as it is asked: each answer is bounded in time and size, and verified."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

import grpc

from love_node.config import NodeConfig, PublicDelegate
from love_node.delegate import MESSAGE_BYTES_MAX
from love_node.fetched import NONCE_BYTES_MIN, Fetched, NotGenuine, check_fetched
from love_node.kept import Electorate, check_proof
from love_node.ranges import Range
from love_node.v1 import node_pb2, node_pb2_grpc

RECONNECT_MS_MAX: Final = 1_000


class PeerUnreachable(Exception):
    """It is down, hangs, or refuses us."""


class PeerLies(Exception):
    """Its answer doesn't hold; the message says why."""


class Peer:
    """The channel to one peer, by mutual TLS with this node's own certificate.

    Parameters
    ----------
    config : NodeConfig
        This node's.
    peer : PublicDelegate
    electorate : mapping
        The delegates' public keys by their ids.
    """

    def __init__(self, config: NodeConfig, peer: PublicDelegate, electorate: Electorate) -> None:
        self.delegate_id = peer.delegate_id
        self._epoch = config.epoch
        self._timeout_s = config.peer_timeout_s
        self._electorate = electorate
        credentials = grpc.ssl_channel_credentials(
            config.client_ca_pem_file.read_bytes(),
            (config.client_key_pem_file or config.server_key_pem_file).read_bytes(),
            (config.client_cert_pem_file or config.server_cert_pem_file).read_bytes(),
        )
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # A peer that is back is found soon.
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
        ]
        self._channel = grpc.secure_channel(peer.address, credentials, options)
        self._stub = node_pb2_grpc.DelegateServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def ranges(self, prefixes: Sequence[bytes]) -> list[Range]:
        """What it keeps in the range of each prefix, as it says.

        Raises
        ------
        PeerUnreachable
        """
        request = node_pb2.RangesRequest(prefixes=prefixes)
        response: node_pb2.RangesResponse = self._ask(self._stub.Ranges, request)
        return [Range(one.count, one.digest, one.entries) for one in response.ranges]

    def fetch(self, transaction_ids: Sequence[bytes]) -> Fetched:
        """What it keeps of these; its signature and each sender's are verified.

        Raises
        ------
        PeerUnreachable, PeerLies
        """
        nonce = secrets.token_bytes(NONCE_BYTES_MIN)
        request = node_pb2.FetchRequest(nonce=nonce, transaction_ids=transaction_ids)
        response = self._ask(self._stub.Fetch, request)
        key = self._electorate[self.delegate_id]
        try:
            return check_fetched(
                request, response, self.delegate_id, key, self._electorate, self._epoch
            )
        except NotGenuine as error:
            raise PeerLies(str(error)) from None

    def evidence(self) -> list[node_pb2.DoubleVote]:
        """The double votes that it knows, each of them verified.

        Raises
        ------
        PeerUnreachable, PeerLies
        """
        response = self._ask(self._stub.Evidence, node_pb2.EvidenceRequest())
        proofs: list[node_pb2.DoubleVote] = list(response.double_votes)
        for proof in proofs:
            # A delegate of another epoch may be unknown to this node: that is no lie.
            if proof.delegate_id in self._electorate and not check_proof(proof, self._electorate):
                raise PeerLies(f"a double vote of {proof.delegate_id} that does not hold")
        return [one for one in proofs if one.delegate_id in self._electorate]

    def close(self) -> None:
        """End the connection, and a request that is under way."""
        self._channel.close()

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise PeerUnreachable(f"{error.code().name}: {error.details()}") from None
        except ValueError as error:
            # The channel was closed, since this node ends.
            raise PeerUnreachable(str(error)) from None
