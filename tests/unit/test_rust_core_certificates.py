"""An account is who the federation's CA says, until the CA takes it back."""

import datetime
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

import cert_rust
import federation_dag

UTC = datetime.UTC
NOT_BEFORE = datetime.datetime(2026, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime.datetime(2027, 1, 1, tzinfo=UTC)
NOW_S = int(datetime.datetime(2026, 6, 1, tzinfo=UTC).timestamp())
SERIAL = 0x0102_03FF
DER = serialization.Encoding.DER
CA_KEY = mldsa.MLDSA65PrivateKey.generate()
ACCOUNT_KEY = ed25519.Ed25519PrivateKey.generate()


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(**allowed: bool) -> x509.KeyUsage:
    every = {
        "digital_signature": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": False,
        "crl_sign": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    return x509.KeyUsage(**(every | allowed))


def certificate(
    *extra: tuple[x509.ExtensionType, bool],
    key: Any = ACCOUNT_KEY,
    subject: str = "account",
    issuer: str = "CA",
    signer: Any = CA_KEY,
    is_ca: bool = False,
    key_usage: x509.KeyUsage | None = None,
    serial: int = SERIAL,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(key_usage or usage(digital_signature=True), critical=True)
    )
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, None).public_bytes(DER)


def authority(key: Any = CA_KEY, key_usage: x509.KeyUsage | None = None) -> bytes:
    may = key_usage or usage(key_cert_sign=True, crl_sign=True)
    return certificate(key=key, subject="CA", signer=key, is_ca=True, key_usage=may, serial=1)


def crl(
    *serials: int,
    issuer: str = "CA",
    signer: Any = CA_KEY,
    last: datetime.datetime = NOT_BEFORE,
    until: datetime.datetime = NOT_AFTER,
    delta: bool = False,
    number: int | None = 5,
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(last)
        .next_update(until)
    )
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    if delta:
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(last).build()
        )
    return builder.sign(signer, None).public_bytes(DER)


CA = authority()
#: Serials 1 to 4.
ACCOUNTS = [certificate(serial=serial + 1) for serial in range(4)]


def continent(of: str) -> tuple[x509.ExtensionType, bool]:
    uri = x509.UniformResourceIdentifier(f"urn:love:continent:{of}")
    return x509.SubjectAlternativeName([uri]), False


def refusal(der: bytes, ca: bytes = CA, revoked: bytes | None = None, now_s: int = NOW_S) -> str:
    with pytest.raises(cert_rust.CertificateError) as caught:
        cert_rust.Authority(ca, revoked).check(der, now_s)
    return caught.value.reason


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [
        ("Ed25519", ACCOUNT_KEY),
        ("ML-DSA-44", mldsa.MLDSA44PrivateKey.generate()),
        ("ML-DSA-65", mldsa.MLDSA65PrivateKey.generate()),
    ],
)
def test_a_good_certificate_tells_the_account(algorithm: str, key: Any) -> None:
    der = certificate(continent("MiddleEast"), key=key)
    account = cert_rust.Authority(CA, crl(7, 8)).check(der, NOW_S)
    raw = key.public_key().public_bytes_raw()
    assert account.algorithm == algorithm
    assert account.public_key == raw
    assert bytes.fromhex(account.account_id) == federation_dag.account_id(algorithm, raw)
    assert account.home_continent == "MiddleEast"
    assert int.from_bytes(account.serial, "big") == SERIAL
    assert account.not_after_s == int(NOT_AFTER.timestamp())
    assert account.fingerprint_sha256 == hashlib.sha256(der).digest()


def test_no_continent_is_no_error_but_an_unknown_one_is() -> None:
    assert cert_rust.Authority(CA, None).check(certificate(), NOW_S).home_continent is None
    assert refusal(certificate(continent("Atlantis"))) == "malformed"


def test_a_certificate_is_good_from_its_first_to_its_last_second() -> None:
    der, first, last = certificate(), int(NOT_BEFORE.timestamp()), int(NOT_AFTER.timestamp())
    ca = cert_rust.Authority(CA, None)
    ca.check(der, first)
    ca.check(der, last)
    assert refusal(der, now_s=first - 1) == "not_yet_valid"
    assert refusal(der, now_s=last + 1) == "expired"


def test_a_certificate_of_another_authority_is_refused() -> None:
    other = mldsa.MLDSA65PrivateKey.generate()
    assert refusal(certificate(issuer="Other CA")) == "wrong_issuer"
    assert refusal(certificate(signer=other)) == "bad_signature"
    assert refusal(certificate(signer=mldsa.MLDSA44PrivateKey.generate())) == "bad_signature"
    assert refusal(certificate(signer=ACCOUNT_KEY)) == "bad_signature"


def test_an_account_can_not_issue() -> None:
    key = mldsa.MLDSA65PrivateKey.generate()
    account = certificate(key=key, subject="CA")
    assert refusal(certificate(signer=key), ca=account) == "wrong_issuer"
    no_issuer = authority(key_usage=usage(crl_sign=True))
    assert refusal(certificate(), ca=no_issuer) == "wrong_issuer"


def test_any_changed_bit_is_found() -> None:
    der = certificate(continent("Europe"))
    for at in range(0, len(der), 37):
        changed = bytearray(der)
        changed[at] ^= 0x04
        assert refusal(bytes(changed)) in {"malformed", "wrong_issuer", "bad_signature"}, at


@pytest.mark.parametrize("cut", [0, 1, 10, 500, -1])
def test_a_cut_certificate_or_one_with_a_tail_is_malformed(cut: int) -> None:
    assert refusal(certificate()[:cut]) == "malformed"
    assert refusal(certificate() + b"\0") == "malformed"


def test_an_account_certificate_is_for_signing_and_not_a_ca() -> None:
    assert refusal(certificate(key_usage=usage(key_encipherment=True))) == "wrong_key_usage"
    assert refusal(certificate(is_ca=True)) == "wrong_key_usage"


def test_a_critical_extension_that_nobody_understands_is_refused() -> None:
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    cert_rust.Authority(CA, None).check(certificate((unknown, False)), NOW_S)
    assert refusal(certificate((unknown, True))) == "malformed"


def test_a_key_of_another_kind_is_unsupported() -> None:
    for key in (ec.generate_private_key(ec.SECP256R1()), mldsa.MLDSA87PrivateKey.generate()):
        assert refusal(certificate(key=key)) == "unsupported_key"


def test_a_revoked_serial_is_refused_and_others_are_not() -> None:
    assert refusal(certificate(), revoked=crl(7, SERIAL)) == "revoked"
    cert_rust.Authority(CA, crl(SERIAL)).check(certificate(serial=SERIAL + 1), NOW_S)
    cert_rust.Authority(CA, crl()).check(certificate(), NOW_S)


def test_a_revocation_list_must_be_the_cas_own_fresh_and_whole() -> None:
    day = datetime.timedelta(days=1)
    now = datetime.datetime.fromtimestamp(NOW_S, UTC)
    for bad in (
        crl(signer=mldsa.MLDSA65PrivateKey.generate()),
        crl(issuer="Other CA"),
        crl(until=now - day),
        crl(last=now + day),
        crl(delta=True),
        crl(number=None),
        crl()[:-1],
        b"",
    ):
        assert refusal(certificate(), revoked=bad) == "bad_crl"
    may_not = authority(key_usage=usage(key_cert_sign=True))
    assert refusal(certificate(), ca=may_not, revoked=crl()) == "bad_crl"


def reason(check: Callable[[], object]) -> str | None:
    """Why it is refused, none if it is not."""
    try:
        check()
    except cert_rust.CertificateError as error:
        return error.reason
    return None


def test_a_new_list_counts_at_once_for_a_certificate_seen_before() -> None:
    ca = cert_rust.Authority(CA, crl(number=1))
    ca.check(ACCOUNTS[0], NOW_S)
    ca.check(ACCOUNTS[1], NOW_S)
    ca.replace_crl(crl(1, number=2))
    assert reason(lambda: ca.check(ACCOUNTS[0], NOW_S)) == "revoked"
    ca.check(ACCOUNTS[1], NOW_S)


def test_an_authority_without_a_list_takes_one() -> None:
    ca = cert_rust.Authority(CA, None)
    ca.check(ACCOUNTS[0], NOW_S)
    ca.replace_crl(crl(1))
    assert reason(lambda: ca.check(ACCOUNTS[0], NOW_S)) == "revoked"


def test_a_list_played_again_is_refused_and_the_newer_one_stays() -> None:
    ca = cert_rust.Authority(CA, crl(1, number=2**64))
    for replay in (crl(number=2**64 - 1), crl(number=2**64), crl(number=0)):
        assert reason(lambda replay=replay: ca.replace_crl(replay)) == "bad_crl"
    ca.replace_crl(crl(1, number=2**64))
    assert reason(lambda: ca.check(ACCOUNTS[0], NOW_S)) == "revoked"


def test_time_goes_on_for_a_certificate_seen_before() -> None:
    day_s = 86_400
    until = datetime.datetime.fromtimestamp(NOW_S + day_s, UTC)
    ca = cert_rust.Authority(CA, crl(until=until))
    ca.check(ACCOUNTS[0], NOW_S)
    ca.check(ACCOUNTS[0], NOW_S + day_s)
    assert reason(lambda: ca.check(ACCOUNTS[0], NOW_S + day_s + 1)) == "bad_crl"
    assert reason(lambda: ca.check(ACCOUNTS[0], int(NOT_AFTER.timestamp()) + 1)) == "expired"
    assert reason(lambda: ca.check(ACCOUNTS[0], int(NOT_BEFORE.timestamp()) - 1)) == "not_yet_valid"


def test_a_certificate_seen_before_does_not_cover_for_another_with_its_signature() -> None:
    ca = cert_rust.Authority(CA, None)
    ca.check(ACCOUNTS[0], NOW_S)
    size = len(ACCOUNTS[0])
    for at in [*range(0, size, 61), size - 1]:
        changed = bytearray(ACCOUNTS[0])
        changed[at] ^= 0x10
        found = reason(lambda changed=changed: ca.check(bytes(changed), NOW_S))
        assert found in {"malformed", "wrong_issuer", "bad_signature"}, at


def test_an_authority_is_a_ca_with_an_ml_dsa_65_key() -> None:
    for not_ca in (b"", CA[:-1], certificate(), authority(key_usage=usage(crl_sign=True))):
        assert reason(lambda der=not_ca: cert_rust.Authority(der, None)) == "wrong_issuer"
    weaker = authority(key=mldsa.MLDSA44PrivateKey.generate())
    assert reason(lambda: cert_rust.Authority(weaker, None)) == "unsupported_key"


def test_threads_may_share_an_authority() -> None:
    ca = cert_rust.Authority(CA, crl(number=1))
    lists = [crl(1, number=number) for number in range(2, 12)]

    def check(_: int) -> list[str | None]:
        return [reason(lambda der=der: ca.check(der, NOW_S)) for der in ACCOUNTS * 20]

    with ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(check, number) for number in range(8)]
        for newer in lists:
            ca.replace_crl(newer)
        assert set(check(0)) == {None, "revoked"}
    for answer in answers:
        seen = answer.result()
        assert set(seen[1::4] + seen[2::4] + seen[3::4]) == {None}
        # Once revoked, for ever revoked: no later check saw an older list.
        mine = seen[::4]
        assert mine == sorted(mine, key=lambda refused: refused is not None)


LISTS = [
    (1, crl(number=1)),
    (2, crl(1, 2, number=2)),
    (2, crl(number=2)),
    (3, crl(3, number=3, until=NOT_BEFORE + datetime.timedelta(days=100))),
    (4, crl(1, 4, number=4)),
]
checks = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from([0, 30, 100, 200, 364, 366]))
steps = st.lists(st.one_of(checks, checks, st.sampled_from(LISTS)), max_size=30)


@given(steps)
def test_whatever_happened_before_the_answer_is_that_of_a_new_authority(
    steps: list[tuple[Any, Any]],
) -> None:
    ca = cert_rust.Authority(CA, None)
    known, current = 0, None
    for step in steps:
        if isinstance(step[0], int):
            number, newer = step
            taken = number > known or newer == current
            assert (reason(lambda newer=newer: ca.replace_crl(newer)) is None) == taken
            if taken:
                known, current = number, newer
            continue
        der, day = step
        now_s = int(NOT_BEFORE.timestamp()) + day * 86_400
        fresh = cert_rust.Authority(CA, current)
        wanted = reason(lambda der=der, now_s=now_s, fresh=fresh: fresh.check(der, now_s))
        assert reason(lambda der=der, now_s=now_s: ca.check(der, now_s)) == wanted
