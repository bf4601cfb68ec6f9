"""What every end-to-end test uses: a client of the API, and senders to make."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from federation.regions import Continent
from lovectl.access import Access
from lovectl.accounts import Account, Algorithm, make_account
from lovectl.client import Client
from lovectl.sending import Accepted, wait_for_receipts

RECEIPT_TIMEOUT_S = 60.0

MakeAccount = Callable[..., Account]
Settle = Callable[[Account, str], dict[str, Any]]


@pytest.fixture(scope="session")
def client(access: Access) -> Iterator[Client]:
    with access.client() as running:
        yield running


@pytest.fixture
def account(access: Access) -> MakeAccount:
    """Makes an account; European, with an Ed25519 key, unless told otherwise."""

    def make(
        continent: Continent = Continent.EUROPE, algorithm: Algorithm = "Ed25519", **options: Any
    ) -> Account:
        return make_account(access.issuer, continent, algorithm, **options)

    return make


@pytest.fixture
def settle(client: Client) -> Settle:
    """Waits for what the API answers about a transaction, once it has a receipt."""

    def wait(sender: Account, transaction_id: str) -> dict[str, Any]:
        accepted = Accepted(transaction_id, sender, time.time_ns() // 1_000_000)
        answers = wait_for_receipts(client, [accepted], timeout_s=RECEIPT_TIMEOUT_S, at_once=1)
        assert transaction_id in answers, f"{transaction_id} has no receipt"
        return answers[transaction_id]

    return wait


Audited = Callable[[Access, str], list[dict[str, str]]]


@pytest.fixture(scope="session")
def audited() -> Audited:
    """Reads the audit records of a request: `audited(access, request_id)`, oldest first.

    Each has `event_id`, `type`, `time`, `source`, `subject`, `reason`, `request_id`, `detail` and
    `address`. MiniStack tells an authorizer no request id, so what was refused there has the id "".
    """

    def read(access: Access, request_id: str) -> list[dict[str, str]]:
        pages = access.aws("dynamodb").get_paginator("scan")
        records = [
            {name: next(iter(value.values())) for name, value in item.items()}
            for page in pages.paginate(TableName=access.outputs["AuditTableName"])
            for item in page["Items"]
        ]
        mine = [one for one in records if one.get("request_id", "") == request_id]
        return sorted(mine, key=lambda one: one["time"])

    return read
