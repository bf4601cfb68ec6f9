"""A signed transaction goes all the way, from every continent and with every algorithm."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.accounts import (
    ALGORITHMS,
    Account,
    Algorithm,
    sign,
    transaction_id,
    unsigned_transaction,
)
from lovectl.checker import read_copies, rejected_among
from lovectl.client import ApiError, Client
from lovectl.verdict import judge

MakeAccount = Callable[..., Account]
Settle = Callable[[Account, str], dict[str, Any]]


@pytest.mark.parametrize("continent", CONTINENTS)
def test_money_of_a_continent_is_final_and_stored_in_its_own_cluster(
    continent: Continent, account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender, recipient = account(continent), account(Continent.OCEANIA)
    content = {"message": "bread", "places": ["São Paulo", "東京"]}
    unsigned = unsigned_transaction(sender, recipient.account_id, 1500, 0, content=content)
    [sent_id] = client.send(sender, [sign(sender, unsigned)])

    answer = settle(sender, sent_id)

    receipt = answer["receipt"]
    assert receipt["status"] == "stored"
    assert (receipt["tier"], receipt["continent"]) == ("atlas", continent.value)
    assert receipt["final"] is True
    assert receipt["shard"] is not None
    assert answer["content"] == unsigned["content"]
    assert answer["header"]["amount"] == 1500
    assert client.read(recipient, sent_id) == answer
    assert judge({sent_id}, read_copies(access.stores)).stored_per_tier == {
        "atlas": 1,
        "dynamodb": 0,
        "immudb": 0,
    }


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_is_taken(
    algorithm: Algorithm, account: MakeAccount, client: Client, settle: Settle
) -> None:
    sender = account(algorithm=algorithm)
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 1, 0))
    [sent_id] = client.send(sender, [document])
    assert sent_id == transaction_id(document)
    assert settle(sender, sent_id)["receipt"]["status"] == "stored"


def test_a_batch_of_a_hundred_is_stored_whole(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account(Continent.ASIA)
    documents = [
        sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 1 + nonce, nonce))
        for nonce in range(100)
    ]
    ids = client.send(sender, documents)
    assert ids == [transaction_id(document) for document in documents]
    for one in ids:
        assert settle(sender, one)["receipt"]["status"] == "stored"
    verdict = judge(ids, read_copies(access.stores))
    assert verdict.holds


def test_the_same_transaction_again_has_the_same_id_and_is_stored_once(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account()
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 0))
    first = client.send(sender, [document])
    again = client.send(sender, [document])
    assert first == again
    settle(sender, first[0])
    third = client.send(sender, [document])
    assert third == first
    marker = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 1))
    settle(sender, client.send(sender, [marker])[0])
    assert judge(first, read_copies(access.stores)).holds


def test_another_transaction_with_a_used_nonce_is_rejected_in_its_receipt(
    account: MakeAccount, client: Client, settle: Settle, access: Access
) -> None:
    sender = account()

    def with_nonce_seven(amount: int) -> dict[str, Any]:
        return sign(sender, unsigned_transaction(sender, secrets.token_hex(32), amount, 7))

    [kept] = client.send(sender, [with_nonce_seven(1)])
    assert settle(sender, kept)["receipt"]["status"] == "stored"
    [refused] = client.send(sender, [with_nonce_seven(2)])
    receipt = settle(sender, refused)["receipt"]
    assert (receipt["status"], receipt["reason"]) == ("rejected", "nonce_conflict")
    assert judge({refused}, read_copies(access.stores)).stored == 0
    assert rejected_among({kept, refused}, access.stores) == {refused: "nonce_conflict"}


def test_only_sender_and_recipient_may_read(
    account: MakeAccount, client: Client, settle: Settle
) -> None:
    sender, stranger = account(), account()
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 0))
    [sent_id] = client.send(sender, [document])
    settle(sender, sent_id)
    with pytest.raises(ApiError) as refusal:
        client.read(stranger, sent_id)
    assert refusal.value.status == 403
    assert "content" not in refusal.value.problem


def test_an_unknown_id_is_not_found(account: MakeAccount, client: Client) -> None:
    response = client.request(
        "GET", f"api/transaction/{secrets.token_hex(32)}", headers=account().headers()
    )
    assert response.status_code == 404
    assert response.headers["content-type"].startswith("application/problem+json")


def test_health_tells_the_state_of_each_tier(client: Client) -> None:
    tiers = {tier["tier"]: tier["state"] for tier in client.health()["tiers"]}
    assert tiers == {"atlas": "up", "dynamodb": "up", "immudb": "up"}
