"""Asks all delegates at once over gRPC, until one deadline or until a quorum."""

import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

import grpc

from dpos.delegates import Delegate, Delegates
from dpos.voting import Answer, Enough, SignedHeader
from love_node.v1 import node_pb2, node_pb2_grpc

FAILURES_MAX: Final = 2
REST_S: Final = 2.0
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024


class GrpcElectorate:
    """Keeps a channel to each delegate; one that fails is left alone for a while.

    Parameters
    ----------
    deadline_ms, cold_deadline_ms : int
        For a vote, and for the first one, which has to connect.
    """

    def __init__(self, delegates: Delegates, deadline_ms: int, cold_deadline_ms: int) -> None:
        self._epoch = delegates.epoch
        self._deadline_s = deadline_ms / 1000
        self._cold_deadline_s = cold_deadline_ms / 1000
        credentials = grpc.ssl_channel_credentials(
            delegates.ca_pem.encode(),
            delegates.client_key_pem.encode(),
            delegates.client_cert_pem.encode(),
        )
        self._lines = [_Line(one, credentials) for one in delegates.delegates]

    def ask(self, headers: Sequence[SignedHeader], enough: Enough) -> list[Answer]:
        """All answers in time; a slow or dead delegate costs its vote, not the batch."""
        request = node_pb2.VoteRequest(
            epoch=self._epoch,
            items=[
                node_pb2.SignedHeader(
                    header=one.header,
                    algorithm=one.algorithm,
                    public_key=one.public_key,
                    signature=one.signature,
                )
                for one in headers
            ],
        )
        asked = [line for line in self._lines if line.allows()]
        limit_s = self._deadline_s if all(line.is_warm for line in asked) else self._cold_deadline_s
        ends_s = time.monotonic() + limit_s
        done: SimpleQueue[tuple[_Line, Any]] = SimpleQueue()
        for line in asked:
            line.ask(request, limit_s, done)
        answers: list[Answer] = []
        for _ in asked:
            try:
                line, call = done.get(timeout=max(0.0, ends_s - time.monotonic()) + 0.005)
            except Empty:
                break
            answers += line.answers(call, headers)
            if enough(answers):
                break
        for line in asked:
            line.let_go()
        return answers


class _Line:
    """The channel to one delegate, with a circuit breaker."""

    def __init__(self, delegate: Delegate, credentials: grpc.ChannelCredentials) -> None:
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            # A delegate that is back is found soon.
            ("grpc.max_reconnect_backoff_ms", 1_000),
        ]
        self._delegate_id = delegate.delegate_id
        self._channel = grpc.secure_channel(delegate.address, credentials, options)
        self._stub = node_pb2_grpc.DelegateStub(self._channel)  # type: ignore[no-untyped-call]
        self._call: Any = None
        self._failures = 0
        self._resting_until_s = 0.0
        self.is_warm = False

    def allows(self) -> bool:
        """Whether to ask it at all."""
        return self._failures < FAILURES_MAX or time.monotonic() >= self._resting_until_s

    def ask(
        self, request: node_pb2.VoteRequest, limit_s: float, done: "SimpleQueue[tuple[_Line, Any]]"
    ) -> None:
        """Send the request; the call comes into `done` when it has ended."""
        self._call = self._stub.Vote.future(request, timeout=limit_s)
        self._call.add_done_callback(lambda call: done.put((self, call)))

    def answers(self, call: Any, headers: Sequence[SignedHeader]) -> list[Answer]:
        """What it said, in the order of `headers`; nothing if it failed."""
        self._call = None
        try:
            response = call.result()
        except (grpc.RpcError, grpc.FutureCancelledError):
            self._failures += 1
            self._resting_until_s = time.monotonic() + REST_S
            return []
        self._failures = 0
        self.is_warm = True
        return [
            Answer(self._delegate_id, header.transaction_id, vote.signature, vote.reason)
            for header, vote in zip(headers, response.votes, strict=False)
        ]

    def let_go(self) -> None:
        """A late vote is not needed; to cancel it costs the delegate nothing but the vote."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
