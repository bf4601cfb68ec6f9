"""The delegate's gRPC methods: what comes in is bounded here, and refusals are audited."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple, NoReturn

import grpc
from google.protobuf.message import Message

from love_node.calls import Call
from love_node.delegate import ITEMS_MAX, Delegate
from love_node.errors import DatabaseDamaged, DatabaseFault
from love_node.fetched import FETCH_IDS_MAX, NONCE_BYTES_MAX, NONCE_BYTES_MIN
from love_node.full_node import FullNode
from love_node.kept import ID_BYTES
from love_node.metrics import NodeMetrics, StoreMetrics
from love_node.ranges import PREFIXES_MAX
from love_node.v1 import node_pb2

SERVICE: Final = node_pb2.DESCRIPTOR.services_by_name["DelegateService"].full_name


class Keeping(NamedTuple):
    """What a full node has beside its vote."""

    node: FullNode
    metrics: StoreMetrics


class DelegateService:
    """Takes requests within the limits, and gives them to the delegate.

    Parameters
    ----------
    epoch : int
        The delegate's own.
    faulty : callable
        Told when the database of the vote locks has failed.
    keeping : Keeping, optional
        Of a full node.
    """

    def __init__(
        self,
        delegate_id: str,
        epoch: int,
        delegate: Delegate,
        metrics: NodeMetrics,
        faulty: Callable[[], None],
        keeping: Keeping | None = None,
    ) -> None:
        self._delegate_id = delegate_id
        self._epoch = epoch
        self._delegate = delegate
        self._metrics = metrics
        self._faulty = faulty
        self._keeping = keeping

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """What a gRPC server is given."""
        answers: dict[str, Callable[[Call], Message]] = {
            "Vote": self._vote,
            "Store": self._store,
            "Fetch": self._fetch,
            "Evidence": self._evidence,
            "Ranges": self._ranges,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: self._method(name, answer) for name, answer in answers.items()}
        )

    def _method(
        self, name: str, answer: Callable[[Call], Message]
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        latency_s = self._metrics.latency_s if name == "Vote" else self._metrics.call_s.labels(name)

        def serve(messages: Iterator[bytes], context: grpc.ServicerContext) -> Message:
            began_s = time.perf_counter()
            response = answer(Call(self._delegate_id, self._metrics, messages, context))
            latency_s.observe(time.perf_counter() - began_s)
            return response

        return grpc.stream_unary_rpc_method_handler(
            serve, response_serializer=lambda response: response.SerializeToString()
        )

    def _vote(self, call: Call) -> node_pb2.VoteResponse:
        with self._metrics.in_flight.track_inprogress():
            request = call.request(node_pb2.VoteRequest)
            self._check_batch(call, request.epoch, len(request.items))
            try:
                response = self._delegate.vote(request.epoch, request.items)
            except DatabaseFault as error:
                # Without its locks on the disk a delegate must not sign anything.
                self._faulty()
                _fail(call, error)
        refused = Counter(one.reason for one in response.votes if one.reason)
        self._metrics.votes.labels("signed").inc(len(response.votes) - refused.total())
        self._metrics.votes.labels("refused").inc(refused.total())
        call.refuse_items(refused, len(response.votes))
        return response

    def _store(self, call: Call) -> node_pb2.StoreResponse:
        request = call.request(node_pb2.StoreRequest)
        keeping = self._full(call)
        self._check_batch(call, request.epoch, len(request.items))
        try:
            stored = keeping.node.store(request)
        except DatabaseFault as error:
            _fail(call, error)
        keeping.metrics.stored.labels("kept").inc(stored.response.kept)
        keeping.metrics.stored.labels("refused").inc(stored.reasons.total())
        keeping.metrics.dropped_votes.inc(stored.dropped_votes)
        call.refuse_items(stored.reasons, len(request.items))
        return stored.response

    def _fetch(self, call: Call) -> node_pb2.FetchResponse:
        request = call.request(node_pb2.FetchRequest)
        keeping = self._full(call)
        if not NONCE_BYTES_MIN <= len(request.nonce) <= NONCE_BYTES_MAX:
            said = f"nonce: {NONCE_BYTES_MIN} to {NONCE_BYTES_MAX} bytes, not {len(request.nonce)}"
            call.invalid("bad_nonce", said)
        ids = request.transaction_ids
        if len(ids) > FETCH_IDS_MAX:
            call.invalid(
                "too_many_items", f"transaction_ids: at most {FETCH_IDS_MAX}, not {len(ids)}"
            )
        if any(len(one) != ID_BYTES for one in ids):
            call.invalid("malformed", f"transaction_ids: {ID_BYTES} bytes each")
        try:
            return keeping.node.fetch(request)
        except DatabaseFault as error:
            _fail(call, error)

    def _evidence(self, call: Call) -> node_pb2.EvidenceResponse:
        request = call.request(node_pb2.EvidenceRequest)
        if request.epoch > self._epoch:
            self._future_epoch(call, request.epoch)
        if self._keeping is None:
            # A light node keeps no votes of others, so that it has seen nobody vote twice.
            return node_pb2.EvidenceResponse(delegate_id=self._delegate_id)
        try:
            return self._keeping.node.evidence(request)
        except DatabaseFault as error:
            _fail(call, error)

    def _ranges(self, call: Call) -> node_pb2.RangesResponse:
        request = call.request(node_pb2.RangesRequest)
        keeping = self._full(call)
        prefixes = list(request.prefixes)
        if len(prefixes) > PREFIXES_MAX:
            call.invalid("too_many_items", f"prefixes: at most {PREFIXES_MAX}, not {len(prefixes)}")
        if not all(1 <= len(one) <= ID_BYTES for one in prefixes):
            call.invalid("malformed", f"prefixes: 1 to {ID_BYTES} bytes each")
        try:
            return keeping.node.ranges(prefixes)
        except DatabaseFault as error:
            _fail(call, error)

    def _full(self, call: Call) -> Keeping:
        if self._keeping is None:
            # "Not supported in this service" (gRPC's status codes): no retry here will help.
            said = "a light node keeps no transactions: ask a continent's or the global one"
            call.refuse(grpc.StatusCode.UNIMPLEMENTED, "light_node", said)
        return self._keeping

    def _check_batch(self, call: Call, epoch: int, items: int) -> None:
        if items > ITEMS_MAX:
            call.invalid("too_many_items", f"items: at most {ITEMS_MAX}, not {items}")
        if epoch > self._epoch:
            self._future_epoch(call, epoch)

    def _future_epoch(self, call: Call, epoch: int) -> None:
        call.invalid("future_epoch", f"epoch: {epoch} is in the future; it is {self._epoch}")


def _fail(call: Call, error: DatabaseFault) -> NoReturn:
    if isinstance(error, DatabaseDamaged):
        call.refuse(grpc.StatusCode.DATA_LOSS, "database_damaged", str(error))
    call.refuse(grpc.StatusCode.INTERNAL, "database_fault", str(error))
