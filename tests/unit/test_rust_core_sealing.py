"""Sealed content opens for its reader with its associated data, and for nothing else."""

import itertools
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
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
    uses, lifetime_s = cert_rust.CONTENT_KEY_USES_MAX, cert_rust.CONTENT_KEY_LIFETIME_S
    assert (uses, lifetime_s) == (2**20, 300)
    cert_rust.ContentSealer(PUBLIC, "key-1", uses, lifetime_s)
    for public_key, uses_max, seconds in (
        (b"short", 1, 1),
        (PUBLIC + b"x", 1, 1),
        (PUBLIC, 0, 1),
        (PUBLIC, uses + 1, 1),
        (PUBLIC, 1, lifetime_s + 1),
        (PUBLIC, 1, 2**64 - 1),
    ):
        with pytest.raises(cert_rust.SealError):
            cert_rust.ContentSealer(public_key, "key-1", uses_max, seconds)
    for never in (-1, 2**64):
        with pytest.raises(OverflowError):
            cert_rust.ContentSealer(PUBLIC, "key-1", never, 1)
        with pytest.raises(OverflowError):
            cert_rust.ContentSealer(PUBLIC, "key-1", 1, never)


def test_the_ciphertext_holds_nothing_of_the_content() -> None:
    marker = b"a-marker-that-must-not-be-seen"
    wrapped_key, ciphertext = cert_rust.hybrid_seal(PUBLIC, marker * 10, b"ids")
    assert marker not in wrapped_key + ciphertext


@pytest.mark.parametrize("parts", list(itertools.product([0, 1, 27, 28, 29, 1131, 1132], repeat=2)))
def test_a_wrapped_key_and_a_ciphertext_of_any_lengths_are_the_one_error(
    parts: tuple[int, int],
) -> None:
    wrapped_key, ciphertext = (b"\x01" * length for length in parts)
    with pytest.raises(cert_rust.SealError, match=f"^{ONE_MESSAGE}$"):
        cert_rust.hybrid_open(PRIVATE, wrapped_key, ciphertext, b"ids")


lengths = st.sampled_from([0, 1, 16, 28, 31, 32, 33, 1132, 1189, 1190, 1191, 1795, 1796])
junk = st.binary(max_size=2000) | st.builds(
    lambda length, byte: bytes([byte]) * length, lengths, st.integers(0, 255)
)


@settings(deadline=None, max_examples=150)
@given(junk, junk, junk, junk)
def test_junk_opens_nothing_and_is_sealed_for_nobody(
    a: bytes, b: bytes, c: bytes, d: bytes
) -> None:
    with pytest.raises(cert_rust.SealError, match=f"^{ONE_MESSAGE}$"):
        cert_rust.hybrid_open(a, b, c, d)
    with pytest.raises(cert_rust.SealError, match=f"^{ONE_MESSAGE}$"):
        cert_rust.hybrid_open(PRIVATE, b, c, d)
    try:
        wrapped_key, ciphertext = cert_rust.hybrid_seal(a, b, c)
    except cert_rust.SealError:
        return
    # Any 1158 bytes are an sntrup761 key, but nobody has its private one.
    assert len(a) == len(PUBLIC)
    with pytest.raises(cert_rust.SealError):
        cert_rust.hybrid_open(PRIVATE, wrapped_key, ciphertext, c)


def test_a_record_sealed_in_the_past_opens_and_is_what_the_format_says() -> None:
    stored = json.loads((Path(__file__).parent / "vectors" / "sealed_v1.json").read_text())
    stored.pop("about")
    record = {name: bytes.fromhex(value) for name, value in stored.items()}
    private_key, wrapped_key, ciphertext, associated_data = (
        record[name] for name in ("private_key", "wrapped_key", "ciphertext", "associated_data")
    )
    opened = cert_rust.hybrid_open(private_key, wrapped_key, ciphertext, associated_data)
    assert opened == record["content"]

    # The same by other libraries; the lattice secret is what PQClean decapsulates.
    version, ephemeral, encapsulated = wrapped_key[:1], wrapped_key[1:33], wrapped_key[33:1072]
    nonce, encrypted_key = wrapped_key[1072:1084], wrapped_key[1084:]
    curve = X25519PrivateKey.from_private_bytes(private_key[:32])
    curve_secret = curve.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    # An sntrup761 private key holds the public one, after two polynomials of 191 bytes.
    public_key = curve.public_key().public_bytes_raw() + private_key[32 + 382 : 32 + 382 + 1158]
    info = b"love-seal-v1" + ephemeral + encapsulated + public_key
    wrapping_key = HKDF(SHA256(), 32, None, info).derive(curve_secret + record["lattice_secret"])
    content_key = AESGCM(wrapping_key).decrypt(nonce, encrypted_key, b"love-seal-v1")
    content = AESGCM(content_key).decrypt(ciphertext[:12], ciphertext[12:], associated_data)
    assert (version, content) == (b"\x01", record["content"])
