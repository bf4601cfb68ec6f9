"""Access tokens: JWT (RFC 9068), bound to the sender's certificate (RFC 8705)."""

import hashlib
from base64 import urlsafe_b64encode
from typing import Any, Final

import jwt
import msgspec

from authorize.errors import Unauthenticated
from authorize.issuer_keys import IssuerKey, KeySource

REQUIRED_CLAIMS: Final = ("iss", "aud", "sub", "client_id", "iat", "exp", "jti", "cnf")
TOKEN_TYPES: Final = ("at+jwt", "application/at+jwt")
TOKEN_CHARACTERS_MAX: Final = 4096
#: A stolen token is of use to its thief for so long at most, however it was made.
TOKEN_LIFETIME_S_MAX: Final = 3600

#: PyJWT's errors to reason codes; the first that fits counts.
_REASONS: Final[tuple[tuple[type[jwt.InvalidTokenError], str], ...]] = (
    (jwt.ExpiredSignatureError, "token_expired"),
    (jwt.ImmatureSignatureError, "token_not_yet_valid"),
    (jwt.InvalidIssuerError, "token_issuer"),
    (jwt.InvalidAudienceError, "token_audience"),
    (jwt.MissingRequiredClaimError, "token_claim_missing"),
    (jwt.InvalidAlgorithmError, "token_algorithm"),
    (jwt.InvalidSignatureError, "token_signature"),
    (jwt.InvalidTokenError, "token_invalid"),
)


class TokenRules(msgspec.Struct, frozen=True):
    """What a token must say, and whose keys sign it; `revoked` are `jti`s that count no more."""

    issuer: str
    audience: str
    keys: KeySource
    leeway_s: int
    revoked: frozenset[str] = frozenset()


def check_token(authorization: str | None, certificate: bytes, rules: TokenRules) -> dict[str, Any]:
    """The claims of a good token that is bound to `certificate` (DER).

    Raises
    ------
    Unauthenticated
        Missing, malformed, foreign, expired, too long-lived, revoked, or bound to another
        certificate.
    KeysUnavailable
        Nobody knows by which keys to tell.
    """
    token = _bearer(authorization)
    key = _key(token, rules.keys)
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[key.algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            leeway=rules.leeway_s,
            options={"require": list(REQUIRED_CLAIMS)},
        )
    except jwt.InvalidTokenError as error:
        reason = next(code for kind, code in _REASONS if isinstance(error, kind))
        raise Unauthenticated(reason, str(error)) from None
    subject = str(claims["sub"])
    if not all(type(claims[name]) is int for name in ("iat", "exp")):
        raise Unauthenticated("token_invalid", "iat and exp are integers", subject)
    if claims["exp"] - claims["iat"] > TOKEN_LIFETIME_S_MAX:
        raise Unauthenticated(
            "token_lifetime", f"lives longer than {TOKEN_LIFETIME_S_MAX} s", subject
        )
    if claims["jti"] in rules.revoked:
        raise Unauthenticated("token_revoked", "its jti is revoked", subject)
    confirmation = claims["cnf"]
    bound_to = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if bound_to != thumbprint(certificate):
        raise Unauthenticated(
            "token_bound_elsewhere", "cnf.x5t#S256 names another certificate", subject
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


def _key(token: str, keys: KeySource) -> IssuerKey:
    """The key that the token's header names; it must name that key's own algorithm too."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.InvalidTokenError, RecursionError) as error:
        raise Unauthenticated("token_malformed", str(error)) from None
    if str(header.get("typ", "")).lower() not in TOKEN_TYPES:
        raise Unauthenticated("token_type", "typ is not at+jwt (RFC 9068)")
    key_id = header.get("kid")
    key = keys.find(key_id) if isinstance(key_id, str) else None
    if key is None:
        raise Unauthenticated("token_key_unknown", "kid names no key of the issuer")
    if header.get("alg") != key.algorithm:
        raise Unauthenticated("token_algorithm", f"alg is not the key's own, {key.algorithm}")
    return key
