"""Tells a MongoDB server that refuses our login from one that can't be reached."""

from typing import Final

from pymongo.errors import OperationFailure, PyMongoError

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


def login_refused(error: BaseException) -> bool:
    """Whether the server said that we may not come in.

    Examples
    --------
    >>> login_refused(OperationFailure("Authentication failed.", 18))
    True
    """
    if isinstance(error, OperationFailure):
        return error.code in REFUSED_CODES
    text = str(error).lower()
    return isinstance(error, PyMongoError) and any(alert in text for alert in REFUSED_ALERTS)
