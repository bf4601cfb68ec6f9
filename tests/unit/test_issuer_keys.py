"""The issuer's keys: fetched with limits, kept, rotated, and each good for its own algorithm only."""

import json
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authorize.issuer_keys import (
    KEYS_MAX,
    BadKeySet,
    FetchedKeys,
    KeysUnavailable,
    Patience,
    parse_keys,
)
from authorize.jwks_url import check_url
from authorize.key_source import key_source
from federation.errors import InvalidField

ED25519 = Ed25519PrivateKey.generate()
P256 = ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(65537, 2048)
PATIENCE = Patience(ttl_s=100, cooldown_s=10, stale_max_s=1000)


def jwk(kid: str = "k1", key: Any = ED25519, alg: str = "EdDSA", **changes: Any) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(alg)
    public = algorithm.to_jwk(key.public_key(), as_dict=True)
    public.pop("key_ops", None)
    return {**public, "kid": kid, "alg": alg, "use": "sig", **changes}


def jwk_set(*keys: Any) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


class Issuer:
    """An issuer whose answer is set; counts how often it is asked."""

    def __init__(self, *keys: Any) -> None:
        self.answer: bytes | Exception = jwk_set(*keys)
        self.asked = 0
        self.now_s = 0.0

    def fetch(self) -> bytes:
        self.asked += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def keys(self, first: Any = None) -> FetchedKeys:
        return FetchedKeys(self.fetch, PATIENCE, first, lambda: self.now_s)


@pytest.mark.parametrize(("key", "alg"), [(ED25519, "EdDSA"), (P256, "ES256"), (RSA, "PS256")])
def test_each_allowed_algorithm_has_its_kind_of_key(key: Any, alg: str) -> None:
    found = parse_keys(jwk_set(jwk("k1", key, alg)))["k1"]
    assert found.algorithm == alg
    token = jwt.encode({"a": 1}, key, algorithm=alg)
    assert jwt.decode(token, found.key, algorithms=[alg]) == {"a": 1}


@pytest.mark.parametrize(
    "entry",
    [
        jwk(alg="EdDSA") | {"alg": "none"},
        {"kty": "oct", "kid": "k1", "alg": "HS256"},
        jwk() | {"alg": "HS256"},
        jwk() | {"alg": "ES256"},
        jwk("k1", P256, "ES256") | {"alg": "EdDSA"},
        jwk("k1", RSA, "PS256") | {"alg": "RS256"},
        {name: value for name, value in jwk().items() if name != "alg"},
        {name: value for name, value in jwk().items() if name != "kid"},
        jwk(kid=""),
        jwk(kid="k" * 129),
        jwk() | {"kid": 1},
        jwk(use="enc"),
        jwk(key_ops=["sign"]),
        jwk() | {"x": "AAAA"},
        jwk() | {"crv": "X25519"},
        jwk("k1", rsa.generate_private_key(65537, 1024), "PS256"),
    ],
)
def test_a_key_that_is_not_plainly_for_these_signatures_is_passed_over(entry: Any) -> None:
    good = jwk("good")
    assert parse_keys(jwk_set(entry, good)).keys() == {"good"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "array"),
        (b"{}", "array"),
        (b'{"keys": {}}', "array"),
        (b'{"keys": [1]}', "array"),
        (jwk_set(*[jwk(f"k{n}") for n in range(KEYS_MAX + 1)]), "at most"),
        (jwk_set(jwk("k1"), jwk("k1", P256, "ES256")), "twice"),
        (jwk_set(jwk() | {"d": "AAAA"}), "private"),
        (jwk_set({"kty": "oct", "k": "AAAA", "kid": "k2", "alg": "HS256"}), "symmetric"),
    ],
)
def test_what_is_no_key_set_of_public_keys_is_refused_whole(text: bytes, why: str) -> None:
    with pytest.raises(BadKeySet, match=why):
        parse_keys(text)


def test_keys_are_fetched_once_and_kept_for_their_time() -> None:
    issuer = Issuer(jwk())
    keys = issuer.keys()
    for issuer.now_s in (0.0, 50.0, 99.0):
        assert keys.find("k1") is not None
    assert issuer.asked == 1
    issuer.now_s = 100.0
    assert keys.find("k1") is not None
    assert issuer.asked == 2


def test_a_new_key_is_taken_at_once_and_an_old_one_refused_when_its_time_is_over() -> None:
    issuer = Issuer(jwk("old"))
    keys = issuer.keys()
    assert keys.find("old") is not None
    issuer.answer = jwk_set(jwk("new", P256, "ES256"))
    issuer.now_s = 10.0
    assert keys.find("new") is not None
    # It was fetched for the new one's sake, so the old one is known to be gone already.
    assert keys.find("old") is None


def test_a_removed_key_is_refused_after_the_time_to_live_though_nobody_asks_for_another() -> None:
    issuer = Issuer(jwk("old"), jwk("new"))
    keys = issuer.keys()
    assert keys.find("old") is not None
    issuer.answer = jwk_set(jwk("new"))
    issuer.now_s = 99.0
    assert keys.find("old") is not None
    issuer.now_s = 100.0
    assert keys.find("old") is None


def test_made_up_key_ids_do_not_hammer_the_issuer() -> None:
    issuer = Issuer(jwk())
    keys = issuer.keys()
    for step in range(1000):
        issuer.now_s = step * 0.03  # 30 seconds in all
        assert keys.find(f"made-up-{step}") is None
    assert issuer.asked == 3


def test_while_the_issuer_is_down_known_keys_serve_for_a_named_time() -> None:
    issuer = Issuer(jwk())
    keys = issuer.keys()
    assert keys.find("k1") is not None
    issuer.answer = ConnectionRefusedError("down")
    asked = issuer.asked
    for issuer.now_s in (150.0, 155.0, 1099.0):
        assert keys.find("k1") is not None
    assert issuer.asked == asked + 2  # the second lies within the rest after a failure
    issuer.now_s = 1100.0
    with pytest.raises(KeysUnavailable, match="too old: down"):
        keys.find("k1")
    issuer.answer = jwk_set(jwk())
    issuer.now_s = 1110.0
    assert keys.find("k1") is not None


@pytest.mark.parametrize("answer", [b"<html>", jwk_set(jwk() | {"d": "AAAA"}), TimeoutError()])
def test_a_bad_answer_leaves_the_known_keys_as_they_are(answer: Any) -> None:
    issuer = Issuer(jwk())
    keys = issuer.keys()
    assert keys.find("k1") is not None
    issuer.answer, issuer.now_s = answer, 150.0
    assert keys.find("k1") is not None


def test_an_issuer_that_never_answered_admits_nobody_and_says_so() -> None:
    issuer = Issuer()
    issuer.answer = ConnectionRefusedError("down")
    with pytest.raises(KeysUnavailable, match="not known: down"):
        issuer.keys().find("k1")


def test_the_secrets_own_keys_serve_until_the_first_fetch_and_never_after() -> None:
    issuer = Issuer(jwk("fetched"))
    issuer.answer = ConnectionRefusedError("down")
    keys = issuer.keys(parse_keys(jwk_set(jwk("given"))))
    assert keys.find("given") is not None
    issuer.answer, issuer.now_s = jwk_set(jwk("fetched")), 20.0
    assert keys.find("fetched") is not None
    assert keys.find("given") is None
    issuer.answer, issuer.now_s = ConnectionRefusedError("down"), 500.0
    assert keys.find("given") is None


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example/jwks.json",
        "ftp://issuer.example/jwks.json",
        "file:///etc/passwd",
        "https://",
        "jwks.json",
        "https://user:secret@issuer.example/",
        "http://127.0.0.1.example/",
    ],
)
def test_a_url_that_is_not_https_is_refused(url: str) -> None:
    with pytest.raises(InvalidField, match="jwks_url"):
        check_url(url)


@pytest.mark.parametrize("url", ["https://issuer.example/jwks", "http://127.0.0.1:8/jwks"])
def test_https_is_taken_and_http_on_loopback(url: str) -> None:
    check_url(url)


def test_a_secret_needs_keys_or_a_url_of_them() -> None:
    with pytest.raises(InvalidField, match="jwks"):
        key_source(None, None, None, PATIENCE)
    with pytest.raises(InvalidField, match="jwks_url"):
        key_source("http://issuer.example/", None, None, PATIENCE)


def test_what_was_fetched_stays_known_to_the_process() -> None:
    make: Callable[[], Any] = lambda: key_source("https://issuer.example/", "PEM", None, PATIENCE)  # noqa: E731
    assert make() is make()
