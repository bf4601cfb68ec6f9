"""What is taken into the inbox: all of a post or nothing, sealed, each fault named."""

import json
import secrets
from base64 import b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import cert_rust
from federation.regions import Continent
from federation.transaction import associated_data
from lovectl.accounts import Account, Issuer, make_account, sign, unsigned_transaction
from lovectl.pki import FederationCa
from send.intake import Refused, Sender, split_documents, take
from send.problems import Problem

MARKER = "clear content"
PRIVATE_KEY, PUBLIC_KEY = cert_rust.hybrid_keygen()


@pytest.fixture(scope="module")
def account() -> Account:
    issuer = Issuer(FederationCa.create(), Ed25519PrivateKey.generate(), "k", "i", "a")
    return make_account(issuer, Continent.EUROPE)


def sender_of(account: Account) -> Sender:
    from base64 import b64encode

    raw = account.private_key.public_key().public_bytes_raw()
    return Sender(account.account_id, account.algorithm, b64encode(raw).decode(), "Europe", "r")


def document(account: Account, **changes: Any) -> dict[str, Any]:
    plain = unsigned_transaction(account, secrets.token_hex(32), 5, 0, content={"note": MARKER})
    return sign(account, {**plain, **changes})


def taken(account: Account, *documents: dict[str, Any]) -> list[Any]:
    body = json.dumps({"transactions": documents}).encode()
    parts = split_documents(body)
    prefixes = [f"transactions[{n}]." for n in range(len(parts))]
    sealer = cert_rust.ContentSealer(PUBLIC_KEY, "key")
    return take(parts, prefixes, sender_of(account), sealer, "key", 1)


def test_content_is_sealed_and_bound_to_its_transaction(account: Account) -> None:
    posted = document(account)
    [envelope] = taken(account, posted)
    assert MARKER not in repr(envelope)
    opened = cert_rust.hybrid_open(
        PRIVATE_KEY,
        b64decode(envelope.wrapped_key),
        b64decode(envelope.sealed.ciphertext),
        associated_data(envelope.header),
    )
    assert json.loads(opened) == posted["content"]


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"amount": 0}, 422, "transactions[1].amount"),
        ({"amount": 1.5}, 400, "transactions[1].amount"),
        ({"amount": "5"}, 400, "transactions[1].amount"),
        ({"love": 1}, 400, "transactions[1].love"),
        ({"content": {"salt": "0"}}, 422, "transactions[1].content.salt"),
    ],
)
def test_one_bad_transaction_refuses_all_and_is_named(
    account: Account, change: dict[str, Any], status: int, field: str
) -> None:
    with pytest.raises(Problem) as problem:
        taken(account, document(account), {**document(account), **change})
    assert (problem.value.status.value, problem.value.field) == (status, field)


def test_a_changed_field_breaks_the_signature(account: Account) -> None:
    with pytest.raises(Refused) as refusal:
        taken(account, document(account), {**document(account), "amount": 6})
    assert (refusal.value.status.value, refusal.value.field) == (422, "transactions[1].signature")


def test_another_senders_transaction_is_forbidden(account: Account) -> None:
    with pytest.raises(Refused) as refusal:
        taken(account, {**document(account), "sender": "cd" * 32})
    assert refusal.value.status.value == 403


@pytest.mark.parametrize("count", [0, 101])
def test_a_batch_out_of_its_limits_is_refused(count: int) -> None:
    body = json.dumps({"transactions": [{}] * count}).encode()
    with pytest.raises(Problem) as problem:
        split_documents(body)
    assert (problem.value.status.value, problem.value.field) == (422, "transactions")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"transactions": 1}', b"\xff"])
def test_what_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(Problem) as problem:
        split_documents(body)
    assert problem.value.status.value in (400, 422)
