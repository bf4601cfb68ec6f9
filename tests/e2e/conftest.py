"""What every end-to-end test uses: a client of the API, senders to make, the audit trail."""

import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest

from federation.regions import Continent
from lovectl.access import Access
from lovectl.accounts import (
    Account,
    Algorithm,
    make_account,
    make_token,
    sign,
    unsigned_transaction,
)
from lovectl.audit_commands import event_row
from lovectl.audit_trail import TrailReader, spool_counts
from lovectl.client import Client
from lovectl.pki import AccountKey, FederationCa
from lovectl.queries import Node, sign_query
from lovectl.sending import Accepted, wait_for_receipts
from lovectl.trust import AUDIT_DATABASE

RECEIPT_TIMEOUT_S = 60.0
SPOOL_TIMEOUT_S = 60.0
#: The local stack's delegate that is registered as a full node.
FULL_NODE = "node-europe"

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


class Bench:
    """The API, somebody who calls it, and a stored transaction that is not his."""

    def __init__(self, access: Access, client: Client, audited: Audited, stored_id: str) -> None:
        self.access, self.client, self.audited = access, client, audited
        self.stored_id = stored_id
        self.sender = make_account(access.issuer, Continent.EUROPE)
        self.senders = [self.sender.account_id]
        self._before = 0

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request; the audit records from before it are no concern of it."""
        self._before = len(self.audited())
        return self.client.request(method, path, **options)

    def records(self) -> list[dict[str, Any]]:
        """The refusals in the audit trail since the last call."""
        return self.audited()[self._before :]

    def document(self, sender: Account | None = None, **changes: Any) -> dict[str, Any]:
        """A good transaction of the sender, then changed."""
        sender = sender or self.sender
        unsigned = unsigned_transaction(sender, secrets.token_hex(32), 100, 0)
        return {**sign(sender, unsigned), **changes}

    def post(self, headers: dict[str, str], document: Any = None) -> httpx.Response:
        """Post a transaction, a good one unless given."""
        return self.call(
            "POST", "api/send_transaction", json=document or self.document(), headers=headers
        )

    def get(self, headers: dict[str, str], transaction_id: str | None = None) -> httpx.Response:
        """Read the stored transaction as somebody who is no party of it."""
        path = f"api/transaction/{transaction_id or self.stored_id}"
        return self.call("GET", path, headers={**self.sender.headers(), **headers})

    def account(self, **options: Any) -> Account:
        """Another account."""
        other = make_account(self.access.issuer, Continent.EUROPE, **options)
        self.senders.append(other.account_id)
        return other

    def token(self, **claims: Any) -> dict[str, str]:
        """The sender's headers, with other claims in his token; None takes one away."""
        token = make_token(
            self.access.issuer, self.sender.account_id, self.sender.certificate, claims
        )
        return self.bearing(token)

    def signed(self, key: Any, algorithm: str, **header: Any) -> dict[str, str]:
        """The sender's headers, with his very claims signed in another way."""
        good = jwt.decode(self.sender.token, options={"verify_signature": False})
        names = {"typ": "at+jwt", "kid": self.access.issuer.token_key_id, **header}
        return self.bearing(jwt.encode(good, key, algorithm=algorithm, headers=names))

    def bearing(self, token: str) -> dict[str, str]:
        """The sender's headers with this token."""
        return {**self.sender.headers(), "Authorization": f"Bearer {token}"}

    def certified(self, certify: Callable[[FederationCa, AccountKey], bytes]) -> httpx.Response:
        """Post as an account with this certificate, and a token that is bound to it."""
        ca = self.access.issuer.ca
        other = self.account(certify=lambda key: certify(ca, key))
        return self.post(other.headers(), self.document(other))

    def node(self, delegate_id: str = FULL_NODE) -> Node:
        """A delegate with its key."""
        return self.access.nodes[delegate_id]

    def query(self, **options: Any) -> dict[str, str]:
        """The full node's good signature for the stored transaction."""
        return sign_query(self.node(), self.stored_id, **options)


@pytest.fixture(scope="session")
def stored_id(access: Access, client: Client) -> str:
    """A transaction that is stored, of nobody else here."""
    sender = make_account(access.issuer, Continent.EUROPE)
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 7, 0))
    [sent_id] = client.send(sender, [document])
    accepted = Accepted(sent_id, sender, time.time_ns() // 1_000_000)
    assert sent_id in wait_for_receipts(client, [accepted], timeout_s=60)
    return sent_id


@pytest.fixture
def bench(access: Access, client: Client, audited: Audited, stored_id: str) -> Bench:
    return Bench(access, client, audited, stored_id)
