"""What a full node does: it keeps whole transactions, gives them signed, and names double voters."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

from love_node.fetched import fetch_message
from love_node.kept import Electorate, KeptItem, check_items
from love_node.store import Store
from love_node.v1 import node_pb2

#: What an answer may carry below gRPC's 4 MiB.
ANSWER_BYTES_MAX: Final = 3 * 1024 * 1024


class Stored(NamedTuple):
    """The answer to Store, and how many votes didn't verify."""

    response: node_pb2.StoreResponse
    dropped_votes: int

    @property
    def reasons(self) -> Counter[str]:
        """How many items were refused for which reason."""
        return Counter(one.reason for one in self.response.refusals)


class FullNode:
    """One full node.

    Parameters
    ----------
    delegate_id : str
    algorithm : str
        Of the key.
    epoch : int
    key : private key with `sign(bytes) -> bytes`
    store : Store
    electorate : mapping
        The delegates' public keys by their ids.
    """

    def __init__(
        self,
        delegate_id: str,
        algorithm: str,
        epoch: int,
        key: Any,
        store: Store,
        electorate: Electorate,
    ) -> None:
        self._delegate_id = delegate_id
        self._algorithm = algorithm
        self._epoch = epoch
        self._key = key
        self._store = store
        self._electorate = electorate

    def store(self, request: node_pb2.StoreRequest) -> Stored:
        """Keep each item whose sender's signature holds; durable when this returns.

        Raises
        ------
        DatabaseFault
            Nothing of this request may be taken as kept.
        """
        checked = check_items(
            [(one, request.wrapped_keys.get(one.sealed.key_id, b"")) for one in request.items],
            self._electorate,
            self._epoch,
        )
        if checked.kept:
            self._store.keep(list(checked.kept.values()))
        response = node_pb2.StoreResponse(
            delegate_id=self._delegate_id,
            kept=len(checked.kept),
            refusals=[
                node_pb2.Refusal(index=index, reason=reason)
                for index, reason in sorted(checked.refusals.items())
            ],
        )
        return Stored(response, checked.dropped_votes)

    def fetch(self, request: node_pb2.FetchRequest) -> node_pb2.FetchResponse:
        """What is kept of these, as much as an answer carries, signed over query and answer."""
        asked = list(dict.fromkeys(request.transaction_ids))
        items = {one.transaction_id: one for one in self._store.read(asked)}
        response = node_pb2.FetchResponse(
            delegate_id=self._delegate_id,
            algorithm=self._algorithm,
            missing_ids=[one for one in asked if one not in items],
        )
        size = 0
        for transaction_id, item in items.items():
            kept = _kept_transaction(item)
            size += kept.ByteSize()
            if response.transactions and size > ANSWER_BYTES_MAX:
                response.left_ids.append(transaction_id)
            else:
                response.transactions.append(kept)
        response.signature = self._key.sign(fetch_message(request, response))
        return response

    def evidence(self, request: node_pb2.EvidenceRequest) -> node_pb2.EvidenceResponse:
        """Proofs of double votes, of each delegate at least its first, as many as an answer carries."""
        response = node_pb2.EvidenceResponse(delegate_id=self._delegate_id)
        size = 0
        for proof in self._store.proofs(request.epoch):
            size += proof.ByteSize()
            if size <= ANSWER_BYTES_MAX:
                response.double_votes.append(proof)
        return response

    def ranges(self, prefixes: Sequence[bytes]) -> node_pb2.RangesResponse:
        """What is kept in the range of each prefix."""
        return node_pb2.RangesResponse(
            delegate_id=self._delegate_id,
            ranges=[
                node_pb2.RangeDigest(**asdict(self._store.summary(prefix))) for prefix in prefixes
            ],
        )


def _kept_transaction(item: KeptItem) -> node_pb2.KeptTransaction:
    return node_pb2.KeptTransaction(
        transaction_id=item.transaction_id,
        stored_item=item.stored_item,
        wrapped_key=item.wrapped_key,
        votes=[node_pb2.SignedVote(**vote._asdict()) for vote in item.votes],
    )
