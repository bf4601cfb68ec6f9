"""Who is admitted: the token, the certificate, and that both are one account's."""

import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authorize.access import Trusted, admit
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
        ({"iss": "https://elsewhere.example"}, "token_invalid"),
        ({"aud": "https://elsewhere.example"}, "token_invalid"),
        ({"jti": None}, "token_invalid"),
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
