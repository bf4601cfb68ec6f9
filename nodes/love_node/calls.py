"""One gRPC call as it comes in: whose it is, its one message within the limits, and its refusal."""

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from love_node.audit import record_refusal
from love_node.delegate import MESSAGE_BYTES_MAX
from love_node.metrics import NodeMetrics

Request = TypeVar("Request", bound=Message)


class Call:
    """A call under way.

    Parameters
    ----------
    delegate_id : str
        Said in audit lines.
    metrics : NodeMetrics
    messages : iterator of bytes
        On the wire a unary call is a stream of one message. Taken as a stream of bytes, a message
        that is too large or no protobuf reaches us, with its sender, and can be audited.
    context : ServicerContext
    """

    def __init__(
        self,
        delegate_id: str,
        metrics: NodeMetrics,
        messages: Iterator[bytes],
        context: grpc.ServicerContext,
    ) -> None:
        self._delegate_id = delegate_id
        self._metrics = metrics
        self._messages = messages
        self._context = context
        # A call that gRPC has refused soon doesn't know any more whose it was.
        shown: Mapping[str, Any] = context.auth_context()
        names: list[bytes] = (
            shown.get("x509_subject") or shown.get("x509_common_name") or [b"unknown"]
        )
        self._subject = b", ".join(names).decode(errors="replace")
        self._address = context.peer()

    def request(self, kind: type[Request]) -> Request:
        """The call's one message; a call that has none, or another, is refused."""
        try:
            message = next(self._messages)
        except (StopIteration, grpc.RpcError):
            # gRPC has refused what is over the limit by itself; otherwise this status is sent.
            self.refuse(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "no_whole_message",
                f"a message of at most {MESSAGE_BYTES_MAX} bytes; it was larger, cut or cancelled",
            )
        try:
            return kind.FromString(message)
        except DecodeError:
            self.invalid("malformed_message", f"no love.node.v1.{kind.__name__}")

    def invalid(self, reason: str, detail: str) -> NoReturn:
        """Refuse a request that nobody could answer."""
        self.refuse(grpc.StatusCode.INVALID_ARGUMENT, reason, detail)

    def refuse(self, code: grpc.StatusCode, reason: str, detail: str) -> NoReturn:
        """End the call by this status, counted and audited."""
        self._metrics.refusals.labels(reason).inc()
        self.audit(reason, detail)
        self._context.abort(code, detail)
        raise AssertionError("abort raises")

    def refuse_items(self, reasons: Mapping[str, int], total: int) -> None:
        """Count and audit items of the request that were refused, by their reasons."""
        for reason, count in reasons.items():
            self._metrics.refusals.labels(reason).inc(count)
            self.audit(reason, f"{count} of {total} items")

    def audit(self, reason: str, detail: str) -> None:
        """Write down that this caller was refused something."""
        record_refusal(
            source=self._delegate_id,
            reason=reason,
            subject=self._subject,
            detail=detail,
            address=self._address,
        )
