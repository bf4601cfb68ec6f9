"""A delegate as a process of the real program, and a way to ask it."""

import json
import sys
from pathlib import Path
from typing import Any

import grpc
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.delegates import EPOCH, NODES, Delegate
from lovectl.pki import TransportPki
from lovectl.processes import accepts_connections, free_ports
from lovectl.server_process import Server

SENDER = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC_KEY = SENDER.public_key().public_bytes_raw()
ACCOUNT = federation_dag.account_id("Ed25519", PUBLIC_KEY).hex()


def signed_header(
    nonce: int, amount: int = 1, signer: Ed25519PrivateKey = SENDER
) -> node_pb2.SignedHeader:
    """A transaction of SENDER's as a delegate is asked about it."""
    document = {
        "version": 1,
        "sender": ACCOUNT,
        "recipient": "b" * 64,
        "amount": amount,
        "nonce": nonce,
        "position": {"latitude_e7": 0, "longitude_e7": 0, "accuracy_m": 1, "observed_at_ms": 0},
        "reads": [],
        "writes": [],
        "content": {"salt": "0" * 32},
    }
    header = federation_dag.name_transaction(msgspec.json.encode(document)).signing_bytes
    return node_pb2.SignedHeader(
        header=header, algorithm="Ed25519", public_key=PUBLIC_KEY, signature=signer.sign(header)
    )


def node_ports(more: int = 0) -> list[int]:
    """A free port for each delegate, and so many more."""
    return free_ports(len(NODES) + more)


class Node:
    """One delegate's process, and a way to ask it."""

    def __init__(self, delegate: Delegate, pki: TransportPki, log: Path) -> None:
        self.delegate, self.pki = delegate, pki
        self.server = Server(
            delegate.delegate_id,
            [sys.executable, "-m", "love_node", "--config", str(delegate.config_file)],
            log,
            lambda: accepts_connections(delegate.port),
        )

    def configure(self, **changes: Any) -> None:
        """Change its configuration, for the next start."""
        config = json.loads(self.delegate.config_file.read_bytes())
        self.delegate.config_file.write_text(json.dumps({**config, **changes}))

    def channel(self) -> grpc.Channel:
        """A new channel, as a client of the federation."""
        client = self.pki.client_pem_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(self.pki.ca_file.read_bytes(), client, client)
        return grpc.secure_channel(f"127.0.0.1:{self.delegate.port}", credentials)

    def vote(
        self, *items: node_pb2.SignedHeader, epoch: int = EPOCH, pki: TransportPki | None = None
    ) -> list[node_pb2.Vote]:
        """Its votes on these items, seen through a new channel."""
        client = (pki or self.pki).client_pem_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(self.pki.ca_file.read_bytes(), client, client)
        with grpc.secure_channel(f"127.0.0.1:{self.delegate.port}", credentials) as channel:
            stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
            request = node_pb2.VoteRequest(epoch=epoch, items=items)
            return list(stub.Vote(request, timeout=10).votes)

    def checks(self, vote: node_pb2.Vote, nonce: int) -> bool:
        """Whether its key has signed this vote."""
        message = federation_dag.vote_message(
            EPOCH, vote.transaction_id, bytes.fromhex(ACCOUNT), nonce
        )
        public_key = self.delegate._key.public_key().public_bytes_raw()
        return federation_dag.batch_verify([("Ed25519", public_key, message, vote.signature)])[0]
