"""The header fields that every answer carries: against sniffing, framing and caching, and for CORS."""

import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from aws_lambda_powertools.event_handler import CORSConfig

from federation.errors import SettingsError

#: Answers must not be kept by caches on the way, nor be taken for something else, nor be framed.
SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: What a browser may send across origins beside what is always allowed.
CORS_REQUEST_HEADERS: Final = (
    "Authorization",
    "Client-Cert",
    "Content-Digest",
    "Content-Type",
    "Signature",
    "Signature-Input",
)
#: What a page of another origin may see of an answer.
CORS_ANSWER_HEADERS: Final = ("Location", "RateLimit", "RateLimit-Policy", "Retry-After")
CORS_MAX_AGE_S: Final = 600
ORIGINS_MAX: Final = 20
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?")
_LOCAL: Final = frozenset({"localhost", "127.0.0.1"})


def cors_of(setting: str) -> CORSConfig | None:
    """Which origins may call from a browser; none by default.

    Credentials of the browser are never allowed: a token is sent by the page itself.

    Parameters
    ----------
    setting : str
        Origins (RFC 6454), separated by commas, such as `https://app.example`.

    Raises
    ------
    SettingsError
        Names each origin that is none, is not `https` (but on this machine), or is `*`.
    """
    origins = [one.strip() for one in setting.split(",") if one.strip()]
    problems = [
        f"CORS_ORIGINS: {one!r} is no https origin in lower case, such as https://app.example"
        for one in origins
        if not _is_origin(one)
    ]
    if len(origins) > ORIGINS_MAX:
        problems.append(f"CORS_ORIGINS has {len(origins)} origins, at most {ORIGINS_MAX} are taken")
    if problems:
        raise SettingsError(problems)
    if not origins:
        return None
    return CORSConfig(
        allow_origin=origins[0],
        extra_origins=origins[1:],
        allow_headers=list(CORS_REQUEST_HEADERS),
        expose_headers=list(CORS_ANSWER_HEADERS),
        max_age=CORS_MAX_AGE_S,
        allow_credentials=False,
    )


def _is_origin(text: str) -> bool:
    if not _ORIGIN.fullmatch(text):
        return False
    parts = urlsplit(text)
    return parts.scheme == "https" or parts.hostname in _LOCAL


def finish(answer: MutableMapping[str, Any], with_cors: bool) -> None:
    """Add what lacks to an answer in the form of API Gateway's proxy integration."""
    fields: dict[str, list[str]] = answer.setdefault("multiValueHeaders", {})
    present = {name.lower() for name in fields}
    for name, value in SECURITY_HEADERS.items():
        if name.lower() not in present:
            fields[name] = [value]
    if with_cors and "vary" not in present:
        # What is answered depends on who asks, also where the origin is not listed.
        fields["Vary"] = ["Origin"]
