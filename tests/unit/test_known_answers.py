"""Published vectors have their published answers, alone and in company, through the Python face."""

import hashlib
import json
import lzma
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa

import federation_dag

Item = tuple[str, bytes, bytes, bytes]
Report = Callable[[str, object], None]

VECTORS = Path(__file__).parent / "vectors"
MLDSA_PUBLIC: dict[str, Any] = {
    "ML-DSA-44": mldsa.MLDSA44PublicKey,
    "ML-DSA-65": mldsa.MLDSA65PublicKey,
}
MLDSA_PRIVATE: dict[str, Any] = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
}

# RFC 8032 section 7.1: tests 1, 2, 3, 1024 and SHA(abc), by public key; the message and signature of
# the last, the others are in the file that the RFC's authors published.
RFC_8032_KEYS = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    "278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e",
]
RFC_8032_SHA_ABC: Item = (
    "Ed25519",
    bytes.fromhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf"),
    hashlib.sha512(b"abc").digest(),
    bytes.fromhex(
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704"
    ),
)

# RFC 8785 appendix B: the numbers that are no integers of at most 2^53 - 1, or not written as such.
RFC_8785_REFUSED_NUMBERS = [
    "5e-324",
    "-5e-324",
    "1.7976931348623157e+308",
    "9007199254740992",
    "-9007199254740992",
    "295147905179352830000",
    "9.999999999999997e+22",
    "1e+23",
    "1.0000000000000001e+23",
    "999999999999999700000",
    "999999999999999900000",
    "1e+21",
    "9.999999999999997e-7",
    "0.000001",
    "333333333.3333332",
    "333333333.33333325",
    "333333333.3333333",
    "333333333.3333334",
    "333333333.33333343",
    "-0.0000033333333333333333",
    "1424953923781206.2",
]


def company() -> list[Item]:
    """One good signature of each algorithm."""
    message = b"company"
    keys = [
        ed25519.Ed25519PrivateKey.generate(),
        *(key.generate() for key in MLDSA_PRIVATE.values()),
    ]
    return [
        (algorithm, key.public_key().public_bytes_raw(), message, key.sign(message))
        for algorithm, key in zip(["Ed25519", *MLDSA_PRIVATE], keys, strict=True)
    ]


COMPANY = company()


def check(items: Sequence[Item], wanted: Sequence[bool]) -> None:
    """Each alone, all together, and all among good ones: the answers are `wanted`."""
    assert [federation_dag.batch_verify([item]) for item in items] == [[good] for good in wanted]
    assert federation_dag.batch_verify(list(items)) == list(wanted)
    mixed = [one for item in items for one in (item, *COMPANY)]
    answers = [one for good in wanted for one in (good, *[True] * len(COMPANY))]
    assert federation_dag.batch_verify(mixed) == answers


def spoilt(item: Item, at: int) -> Item:
    algorithm, key, message, signature = item
    changed = bytearray(signature)
    changed[at % len(changed)] ^= 1 << (at % 8)
    return algorithm, key, message, bytes(changed)


def ed25519_reference() -> list[Item]:
    """`sign.input` of the authors of Ed25519: secret ‖ public, public, message, signature ‖ message."""
    text = (files("cryptography_vectors") / "asymmetric/Ed25519/sign.input").read_text()
    rows = [line.split(":") for line in text.splitlines()]
    return [
        ("Ed25519", bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signed)[:64])
        for _, public, message, signed, _ in rows
    ]


def test_rfc_8032_signatures_verify_and_changed_ones_do_not(record_property: Report) -> None:
    by_key = {item[1].hex(): item for item in ed25519_reference()}
    items = [*(by_key[key] for key in RFC_8032_KEYS), RFC_8032_SHA_ABC]
    assert [len(message) for _, _, message, _ in items] == [0, 1, 2, 1023, 64]
    check(items, [True] * 5)
    check([spoilt(item, at) for at, item in enumerate(items)], [False] * 5)
    record_property("known answers", f"RFC 8032 section 7.1: {len(items)} cases, all of it")


def test_the_reference_signatures_of_ed25519_verify_and_changed_ones_do_not(
    record_property: Report,
) -> None:
    good = ed25519_reference()
    items = [one for at, item in enumerate(good) for one in (item, spoilt(item, at))]
    check(items, [True, False] * len(good))
    assert len(good) == 1024
    record_property("known answers", f"Ed25519 sign.input: {len(good)} cases, and each changed")


def acvp(mode: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) of NIST's file."""
    document = json.loads(lzma.decompress((VECTORS / "acvp_ml_dsa.json.xz").read_bytes()))
    for group in document[mode]["groups"]:
        for test in group["tests"]:
            yield group, test


def acvp_item(group: dict[str, Any], test: dict[str, Any]) -> Item:
    """As it would come to us; where NIST gives only the hash of a message, that is the message."""
    message = test["message"] if "message" in test else test["mu"]
    public_key, signature = bytes.fromhex(test["pk"]), bytes.fromhex(test["signature"])
    return group["parameterSet"], public_key, bytes.fromhex(message), signature


def cryptography_verifies(item: Item, context: bytes) -> bool:
    """OpenSSL's or AWS-LC's opinion, context included: proves that a vector was read rightly."""
    algorithm, public_key, message, signature = item
    try:
        MLDSA_PUBLIC[algorithm].from_public_bytes(public_key).verify(signature, message, context)
    except (InvalidSignature, ValueError):
        return False
    return True


def test_acvp_ml_dsa_pure_signatures_have_nists_answer_when_without_context(
    record_property: Report,
) -> None:
    cases = [
        (acvp_item(group, test), bytes.fromhex(test["context"]), test["testPassed"])
        for group, test in acvp("sigVer")
        if group.get("preHash") == "pure"
    ]
    for item, context, passed in cases:
        assert cryptography_verifies(item, context) == passed
    # We sign and verify without a context: what is good for one is not good for us.
    check([item for item, _, _ in cases], [passed and not context for _, context, passed in cases])
    without = sum(not context for _, context, _ in cases)
    assert (len(cases), without) == (30, 2)
    record_property(
        "known answers",
        f"NIST ACVP ML-DSA-44/-65 sigVer, external, pure: {len(cases)} cases; {without} without "
        f"context (NIST: invalid), {len(cases) - without} with one are refused, "
        f"{sum(passed for _, _, passed in cases)} of them valid for their context",
    )


def test_acvp_ml_dsa_signatures_made_without_context_verify(record_property: Report) -> None:
    items = []
    for group, test in acvp("sigGen"):
        item = acvp_item(group, test)
        # NIST gives private keys; `tr` in one is the hash of its public key (FIPS 204).
        assert hashlib.shake_256(item[1]).hexdigest(64) == test["sk_first_128_bytes"][128:]
        items.append(item)
    check(items, [True] * len(items))
    check([spoilt(item, at) for at, item in enumerate(items)], [False] * len(items))
    assert len(items) == 5
    record_property(
        "known answers",
        f"NIST ACVP ML-DSA-44/-65 sigGen, external, pure, without context: {len(items)} signatures",
    )


def test_acvp_ml_dsa_signatures_of_other_interfaces_are_refused(record_property: Report) -> None:
    other = [
        acvp_item(group, test)
        for group, test in acvp("sigVer")
        if group.get("preHash") != "pure" and test["testPassed"]
    ]
    check(other, [False] * len(other))
    assert len(other) == 18
    record_property(
        "known answers",
        f"NIST ACVP ML-DSA-44/-65 sigVer, pre-hash, internal, external mu: {len(other)} valid cases, "
        "refused as not ours; their 72 invalid ones and 60 of ML-DSA-87 are not applicable",
    )


@pytest.mark.parametrize("algorithm", sorted(MLDSA_PUBLIC))
def test_known_ml_dsa_signatures_for_a_context_are_refused_and_their_keys_sign_ours(
    algorithm: str, record_property: Report
) -> None:
    name = f"kat_{algorithm.replace('-', '', 1).replace('-', '_')}_det_pure.rsp"
    text = (files("cryptography_vectors") / "asymmetric/MLDSA" / name).read_text()
    for_a_context, ours = [], []
    for block in text.split("count = ")[1:]:
        case = dict(line.split(" = ", 1) for line in block.splitlines()[1:] if line)
        public_key, message = bytes.fromhex(case["pk"]), bytes.fromhex(case["msg"])
        signed, context = bytes.fromhex(case["sm"]), bytes.fromhex(case["ctx"])
        item = (algorithm, public_key, message, signed[: len(signed) - len(message)])
        assert cryptography_verifies(item, context)
        for_a_context.append(item)
        key = MLDSA_PRIVATE[algorithm].from_seed_bytes(bytes.fromhex(case["xi"]))
        assert key.public_key().public_bytes_raw() == public_key
        ours.append((algorithm, public_key, message, key.sign(message)))
    check(for_a_context, [False] * len(for_a_context))
    check(ours, [True] * len(ours))
    assert len(ours) == 100
    record_property(
        "known answers",
        f"{algorithm} KAT (deterministic, pure): {len(ours)} keys sign ours, "
        f"{len(for_a_context)} signatures for a context are refused",
    )


def test_rfc_8785_examples_have_their_canonical_form_or_are_refused_for_a_float(
    record_property: Report,
) -> None:
    # Section 3.2.2's sample has floats, which no document of ours may hold: refused with the place
    # of the first; canonical as the RFC says, when they are left out.
    strings = r'"string": "\u20ac$\u000F\u000aA' + r"'\u0042\u0022\u005c\\\"\/" + '"'
    literals = '"literals": [null, true, false]'
    numbers = '"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001]'
    with pytest.raises(federation_dag.CanonicalError) as caught:
        federation_dag.canonicalize(f"{{{numbers}, {strings}, {literals}}}".encode())
    assert caught.value.path == "/numbers/0"
    canonical = federation_dag.canonicalize(f"{{{strings}, {literals}}}".encode())
    # Section 3.2.4 gives these bytes, without those of the numbers.
    assert canonical.hex() == (
        "7b226c69746572616c73223a5b6e756c6c2c747275652c66616c73655d2c"
        "22737472696e67223a22e282ac245c75303030665c6e4127425c225c5c5c5c5c222f227d"
    )
    by_utf_16 = (
        r'{"\u20ac": "Euro Sign", "\r": "Carriage Return", "\ufb33": "Hebrew Letter Dalet With Dagesh",'
        r' "1": "One", "\ud83d\ude00": "Emoji: Grinning Face", "\u0080": "Control",'
        r' "\u00f6": "Latin Small Letter O With Diaeresis"}'
    )
    assert list(json.loads(federation_dag.canonicalize(by_utf_16.encode())).values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]
    for number in RFC_8785_REFUSED_NUMBERS:
        with pytest.raises(federation_dag.CanonicalError) as refused:
            federation_dag.canonicalize(f'{{"a":{number}}}'.encode())
        assert refused.value.path == "/a"
    record_property(
        "known answers",
        f"RFC 8785: 3 examples of section 3.2, {len(RFC_8785_REFUSED_NUMBERS)} numbers of appendix B "
        "are refused (we have integers only)",
    )
