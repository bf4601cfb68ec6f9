"""The checker's own opening of the hybrid seal, beside the Rust core that sealed."""

import pytest
from cryptography.exceptions import InvalidTag
from hypothesis import given, settings
from hypothesis import strategies as st

import cert_rust
from lovectl.chaos.unsealing import decapsulated, unseal

PRIVATE, PUBLIC = cert_rust.hybrid_keygen()
SEALED = cert_rust.hybrid_seal(PUBLIC, b"rent", b"ids")
#: A byte of version, X25519 key, rounded polynomial, confirmation, nonce, content key.
PLACES = (0, 1, 33, 1_000, 1_039, 1_040, 1_072, 1_090, -1)


@settings(max_examples=30, deadline=None)
@given(content=st.binary(max_size=300), ids=st.binary(max_size=64))
def test_it_opens_what_the_core_sealed(content: bytes, ids: bytes) -> None:
    assert unseal(PRIVATE, *cert_rust.hybrid_seal(PUBLIC, content, ids), ids) == content


def test_it_opens_under_any_key() -> None:
    for _ in range(20):
        private, public = cert_rust.hybrid_keygen()
        assert unseal(private, *cert_rust.hybrid_seal(public, b"rent", b""), b"") == b"rent"


@pytest.mark.parametrize("place", PLACES)
def test_a_changed_wrapped_key_opens_nothing(place: int) -> None:
    wrapped, ciphertext = bytearray(SEALED[0]), SEALED[1]
    wrapped[place] ^= 1
    with pytest.raises((InvalidTag, ValueError)):
        unseal(PRIVATE, bytes(wrapped), ciphertext, b"ids")


@pytest.mark.parametrize("place", [0, 12, -1])
def test_a_changed_content_is_not_opened(place: int) -> None:
    ciphertext = bytearray(SEALED[1])
    ciphertext[place] ^= 1
    with pytest.raises(InvalidTag):
        unseal(PRIVATE, SEALED[0], bytes(ciphertext), b"ids")


def test_other_ids_and_another_key_open_nothing() -> None:
    with pytest.raises(InvalidTag):
        unseal(PRIVATE, *SEALED, b"other")
    with pytest.raises(InvalidTag):
        unseal(cert_rust.hybrid_keygen()[0], *SEALED, b"ids")


def test_an_encapsulation_for_another_key_gives_another_secret() -> None:
    encapsulated = SEALED[0][33 : 33 + 1_039]
    other = cert_rust.hybrid_keygen()[0]
    assert decapsulated(PRIVATE[32:], encapsulated) != decapsulated(other[32:], encapsulated)
