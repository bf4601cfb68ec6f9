"""Pairs of conflicting transactions: one sender and nonce, another recipient and content."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
from federation.limits import CONTENT_SALT_HEX_MIN
from federation.regions import CONTINENTS
from federation.transaction import TRANSACTION_VERSION
from lovectl.places import CITIES

#: Nonces of one sender in a row.
NONCES_A_SENDER: Final = 10
ALGORITHM: Final = "Ed25519"
AMOUNT_MAX: Final = 1_000_000


@dataclass(frozen=True)
class Ballot:
    """What a delegate is asked to vote on, and by what names."""

    transaction_id: bytes
    sender: bytes
    nonce: int
    header: bytes
    algorithm: str
    public_key: bytes
    signature: bytes


def rivals(count: int, chance: random.Random) -> Iterator[tuple[Ballot, Ballot]]:
    """`count` pairs that `chance` determines wholly: the same seed gives the same bytes."""
    key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
    for index in range(count):
        if index % NONCES_A_SENDER == 0:
            key = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        nonce = index % NONCES_A_SENDER
        yield _ballot(key, nonce, chance), _ballot(key, nonce, chance)


def _ballot(key: Ed25519PrivateKey, nonce: int, chance: random.Random) -> Ballot:
    public_key = key.public_key().public_bytes_raw()
    sender = federation_dag.account_id(ALGORITHM, public_key)
    city = chance.choice(CITIES[chance.choice(CONTINENTS)])
    document = {
        "version": TRANSACTION_VERSION,
        "sender": sender.hex(),
        "recipient": chance.randbytes(32).hex(),
        "amount": chance.randint(1, AMOUNT_MAX),
        "nonce": nonce,
        "position": {
            "latitude_e7": city.latitude_e7,
            "longitude_e7": city.longitude_e7,
            "accuracy_m": 20,
            "observed_at_ms": 1_793_500_000_000,
        },
        "reads": [],
        "writes": [],
        "content": {"salt": chance.randbytes(CONTENT_SALT_HEX_MIN // 2).hex()},
    }
    named = federation_dag.name_transaction(json.dumps(document).encode())
    return Ballot(
        transaction_id=named.transaction_id,
        sender=sender,
        nonce=nonce,
        header=named.signing_bytes,
        algorithm=ALGORITHM,
        public_key=public_key,
        signature=key.sign(named.signing_bytes),
    )
