"""Access tokens: JWT (RFC 9068), bound to the sender's certificate (RFC 8705)."""

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from typing import Any, Final

import jwt
import msgspec

from authorize.errors import Unauthenticated

#: The only signatures that are looked at; `none` and the HMACs never are.
ALGORITHMS: Final = ("EdDSA",)
REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "client_id", "iat", "exp", "jti", "cnf")
TOKEN_TYPES: Final = ("at+jwt", "application/at+jwt")
TOKEN_CHARACTERS_MAX: Final = 4096


class TokenRules(msgspec.Struct, frozen=True):
    """What a token must say; `keys` is the issuer's JWKS (RFC 7517)."""

    issuer: str
    audience: str
    keys: Mapping[str, Any]
    leeway_s: int


def check_token(authorization: str | None, certificate: bytes, rules: TokenRules) -> dict[str, Any]:
    """The claims of a good token that is bound to `certificate` (DER).

    Raises
    ------
    Unauthenticated
        Missing, malformed, foreign, expired, or bound to another certificate.
    """
    token = _bearer(authorization)
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise Unauthenticated("token_malformed", str(error)) from None
    if str(header.get("typ", "")).lower() not in TOKEN_TYPES:
        raise Unauthenticated("token_type", "typ is not at+jwt (RFC 9068)")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            _key(header.get("kid"), rules.keys),
            algorithms=list(ALGORITHMS),
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=rules.leeway_s,
            options={"require": list(REQUIRED_CLAIMS)},
        )
    except jwt.ExpiredSignatureError as error:
        raise Unauthenticated("token_expired", str(error)) from None
    except jwt.InvalidTokenError as error:
        raise Unauthenticated("token_invalid", str(error)) from None
    confirmation = claims["cnf"]
    bound_to = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if bound_to != thumbprint(certificate):
        raise Unauthenticated(
            "token_bound_elsewhere", "cnf.x5t#S256 names another certificate", str(claims["sub"])
        )
    return claims


def thumbprint(certificate: bytes) -> str:
    """`x5t#S256` of a certificate: base64url of its SHA-256 (RFC 8705 section 3.1)."""
    return urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()


def _bearer(authorization: str | None) -> str:
    if not authorization:
        raise Unauthenticated("token_missing", "there is no Authorization header")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("token_malformed", "Authorization is not `Bearer …` (RFC 6750)")
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise Unauthenticated("token_malformed", f"is above {TOKEN_CHARACTERS_MAX} characters")
    return token.strip()


def _key(key_id: object, keys: Mapping[str, Any]) -> Any:
    for candidate in keys["keys"]:
        if candidate.get("kid") == key_id:
            return jwt.PyJWK(candidate, algorithm=ALGORITHMS[0]).key
    raise Unauthenticated("token_key_unknown", "kid names no key of the issuer")
