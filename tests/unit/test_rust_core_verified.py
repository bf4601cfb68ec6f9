"""A verified batch says of each header what the single checks would say."""

from typing import Any

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from hypothesis import given, settings
from hypothesis import strategies as st

import federation_dag

Key = ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey
KEYS: list[tuple[str, Key]] = [
    ("Ed25519", ed25519.Ed25519PrivateKey.generate()),
    ("Ed25519", ed25519.Ed25519PrivateKey.generate()),
    ("ML-DSA-65", mldsa.MLDSA65PrivateKey.generate()),
]
FRANKFURT = {"latitude_e7": 501_109_000, "longitude_e7": 86_821_000}


def header(key: int, nonce: int, **members: Any) -> dict[str, Any]:
    algorithm, private_key = KEYS[key]
    raw = private_key.public_key().public_bytes_raw()
    return {
        "version": 1,
        "transaction_id": "ab" * 32,
        "sender": federation_dag.account_id(algorithm, raw).hex(),
        "recipient": "cd" * 32,
        "amount": 5,
        "nonce": nonce,
        "position": {**FRANKFURT, "accuracy_m": 9, "observed_at_ms": 1},
        "reads": [],
        "writes": ["ef" * 32],
        **members,
    }


def signed(key: int, document: dict[str, Any]) -> tuple[str, bytes, bytes, bytes]:
    algorithm, private_key = KEYS[key]
    message = rfc8785.dumps(document)
    raw = private_key.public_key().public_bytes_raw()
    return algorithm, raw, message, private_key.sign(message)


FAULTS = ["none", "none", "signature", "other sender", "unknown member", "algorithm"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(FAULTS)), max_size=30))
def test_each_header_is_verified_or_has_its_reason(wanted: list[tuple[int, str]]) -> None:
    items, reasons = [], []
    for nonce, (key, fault) in enumerate(wanted):
        document = header(key, nonce)
        reason: str | None = None
        if fault == "other sender":
            document["sender"] = "aa" * 32
            reason = "not_the_sender"
        if fault == "unknown member":
            document["more"] = 1
            reason = "malformed"
        algorithm, raw, message, signature = signed(key, document)
        if fault == "signature":
            signature = signature[:40] + bytes([signature[40] ^ 1]) + signature[41:]
            reason = "bad_signature"
        if fault == "algorithm":
            algorithm = "ed25519"
            reason = "bad_signature"
        items.append((algorithm, raw, message, signature))
        reasons.append(reason)
    batch = federation_dag.verify_headers(items)
    assert batch.reasons == reasons
    assert len(batch) == len(items)
    for nonce, (found, reason, item) in enumerate(zip(batch, reasons, items, strict=True)):
        assert (found is None) is (reason is not None)
        if found is not None:
            assert (found.nonce, found.signing_bytes) == (nonce, item[2])
            assert found.transaction_id == b"\xab" * 32
            assert found.sender == federation_dag.account_id(item[0], item[1])
    # The verified ones write the same object, so each waits for the one before.
    good = [n for n, reason in enumerate(reasons) if reason is None]
    layer_of = {n: layer for layer, members in enumerate(batch.deps) for n in members}
    assert [layer_of[n] for n in good] == list(range(len(good)))
    assert all(layer_of[n] == 0 for n in set(layer_of) - set(good))


def test_a_header_may_be_written_in_any_way_but_is_signed_in_one() -> None:
    algorithm, raw, message, signature = signed(0, header(0, 7))
    spaced = message.replace(b",", b" ,\n")
    [found] = federation_dag.verify_headers([(algorithm, raw, spaced, signature)])
    assert found is not None
    assert found.signing_bytes == message


def test_verified_headers_have_places_and_others_none() -> None:
    off_the_globe = {"latitude_e7": 900_000_001, "longitude_e7": 0}
    nowhere = {**off_the_globe, "accuracy_m": 9, "observed_at_ms": 1}
    good = signed(0, header(0, 1))
    items = [good, (*good[:3], bytes(64)), signed(0, header(0, 2, position=nowhere))]
    places = federation_dag.verify_headers(items).places()
    assert [place.city if place else None for place in places] == ["Frankfurt am Main", None, None]


def test_an_index_outside_is_an_error() -> None:
    batch = federation_dag.verify_headers([])
    assert (len(batch), list(batch), batch.reasons, list(batch.deps)) == (0, [], [], [])
    with pytest.raises(IndexError):
        batch[0]


def test_a_verified_batch_is_made_by_verification_only() -> None:
    for made in (federation_dag.VerifiedBatch, federation_dag.VerifiedHeader):
        with pytest.raises(TypeError):
            made()
