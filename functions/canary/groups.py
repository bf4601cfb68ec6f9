"""Makes canaries: transactions as real as money, by a sender that exists for one minute only."""

import json
import secrets
import time
import uuid
from base64 import b64encode
from collections.abc import Sequence
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
import flag_rust
from federation.batch import Group, Item
from federation.limits import CONTENT_SALT_HEX_MIN
from federation.regions import Continent
from federation.transaction import (
    TRANSACTION_VERSION,
    Envelope,
    Sealed,
    associated_data,
    content_key_name,
    parse_transaction,
)

ALGORITHM = "Ed25519"


class Sealer(Protocol):
    """Seals content; `cert_rust.ContentSealer` does."""

    def seal(self, content: bytes, associated_data: bytes) -> tuple[bytes, bytes]:
        """The wrapped content key and the ciphertext."""
        ...


def canary_groups(
    continents: Sequence[Continent], sealer: Sealer, sealing_key_id: str
) -> list[Group]:
    """A group for each continent, of one signed and sealed transaction.

    The sender's key is made here and forgotten: no certificate names it, so that nothing it signs
    could ever enter by the API.

    Parameters
    ----------
    sealing_key_id : str
        The name of the key that `sealer` wraps content keys with.
    """
    key = Ed25519PrivateKey.generate()
    batch_id = f"canary-{uuid.uuid4()}"
    return [
        _group(continent, nonce, key, batch_id, sealer, sealing_key_id)
        for nonce, continent in enumerate(continents)
    ]


def _group(
    continent: Continent,
    nonce: int,
    key: Ed25519PrivateKey,
    batch_id: str,
    sealer: Sealer,
    sealing_key_id: str,
) -> Group:
    now_ms = time.time_ns() // 1_000_000
    public_key = key.public_key().public_bytes_raw()
    document = {
        "version": TRANSACTION_VERSION,
        "sender": federation_dag.account_id(ALGORITHM, public_key).hex(),
        "recipient": secrets.token_hex(32),
        "amount": 1,
        "nonce": nonce,
        "position": {
            "latitude_e7": 0,
            "longitude_e7": 0,
            "accuracy_m": 0,
            "observed_at_ms": now_ms,
        },
        "reads": [],
        "writes": [],
        "content": {"salt": secrets.token_hex(CONTENT_SALT_HEX_MIN // 2), "memo": "canary"},
        "signature": "",
    }
    parsed = parse_transaction(json.dumps(document).encode())
    wrapped_key, ciphertext = sealer.seal(parsed.content_bytes, associated_data(parsed.header))
    name = content_key_name(sealing_key_id, wrapped_key)
    envelope = Envelope(
        header=parsed.header,
        algorithm=ALGORITHM,
        public_key=b64encode(public_key).decode(),
        signature=b64encode(key.sign(parsed.signing_bytes)).decode(),
        sealed=Sealed(name, b64encode(ciphertext).decode()),
        accepted_at_ms=now_ms,
        request_id=batch_id,
        home_continent=continent.value,
    )
    # It passed no stage: only what `persist` itself looks at is set.
    item = Item(envelope, flags=flag_rust.VERIFIED, continent=continent.value)
    return Group(batch_id, continent.value, {name: b64encode(wrapped_key).decode()}, [item])
