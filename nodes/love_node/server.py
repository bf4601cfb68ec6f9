"""The delegate's gRPC server: mutual TLS, bounded messages, a graceful end."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

from love_node.config import NodeConfig, load_key
from love_node.delegate import ITEMS_MAX, MESSAGE_BYTES_MAX, Delegate
from love_node.errors import BadConfig, DatabaseFault
from love_node.locks import VoteLocks
from love_node.v1 import node_pb2, node_pb2_grpc

THREADS: Final = 4
DRAIN_S: Final = 3.0


class DelegateService(node_pb2_grpc.DelegateServicer):
    """Takes requests within the limits, and gives them to the delegate."""

    def __init__(self, delegate: Delegate) -> None:
        self._delegate = delegate

    def Vote(
        self, request: node_pb2.VoteRequest, context: grpc.ServicerContext
    ) -> node_pb2.VoteResponse:
        """Vote on each item."""
        if len(request.items) > ITEMS_MAX:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"at most {ITEMS_MAX} items")
        try:
            return self._delegate.vote(request.epoch, request.items)
        except DatabaseFault as error:
            # Without its locks on the disk a delegate must not sign anything.
            context.abort(grpc.StatusCode.INTERNAL, str(error))
            raise


def start(config: NodeConfig) -> tuple[grpc.Server, VoteLocks]:
    """Listen; only clients with a certificate of the client CA are admitted.

    Raises
    ------
    BadConfig, DatabaseFault
    """
    key = load_key(config)
    locks = VoteLocks(config.database_file)
    options = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
    delegate = Delegate(config.delegate_id, config.epoch, key, locks)
    node_pb2_grpc.add_DelegateServicer_to_server(  # type: ignore[no-untyped-call]
        DelegateService(delegate), server
    )
    pair = (config.server_key_pem_file.read_bytes(), config.server_cert_pem_file.read_bytes())
    credentials = grpc.ssl_server_credentials(
        [pair], config.client_ca_pem_file.read_bytes(), require_client_auth=True
    )
    try:
        server.add_secure_port(config.address, credentials)
    except RuntimeError as error:
        raise BadConfig(f"address {config.address}: {error}") from None
    server.start()
    return server, locks
