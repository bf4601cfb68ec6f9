"""Each kind of bad input has its status, names its field, is audited if it is about access, stores nothing."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from federation.limits import REQUEST_BATCH_ITEMS_MAX, REQUEST_BODY_BYTES_MAX, SAFE_INTEGER_MAX
from lovectl.access import Access
from lovectl.accounts import Account, make_token, sign, unsigned_transaction
from lovectl.checker import read_copies
from lovectl.client import Client
from lovectl.faults import taken_down

MakeAccount = Callable[..., Account]
Audited = Callable[..., list[dict[str, Any]]]

SEND = "api/send_transaction"

Document = dict[str, Any]


def post(
    client: Client, sender: Account, body: Any, headers: dict[str, str] | None = None
) -> httpx.Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {
        "Content-Type": "application/json",
        **(sender.headers() if headers is None else headers),
    }
    return client.request("POST", SEND, content=text, headers=sent)


def transaction(sender: Account, **changes: Any) -> Document:
    return {**unsigned_transaction(sender, secrets.token_hex(32), 100, 0), **changes}


def assert_nothing_stored_of(access: Access, sender: Account) -> None:
    assert not [copy for copy in read_copies(access.stores) if copy.sender == sender.account_id]


def assert_problem(response: httpx.Response, statuses: set[int], field: str | None = None) -> None:
    assert response.status_code in statuses, response.text
    assert response.headers["content-type"].startswith("application/problem+json")
    problem = response.json()
    assert problem["status"] == response.status_code
    if field is not None:
        assert problem["field"] == field


# ── access ──────────────────────────────────────────────────────────────────────────────────────


def without(*names: str) -> Callable[[Account], dict[str, str]]:
    return lambda sender: {k: v for k, v in sender.headers().items() if k not in names}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(without("Authorization"), id="no token"),
        pytest.param(without("Client-Cert"), id="no certificate"),
        pytest.param(without("Authorization", "Client-Cert"), id="nothing"),
        pytest.param(lambda s: {**s.headers(), "Authorization": "Bearer nonsense"}, id="no JWT"),
    ],
)
def test_without_proof_of_who_sends_it_is_401(
    headers: Callable[[Account], dict[str, str]],
    account: MakeAccount,
    client: Client,
    access: Access,
) -> None:
    sender = account()
    response = post(client, sender, sign(sender, transaction(sender)), headers(sender))
    assert_problem(response, {401})
    assert_nothing_stored_of(access, sender)


@pytest.mark.parametrize(
    ("claims", "kind"),
    [
        ({"exp": int(time.time()) - 3600, "iat": int(time.time()) - 7200}, "expired"),
        ({"iss": "https://elsewhere.example"}, "foreign issuer"),
        ({"aud": "https://elsewhere.example"}, "foreign audience"),
        ({"cnf": {"x5t#S256": "A" * 43}}, "bound to another certificate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_token_that_is_not_good_is_401_and_audited(
    claims: dict[str, Any],
    kind: str,
    account: MakeAccount,
    client: Client,
    access: Access,
    audited: Audited,
) -> None:
    sender = account()
    token = make_token(access.issuer, sender.account_id, sender.certificate, claims)
    headers = {**sender.headers(), "Authorization": f"Bearer {token}"}
    before = len(audited())
    response = post(client, sender, sign(sender, transaction(sender)), headers)
    assert_problem(response, {401})
    assert len(audited()) == before + 1
    assert_nothing_stored_of(access, sender)


def test_a_token_of_another_account_is_401(
    account: MakeAccount, client: Client, access: Access
) -> None:
    sender, other = account(), account()
    headers = {**sender.headers(), "Authorization": other.headers()["Authorization"]}
    response = post(client, sender, sign(sender, transaction(sender)), headers)
    assert_problem(response, {401})
    assert_nothing_stored_of(access, sender)


def test_a_transaction_of_another_account_is_403_and_audited(
    account: MakeAccount, client: Client, access: Access, audited: Audited
) -> None:
    sender, thief = account(), account()
    response = post(client, thief, sign(sender, transaction(sender)))
    assert_problem(response, {403})
    assert audited(thief.account_id)
    assert_nothing_stored_of(access, sender)


def test_a_wrong_signature_is_422_and_audited(
    account: MakeAccount, client: Client, access: Access, audited: Audited
) -> None:
    sender = account()
    document = {**sign(sender, transaction(sender)), "amount": 999}
    response = post(client, sender, document)
    assert_problem(response, {422}, "signature")
    assert audited(sender.account_id)
    assert_nothing_stored_of(access, sender)


# ── form ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("change", "statuses", "field"),
    [
        ({"amount": 0}, {400, 422}, "amount"),
        ({"amount": -1}, {400, 422}, "amount"),
        ({"amount": 1.5}, {400}, "amount"),
        ({"amount": SAFE_INTEGER_MAX + 1}, {400}, "amount"),
        ({"nonce": -1}, {400, 422}, "nonce"),
        ({"nonce": None}, {400, 422}, "nonce"),
        ({"love": True}, {400, 422}, "love"),
        ({"version": 2}, {400, 422}, "version"),
        ({"recipient": "nobody"}, {400, 422}, "recipient"),
        ({"content": {}}, {400, 422}, "content.salt"),
        ({"signature": "!!"}, {400, 422}, "signature"),
        ({"reads": ["aa"]}, {400, 422}, None),
        ({"position": {"latitude_e7": 0}}, {400, 422}, None),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_a_member_that_breaks_a_rule_is_named(
    change: Document,
    statuses: set[int],
    field: str | None,
    account: MakeAccount,
    client: Client,
    access: Access,
) -> None:
    sender = account()
    response = post(client, sender, {**sign(sender, transaction(sender)), **change})
    assert_problem(response, statuses, field)
    assert response.json()["field"]
    assert_nothing_stored_of(access, sender)


def test_paying_oneself_is_refused(account: MakeAccount, client: Client, access: Access) -> None:
    sender = account()
    document = sign(sender, transaction(sender, recipient=sender.account_id))
    assert_problem(post(client, sender, document), {422}, "recipient")
    assert_nothing_stored_of(access, sender)


@pytest.mark.parametrize("body", [b"", b"love", b"[]", b"\xff\xfe{}", b"{" * 5000])
def test_what_is_not_a_json_object_is_400(
    body: bytes, account: MakeAccount, client: Client
) -> None:
    assert_problem(post(client, account(), body), {400, 422})


def test_a_duplicate_key_is_400_and_named(
    account: MakeAccount, client: Client, access: Access
) -> None:
    sender = account()
    text = json.dumps(sign(sender, transaction(sender)))
    body = text.replace('"nonce": 0', '"nonce": 0, "nonce": 1').encode()
    assert_problem(post(client, sender, body), {400}, "nonce")
    assert_nothing_stored_of(access, sender)


def test_a_body_over_the_limit_is_413(account: MakeAccount, client: Client, access: Access) -> None:
    sender = account()
    padding = {"salt": "0" * 32, "padding": "x" * REQUEST_BODY_BYTES_MAX}
    document = sign(sender, transaction(sender, content=padding))
    assert_problem(post(client, sender, document), {413})
    assert_nothing_stored_of(access, sender)


def test_a_batch_of_one_too_many_is_422(
    account: MakeAccount, client: Client, access: Access
) -> None:
    sender = account()
    documents = [
        sign(sender, transaction(sender, nonce=nonce))
        for nonce in range(REQUEST_BATCH_ITEMS_MAX + 1)
    ]
    response = client.request(
        "POST",
        "api/send_transactions",
        json={"transactions": documents},
        headers=sender.headers(),
    )
    assert_problem(response, {422}, "transactions")
    assert_nothing_stored_of(access, sender)


def test_one_bad_transaction_refuses_its_whole_batch(
    account: MakeAccount, client: Client, access: Access
) -> None:
    sender = account()
    documents = [sign(sender, transaction(sender, nonce=nonce)) for nonce in range(3)]
    documents[1]["amount"] = 0
    response = client.request(
        "POST",
        "api/send_transactions",
        json={"transactions": documents},
        headers=sender.headers(),
    )
    assert_problem(response, {400, 422}, "transactions[1].amount")
    assert_nothing_stored_of(access, sender)


def test_with_the_inbox_unreachable_nothing_is_claimed(
    account: MakeAccount, client: Client, access: Access
) -> None:
    sender = account()
    document = sign(sender, transaction(sender))
    with taken_down(access.proxies, ("inbox",)):
        response = post(client, sender, document)
    assert_problem(response, {503})
    assert int(response.headers["retry-after"]) > 0
    assert "transaction_id" not in response.json()
    assert_nothing_stored_of(access, sender)
