"""Tells a store that refuses our login from one that can't be reached, and writes the refusal down."""

import os
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import msgspec
from pymongo.errors import OperationFailure, PyMongoError

from federation.audit import record_store_refusal
from federation.limits import STORE_REFUSAL_INTERVAL_S

#: UserNotFound, Unauthorized, AuthenticationFailed, and Atlas' own "bad auth".
REFUSED_CODES: Final = frozenset({11, 13, 18, 8000})
#: TLS alerts (RFC 8446 section 6.2) by which a server refuses a client's certificate, as OpenSSL
#: words them.
REFUSED_ALERTS: Final = (
    "alert certificate required",
    "alert bad certificate",
    "alert certificate expired",
    "alert certificate revoked",
    "alert certificate unknown",
    "alert unknown ca",
    "alert access denied",
)
HANDSHAKE_TIMEOUT_S: Final = 0.5

_looked_s: dict[str, float] = {}
_beside = ThreadPoolExecutor(1, thread_name_prefix="logins")


class Handshake(msgspec.Struct, frozen=True):
    """One server, and the certificates with which we go to it (PEM)."""

    host: str
    port: int
    ca_pem: str
    client_pem: str


def note_failure(
    store: str, error: BaseException, handshakes: Callable[[], Iterable[Handshake]]
) -> Future[None] | None:
    """If a store failed since it refuses us, write that down: beside the work, once a minute.

    With TLS 1.3 a client knows only after its handshake whether its certificate was taken, and a
    driver may see no more than a closed connection. So a handshake of our own waits for the alert.

    Parameters
    ----------
    store : str
        Such as `mongodb Europe`.
    handshakes : callable
        Gives the servers of the store.

    Returns
    -------
    Future or None
        Done once it was looked; None if that was done less than STORE_REFUSAL_INTERVAL_S ago.
    """
    now_s = time.monotonic()
    if now_s - _looked_s.get(store, -STORE_REFUSAL_INTERVAL_S) < STORE_REFUSAL_INTERVAL_S:
        return None
    _looked_s[store] = now_s
    return _beside.submit(_look, store, error, handshakes)


def _look(store: str, error: BaseException, handshakes: Callable[[], Iterable[Handshake]]) -> None:
    why = str(error) if login_refused(error) else ""
    if not why:
        why = next((alert for one in handshakes() if (alert := refusal_alert(one))), "")
    if why:
        record_store_refusal(source="persist", store=store, detail=why)


def login_refused(error: BaseException) -> bool:
    """Whether the error itself says that we may not come in.

    Examples
    --------
    >>> login_refused(OperationFailure("Authentication failed.", 18))
    True
    """
    if isinstance(error, OperationFailure):
        return error.code in REFUSED_CODES
    return isinstance(error, PyMongoError) and _is_refusal(str(error))


def refusal_alert(to: Handshake) -> str:
    """The TLS alert by which this server refuses our certificate; empty if it doesn't, or is down."""
    try:
        context = ssl.create_default_context(cadata=to.ca_pem or None)
        if to.client_pem:
            _load_certificate(context, to.client_pem)
        with (
            socket.create_connection((to.host, to.port), HANDSHAKE_TIMEOUT_S) as bare,
            context.wrap_socket(bare, server_hostname=to.host) as connection,
        ):
            connection.recv(1)  # a server that takes us waits for our first word
    except ssl.SSLError as error:
        return str(error) if _is_refusal(str(error)) else ""
    except OSError:
        return ""
    return ""


def _load_certificate(context: ssl.SSLContext, client_pem: str) -> None:
    """Python reads a certificate with its key from a file only; this one is gone at once."""
    descriptor, path = tempfile.mkstemp(".pem")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(client_pem)
        context.load_cert_chain(path)
    finally:
        os.unlink(path)  # noqa: PTH108


def _is_refusal(text: str) -> bool:
    return any(alert in text.lower() for alert in REFUSED_ALERTS)
