"""Who is let in, how, and how much of it: rotated keys, signed queries, replays, rates, browsers."""

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.regions import Continent
from lovectl.access import Access
from lovectl.accounts import Account, make_token, sign, unsigned_transaction
from lovectl.checker import read_copies
from lovectl.client import ApiError, Client
from lovectl.deploy import CORS_ORIGIN
from lovectl.faults import taken_down
from lovectl.pki import jwks
from lovectl.queries import sign_query
from lovectl.verdict import judge

MakeAccount = Callable[..., Account]
Settle = Callable[[Account, str], dict[str, Any]]

FULL_NODE = "node-europe"
#: The stack's JWKS_TTL_S, and a little.
KEYS_KEPT_S = 20 + 10


def transaction(sender: Account, nonce: int = 0, **content: Any) -> dict[str, Any]:
    unsigned = unsigned_transaction(sender, secrets.token_hex(32), 5, nonce, content=content)
    return sign(sender, unsigned)


# ── signed queries ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("down", [(), ("mongo-europe",), ("mongo-europe", "dynamodb")])
def test_a_full_node_reads_a_record_sealed_from_whichever_tier_has_it(
    down: tuple[str, ...], account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender, node = account(), access.nodes[FULL_NODE]
    with taken_down(access.proxies, down):
        [sent_id] = client.send(sender, [transaction(sender, note="for two")])
        receipt = settle(sender, sent_id)["receipt"]
    found = client.fetch_as_node(account(), node, sent_id)
    assert found["receipt"] == receipt
    assert found["header"]["transaction_id"] == sent_id
    assert "content" not in found
    assert found["sealed"].keys() == {"key_id", "wrapped_key", "ciphertext"}
    assert len(found["votes"]) >= 3
    assert "for two" not in str(found)


def test_a_full_node_that_is_a_party_reads_the_content(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account()
    [sent_id] = client.send(sender, [transaction(sender, note="mine")])
    settle(sender, sent_id)
    found = client.fetch_as_node(sender, access.nodes[FULL_NODE], sent_id)
    assert found["content"]["note"] == "mine"


def test_with_dynamodb_down_a_signed_query_waits_but_the_sender_reads(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    # Of a continent whose cluster was not taken down just now: it must lie in Atlas.
    sender, node = account(Continent.OCEANIA), access.nodes[FULL_NODE]
    [sent_id] = client.send(sender, [transaction(sender)])
    assert settle(sender, sent_id)["receipt"]["tier"] == "atlas"
    with taken_down(access.proxies, ("dynamodb",)):
        # Whether the query was seen before can't be told.
        with pytest.raises(ApiError) as refusal:
            client.fetch_as_node(account(), node, sent_id)
        assert refusal.value.status == 503
        assert client.read(sender, sent_id) is not None
    assert client.fetch_as_node(account(), node, sent_id)["receipt"]["status"] == "stored"


# ── replays and rates ───────────────────────────────────────────────────────────────────────────


def test_a_replayed_post_pays_once(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account()
    document = transaction(sender)
    exchanges = [
        client.request("POST", "api/send_transaction", json=document, headers=sender.headers())
        for _ in range(3)
    ]
    [sent_id] = {one.json()["transaction_id"] for one in exchanges}
    assert settle(sender, sent_id)["receipt"]["status"] == "stored"
    assert judge({sent_id}, read_copies(access.stores)).holds


def test_an_answer_tells_what_is_left_of_the_rate(account: MakeAccount, client: Client) -> None:
    sender = account()
    body = {"transactions": [transaction(sender, nonce) for nonce in range(100)]}
    response = client.request("POST", "api/send_transactions", json=body, headers=sender.headers())
    assert response.status_code == 202
    assert response.headers["ratelimit-policy"] == '"sender";q=1000;w=10'
    assert response.headers["ratelimit"] == '"sender";r=900;t=1'


def test_with_the_rates_table_down_money_flows(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account()
    with taken_down(access.proxies, ("dynamodb",)):
        [sent_id] = client.send(sender, [transaction(sender)])
        assert settle(sender, sent_id)["receipt"]["status"] == "stored"


# ── the issuer's keys ───────────────────────────────────────────────────────────────────────────


@pytest.fixture
def own_keys(access: Access, account: MakeAccount, client: Client) -> Iterator[dict[str, Any]]:
    """What the issuer serves; served again, and believed, at the end."""
    issuer = access.issuer
    own = jwks(issuer.token_key.public_key(), issuer.token_key_id)
    yield own
    access.publish_token_keys(own)
    sender = account()
    until(404, lambda: status(client, sender, sender.token))


def status(client: Client, account: Account, token: str) -> int:
    headers = {**account.headers(), "Authorization": f"Bearer {token}"}
    path = f"api/transaction/{'0' * 64}"
    return client.request("GET", path, headers=headers).status_code


def until(expected: int, ask: Callable[[], int]) -> None:
    deadline_s = time.monotonic() + KEYS_KEPT_S
    while (found := ask()) != expected and time.monotonic() < deadline_s:
        time.sleep(0.5)
    assert found == expected


def test_a_new_token_key_is_taken_and_a_removed_one_refused_while_all_runs(
    account: MakeAccount, client: Client, access: Access, own_keys: dict[str, Any]
) -> None:
    sender = account()
    key = Ed25519PrivateKey.generate()
    rotated = replace(access.issuer, token_key=key, token_key_id="local-2")
    token = make_token(rotated, sender.account_id, sender.certificate)
    assert status(client, sender, token) == 401
    new_keys = jwks(key.public_key(), "local-2")
    access.publish_token_keys({"keys": own_keys["keys"] + new_keys["keys"]})
    until(404, lambda: status(client, sender, token))
    assert status(client, sender, sender.token) == 404
    access.publish_token_keys(new_keys)
    until(401, lambda: status(client, sender, sender.token))
    assert status(client, sender, token) == 404


def test_while_the_issuer_is_down_known_keys_serve(
    account: MakeAccount, client: Client, access: Access
) -> None:
    sender = account()
    assert status(client, sender, sender.token) == 404
    with taken_down(access.proxies, ("issuer",)):
        time.sleep(KEYS_KEPT_S)
        assert status(client, sender, sender.token) == 404


# ── browsers ────────────────────────────────────────────────────────────────────────────────────


def preflight(client: Client, origin: str, path: str, method: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,client-cert,content-type",
    }
    return client.request("OPTIONS", path, headers=headers)


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("api/send_transaction", "POST"),
        ("api/send_transactions", "POST"),
        (f"api/transaction/{'a' * 64}", "GET"),
    ],
)
def test_a_page_of_a_listed_origin_may_call(path: str, method: str, client: Client) -> None:
    response = preflight(client, CORS_ORIGIN, path, method)
    assert response.status_code == 204
    assert response.headers["access-control-allow-origin"] == CORS_ORIGIN
    assert method in response.headers["access-control-allow-methods"]
    allowed = response.headers["access-control-allow-headers"].lower().split(",")
    assert {"authorization", "client-cert", "content-type", "signature"} <= set(allowed)
    assert "access-control-allow-credentials" not in response.headers
    assert response.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", f"{CORS_ORIGIN}.evil.example", CORS_ORIGIN.upper(), "null", "*"],
)
def test_no_other_origin_is_echoed(origin: str, client: Client, account: MakeAccount) -> None:
    sender = account()
    answers = [
        preflight(client, origin, "api/send_transaction", "POST"),
        client.request("GET", "api/health", headers={"Origin": origin}),
        client.request("GET", "api/transaction/zz", headers={**sender.headers(), "Origin": origin}),
    ]
    for response in answers:
        assert "access-control-allow-origin" not in response.headers
        assert response.headers["vary"] == "Origin"


def test_a_page_of_a_listed_origin_can_read_refusals(client: Client, account: MakeAccount) -> None:
    headers = {**account().headers(), "Origin": CORS_ORIGIN}
    response = client.request("GET", "api/transaction/zz", headers=headers)
    assert response.status_code == 400
    assert response.headers["access-control-allow-origin"] == CORS_ORIGIN
    assert "Retry-After" in response.headers["access-control-expose-headers"]


def test_the_swagger_page_runs_its_own_scripts_only(client: Client) -> None:
    response = client.request("GET", "swagger")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert policy.count("'sha256-") == 2
    assert "script-src 'unsafe-inline'" not in policy
    assert response.headers["x-frame-options"] == "DENY"


def test_a_signature_is_no_ticket_for_others_without_token_and_certificate(
    client: Client, access: Access
) -> None:
    fields = sign_query(access.nodes[FULL_NODE], "ab" * 32)
    response = client.request("GET", f"api/transaction/{'ab' * 32}", headers=fields)
    assert response.status_code == 401
