"""A certificate that does not hold in this federation is refused with 403 and written down."""

import datetime
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from federation.limits import SECRET_TTL_S
from federation.regions import Continent
from lovectl.access import Access
from lovectl.accounts import Account, make_account, sign, unsigned_transaction
from lovectl.checker import read_copies
from lovectl.client import Client
from lovectl.pki import AccountKey, FederationCa

DAY = datetime.timedelta(days=1)

Audited = Callable[..., list[dict[str, Any]]]
Certify = Callable[[FederationCa, AccountKey], x509.Certificate]


def expired(ca: FederationCa, key: AccountKey) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return ca.issue(key, "Europe", not_before=now - 2 * DAY, not_after=now - DAY)


def not_yet_valid(ca: FederationCa, key: AccountKey) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    return ca.issue(key, "Europe", not_before=now + DAY, not_after=now + 2 * DAY)


def of_another_ca(ca: FederationCa, key: AccountKey) -> x509.Certificate:
    return FederationCa.create().issue(key, "Europe")


def of_another_ca_of_the_same_name(ca: FederationCa, key: AccountKey) -> x509.Certificate:
    del ca
    return FederationCa.create("Love Currency Federation CA").issue(key, "Europe")


def not_for_signatures(ca: FederationCa, key: AccountKey) -> x509.Certificate:
    return ca.issue(key, "Europe", digital_signature=False)


def assert_refused(access: Access, client: Client, sender: Account, audited: Audited) -> None:
    before = len(audited())
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 0))
    response = client.request(
        "POST", "api/send_transaction", json=document, headers=sender.headers()
    )
    assert response.status_code == 403, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    assert response.json()["status"] == 403
    assert len(audited()) == before + 1
    assert not [copy for copy in read_copies(access.stores) if copy.sender == sender.account_id]


@pytest.mark.parametrize(
    "certify",
    [expired, not_yet_valid, of_another_ca, of_another_ca_of_the_same_name, not_for_signatures],
)
def test_a_certificate_that_does_not_hold_is_403(
    certify: Certify, access: Access, client: Client, audited: Audited
) -> None:
    ca = access.issuer.ca
    sender = make_account(
        access.issuer,
        Continent.EUROPE,
        certify=lambda key: certify(ca, key).public_bytes(Encoding.DER),
    )
    assert_refused(access, client, sender, audited)


def test_a_revoked_certificate_is_403_within_the_secrets_lifetime(
    access: Access, client: Client
) -> None:
    sender = make_account(access.issuer, Continent.EUROPE)
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 0))
    serial = x509.load_der_x509_certificate(sender.certificate).serial_number
    access.revoke(serial)
    deadline_s = time.monotonic() + SECRET_TTL_S + 15
    # Its own transaction again and again: the same id, so nothing piles up.
    while time.monotonic() < deadline_s:
        response = client.request(
            "POST", "api/send_transaction", json=document, headers=sender.headers()
        )
        if response.status_code != 202:
            break
        time.sleep(2)
    assert response.status_code == 403, response.text
