"""The token issuer's public keys: a JWK Set (RFC 7517), each key good for its own algorithm only.

PyJWT's `PyJWKClient` limits neither the size of the answer nor the number of keys, takes a key
without algorithm for whatever the token claims, and knows no keys while the issuer is down.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import jwt
import msgspec

from federation.errors import FederationError

#: The only signatures that are looked at, and the key type each one needs; `none` and the HMACs
#: never are. PyJWT has no ML-DSA.
ALGORITHMS: Final[Mapping[str, tuple[str, str | None]]] = {
    "EdDSA": ("OKP", "Ed25519"),
    "ES256": ("EC", "P-256"),
    "PS256": ("RSA", None),
}
KEYS_MAX: Final = 16
KEY_ID_CHARACTERS_MAX: Final = 128
RSA_BITS_MIN: Final = 2048
_PRIVATE_MEMBERS: Final = frozenset({"d", "k", "p", "q"})


class KeysUnavailable(FederationError):
    """Nobody can be admitted: the issuer's keys are not known, and can't be had now."""

    def __init__(self, detail: str) -> None:
        super().__init__("issuer_unreachable", detail)


class BadKeySet(FederationError):
    """What the issuer gave is no JWK Set that we take."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_jwks", detail)


class IssuerKey(msgspec.Struct, frozen=True):
    """One public key of the issuer, and the one algorithm (RFC 7518) it may be used by."""

    algorithm: str
    key: Any


class KeySource(Protocol):
    """Where the issuer's keys come from."""

    def find(self, key_id: str) -> IssuerKey | None:
        """The key of this `kid`; None if the issuer has none.

        Raises
        ------
        KeysUnavailable
        """
        ...


class GivenKeys:
    """Keys that stand in the secret itself."""

    def __init__(self, keys: Mapping[str, IssuerKey]) -> None:
        self._keys = keys

    def find(self, key_id: str) -> IssuerKey | None:
        """See `KeySource`."""
        return self._keys.get(key_id)


class Patience(msgspec.Struct, frozen=True):
    """For how long keys are believed, in seconds.

    Attributes
    ----------
    ttl_s : float
        Then they are fetched again: a key that the issuer took away is refused from then on.
    cooldown_s : float
        Between two fetches at least: tokens with made-up `kid`s can't make us hammer the issuer.
    stale_max_s : float
        While the issuer can't be reached, known keys serve so much longer.
    """

    ttl_s: float = 300
    cooldown_s: float = 10
    stale_max_s: float = 3600


class FetchedKeys:
    """Keys behind a URL, kept for a while; see `Patience`.

    Parameters
    ----------
    fetch : callable
        Gives the JSON text of the set; raises `OSError` or `BadKeySet`.
    first : mapping of key id to IssuerKey
        Used until the first fetch succeeds, and never after it.
    clock_s : callable, optional
        Monotonic seconds.
    """

    def __init__(
        self,
        fetch: Callable[[], bytes],
        patience: Patience,
        first: Mapping[str, IssuerKey] | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._patience = patience
        self._clock_s = clock_s
        self._keys: Mapping[str, IssuerKey] = first or {}
        self._fetched_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._failure = "never fetched"
        self._lock = threading.Lock()

    def find(self, key_id: str) -> IssuerKey | None:
        """See `KeySource`; a `kid` that is not known is asked for, but not too often."""
        with self._lock:
            if self._age_s() >= self._patience.ttl_s or key_id not in self._keys:
                self._refresh()
            known_too_long = self._age_s() >= self._patience.ttl_s + self._patience.stale_max_s
            if self._fetched_at_s is not None and known_too_long:
                raise KeysUnavailable(f"the issuer's keys are too old: {self._failure}")
            key = self._keys.get(key_id)
            if key is None and self._fetched_at_s is None:
                raise KeysUnavailable(f"the issuer's keys are not known: {self._failure}")
            return key

    def _age_s(self) -> float:
        return float("inf") if self._fetched_at_s is None else self._clock_s() - self._fetched_at_s

    def _refresh(self) -> None:
        now_s = self._clock_s()
        if self._tried_at_s is not None and now_s - self._tried_at_s < self._patience.cooldown_s:
            return
        self._tried_at_s = now_s
        try:
            self._keys = parse_keys(self._fetch())
        except (OSError, BadKeySet) as error:
            self._failure = str(error) or type(error).__name__
            return
        self._fetched_at_s = now_s


def parse_keys(text: bytes | str) -> dict[str, IssuerKey]:
    """The usable keys of a JWK Set, by `kid`.

    Keys of other algorithms and uses are passed over, as RFC 7517 section 5 asks. One that states
    no algorithm is passed over too: a key must not be good for whatever a token claims.

    Raises
    ------
    BadKeySet
        It is no JWK Set, has too many keys, the same `kid` twice, or a private or symmetric key.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadKeySet(f"is not JSON: {error}") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise BadKeySet("has no array `keys` of objects (RFC 7517 section 5)")
    if len(entries) > KEYS_MAX:
        raise BadKeySet(f"has {len(entries)} keys, at most {KEYS_MAX} are taken")
    found: dict[str, IssuerKey] = {}
    for entry in entries:
        if _PRIVATE_MEMBERS & entry.keys():
            raise BadKeySet("shows a private or symmetric key: whoever read it can make tokens")
        key = _usable(entry)
        if key is None:
            continue
        if entry["kid"] in found:
            raise BadKeySet(f"has kid {entry['kid']!r} twice")
        found[entry["kid"]] = key
    return found


def _usable(entry: Mapping[str, Any]) -> IssuerKey | None:
    key_id, algorithm = entry.get("kid"), entry.get("alg")
    if not isinstance(key_id, str) or not 1 <= len(key_id) <= KEY_ID_CHARACTERS_MAX:
        return None
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        return None
    if (entry.get("kty"), entry.get("crv")) != ALGORITHMS[algorithm]:
        return None
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return None
    try:
        key = jwt.PyJWK(dict(entry), algorithm=algorithm).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if algorithm == "PS256" and key.key_size < RSA_BITS_MIN:
        return None
    return IssuerKey(algorithm, key)
