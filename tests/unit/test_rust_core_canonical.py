"""One document has one canonical form, and only strict I-JSON of integers has any."""

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

import federation_dag

SAFE_INTEGER_MAX = 2**53 - 1


def is_noncharacter(character: str) -> bool:
    """RFC 7493 section 2.1 keeps these out of I-JSON."""
    code = ord(character)
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


texts = st.text().filter(lambda text: not any(map(is_noncharacter, text)))
documents = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE_INTEGER_MAX, SAFE_INTEGER_MAX) | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=30,
)


@given(documents, st.booleans(), st.sampled_from([None, 1]))
def test_every_spelling_has_the_bytes_that_rfc8785_gives(
    document: Any, ascii_only: bool, indent: int | None
) -> None:
    spelt = json.dumps(document, ensure_ascii=ascii_only, indent=indent).encode()
    assert federation_dag.canonicalize(spelt) == rfc8785.dumps(document)


@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode()))
def test_whatever_comes_in_is_an_answer_or_a_canonical_error(document: bytes) -> None:
    try:
        canonical = federation_dag.canonicalize(document)
    except federation_dag.CanonicalError as caught:
        error = caught
    else:
        assert federation_dag.canonicalize(canonical) == canonical
        return
    assert error.rule
    assert error.path == "" or error.path.startswith("/")


@pytest.mark.parametrize(
    ("document", "path"),
    [
        (b'{"a":1.0}', "/a"),
        (b'{"a":1e3}', "/a"),
        (b'{"a":[0,9007199254740992]}', "/a/1"),
        (b'{"a":-9007199254740992}', "/a"),
        (b'{"a":-9223372036854775808}', "/a"),
        (b'{"a":99999999999999999999999}', "/a"),
        (b'{"a/b":{"~":1,"~":2}}', "/a~1b/~0"),
        (b'{"a":1,"\\u0061":2}', "/a"),
        (b'{"a":"\\ud800"}', "/a"),
        (b'{"a":"\\udc00\\ud800"}', "/a"),
        (b'{"a":NaN}', "/a"),
        (b'{"a":01}', "/a"),
        (b'{"a":1}{}', ""),
        (b'{"a":1,}', ""),
        (b"[" * 100_000, "/0" * 33),
    ],
)
def test_what_is_not_strict_i_json_is_refused_with_its_place(document: bytes, path: str) -> None:
    with pytest.raises(federation_dag.CanonicalError) as caught:
        federation_dag.canonicalize(document)
    assert caught.value.path == path
    assert isinstance(caught.value, ValueError)


def test_the_largest_integers_and_32_levels_are_taken() -> None:
    document = b"[" * 31 + b"[9007199254740991,-9007199254740991]" + b"]" * 31
    assert federation_dag.canonicalize(document) == document


@given(st.dictionaries(st.sampled_from(["amount", "content", "nonce", "reads"]), documents))
def test_the_id_binds_all_but_the_signature_and_the_signed_bytes_all_but_the_content(
    transaction: dict[str, Any],
) -> None:
    posted = json.dumps({**transaction, "signature": "x"}).encode()
    digest = hashlib.sha256(rfc8785.dumps(transaction))
    named = federation_dag.name_transaction(posted)
    assert named.transaction_id == digest.digest()
    assert named.canonical == rfc8785.dumps({**transaction, "signature": "x"})
    content = transaction.get("content")
    assert named.content == (rfc8785.dumps(content) if "content" in transaction else None)
    header = {name: value for name, value in transaction.items() if name != "content"}
    header["transaction_id"] = digest.hexdigest()
    assert named.signing_bytes == rfc8785.dumps(header)


def test_only_an_object_is_a_transaction() -> None:
    with pytest.raises(federation_dag.CanonicalError, match="object"):
        federation_dag.name_transaction(b"[]")
