"""Sealed content opens for its reader with its associated data, and for nothing else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cert_rust

PRIVATE, PUBLIC = cert_rust.hybrid_keygen()
OTHER_PRIVATE, _ = cert_rust.hybrid_keygen()
# The error is one and the same, whatever was wrong.
ONE_MESSAGE = "not sealed for this key and associated data"


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=2000), st.binary(max_size=80))
def test_what_was_sealed_opens(content: bytes, associated_data: bytes) -> None:
    wrapped_key, ciphertext = cert_rust.hybrid_seal(PUBLIC, content, associated_data)
    opened = cert_rust.hybrid_open(PRIVATE, wrapped_key, ciphertext, associated_data)
    assert opened == content
    assert len(ciphertext) == len(content) + 28


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_flipped_bit_or_cut_is_the_one_error(data: st.DataObject) -> None:
    parts = [*cert_rust.hybrid_seal(PUBLIC, b"rent", b"ids"), b"ids"]
    which = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(parts[which]) - 1))
    if data.draw(st.booleans()):
        changed = bytearray(parts[which])
        changed[at] ^= 1 << data.draw(st.integers(0, 7))
        parts[which] = bytes(changed)
    else:
        parts[which] = parts[which][:at]
    with pytest.raises(cert_rust.SealError, match=f"^{ONE_MESSAGE}$"):
        cert_rust.hybrid_open(PRIVATE, *parts)


@pytest.mark.parametrize("private_key", [OTHER_PRIVATE, b"", PRIVATE[:-1], PUBLIC])
def test_another_key_opens_nothing_even_after_the_right_one_did(private_key: bytes) -> None:
    wrapped_key, ciphertext = cert_rust.hybrid_seal(PUBLIC, b"rent", b"ids")
    cert_rust.hybrid_open(PRIVATE, wrapped_key, ciphertext, b"ids")
    with pytest.raises(cert_rust.SealError, match=f"^{ONE_MESSAGE}$"):
        cert_rust.hybrid_open(private_key, wrapped_key, ciphertext, b"ids")


def test_one_content_key_serves_up_to_its_limit_and_each_ciphertext_differs() -> None:
    sealer = cert_rust.ContentSealer(PUBLIC, "key-1", uses_max=3)
    assert sealer.key_id == "key-1"
    sealed = [sealer.seal(b"same", b"ids") for _ in range(7)]
    assert len({wrapped_key for wrapped_key, _ in sealed}) == 3
    assert len({ciphertext for _, ciphertext in sealed}) == 7
    for wrapped_key, ciphertext in sealed:
        assert cert_rust.hybrid_open(PRIVATE, wrapped_key, ciphertext, b"ids") == b"same"


def test_a_content_key_past_its_time_is_changed() -> None:
    sealer = cert_rust.ContentSealer(PUBLIC, "key-1", lifetime_s=0)
    assert sealer.seal(b"x", b"")[0] != sealer.seal(b"x", b"")[0]


def test_limits_and_keys_that_can_not_be_are_refused_at_once() -> None:
    for public_key, uses_max in ((b"short", 1), (PUBLIC, 0), (PUBLIC, 2**20 + 1)):
        with pytest.raises(cert_rust.SealError):
            cert_rust.ContentSealer(public_key, "key-1", uses_max=uses_max)


def test_the_ciphertext_holds_nothing_of_the_content() -> None:
    marker = b"a-marker-that-must-not-be-seen"
    wrapped_key, ciphertext = cert_rust.hybrid_seal(PUBLIC, marker * 10, b"ids")
    assert marker not in wrapped_key + ciphertext
