"""Full nodes as witnesses: each is told one half of the pairs, and names who voted for both."""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import grpc

from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.pki import TransportPki
from lovectl.simulation.ballots import Ballot
from lovectl.simulation.collector import VoteLog
from lovectl.simulation.evidence import Pairs, Proof

BATCH: Final = 100
CALL_TIMEOUT_S: Final = 10.0
#: Comparing with peers takes a few rounds.
TIMEOUT_S: Final = 45.0
POLL_S: Final = 0.5
#: Delegates don't open contents, so these are no seal's.
KEY_ID: Final = "simulation.1"
CIPHERTEXT_BYTES: Final = 200


class Testimony(NamedTuple):
    """What the full nodes said: proofs by node, and transactions that they refused to keep."""

    proofs: dict[str, list[Proof]]
    refused: int


def ask_witnesses(
    addresses: Mapping[str, str],
    pki: TransportPki,
    pairs: Pairs,
    logs: Sequence[VoteLog],
    epoch: int,
    expected: frozenset[str],
) -> Testimony:
    """Give each half, with its votes, to another full node by Store; then ask all for Evidence.

    None of them is told both halves of a pair: they must compare what they keep.

    Parameters
    ----------
    addresses : mapping of full nodes' ids to host:port
    expected : frozenset of delegate ids
        Once each node has named these, nothing more is waited for.

    Raises
    ------
    grpc.RpcError
        A full node doesn't serve.
    """
    by_id = {one.transaction_id: one for pair in pairs for one in pair}
    client = pki.client_pem_file.read_bytes()
    credentials = grpc.ssl_channel_credentials(pki.ca_file.read_bytes(), client, client)
    channels = {
        name: grpc.secure_channel(address, credentials) for name, address in addresses.items()
    }
    stubs = {
        name: node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
        for name, channel in channels.items()
    }
    try:
        refused = 0
        for half, (stub, log) in enumerate(zip(stubs.values(), logs, strict=True)):
            refused += _tell(stub, [pair[half] for pair in pairs], log, epoch)
        ends_s = time.monotonic() + TIMEOUT_S
        while True:
            proofs = {name: _proofs(stub, by_id, epoch) for name, stub in stubs.items()}
            named = [{one.delegate_id for one in each} for each in proofs.values()]
            if all(each >= expected for each in named) or time.monotonic() > ends_s:
                return Testimony(proofs, refused)
            time.sleep(POLL_S)
    finally:
        for channel in channels.values():
            channel.close()


def _tell(stub: Any, ballots: Sequence[Ballot], log: VoteLog, epoch: int) -> int:
    refused = 0
    for start in range(0, len(ballots), BATCH):
        items = [_stored(one, log, epoch) for one in ballots[start : start + BATCH]]
        request = node_pb2.StoreRequest(
            epoch=epoch, batch_id=f"{start}", wrapped_keys={KEY_ID: b"no key"}, items=items
        )
        refused += len(stub.Store(request, timeout=CALL_TIMEOUT_S).refusals)
    return refused


def _stored(ballot: Ballot, log: VoteLog, epoch: int) -> node_pb2.StoredItem:
    ciphertext = hashlib.shake_256(ballot.transaction_id).digest(CIPHERTEXT_BYTES)
    votes = log.signatures.get(ballot.transaction_id, {})
    return node_pb2.StoredItem(
        header=node_pb2.SignedHeader(
            header=ballot.header,
            algorithm=ballot.algorithm,
            public_key=ballot.public_key,
            signature=ballot.signature,
        ),
        sealed=node_pb2.Sealed(key_id=KEY_ID, ciphertext=ciphertext),
        home_continent="Europe",
        accepted_at_ms=1,
        request_id=ballot.transaction_id.hex(),
        votes=[
            node_pb2.SignedVote(delegate_id=name, epoch=epoch, signature=signature)
            for name, signature in votes.items()
        ],
    )


def _proofs(stub: Any, by_id: Mapping[bytes, Ballot], epoch: int) -> list[Proof]:
    request = node_pb2.EvidenceRequest(epoch=epoch)
    proofs = []
    for one in stub.Evidence(request, timeout=CALL_TIMEOUT_S).double_votes:
        first, second = (by_id[each] for each in one.transaction_ids)
        proofs.append(Proof(one.delegate_id, (first, second), tuple(one.signatures)))
    return proofs
