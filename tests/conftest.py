"""What several suites share: the running stack (e2e, simulation), groups for `persist`."""

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
import pytest

if TYPE_CHECKING:
    from lovectl.access import Access


@pytest.fixture(scope="module", autouse=True)
def own_credentials() -> None:
    """Sessions keep the first credentials that they met, also moto's: no module gets another's."""
    from persist import field_encryption

    boto3.DEFAULT_SESSION = None
    field_encryption._sessions.clear()


@pytest.fixture(scope="session")
def access() -> "Iterator[Access]":
    """The stack, seen from outside; started once a session, taken down at its end."""
    from lovectl.access import started_access

    with started_access("tests") as running:
        yield running


class GroupMaker:
    """Makes signed, sealed items as they come to `persist`, and has the key that opens them."""

    def __init__(self) -> None:
        import cert_rust

        private_key, public_key = cert_rust.hybrid_keygen()
        self.private_keys = {"sealing": b64encode(private_key).decode()}
        self._sealer = cert_rust.ContentSealer(public_key, "sealing")
        self.wrapped_keys: dict[str, str] = {}

    def account(self, continent: str = "Europe") -> Any:
        """A sender with a key of its own; its certificate is of no concern here."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        import federation_dag
        from federation.regions import Continent
        from lovectl.accounts import Account
        from lovectl.places import CITIES

        key = Ed25519PrivateKey.generate()
        account_id = federation_dag.account_id("Ed25519", key.public_key().public_bytes_raw())
        home = Continent(continent)
        return Account(account_id.hex(), "Ed25519", key, b"", "", home, CITIES[home][0])

    def item(
        self,
        account: Any = None,
        nonce: int = 0,
        content: Mapping[str, Any] | None = None,
        reads: Sequence[str] = (),
        writes: Sequence[str] = (),
        **changes: Any,
    ) -> Any:
        """One accepted item; `changes` replaces fields of it."""
        import flag_rust
        from federation.batch import Item
        from federation.transaction import Envelope, Sealed, associated_data, parse_transaction
        from lovectl.accounts import sign, unsigned_transaction

        account = account or self.account()
        document = sign(
            account,
            unsigned_transaction(
                account,
                secrets.token_hex(32),
                5,
                nonce,
                content=content,
                reads=reads,
                writes=writes,
            ),
        )
        parsed = parse_transaction(json.dumps(document).encode())
        wrapped, ciphertext = self._sealer.seal(
            parsed.content_bytes, associated_data(parsed.header)
        )
        key_id = f"sealing.{hashlib.sha256(wrapped).hexdigest()[:16]}"
        self.wrapped_keys[key_id] = b64encode(wrapped).decode()
        public_key = account.private_key.public_key().public_bytes_raw()
        envelope = Envelope(
            header=parsed.header,
            algorithm="Ed25519",
            public_key=b64encode(public_key).decode(),
            signature=document["signature"],
            sealed=Sealed(key_id, b64encode(ciphertext).decode()),
            accepted_at_ms=1,
            request_id="request",
            home_continent=account.continent.value,
        )
        item = Item(
            envelope=envelope,
            continent=account.continent.value,
            shard=3,
            flags=flag_rust.VERIFIED | flag_rust.PLACED | flag_rust.VOTED | flag_rust.REWARDED,
            votes=[("node-1", "c2lnbmF0dXJl")],
            rewards=[("node-1", 2)],
        )
        return msgspec.structs.replace(item, **changes)

    @staticmethod
    def to_a_party(header: Any) -> Any:
        """The decision of `persist.readers` on a sender or recipient."""
        del header
        return "content"

    def group(self, *items: Any) -> Any:
        """A group of these items, of the first one's continent."""
        from federation.batch import Group

        return Group("batch", items[0].continent, dict(self.wrapped_keys), list(items))


@pytest.fixture(scope="session")
def groups() -> GroupMaker:
    """Groups as `persist` takes them."""
    return GroupMaker()
