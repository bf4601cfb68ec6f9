"""A delegate's metrics in Prometheus' text format, served over HTTP with its health."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from love_node.errors import BadConfig

BUCKETS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
REQUEST_TIMEOUT_S: Final = 5


class NodeMetrics:
    """All figures of one delegate, in a registry of their own."""

    def __init__(self, delegate_id: str, level: str, kind: str) -> None:
        self.registry = CollectorRegistry()
        Info("love_node", "Who this delegate is", registry=self.registry).info(
            {"delegate_id": delegate_id, "level": level, "kind": kind}
        )
        self.votes = Counter(
            "love_node_votes", "Answers by result", ["result"], registry=self.registry
        )
        self.refusals = Counter(
            "love_node_refusals",
            "Items and whole requests that were refused",
            ["reason"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "love_node_votes_in_flight", "Vote requests being answered", registry=self.registry
        )
        self.latency_s = Histogram(
            "love_node_vote_seconds",
            "Time of a vote request",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.commit_s = Histogram(
            "love_node_commit_seconds",
            "Time of a write of vote locks, its fsync included",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self.locks = Gauge("love_node_locks", "Nonces promised", registry=self.registry)
        self.call_s = Histogram(
            "love_node_call_seconds",
            "Time of each other request",
            ["method"],
            buckets=BUCKETS_S,
            registry=self.registry,
        )


class StoreMetrics:
    """The figures of what a full node keeps."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.kept = Gauge("love_node_kept", "Transactions kept", registry=registry)
        self.stored = Counter(
            "love_node_stored", "Items of Store by result", ["result"], registry=registry
        )
        self.dropped_votes = Counter(
            "love_node_dropped_votes", "Votes that did not verify", registry=registry
        )
        self.commit_s = Histogram(
            "love_node_store_commit_seconds",
            "Time of a write of transactions, its fsync included",
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.pulled = Counter(
            "love_node_pulled", "Transactions that came from peers", registry=registry
        )
        self.ranges_compared = Counter(
            "love_node_ranges_compared", "Ranges of ids held against a peer's", registry=registry
        )
        self.lag_s = Gauge(
            "love_node_anti_entropy_lag_seconds",
            "Since all of a peer's transactions were here, or since this node's start",
            ["peer"],
            registry=registry,
        )
        self.peer_faults = Counter(
            "love_node_peer_faults",
            "Peers that could not be asked, or whose answer did not hold",
            ["reason"],
            registry=registry,
        )
        self.damaged = Counter(
            "love_node_damaged", "Rows and files found damaged", ["what"], registry=registry
        )
        self.awaiting_repair = Gauge(
            "love_node_awaiting_repair", "Damaged rows not mended yet", registry=registry
        )
        self.repaired = Counter(
            "love_node_repaired", "Transactions mended or salvaged", registry=registry
        )
        self.scrubs = Counter(
            "love_node_scrubs", "Times that everything kept was read and checked", registry=registry
        )


def serve_http(address: str, metrics: NodeMetrics, serving: Callable[[], bool]) -> Any:
    """Answer `/metrics`, and `/healthz` by 200 or 503, in a thread; the server is given back.

    Raises
    ------
    BadConfig
        Not `host:port`, or nothing can listen there.
    """

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            """Answer one of the two paths."""
            if self.path == "/metrics":
                self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
            elif self.path == "/healthz":
                up = serving()
                said = b"SERVING\n" if up else b"NOT_SERVING\n"
                self._answer(200 if up else 503, "text/plain; charset=utf-8", said)
            else:
                self._answer(404, "text/plain; charset=utf-8", b"/metrics or /healthz\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A scrape every few seconds is no news."""

    host, _, port = address.rpartition(":")
    try:
        server = ThreadingHTTPServer((host, int(port)), Handler)
    except (OSError, ValueError, OverflowError) as error:
        raise BadConfig(f"http_address {address}: {error}") from None
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server
