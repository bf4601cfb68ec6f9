"""An account is who the federation's CA says, until the CA takes it back."""

import datetime
import hashlib
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.x509.oid import NameOID

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
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(last)
        .next_update(until)
        .add_extension(x509.CRLNumber(5), critical=False)
    )
    if delta:
        builder = builder.add_extension(x509.DeltaCRLIndicator(1), critical=True)
    for serial in serials:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(last).build()
        )
    return builder.sign(signer, None).public_bytes(DER)


CA = authority()


def continent(of: str) -> tuple[x509.ExtensionType, bool]:
    uri = x509.UniformResourceIdentifier(f"urn:love:continent:{of}")
    return x509.SubjectAlternativeName([uri]), False


def refusal(der: bytes, ca: bytes = CA, revoked: bytes | None = None, now_s: int = NOW_S) -> str:
    with pytest.raises(cert_rust.CertificateError) as caught:
        cert_rust.check_certificate(der, ca, revoked, now_s)
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
    account = cert_rust.check_certificate(der, CA, crl(7, 8), NOW_S)
    raw = key.public_key().public_bytes_raw()
    assert account.algorithm == algorithm
    assert account.public_key == raw
    assert bytes.fromhex(account.account_id) == federation_dag.account_id(algorithm, raw)
    assert account.home_continent == "MiddleEast"
    assert int.from_bytes(account.serial, "big") == SERIAL
    assert account.not_after_s == int(NOT_AFTER.timestamp())
    assert account.fingerprint_sha256 == hashlib.sha256(der).digest()


def test_no_continent_is_no_error_but_an_unknown_one_is() -> None:
    assert cert_rust.check_certificate(certificate(), CA, None, NOW_S).home_continent is None
    assert refusal(certificate(continent("Atlantis"))) == "malformed"


def test_a_certificate_is_good_from_its_first_to_its_last_second() -> None:
    der, first, last = certificate(), int(NOT_BEFORE.timestamp()), int(NOT_AFTER.timestamp())
    cert_rust.check_certificate(der, CA, None, first)
    cert_rust.check_certificate(der, CA, None, last)
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
    cert_rust.check_certificate(certificate((unknown, False)), CA, None, NOW_S)
    assert refusal(certificate((unknown, True))) == "malformed"


def test_a_key_of_another_kind_is_unsupported() -> None:
    for key in (ec.generate_private_key(ec.SECP256R1()), mldsa.MLDSA87PrivateKey.generate()):
        assert refusal(certificate(key=key)) == "unsupported_key"


def test_a_revoked_serial_is_refused_and_others_are_not() -> None:
    assert refusal(certificate(), revoked=crl(7, SERIAL)) == "revoked"
    cert_rust.check_certificate(certificate(serial=SERIAL + 1), CA, crl(SERIAL), NOW_S)
    cert_rust.check_certificate(certificate(), CA, crl(), NOW_S)


def test_a_revocation_list_must_be_the_cas_own_fresh_and_whole() -> None:
    day = datetime.timedelta(days=1)
    now = datetime.datetime.fromtimestamp(NOW_S, UTC)
    for bad in (
        crl(signer=mldsa.MLDSA65PrivateKey.generate()),
        crl(issuer="Other CA"),
        crl(until=now - day),
        crl(last=now + day),
        crl(delta=True),
        crl()[:-1],
        b"",
    ):
        assert refusal(certificate(), revoked=bad) == "bad_crl"
    may_not = authority(key_usage=usage(key_cert_sign=True))
    assert refusal(certificate(), ca=may_not, revoked=crl()) == "bad_crl"
