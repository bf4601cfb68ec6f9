"""A vote collector that shares no code with the federation's: asyncio, and signatures by OpenSSL.

What a vote signs is put together here from its description (`love-vote-v1\\0`, epoch, transaction id,
sender, nonce; 64-bit big-endian), and Ed25519 (RFC 8032) verified by the package `cryptography`. So it
can judge what `federation_dag` says.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.message import DecodeError

from love_node.v1 import node_pb2
from lovectl.pki import TransportPki
from lovectl.simulation.ballots import Ballot

VOTE: Final = "/love.node.v1.DelegateService/Vote"
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024
ID_BYTES: Final = 32


@dataclass(frozen=True)
class Voter:
    """A delegate as its registry entry names it."""

    delegate_id: str
    public_key: bytes
    stake: int


@dataclass
class VoteLog:
    """All that one collector was given: valid signatures by transaction and delegate, and counts.

    Attributes
    ----------
    signatures : dict of transaction id to dict of delegate id to signature
    counts : Counter
        `signed`, `invalid` (no signature of this delegate over this vote), `malformed` answers,
        refusals by their reason, and failed calls by their gRPC status.
    """

    signatures: dict[bytes, dict[str, bytes]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


def vote_bytes(epoch: int, ballot: Ballot) -> bytes:
    """What a delegate's vote for this transaction signs."""
    assert len(ballot.transaction_id) == len(ballot.sender) == ID_BYTES
    return b"".join(
        (
            b"love-vote-v1\0",
            struct.pack(">Q", epoch),
            ballot.transaction_id,
            ballot.sender,
            struct.pack(">Q", ballot.nonce),
        )
    )


def holds(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the signature is of this key over this message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


class Collector:
    """Asks delegates for votes from one side of the network; use it as an async context manager.

    Parameters
    ----------
    addresses : mapping of delegate id to host:port
    deadline_ms : int
        For one request; late answers are not heard.
    """

    def __init__(
        self,
        voters: Sequence[Voter],
        addresses: Mapping[str, str],
        pki: TransportPki,
        epoch: int,
        deadline_ms: int,
    ) -> None:
        self.log = VoteLog()
        self._voters = {one.delegate_id: one for one in voters}
        self._addresses = addresses
        self._epoch = epoch
        self.deadline_ms = deadline_ms
        client = pki.client_pem_file.read_bytes()
        self._credentials = grpc.ssl_channel_credentials(pki.ca_file.read_bytes(), client, client)
        self._channels: dict[str, Any] = {}

    async def __aenter__(self) -> "Collector":
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # A delegate that is back is found soon.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 300),
        ]
        self._channels = {
            name: grpc.aio.secure_channel(address, self._credentials, options)
            for name, address in self._addresses.items()
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def ask(self, ballots: Sequence[Ballot], waves: Sequence[Sequence[str]]) -> None:
        """Ask each wave of delegates at once, the next one when all of the former have answered."""
        for wave in waves:
            await asyncio.gather(*(self._ask_one(name, ballots) for name in wave))

    def stake(self, ballot: Ballot) -> int:
        """The stake of those whose valid votes this side has for the transaction."""
        voted = self.log.signatures.get(ballot.transaction_id, {})
        return sum(self._voters[name].stake for name in voted)

    def is_final(self, ballot: Ballot) -> bool:
        """Whether they are worth two thirds of all stake."""
        return 3 * self.stake(ballot) >= 2 * sum(one.stake for one in self._voters.values())

    async def _ask_one(self, delegate_id: str, ballots: Sequence[Ballot]) -> None:
        request = node_pb2.VoteRequest(
            epoch=self._epoch,
            items=[
                node_pb2.SignedHeader(
                    header=one.header,
                    algorithm=one.algorithm,
                    public_key=one.public_key,
                    signature=one.signature,
                )
                for one in ballots
            ],
        )
        call = self._channels[delegate_id].unary_unary(VOTE)
        try:
            answer = await call(request.SerializeToString(), timeout=self.deadline_ms / 1000)
        except grpc.aio.AioRpcError as error:
            self.log.counts[error.code().name] += 1
            return
        try:
            response = node_pb2.VoteResponse.FromString(answer)
        except DecodeError:
            self.log.counts["malformed"] += 1
            return
        for ballot, vote in zip(ballots, response.votes, strict=False):
            if vote.signature:
                self._take_signature(delegate_id, ballot, vote.signature)
            else:
                self.log.counts[vote.reason or "no_reason"] += 1

    def _take_signature(self, delegate_id: str, ballot: Ballot, signature: bytes) -> None:
        public_key = self._voters[delegate_id].public_key
        if holds(public_key, vote_bytes(self._epoch, ballot), signature):
            self.log.counts["signed"] += 1
            self.log.signatures.setdefault(ballot.transaction_id, {})[delegate_id] = signature
        else:
            self.log.counts["invalid"] += 1
