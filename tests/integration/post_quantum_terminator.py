"""Ends TLS before a store, by the OpenSSL inside the wheel of `cryptography`, as OPENSSL_CONF says.

Go has no ML-DSA certificates in TLS yet, so the front of the product can't show one. What is
negotiated is decided by the configuration file alone. Each handshake is told on standard output as
a line of JSON.
"""

import argparse
import contextlib
import json
import select
import socket
import sys
import threading
from typing import Any

from OpenSSL import SSL

CHUNK_BYTES = 65_536
HANDSHAKE_TIMEOUT_S = 5.0


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate-key-file", required=True)
    parser.add_argument("--ca-file", required=True)
    parser.add_argument("--store-socket", required=True)
    arguments = parser.parse_args()
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_chain_file(arguments.certificate_key_file)
    context.use_privatekey_file(arguments.certificate_key_file)
    context.load_verify_locations(arguments.ca_file)
    context.set_verify(
        SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
        lambda connection, certificate, error, depth, good: bool(good),
    )
    with socket.create_server(("127.0.0.1", arguments.port)) as listener:
        while True:
            raw, _ = listener.accept()
            threading.Thread(
                target=_serve, args=(context, raw, arguments.store_socket), daemon=True
            ).start()


def _serve(context: SSL.Context, raw: socket.socket, store_socket: str) -> None:
    with raw:
        client = SSL.Connection(context, raw)
        client.set_accept_state()
        raw.settimeout(0)
        try:
            _patiently(client, client.do_handshake)
        except SSL.Error as error:
            _say(refused=str(error))
            return
        except OSError as error:  # such as a look at whether the port is open
            _say(refused=type(error).__name__)
            return
        certificate = client.get_peer_certificate()
        assert certificate is not None
        _say(
            version=client.get_protocol_version_name(),
            group=client.get_group_name(),
            peer_key=type(certificate.to_cryptography().public_key()).__name__,
        )
        with socket.socket(socket.AF_UNIX) as store:
            store.connect(store_socket)
            try:
                _pass(client, raw, store)
            except (SSL.Error, OSError):
                return


def _pass(client: SSL.Connection, raw: socket.socket, store: socket.socket) -> None:
    """Copy both ways until one side ends."""
    while True:
        readable = [raw] if client.pending() else select.select([raw, store], [], [])[0]
        if raw in readable:
            with contextlib.suppress(SSL.WantReadError):  # not a whole record yet
                store.sendall(client.recv(CHUNK_BYTES))
        if store in readable:
            data = store.recv(CHUNK_BYTES)
            if not data:
                return
            while data:
                data = data[_patiently(client, lambda chunk=data: client.send(chunk)) :]


def _patiently(client: SSL.Connection, step: Any) -> Any:
    """Do `step`, and again whenever it says that the socket is not ready."""
    while True:
        try:
            return step()
        except SSL.WantReadError:
            ready = select.select([client], [], [], HANDSHAKE_TIMEOUT_S)
        except SSL.WantWriteError:
            ready = select.select([], [client], [], HANDSHAKE_TIMEOUT_S)
        if not any(ready):
            raise TimeoutError


def _say(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
