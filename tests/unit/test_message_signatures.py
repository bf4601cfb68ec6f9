"""Signed requests: the RFC's own vectors, the same bytes as another library's, and nothing lax."""

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import http_message_signatures as peer
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from hypothesis import given
from hypothesis import strategies as st

import federation_dag
from federation.limits import SIGNATURE_FIELD_CHARACTERS_MAX
from federation.message_signatures import (
    BadSignature,
    SignedRequest,
    VerificationKey,
    content_digest,
    sign_request,
    signature_base,
    verify_request,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PATH = "/api/transaction/" + "ab" * 32
COVERED = frozenset({"@method", "@path", "content-digest"})
NONCE = "n" * 16

# RFC 9421 appendix B.1.4 and B.2.
RFC_KEY = "n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU"
RFC_DIGEST = (
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwE"
    "mTHWXvJwew==:"
)
RFC_REQUEST = SignedRequest(
    method="POST",
    path="/foo",
    query="param=Value&Pet=dog",
    authority="example.com",
    fields={
        "host": "example.com",
        "date": "Tue, 20 Apr 2021 02:07:55 GMT",
        "content-type": "application/json",
        "content-digest": RFC_DIGEST,
        "content-length": "18",
    },
)
RFC_BODY = b'{"hello": "world"}'
B26_COMPONENTS = ("date", "@method", "@path", "@authority", "content-type", "content-length")
B26_PARAMETERS = {"created": 1618884473, "keyid": "test-key-ed25519"}
B26_BASE = b"""\
"date": Tue, 20 Apr 2021 02:07:55 GMT
"@method": POST
"@path": /foo
"@authority": example.com
"content-type": application/json
"content-length": 18
"@signature-params": ("date" "@method" "@path" "@authority" "content-type" "content-length")\
;created=1618884473;keyid="test-key-ed25519\""""
B26_SIGNATURE = (
    "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
)


def test_the_base_of_rfc_9421_b_2_6_is_ours_and_its_signature_holds() -> None:
    base = signature_base(RFC_REQUEST, B26_COMPONENTS, B26_PARAMETERS)
    assert base == B26_BASE
    key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(RFC_KEY + "="))
    assert base64.b64encode(key.sign(base)).decode() == B26_SIGNATURE
    public_key = key.public_key().public_bytes_raw()
    signature = base64.b64decode(B26_SIGNATURE)
    assert federation_dag.batch_verify([("Ed25519", public_key, base, signature)]) == [True]


def test_the_bases_of_rfc_9421_b_2_1_and_b_2_2_are_ours() -> None:
    minimal = {
        "created": 1618884473,
        "keyid": "test-key-rsa-pss",
        "nonce": "b3k2pp5k7z-50gnwp.yemd",
    }
    assert signature_base(RFC_REQUEST, (), minimal) == (
        b'"@signature-params": ();created=1618884473;keyid="test-key-rsa-pss"'
        b';nonce="b3k2pp5k7z-50gnwp.yemd"'
    )
    fields = {name: RFC_REQUEST.fields[name] for name in ("content-digest",)}
    request = SignedRequest("POST", "/foo", authority="example.com", fields=fields)
    selective = {"created": 1618884473, "keyid": "test-key-rsa-pss", "tag": "header-example"}
    assert signature_base(request, ("@authority", "content-digest"), selective).decode() == (
        f'"@authority": example.com\n"content-digest": {RFC_DIGEST}\n'
        '"@signature-params": ("@authority" "content-digest");created=1618884473'
        ';keyid="test-key-rsa-pss";tag="header-example"'
    )


def test_the_digests_of_rfc_9530_are_ours() -> None:
    assert content_digest(RFC_BODY) == "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"
    digest = base64.b64encode(hashlib.sha512(RFC_BODY).digest()).decode()
    assert f"sha-512=:{digest}:" == RFC_DIGEST


class PeerRequest:
    """A request as the other library takes it."""

    def __init__(self, method: str, url: str, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers = method, url, headers


class PeerKeys(peer.HTTPSignatureKeyResolver):  # type: ignore[misc]
    def resolve_public_key(self, key_id: str) -> Any:
        return KEY.public_key()

    def resolve_private_key(self, key_id: str) -> Any:
        return KEY


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    segments=st.lists(st.text("abcXYZ019-._~", min_size=1, max_size=12), min_size=1, max_size=4),
    content=st.binary(max_size=64),
    created_s=st.integers(0, 2**33),
    nonce=st.text('abcdefXYZ0123456789-_."\\ ', min_size=16, max_size=64),
)
def test_what_we_sign_holds_for_another_library(
    method: str, segments: list[str], content: bytes, created_s: int, nonce: str
) -> None:
    path = "/" + "/".join(segments)
    headers = sign_request(
        SignedRequest(method, path), content, KEY, "Ed25519",
        keyid="node-1", nonce=nonce, created_s=created_s,
    )  # fmt: skip
    verifier = peer.HTTPMessageVerifier(
        signature_algorithm=peer.algorithms.ED25519, key_resolver=PeerKeys()
    )
    verifier.validate_created_and_expires = lambda *_, **__: None
    request = PeerRequest(method, f"https://api.example{path}", headers)
    [found] = verifier.verify(request, max_age=None, body=content)
    assert set(found.covered_components) >= {'"@method"', '"@path"', '"content-digest"'}


def test_what_another_library_signs_holds_for_us() -> None:
    headers = {"Content-Digest": content_digest(b"")}
    request = PeerRequest("GET", f"https://api.example{PATH}", headers)
    signer = peer.HTTPMessageSigner(
        signature_algorithm=peer.algorithms.ED25519, key_resolver=PeerKeys()
    )
    signer.sign(
        request,
        key_id="node-1",
        nonce=NONCE,
        covered_component_ids=("@method", "@path", "content-digest"),
        use_existing_digest=True,
    )
    fields = {name.lower(): value for name, value in request.headers.items()}
    found = verify_request(SignedRequest("GET", PATH, fields=fields), b"", key_of, COVERED)
    assert (found.keyid, found.nonce) == ("node-1", NONCE)


def key_of(keyid: str) -> VerificationKey | None:
    keys = {"node-1": VerificationKey("Ed25519", KEY.public_key().public_bytes_raw())}
    return keys.get(keyid)


def signed_fields(**changes: Any) -> dict[str, str]:
    """The signature's fields by lower-case name."""
    options: dict[str, Any] = {"keyid": "node-1", "nonce": NONCE, "created_s": 1000, **changes}
    headers = sign_request(SignedRequest("GET", PATH), b"", KEY, "Ed25519", **options)
    return {name.lower(): value for name, value in headers.items()}


def verify(fields: dict[str, str], content: bytes = b"", path: str = PATH) -> Any:
    return verify_request(SignedRequest("GET", path, fields=fields), content, key_of, COVERED)


def test_a_signature_by_ml_dsa_65_holds_as_well() -> None:
    key = MLDSA65PrivateKey.generate()
    headers = sign_request(
        SignedRequest("GET", PATH), b"", key, "ML-DSA-65",
        keyid="node-2", nonce=NONCE, created_s=5,
    )  # fmt: skip
    assert all(len(value) <= SIGNATURE_FIELD_CHARACTERS_MAX for value in headers.values())
    fields = {name.lower(): value for name, value in headers.items()}
    known = VerificationKey("ML-DSA-65", key.public_key().public_bytes_raw())
    request = SignedRequest("GET", PATH, fields=fields)
    assert verify_request(request, b"", lambda _: known, COVERED).created_s == 5
    other = VerificationKey(
        "ML-DSA-65", MLDSA65PrivateKey.generate().public_key().public_bytes_raw()
    )
    with pytest.raises(BadSignature, match="does not hold"):
        verify_request(request, b"", lambda _: other, COVERED)


def test_a_good_signature_tells_who_signed_and_when() -> None:
    found = verify(signed_fields())
    assert (found.keyid, found.nonce, found.created_s, found.expires_s) == (
        "node-1", NONCE, 1000, None,
    )  # fmt: skip


def changed(name: str, old: str, new: str) -> Callable[[dict[str, str]], dict[str, str]]:
    def change(fields: dict[str, str]) -> dict[str, str]:
        assert old in fields[name]
        return {**fields, name: fields[name].replace(old, new, 1)}

    return change


def without(name: str) -> Callable[[dict[str, str]], dict[str, str]]:
    return lambda fields: {one: value for one, value in fields.items() if one != name}


INPUT, SIGNATURE, DIGEST = "signature-input", "signature", "content-digest"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (without(INPUT), "missing"),
        (without(SIGNATURE), "missing"),
        (without(DIGEST), "does not have"),
        (changed(INPUT, "love=", "hate="), "one and the same label"),
        (changed(INPUT, "love=", "other=1, love="), "one and the same label"),
        (changed(INPUT, 'love=("@method"', 'love=("@method";req'), "plain string"),
        (changed(INPUT, '"@method"', "@method"), "signature-input"),
        (changed(INPUT, '"@method" ', ""), "must cover exactly"),
        (changed(INPUT, '"@method"', '"@method" "@query"'), "must cover exactly"),
        (changed(INPUT, '"@method"', '"@method" "@method"'), "twice"),
        (changed(INPUT, "created=1000", "created=1000;created=1"), "twice"),
        (changed(INPUT, "created=1000", "created=1001"), "does not hold"),
        (changed(INPUT, "created=1000", 'created="1000"'), "integers"),
        (changed(INPUT, "created=1000", "created=1000.0"), "integers"),
        (changed(INPUT, "created=1000", "created"), "integers"),
        (changed(INPUT, "created=1000;", ""), "says"),
        (changed(INPUT, "created=1000", 'created=1000;tag="x"'), "says"),
        (changed(INPUT, f';nonce="{NONCE}"', ""), "says"),
        (changed(INPUT, f'"{NONCE}"', '"short"'), "nonce has"),
        (changed(INPUT, f'"{NONCE}"', f'"{"n" * 65}"'), "nonce has"),
        (changed(INPUT, f'"{NONCE}"', NONCE), "strings"),
        (changed(INPUT, '"node-1"', '"node-9"'), "names no key"),
        (changed(INPUT, '"ed25519"', '"ml-dsa-65"'), "alg"),
        (changed(INPUT, '"ed25519"', '"hmac-sha256"'), "alg"),
        (changed(SIGNATURE, "love=:", "love=:AAAA"), "does not hold"),
        (changed(SIGNATURE, "love=:", 'love="'), "signature"),
        (lambda fields: {**fields, SIGNATURE: "love=1"}, "byte sequence"),
        (lambda fields: {**fields, SIGNATURE: fields[SIGNATURE] + ";x"}, "byte sequence"),
        (lambda fields: {**fields, INPUT: "love=1"}, "inner list"),
        (lambda fields: {**fields, INPUT: fields[INPUT] + ", " + fields[INPUT]}, "twice"),
        (lambda fields: {**fields, SIGNATURE: "é"}, "signature"),
        (lambda fields: {**fields, INPUT: "love=" + "(" * 9000}, "characters"),
        (lambda fields: {**fields, DIGEST: content_digest(b"other")}, "does not hold"),
        (lambda fields: {**fields, DIGEST: "a\nb"}, "printable"),
    ],
)  # fmt: skip
def test_a_spoilt_signature_is_refused_and_says_why(
    spoil: Callable[[dict[str, str]], dict[str, str]], why: str
) -> None:
    with pytest.raises(BadSignature, match=why):
        verify(spoil(signed_fields()))


def test_another_path_method_or_content_is_refused() -> None:
    with pytest.raises(BadSignature, match="does not hold"):
        verify(signed_fields(), path="/api/transaction/" + "cd" * 32)
    request = SignedRequest("POST", PATH, fields=signed_fields())
    with pytest.raises(BadSignature, match="does not hold"):
        verify_request(request, b"", key_of, COVERED)
    with pytest.raises(BadSignature, match="not that of the content"):
        verify(signed_fields(), content=b"added")


def test_a_digest_of_no_known_algorithm_proves_nothing() -> None:
    fields = {"content-digest": "md5=:AAAA:"}
    request = SignedRequest("GET", PATH, fields=fields)
    parameters = {"created": 1, "keyid": "node-1", "nonce": NONCE, "alg": "ed25519"}
    components = ("@method", "@path", "content-digest")
    signature = base64.b64encode(KEY.sign(signature_base(request, components, parameters)))
    fields[INPUT] = (
        'love=("@method" "@path" "content-digest");created=1;keyid="node-1"'
        f';nonce="{NONCE}";alg="ed25519"'
    )
    fields[SIGNATURE] = f"love=:{signature.decode()}:"
    with pytest.raises(BadSignature, match="has none of"):
        verify(fields)


@given(st.dictionaries(st.sampled_from([INPUT, SIGNATURE, DIGEST]), st.text(max_size=200)))
def test_whatever_the_fields_say_the_answer_is_a_refusal_not_a_crash(
    fields: dict[str, str],
) -> None:
    with pytest.raises(BadSignature):
        verify(fields)
