"""Who is admitted: the token, the certificate, and that both are one account's."""

import datetime
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import cert_rust
from authorize.access import Trusted, admit, proof_headers
from authorize.certificate import KnownAuthority
from authorize.errors import Forbidden, Unauthenticated
from federation.regions import Continent
from lovectl.accounts import ALGORITHMS, Account, Algorithm, Issuer, make_account, make_token
from lovectl.pki import FederationCa, jwks

KEY_ID = "k1"


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer(
        ca=FederationCa.create(),
        token_key=Ed25519PrivateKey.generate(),
        token_key_id=KEY_ID,
        token_issuer="https://issuer.example",
        token_audience="https://api.example",
    )


@pytest.fixture(scope="module")
def account(issuer: Issuer) -> Account:
    return make_account(issuer, Continent.ASIA)


def trusted(issuer: Issuer, *revoked: int) -> Trusted:
    from base64 import b64encode

    secret = {
        "ca_certificate": b64encode(issuer.ca.certificate_der).decode(),
        "crl": b64encode(issuer.ca.revocation_list(revoked)).decode(),
        "jwks": jwks(issuer.token_key.public_key(), KEY_ID),
        "issuer": issuer.token_issuer,
        "audience": issuer.token_audience,
        "revoked_tokens": ["revoked"],
    }
    return Trusted.of_secret(secret, leeway_s=5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_sender_with_token_and_certificate_is_admitted(
    issuer: Issuer, algorithm: Algorithm
) -> None:
    sender = make_account(issuer, Continent.AFRICA, algorithm)
    context = admit(sender.headers(), trusted(issuer))
    assert context["sender"] == sender.account_id
    assert (context["home_continent"], context["algorithm"]) == ("Africa", algorithm)
    assert all(isinstance(value, str) for value in context.values())


def test_header_names_may_be_spelled_in_any_case(issuer: Issuer, account: Account) -> None:
    headers = {name.upper(): value for name, value in account.headers().items()}
    assert admit(headers, trusted(issuer))["sender"] == account.account_id


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": 1}, "token_expired"),
        ({"nbf": 2**33}, "token_not_yet_valid"),
        ({"iat": 2**33}, "token_not_yet_valid"),
        ({"exp": 2**40}, "token_lifetime"),
        ({"exp": "4000000000"}, "token_invalid"),
        ({"jti": "revoked"}, "token_revoked"),
        ({"jti": ["revoked"]}, "token_invalid"),
        ({"iss": "https://elsewhere.example"}, "token_issuer"),
        ({"aud": "https://elsewhere.example"}, "token_audience"),
        ({"jti": None}, "token_claim_missing"),
        ({"cnf": None}, "token_claim_missing"),
        ({"cnf": {"x5t#S256": "A" * 43}}, "token_bound_elsewhere"),
        ({"cnf": "x"}, "token_bound_elsewhere"),
    ],
)
def test_a_token_that_is_not_good_is_no_proof(
    issuer: Issuer, account: Account, changes: dict[str, Any], reason: str
) -> None:
    token = make_token(issuer, account.account_id, account.certificate, changes)
    headers = {**account.headers(), "Authorization": f"Bearer {token}"}
    with pytest.raises(Unauthenticated) as refusal:
        admit(headers, trusted(issuer))
    assert refusal.value.reason == reason


def signed(issuer: Issuer, account: Account, key: Any, alg: str, **header: Any) -> dict[str, str]:
    """The account's headers with a token of the right claims, signed in another way."""
    good = make_token(issuer, account.account_id, account.certificate)
    claims = jwt.decode(good, options={"verify_signature": False})
    headers = {"typ": "at+jwt", "kid": KEY_ID, **header}
    token = jwt.encode(claims, key, algorithm=alg, headers=headers)
    return {**account.headers(), "Authorization": f"Bearer {token}"}


def test_no_key_is_good_for_another_algorithm_than_its_own(
    issuer: Issuer, account: Account
) -> None:
    public_key = issuer.token_key.public_key().public_bytes_raw()
    confused = [
        signed(issuer, account, None, "none"),
        # The public key is public: as a secret of HMAC anybody could sign with it.
        signed(issuer, account, public_key, "HS256"),
        signed(issuer, account, public_key.hex().encode(), "HS512"),
        signed(issuer, account, ec.generate_private_key(ec.SECP256R1()), "ES256"),
    ]
    for headers in confused:
        with pytest.raises(Unauthenticated) as refusal:
            admit(headers, trusted(issuer))
        assert refusal.value.reason == "token_algorithm"


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"kid": "k2"}, "token_key_unknown"),
        ({"typ": "JWT"}, "token_type"),
        ({"typ": None}, "token_type"),
    ],
)
def test_the_tokens_header_names_its_type_and_key(
    issuer: Issuer, account: Account, header: dict[str, Any], reason: str
) -> None:
    headers = signed(issuer, account, issuer.token_key, "EdDSA", **header)
    with pytest.raises(Unauthenticated) as refusal:
        admit(headers, trusted(issuer))
    assert refusal.value.reason == reason


def test_a_token_nested_beyond_reason_is_malformed(issuer: Issuer, account: Account) -> None:
    header = urlsafe_b64encode(b'{"a":' * 500 + b"[" * 600).rstrip(b"=").decode()
    headers = {**account.headers(), "Authorization": f"Bearer {header[:4000]}.e30.AA"}
    with pytest.raises(Unauthenticated) as refusal:
        admit(headers, trusted(issuer))
    assert refusal.value.reason == "token_malformed"


@pytest.mark.parametrize("missing", ["Authorization", "Client-Cert"])
def test_both_headers_are_needed(issuer: Issuer, account: Account, missing: str) -> None:
    headers = {name: value for name, value in account.headers().items() if name != missing}
    with pytest.raises(Unauthenticated):
        admit(headers, trusted(issuer))


@pytest.mark.parametrize("value", ["", ":", "::", "abc", ":a b:", ":" + "A" * 20_000 + ":"])
def test_a_certificate_header_that_is_no_byte_sequence_is_refused(
    issuer: Issuer, account: Account, value: str
) -> None:
    with pytest.raises(Unauthenticated):
        admit({**account.headers(), "Client-Cert": value}, trusted(issuer))


@pytest.mark.parametrize("name", ["Authorization", "Client-Cert"])
def test_a_proof_that_is_there_twice_is_none(account: Account, name: str) -> None:
    headers = account.headers()
    assert proof_headers({"headers": headers}) == {k.lower(): v for k, v in headers.items()}
    spelled = {"headers": {**headers, name.lower(): "another"}}
    repeated = {"multiValueHeaders": {**{k: [v] for k, v in headers.items()}, name: ["a", "b"]}}
    for event in (spelled, repeated):
        with pytest.raises(Unauthenticated) as refusal:
            proof_headers(event)
        assert refusal.value.reason == "header_twice"


def test_a_token_of_another_issuers_key_is_refused(issuer: Issuer, account: Account) -> None:
    forger = Issuer(issuer.ca, Ed25519PrivateKey.generate(), KEY_ID, issuer.token_issuer, "x")
    token = make_token(forger, account.account_id, account.certificate)
    with pytest.raises(Unauthenticated):
        admit({**account.headers(), "Authorization": f"Bearer {token}"}, trusted(issuer))


def test_a_revoked_certificate_is_forbidden(issuer: Issuer, account: Account) -> None:
    serial = x509.load_der_x509_certificate(account.certificate).serial_number
    with pytest.raises(Forbidden) as refusal:
        admit(account.headers(), trusted(issuer, serial))
    assert refusal.value.reason == "certificate_revoked"


def test_a_revocation_counts_for_a_sender_who_was_admitted_before(
    issuer: Issuer, account: Account
) -> None:
    serial = x509.load_der_x509_certificate(account.certificate).serial_number
    admit(account.headers(), trusted(issuer))
    with pytest.raises(Forbidden) as refusal:
        admit(account.headers(), trusted(issuer, serial))
    assert refusal.value.reason == "certificate_revoked"
    # Taken back by a newer list.
    admit(account.headers(), trusted(issuer))


def test_nobody_is_admitted_by_an_older_list_than_one_seen_before(
    issuer: Issuer, account: Account
) -> None:
    older, newer = trusted(issuer), trusted(issuer)
    admit(account.headers(), newer)
    with pytest.raises(Forbidden) as refusal:
        admit(account.headers(), older)
    assert refusal.value.reason == "certificate_bad_crl"
    admit(account.headers(), newer)


def test_each_list_has_a_higher_number_than_the_one_before(issuer: Issuer) -> None:
    numbers = [
        x509.load_der_x509_crl(issuer.ca.revocation_list())
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number
        for _ in range(20)
    ]
    assert numbers == sorted(set(numbers))


def test_the_process_follows_the_ca_and_the_list_of_the_secret(
    issuer: Issuer, account: Account
) -> None:
    known, now_s = KnownAuthority(), int(time.time())
    ca, der = issuer.ca.certificate_der, account.certificate
    serial = x509.load_der_x509_certificate(der).serial_number
    empty, revoking = issuer.ca.revocation_list(), issuer.ca.revocation_list((serial,))
    first = known.of(ca, empty)
    # What was checked before stays known: it is the same authority, with another list.
    assert known.of(ca, revoking) is first
    with pytest.raises(cert_rust.CertificateError) as refusal:
        first.check(der, now_s)
    assert refusal.value.reason == "revoked"
    other = FederationCa.create()
    with pytest.raises(cert_rust.CertificateError) as refusal:
        known.of(other.certificate_der, other.revocation_list()).check(der, now_s)
    assert refusal.value.reason == "bad_signature"
    # A secret without a list revokes nobody.
    known.of(ca, revoking)
    assert known.of(ca, None).check(der, now_s).account_id == account.account_id


def test_an_expired_certificate_is_forbidden(issuer: Issuer, account: Account) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)
    with pytest.raises(Forbidden):
        admit(account.headers(), trusted(issuer), now_s=int(later.timestamp()))


def test_a_certificate_of_another_account_than_the_tokens_is_forbidden(
    issuer: Issuer, account: Account
) -> None:
    token = make_token(issuer, "ab" * 32, account.certificate)
    with pytest.raises(Forbidden) as refusal:
        admit({**account.headers(), "Authorization": f"Bearer {token}"}, trusted(issuer))
    assert refusal.value.reason == "not_the_account"
