"""The issuer's keys over real TLS: only a trusted issuer is believed, and none may hold us for long."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authorize import jwks_url
from authorize.issuer_keys import BadKeySet, Patience
from authorize.jwks_url import RESPONSE_BYTES_MAX, fetch_jwks
from authorize.key_source import key_source
from lovectl.issuer import JWKS_PATH, publish_keys
from lovectl.pki import TransportPki, jwks
from lovectl.processes import free_ports
from lovectl.servers import IssuerServer

OLD, NEW = (jwks(Ed25519PrivateKey.generate().public_key(), kid) for kid in ("old", "new"))


@pytest.fixture(scope="module")
def issuer(server_directory: Path, transport_pki: TransportPki) -> Iterator[IssuerServer]:
    keys_file = server_directory / "issuer" / "jwks.json"
    publish_keys(keys_file, OLD)
    server = IssuerServer(
        keys_file, free_ports(1)[0], transport_pki, server_directory / "issuer.log"
    )
    server.start()
    yield server
    server.stop()


def url(issuer: IssuerServer, path: str = JWKS_PATH) -> str:
    return f"https://127.0.0.1:{issuer.port}{path}"


def test_keys_come_by_tls_from_an_issuer_of_the_given_ca(
    issuer: IssuerServer, transport_pki: TransportPki
) -> None:
    assert json.loads(fetch_jwks(url(issuer), transport_pki.ca_file.read_text())) == OLD


def test_an_issuer_of_another_ca_is_not_believed(
    issuer: IssuerServer, foreign_pki: TransportPki
) -> None:
    for ca_pem in (foreign_pki.ca_file.read_text(), None):
        with pytest.raises(OSError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch_jwks(url(issuer), ca_pem)


def test_an_answer_other_than_200_is_no_key_set(
    issuer: IssuerServer, transport_pki: TransportPki
) -> None:
    with pytest.raises(BadKeySet, match="404"):
        fetch_jwks(url(issuer, "/elsewhere"), transport_pki.ca_file.read_text())


def test_a_rotated_key_is_taken_and_a_removed_one_refused(
    issuer: IssuerServer, transport_pki: TransportPki
) -> None:
    patience = Patience(ttl_s=0, cooldown_s=0, stale_max_s=60)
    keys = key_source(url(issuer), transport_pki.ca_file.read_text(), None, patience)
    assert keys.find("old") is not None
    publish_keys(issuer.keys_file, {"keys": OLD["keys"] + NEW["keys"]})
    assert keys.find("new") is not None
    assert keys.find("old") is not None
    publish_keys(issuer.keys_file, NEW)
    assert keys.find("old") is None
    issuer.stop()
    assert keys.find("new") is not None
    issuer.start()
    publish_keys(issuer.keys_file, OLD)


Answer = Callable[[socket.socket], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """`serve(answer)` gives the URL of a server in clear that answers its one caller so."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def run(answer: Answer) -> None:
        line, _ = listener.accept()
        with line:
            line.recv(4096)
            try:
                answer(line)
            except OSError:
                return  # the caller has had enough

    def start(answer: Answer) -> str:
        thread = threading.Thread(target=run, args=(answer,))
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/jwks"

    yield start
    for thread in threads:
        thread.join(30)
    listener.close()


def test_a_redirect_is_not_followed(serve: Callable[[Answer], str]) -> None:
    found = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(BadKeySet, match="302"):
        fetch_jwks(serve(lambda line: line.sendall(found)), None)


def test_an_answer_without_end_is_cut_off(serve: Callable[[Answer], str]) -> None:
    def pour(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + b" " * (4 * RESPONSE_BYTES_MAX))

    with pytest.raises(BadKeySet, match="above"):
        fetch_jwks(serve(pour), None)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\nSlow:", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_an_issuer_that_trickles_is_given_up(
    start: bytes, serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks_url, "FETCH_TIMEOUT_S", 0.3)
    stopped = threading.Event()

    def trickle(line: socket.socket) -> None:
        line.sendall(start)
        while not stopped.wait(0.05):
            line.sendall(b" ")

    try:
        with pytest.raises(TimeoutError):
            fetch_jwks(serve(trickle), None)
    finally:
        stopped.set()


def test_what_is_not_http_is_no_key_set(serve: Callable[[Answer], str]) -> None:
    with pytest.raises(BadKeySet, match="BadStatusLine"):
        fetch_jwks(serve(lambda line: line.sendall(b"SSH-2.0-love\r\n")), None)
