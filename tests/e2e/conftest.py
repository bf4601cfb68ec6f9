"""What every end-to-end test uses: a client of the API, senders to make, the audit trail."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from federation.regions import Continent
from lovectl.access import Access
from lovectl.accounts import Account, Algorithm, make_account
from lovectl.audit_commands import event_row
from lovectl.audit_trail import TrailReader, spool_counts
from lovectl.client import Client
from lovectl.sending import Accepted, wait_for_receipts
from lovectl.trust import AUDIT_DATABASE

RECEIPT_TIMEOUT_S = 60.0
SPOOL_TIMEOUT_S = 60.0

MakeAccount = Callable[..., Account]
Settle = Callable[[Account, str], dict[str, Any]]
Audited = Callable[..., list[dict[str, Any]]]


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


@pytest.fixture(scope="session")
def audited(access: Access) -> Audited:
    """The refusals in the audit trail, once its spool is empty; of all, or of one subject or reason.

    With `what="key.used"` the uses of keys.
    """
    read: list[dict[str, Any]] = []

    def look(
        subject: str | None = None, reason: str | None = None, what: str = "access.refused"
    ) -> list[dict[str, Any]]:
        deadline_s = time.monotonic() + SPOOL_TIMEOUT_S
        while spool_counts(access.aws("sqs"), access.outputs)["waiting"]:
            assert time.monotonic() < deadline_s, "the spool does not become empty"
            time.sleep(0.1)
        reader = TrailReader(access.stores.immudb, AUDIT_DATABASE)
        try:
            read.extend(map(event_row, reader.entries(len(read) + 1, reader.head().sequence)))
        finally:
            reader.close()
        return [
            row
            for row in read
            if row["what"] == f"org.lovecurrency.{what}"
            and subject in (None, row["who"])
            and reason in (None, row["why"])
        ]

    return look
