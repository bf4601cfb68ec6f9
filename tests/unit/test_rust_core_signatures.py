"""A batch's answers are those that each signature would have alone."""

import threading
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from hypothesis import given, settings
from hypothesis import strategies as st

import federation_dag

Key = ed25519.Ed25519PrivateKey | mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey
Item = tuple[str, bytes, bytes, bytes]

KEYS: dict[str, list[Key]] = {
    "Ed25519": [ed25519.Ed25519PrivateKey.generate() for _ in range(3)],
    "ML-DSA-44": [mldsa.MLDSA44PrivateKey.generate() for _ in range(2)],
    "ML-DSA-65": [mldsa.MLDSA65PrivateKey.generate() for _ in range(2)],
}

# RFC 8032 section 7.1, tests 1 to 3: public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def raw(key: Key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def signed(algorithm: str, index: int, message: bytes) -> Item:
    key = KEYS[algorithm][index % len(KEYS[algorithm])]
    return algorithm, raw(key), message, key.sign(message)


def spoilt(item: Item, how: str) -> Item:
    algorithm, key, message, signature = item
    match how:
        case "message":
            return algorithm, key, message + b"!", signature
        case "signature":
            return algorithm, key, message, bytes([signature[0] ^ 1]) + signature[1:]
        case "truncated":
            return algorithm, key, message, signature[:-1]
        case "key":
            return algorithm, raw(KEYS[algorithm][-1])[::-1], message, signature
        case "algorithm":
            return "ed25519", key, message, signature
        case _:
            return item


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(KEYS)),
            st.integers(0, 2),
            st.binary(max_size=64),
            st.sampled_from(["", "", "", "message", "signature", "truncated", "key", "algorithm"]),
        ),
        max_size=50,
    )
)
def test_what_cryptography_signs_verifies_and_what_is_spoilt_does_not(
    wanted: list[tuple[str, int, bytes, str]],
) -> None:
    items = [spoilt(signed(algorithm, at, message), how) for algorithm, at, message, how in wanted]
    assert federation_dag.batch_verify(items) == [how == "" for *_, how in wanted]


def test_rfc_8032_known_answers() -> None:
    items = [("Ed25519", *map(bytes.fromhex, vector)) for vector in RFC_8032]
    assert federation_dag.batch_verify(items) == [True] * len(RFC_8032)  # type: ignore[arg-type]


def test_one_bad_signature_in_a_large_batch_is_found_wherever_it_is() -> None:
    good = [signed("Ed25519", at, at.to_bytes(2, "big")) for at in range(257)]
    for bad in (0, 1, 127, 128, 129, 255, 256):
        items = [*good[:bad], spoilt(good[bad], "signature"), *good[bad + 1 :]]
        assert federation_dag.batch_verify(items) == [at != bad for at in range(257)]


def test_an_empty_batch_has_no_answers() -> None:
    assert federation_dag.batch_verify([]) == []


def test_other_python_threads_go_on_while_a_batch_is_verified() -> None:
    items = [signed("ML-DSA-65", 0, b"x")] * 3_000
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    answers = federation_dag.batch_verify(items)
    end = time.perf_counter()
    stop.set()
    thread.join()
    assert all(answers)
    assert sum(start < at < end for at in ticks) >= 5


@pytest.mark.parametrize("algorithm", sorted(KEYS))
def test_the_account_id_is_the_hash_of_the_spki_that_cryptography_writes(algorithm: str) -> None:
    from hashlib import sha256

    key = KEYS[algorithm][0]
    spki = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert federation_dag.account_id(algorithm, raw(key)) == sha256(spki).digest()


def test_a_key_of_a_wrong_length_or_algorithm_names_no_account() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        federation_dag.account_id("Ed25519", bytes(31))
    with pytest.raises(ValueError, match="unknown algorithm"):
        federation_dag.account_id("RSA", bytes(32))
