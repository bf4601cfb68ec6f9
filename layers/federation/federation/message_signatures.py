"""HTTP message signatures (RFC 9421) over requests, with a digest of the content (RFC 9530).

Signature fields are structured fields (RFC 9651), read and written by http-sf. Kept libraries for
the rest bind one algorithm before the key is known, have no ML-DSA, and tell why only in prose.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

import federation_dag
from federation.errors import FederationError
from federation.limits import SIGNATURE_FIELD_CHARACTERS_MAX

#: Algorithm of a key, as certificates and registries of this federation name it, to its name in
#: signatures. `ed25519` is RFC 9421's; none is registered yet for ML-DSA.
ALGORITHM_NAMES: Final[Mapping[str, str]] = {"Ed25519": "ed25519", "ML-DSA-65": "ml-dsa-65"}
#: What a signature may say of itself; all but `expires` must be there.
PARAMETERS_REQUIRED: Final = frozenset({"created", "keyid", "nonce", "alg"})
PARAMETERS: Final = PARAMETERS_REQUIRED | {"expires"}
NONCE_CHARACTERS_MIN: Final = 16
NONCE_CHARACTERS_MAX: Final = 64
KEYID_CHARACTERS_MAX: Final = 128
LABEL: Final = "love"
_DIGESTS: Final = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class BadSignature(FederationError):
    """A request's signature can't be believed; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__("bad_signature", detail)


class SignedRequest(msgspec.Struct, frozen=True):
    """The parts of a request that a signature may cover.

    Attributes
    ----------
    method, path : str
        Such as `GET` and `/api/health`.
    query : str
        What follows the question mark, without it.
    authority : str
        Host and port, in lower case; empty where none is covered.
    fields : mapping
        Header fields by lower-case name; lines of one name joined by comma and space.
    """

    method: str
    path: str
    query: str = ""
    authority: str = ""
    fields: Mapping[str, str] = {}


class VerificationKey(msgspec.Struct, frozen=True):
    """A public key: `algorithm` is Ed25519 or ML-DSA-65, `public_key` its raw bytes."""

    algorithm: str
    public_key: bytes


class Signature(msgspec.Struct, frozen=True):
    """What a verified signature says of itself; times are Unix time in seconds."""

    keyid: str
    nonce: str
    created_s: int
    expires_s: int | None


class Signer(Protocol):
    """A private key of `cryptography`, Ed25519 or ML-DSA-65."""

    def sign(self, data: bytes, /) -> bytes:
        """The signature over `data`."""
        ...


def verify_request(
    request: SignedRequest,
    content: bytes,
    key_of: Callable[[str], VerificationKey | None],
    must_cover: frozenset[str],
) -> Signature:
    """Check the one signature of a request, and that it covers exactly what it must.

    Whether it is fresh, and its nonce new, is for the caller to decide: `created_s` and `nonce`
    can be believed once this returns.

    Parameters
    ----------
    content : bytes
        The request's content; compared with `Content-Digest` if that is covered.
    key_of : callable
        Gives the key of a `keyid`, or None if there is none.
    must_cover : frozenset of str
        Component names (RFC 9421 section 2), such as `@method` and `content-digest`.

    Raises
    ------
    BadSignature
    """
    components, parameters, signature = _read(request.fields)
    if set(components) != must_cover:
        raise BadSignature(f"must cover exactly {', '.join(sorted(must_cover))}")
    found = _checked(parameters)
    key = key_of(found.keyid)
    if key is None:
        raise BadSignature(f"keyid {found.keyid!r} names no key")
    if parameters["alg"] != ALGORITHM_NAMES.get(key.algorithm):
        raise BadSignature(f"alg is not that of the key, which is {key.algorithm}")
    base = signature_base(request, components, parameters)
    [holds] = federation_dag.batch_verify([(key.algorithm, key.public_key, base, signature)])
    if not holds:
        raise BadSignature("does not hold over this request")
    if "content-digest" in components:
        _check_digest(request.fields["content-digest"], content)
    return found


def sign_request(
    request: SignedRequest,
    content: bytes,
    key: Signer,
    algorithm: str,
    *,
    keyid: str,
    nonce: str,
    created_s: int,
    components: Sequence[str] = ("@method", "@path", "content-digest"),
) -> dict[str, str]:
    """The header fields that sign a request: `Content-Digest`, `Signature-Input`, `Signature`.

    Parameters
    ----------
    algorithm : str
        Of the key: Ed25519 or ML-DSA-65.

    Examples
    --------
    >>> from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    >>> key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    >>> request = SignedRequest("GET", "/api/health")
    >>> signed = sign_request(
    ...     request, b"", key, "Ed25519", keyid="node-1", nonce="0123456789abcdef", created_s=1
    ... )
    >>> sorted(signed)
    ['Content-Digest', 'Signature', 'Signature-Input']
    """
    import http_sf

    digest = content_digest(content)
    parameters = {
        "created": created_s,
        "keyid": keyid,
        "nonce": nonce,
        "alg": ALGORITHM_NAMES[algorithm],
    }
    fields = {**request.fields, "content-digest": digest}
    covered = msgspec.structs.replace(request, fields=fields)
    signature = key.sign(signature_base(covered, components, parameters))
    return {
        "Content-Digest": digest,
        "Signature-Input": http_sf.ser({LABEL: _covered(components, parameters)}),
        "Signature": http_sf.ser({LABEL: signature}),
    }


def content_digest(content: bytes) -> str:
    """The value of `Content-Digest` by SHA-256 (RFC 9530 section 2)."""
    import http_sf

    return str(http_sf.ser({"sha-256": hashlib.sha256(content).digest()}))


def signature_base(
    request: SignedRequest, components: Sequence[str], parameters: Mapping[str, Any]
) -> bytes:
    """The bytes that are signed (RFC 9421 section 2.5).

    Parameters
    ----------
    components : sequence of str
        Names, in their order in `Signature-Input`.
    parameters : mapping
        Of the signature, in their order.

    Raises
    ------
    BadSignature
        A component is not there, is there twice, or has a value that no line can hold.
    """
    import http_sf

    if len(set(components)) != len(components):
        raise BadSignature("covers a component twice")
    lines = [f'"{name}": {_value(request, name)}' for name in components]
    covered = http_sf.ser({"base": _covered(components, parameters)})
    lines.append(f'"@signature-params": {covered.removeprefix("base=")}')
    return "\n".join(lines).encode()


def _covered(components: Sequence[str], parameters: Mapping[str, Any]) -> Any:
    """An inner list of plain strings with parameters, as http-sf takes it."""
    return [(name, {}) for name in components], dict(parameters)


def _value(request: SignedRequest, name: str) -> str:
    match name:
        case "@method":
            value = request.method
        case "@path":
            value = request.path
        case "@query":
            value = f"?{request.query}"
        case "@authority":
            value = request.authority
        case _:
            if name not in request.fields:
                raise BadSignature(f"covers {name}, which the request does not have")
            value = request.fields[name].strip(" \t")
    if not value.isascii() or not value.replace("\t", " ").isprintable():
        raise BadSignature(f"covers {name}, whose value is not printable ASCII")
    return value


def _read(fields: Mapping[str, str]) -> tuple[list[str], dict[str, Any], bytes]:
    """Components, parameters and signature out of the two fields, read strictly."""
    inputs, signatures = (_dictionary(fields, name) for name in ("signature-input", "signature"))
    if len(inputs) != 1 or inputs.keys() != signatures.keys():
        raise BadSignature("Signature-Input and Signature have not one and the same label")
    [(covered, parameters)] = inputs.values()
    [(signature, beside)] = signatures.values()
    if not isinstance(covered, list) or not isinstance(signature, bytes) or beside:
        raise BadSignature("Signature-Input is no inner list, or Signature no byte sequence")
    components = []
    for name, qualifiers in covered:
        if not isinstance(name, str) or qualifiers:
            raise BadSignature("a covered component is no plain string")
        components.append(name)
    if len(set(components)) != len(components):
        raise BadSignature("covers a component twice")
    return components, parameters, signature


def _dictionary(fields: Mapping[str, str], name: str) -> dict[str, Any]:
    import http_sf

    def refuse(key: str, where: str) -> None:
        raise ValueError(f"{where} key {key} is there twice")

    text = fields.get(name, "")
    if not text or len(text) > SIGNATURE_FIELD_CHARACTERS_MAX:
        limit = SIGNATURE_FIELD_CHARACTERS_MAX
        raise BadSignature(f"{name} is missing or above {limit} characters")
    try:
        parsed: Any = http_sf.parse(text.encode(), tltype="dictionary", on_duplicate_key=refuse)
    except ValueError as error:
        raise BadSignature(f"{name}: {error}") from None
    found: dict[str, Any] = parsed
    return found


def _checked(parameters: Mapping[str, Any]) -> Signature:
    if not parameters.keys() >= PARAMETERS_REQUIRED or not parameters.keys() <= PARAMETERS:
        raise BadSignature(f"says {', '.join(sorted(PARAMETERS_REQUIRED))}; it may say expires")
    created, expires = parameters["created"], parameters.get("expires")
    if type(created) is not int or type(expires) not in (int, type(None)):
        raise BadSignature("created and expires are integers")
    # A token of structured fields is no string, though http-sf's behaves like one.
    if not all(type(parameters[name]) is str for name in ("keyid", "nonce", "alg")):
        raise BadSignature("keyid, nonce and alg are strings")
    keyid, nonce = parameters["keyid"], parameters["nonce"]
    if not 1 <= len(keyid) <= KEYID_CHARACTERS_MAX:
        raise BadSignature(f"keyid has 1 to {KEYID_CHARACTERS_MAX} characters")
    if not NONCE_CHARACTERS_MIN <= len(nonce) <= NONCE_CHARACTERS_MAX:
        raise BadSignature(f"nonce has {NONCE_CHARACTERS_MIN} to {NONCE_CHARACTERS_MAX} characters")
    return Signature(keyid=keyid, nonce=nonce, created_s=created, expires_s=expires)


def _check_digest(field: str, content: bytes) -> None:
    """Every digest that we know must be that of `content`, and we must know one."""
    digests = _dictionary({"content-digest": field}, "content-digest")
    known = _DIGESTS.keys() & digests.keys()
    if not known:
        raise BadSignature(f"Content-Digest has none of {', '.join(sorted(_DIGESTS))}")
    for name in known:
        if digests[name] != (_DIGESTS[name](content).digest(), {}):
            raise BadSignature("Content-Digest is not that of the content")
