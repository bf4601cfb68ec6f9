"""The delegate's gRPC methods: what comes in is bounded and parsed here, and refusals are audited."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn

import grpc
from google.protobuf.message import DecodeError

from love_node.audit import record_refusal
from love_node.delegate import ITEMS_MAX, MESSAGE_BYTES_MAX, Delegate
from love_node.errors import DatabaseDamaged, DatabaseFault
from love_node.metrics import NodeMetrics
from love_node.v1 import node_pb2

SERVICE: Final = node_pb2.DESCRIPTOR.services_by_name["Delegate"].full_name


class DelegateService:
    """Takes requests within the limits, and gives them to the delegate.

    Parameters
    ----------
    epoch : int
        The delegate's own.
    faulty : callable
        Told when the database has failed.
    """

    def __init__(
        self,
        delegate_id: str,
        epoch: int,
        delegate: Delegate,
        metrics: NodeMetrics,
        faulty: Callable[[], None],
    ) -> None:
        self._delegate_id = delegate_id
        self._epoch = epoch
        self._delegate = delegate
        self._metrics = metrics
        self._faulty = faulty

    def handler(self) -> "grpc.GenericRpcHandler[Any, Any]":
        """What a gRPC server is given.

        On the wire a unary call is a stream of one message. Taken as a stream of bytes, a message
        that is too large or no protobuf reaches us, with its sender, and can be audited.
        """
        vote = grpc.stream_unary_rpc_method_handler(
            self.vote, response_serializer=node_pb2.VoteResponse.SerializeToString
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"Vote": vote})

    def vote(
        self, messages: Iterator[bytes], context: grpc.ServicerContext
    ) -> node_pb2.VoteResponse:
        """Vote on each item of the one message."""
        began_s = time.perf_counter()
        # A call that gRPC has refused soon doesn't know any more whose it was.
        caller = _Caller.of(context)
        with self._metrics.in_flight.track_inprogress():
            request = self._request(messages, context, caller)
            try:
                response = self._delegate.vote(request.epoch, request.items)
            except DatabaseFault as error:
                # Without its locks on the disk a delegate must not sign anything.
                self._faulty()
                damaged = isinstance(error, DatabaseDamaged)
                code = grpc.StatusCode.DATA_LOSS if damaged else grpc.StatusCode.INTERNAL
                reason = "database_damaged" if damaged else "database_fault"
                self._refuse(context, caller, code, reason, str(error))
        self._count(response, caller)
        self._metrics.latency_s.observe(time.perf_counter() - began_s)
        return response

    def _request(
        self, messages: Iterator[bytes], context: grpc.ServicerContext, caller: "_Caller"
    ) -> node_pb2.VoteRequest:
        invalid = grpc.StatusCode.INVALID_ARGUMENT
        try:
            message = next(messages)
        except (StopIteration, grpc.RpcError):
            # gRPC has refused what is over the limit by itself; otherwise this status is sent.
            self._refuse(
                context,
                caller,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "no_whole_message",
                f"a message of at most {MESSAGE_BYTES_MAX} bytes; it was larger, cut or cancelled",
            )
        try:
            request = node_pb2.VoteRequest.FromString(message)
        except DecodeError:
            self._refuse(
                context, caller, invalid, "malformed_message", "no love.node.v1.VoteRequest"
            )
        if len(request.items) > ITEMS_MAX:
            said = f"items: at most {ITEMS_MAX}, not {len(request.items)}"
            self._refuse(context, caller, invalid, "too_many_items", said)
        if request.epoch > self._epoch:
            said = f"epoch: {request.epoch} is in the future; it is {self._epoch}"
            self._refuse(context, caller, invalid, "future_epoch", said)
        return request

    def _count(self, response: node_pb2.VoteResponse, caller: "_Caller") -> None:
        refused = Counter(one.reason for one in response.votes if one.reason)
        self._metrics.votes.labels("signed").inc(len(response.votes) - refused.total())
        self._metrics.votes.labels("refused").inc(refused.total())
        for reason, count in refused.items():
            self._metrics.refusals.labels(reason).inc(count)
            self._audit(caller, reason, f"{count} of {len(response.votes)} items")

    def _refuse(
        self,
        context: grpc.ServicerContext,
        caller: "_Caller",
        code: grpc.StatusCode,
        reason: str,
        detail: str,
    ) -> NoReturn:
        self._metrics.refusals.labels(reason).inc()
        self._audit(caller, reason, detail)
        context.abort(code, detail)
        raise AssertionError("abort raises")

    def _audit(self, caller: "_Caller", reason: str, detail: str) -> None:
        record_refusal(
            source=self._delegate_id,
            reason=reason,
            subject=caller.subject,
            detail=detail,
            address=caller.address,
        )


class _Caller(NamedTuple):
    """Whose call it is: the subject of his certificate, and where he calls from."""

    subject: str
    address: str

    @classmethod
    def of(cls, context: grpc.ServicerContext) -> "_Caller":
        """As gRPC knows him."""
        shown: Mapping[str, Any] = context.auth_context()
        names: list[bytes] = (
            shown.get("x509_subject") or shown.get("x509_common_name") or [b"unknown"]
        )
        return cls(b", ".join(names).decode(errors="replace"), context.peer())
