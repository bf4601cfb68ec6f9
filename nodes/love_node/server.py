"""The delegate's gRPC server: mutual TLS, bounded messages, health, reflection, a graceful end."""

import datetime
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from love_node.clock import check_clock
from love_node.config import NodeConfig, load_key
from love_node.delegate import MESSAGE_BYTES_MAX, Delegate
from love_node.errors import BadConfig, DatabaseFault
from love_node.full_server import FullServer
from love_node.locks import VoteLocks
from love_node.metrics import NodeMetrics, serve_http
from love_node.service import SERVICE, DelegateService

#: Of the calls; a full node's Store and Fetch must not hold up its votes.
THREADS: Final = 8
#: A database that failed is tried again this often, until it can be written.
PROBE_INTERVAL_S: Final = 1.0

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


class NodeServer:
    """One delegate at work, from its start to its end.

    Only clients with a certificate of the client CA are admitted.

    Raises
    ------
    BadConfig, DatabaseFault, WrongClock
    """

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        key = load_key(config)
        certificate_pem = config.server_cert_pem_file.read_bytes()
        self._metrics = NodeMetrics(config.delegate_id, config.level, config.kind)
        self._locks = VoteLocks(config.database_file, self._metrics.commit_s.observe)
        check_clock(
            datetime.datetime.now(datetime.UTC),
            certificate_pem,
            self._locks.written_at_ms,
            config.clock_tolerance_s,
        )
        self._locks.probe()
        self._metrics.locks.set_function(lambda: self._locks.count)
        self._faulty = threading.Event()
        self._ended = threading.Event()
        self._health = health.HealthServicer(
            experimental_non_blocking=True, experimental_thread_pool=ThreadPoolExecutor(1)
        )
        self._full = FullServer(config, key, self._metrics) if config.kind == "full" else None
        self._server = self._listen(
            config, Delegate(config.delegate_id, config.epoch, key, self._locks), certificate_pem
        )
        self._tell(_SERVING)
        self._http = (
            serve_http(config.http_address, self._metrics, self._serves)
            if config.http_address
            else None
        )
        self._server.start()
        if self._full is not None:
            self._full.start()
        self._doctor = threading.Thread(target=self._heal, daemon=True)
        self._doctor.start()

    def stop(self) -> None:
        """Say NOT_SERVING, let calls in flight finish for at most `drain_s`, let go of everything."""
        self._ended.set()
        self._health.enter_graceful_shutdown()
        self._server.stop(self._config.drain_s).wait()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
        if self._full is not None:
            self._full.stop()
        self._locks.close()

    def _listen(
        self, config: NodeConfig, delegate: Delegate, certificate_pem: bytes
    ) -> grpc.Server:
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.so_reuseport", 0),
        ]
        server = grpc.server(ThreadPoolExecutor(THREADS), options=options)
        service = DelegateService(
            config.delegate_id,
            config.epoch,
            delegate,
            self._metrics,
            self._failed,
            None if self._full is None else self._full.keeping,
        )
        server.add_generic_rpc_handlers((service.handler(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        credentials = grpc.ssl_server_credentials(
            [(config.server_key_pem_file.read_bytes(), certificate_pem)],
            config.client_ca_pem_file.read_bytes(),
            require_client_auth=True,
        )
        try:
            server.add_secure_port(config.address, credentials)
        except RuntimeError as error:
            raise BadConfig(f"address {config.address}: {error}") from None
        return server

    def _serves(self) -> bool:
        return not (self._faulty.is_set() or self._ended.is_set())

    def _tell(self, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        for name in ("", SERVICE):
            self._health.set(name, status)

    def _failed(self) -> None:
        self._faulty.set()
        self._tell(_NOT_SERVING)

    def _heal(self) -> None:
        # Whoever goes by our health sends no more votes, so that none would find the disk well.
        while not self._ended.wait(PROBE_INTERVAL_S):
            if self._faulty.is_set():
                try:
                    self._locks.probe()
                except DatabaseFault:
                    continue
                self._faulty.clear()
                self._tell(_SERVING)
