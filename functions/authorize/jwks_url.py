"""Fetches the issuer's JWK Set over TLS, with a limit to each wait and to what is taken."""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from typing import Final
from urllib.parse import urlsplit

from authorize.issuer_keys import BadKeySet
from federation.errors import InvalidField

CONNECT_TIMEOUT_S: Final = 0.5
#: From the first byte sent to the last one received.
FETCH_TIMEOUT_S: Final = 1.5
RESPONSE_BYTES_MAX: Final = 64 * 1024
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def check_url(url: str) -> None:
    """A JWKS URL is `https`; in clear only on loopback.

    Raises
    ------
    InvalidField
    """
    parts = urlsplit(url)
    in_clear = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or not (parts.scheme == "https" or in_clear):
        raise InvalidField("jwks_url", "is an https URL (http on loopback only)")
    if parts.username or parts.password or parts.fragment:
        raise InvalidField("jwks_url", "has no user, password or fragment")


def fetch_jwks(url: str, ca_pem: str | None) -> bytes:
    """The body of the answer. No redirect is followed, and no proxy is asked.

    Parameters
    ----------
    ca_pem : str or None
        The only CA that is trusted here; by default those of the system.

    Raises
    ------
    OSError
        Not reached, not trusted, or not done in time.
    BadKeySet
        An answer other than 200, or above the limit.
    """
    check_url(url)
    parts = urlsplit(url)
    ends_s = time.monotonic() + FETCH_TIMEOUT_S
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = ssl.create_default_context(cadata=ca_pem or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S, context=context
        )
    else:
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT_S
        )
    try:
        connection.connect()
        # The connection lets go of it when the answer says `Connection: close`.
        line: socket.socket = connection.sock
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        _wait_until(line, ends_s)
        # The limit of a socket is for each piece; an issuer that drips header fields needs another.
        end = threading.Timer(FETCH_TIMEOUT_S, _end, (line,))
        end.daemon = True
        end.start()
        try:
            connection.request("GET", target, headers={"Accept": "application/jwk-set+json"})
            answer = _read(connection.getresponse(), line, ends_s)
        except OSError:
            _check_time(ends_s)  # it may be us who ended it
            raise
        except http.client.HTTPException as error:
            _check_time(ends_s)
            raise BadKeySet(f"{url}: {type(error).__name__}") from None
        finally:
            end.cancel()
        _check_time(ends_s)
        return answer
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse, line: socket.socket, ends_s: float) -> bytes:
    if response.status != http.HTTPStatus.OK:
        raise BadKeySet(f"the issuer answered {response.status}")
    taken = b""
    # Piece by piece: an issuer that sends a byte a second must not hold us either.
    while piece := response.read1(RESPONSE_BYTES_MAX):
        taken += piece
        if len(taken) > RESPONSE_BYTES_MAX:
            raise BadKeySet(f"is above {RESPONSE_BYTES_MAX} bytes")
        if not response.isclosed():
            _wait_until(line, ends_s)
    return taken


def _wait_until(line: socket.socket, ends_s: float) -> None:
    _check_time(ends_s)
    line.settimeout(max(0.001, ends_s - time.monotonic()))


def _check_time(ends_s: float) -> None:
    if time.monotonic() >= ends_s:
        raise TimeoutError(f"the issuer did not answer in {FETCH_TIMEOUT_S} s")


def _end(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # The socket's own, as TLS' would take its state away from who is reading just now.
        socket.socket.shutdown(line, socket.SHUT_RDWR)
