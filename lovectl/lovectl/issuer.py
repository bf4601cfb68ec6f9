"""A little token issuer for the local stack: serves its public keys (RFC 7517) over TLS.

`python -m lovectl.issuer --keys FILE --port N --certificate PEM --key PEM`
"""

import argparse
import json
import ssl
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from lovectl.paths import private_directory, write_private
from lovectl.processes import LOOPBACK

#: Where OpenID Connect providers have it by custom (RFC 8615 is about the first part of it).
JWKS_PATH: Final = "/.well-known/jwks.json"


def publish_keys(file: Path, jwk_set: Mapping[str, Any]) -> None:
    """Let the issuer serve this JWK Set from now on; it reads the file at each request."""
    private_directory(file.parent)
    staging = write_private(file.with_suffix(".new"), json.dumps(jwk_set))
    staging.replace(file)


class _KeysHandler(BaseHTTPRequestHandler):
    """Answers one request; `keys_file` is set by `main`."""

    keys_file: Path
    timeout = 5

    def do_GET(self) -> None:
        if self.path != JWKS_PATH:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = self.keys_file.read_bytes()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/jwk-set+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Serve until stopped."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--keys", type=Path, required=True, help="the JWK Set, JSON")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--certificate", type=Path, required=True, help="PEM")
    options.add_argument("--key", type=Path, required=True, help="PEM")
    chosen = options.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(chosen.certificate, chosen.key)
    _KeysHandler.keys_file = chosen.keys
    server = ThreadingHTTPServer((LOOPBACK, chosen.port), _KeysHandler)
    # The handshake is made by the connection's own thread: a client that is silent holds nobody.
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    server.serve_forever()


if __name__ == "__main__":
    main()
