"""Makes what all libraries work on: real transactions, votes, ids, positions and certificates.

Keys, signatures and salts are fresh in each run; places of bad signatures, object ids and
positions come from a seed.
"""

import itertools
import json
import math
import os
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from frames import write_frames

import cert_rust
import federation_dag
from federation.regions import Continent
from lovectl.accounts import Account, Algorithm, Issuer, make_account, sign, unsigned_transaction
from lovectl.pki import FederationCa

SEED: Final = 4
BATCH: Final = 1024
FEW_SIGNERS: Final = 32
BAD: Final = 10  # 1 % of a batch
BAD_PLACEMENTS: Final = 7
ML_DSA_BATCH: Final = 128
DELEGATES: Final = 100
VOTED_TRANSACTIONS: Final = 1_000
EPOCH: Final = 7
OBJECT_TRANSACTIONS: Final = 100_000
#: Objects that the transactions choose from: as many as transactions, so that conflicts are usual.
OBJECTS: Final = 100_000
POSITIONS: Final = 10_000
NEAR_CITY_M: Final = 5_000
CERTIFICATES: Final = 64
CONTENT_BYTES: Final = 1024

#: Frames of (public key, message, signature).
DISTINCT: Final = "ed25519_distinct_signers"
REPEATED: Final = "ed25519_few_signers"
ML_DSA_65: Final = "ml_dsa_65"
VOTES: Final = "votes"
CERTIFICATE_SIGNATURES: Final = "certificate_signatures"
#: Frames of (reads, writes), each 32-byte ids one after another.
OBJECT_SETS: Final = "object_sets"
#: Frames of (latitude_e7, longitude_e7), 64 bits each, little-endian.
NEAR_CITIES: Final = "positions_near_cities"
ON_THE_SPHERE: Final = "positions_on_the_sphere"
#: A frame each: JSON of a transaction as a dApp posts it.
DOCUMENTS: Final = "documents"
#: Frames: content, associated data, the reader's public key.
CONTENT: Final = "content"
#: Frames: the CA's certificate, its revocation list, then account certificates.
CHAIN: Final = "chain"

_POSITION: Final = struct.Struct("<qq")


def bad_input(placement: int) -> str:
    """The name of the input whose bad signatures lie at the seed's `placement`."""
    return f"ed25519_bad_{placement}"


def write_inputs(directory: Path, gazetteer: Path) -> None:
    """Write every input into `directory` as `NAME.frames`.

    Parameters
    ----------
    gazetteer : Path
        Tab-separated cities: id, latitude_e7, longitude_e7, country, name.
    """
    chance = random.Random(SEED)
    ca = FederationCa.create()
    issuer = Issuer(ca, Ed25519PrivateKey.generate(), "bench", "bench", "bench")

    def put(name: str, frames: Iterator[bytes]) -> None:
        write_frames(directory / f"{name}.frames", frames)

    documents = [_transaction(one, nonce) for nonce, one in enumerate(_accounts(issuer, BATCH))]
    put(DOCUMENTS, (json.dumps(document).encode() for _, document in documents))
    clean = [_signed(*one) for one in documents]
    put(DISTINCT, itertools.chain.from_iterable(clean))
    few = _accounts(issuer, FEW_SIGNERS)
    repeated = [_signed(*_transaction(few[nonce % FEW_SIGNERS], nonce)) for nonce in range(BATCH)]
    put(REPEATED, itertools.chain.from_iterable(repeated))
    for placement in range(BAD_PLACEMENTS):
        bad = frozenset(chance.sample(range(BATCH), BAD))
        put(bad_input(placement), itertools.chain.from_iterable(_spoiled(clean, bad)))
    put(
        ML_DSA_65,
        itertools.chain.from_iterable(
            _signed(*_transaction(one, nonce))
            for nonce, one in enumerate(_accounts(issuer, ML_DSA_BATCH, "ML-DSA-65"))
        ),
    )
    put(VOTES, _votes(chance))
    put(OBJECT_SETS, _object_sets(chance))
    put(NEAR_CITIES, _positions_near_cities(chance, gazetteer))
    put(ON_THE_SPHERE, _positions_on_the_sphere(chance))
    _, public_key = cert_rust.hybrid_keygen()
    put(CONTENT, iter((os.urandom(CONTENT_BYTES), chance.randbytes(64), public_key)))
    certificates = [
        make_account(issuer, chance.choice(list(Continent))).certificate
        for _ in range(CERTIFICATES)
    ]
    put(CHAIN, iter((ca.certificate_der, ca.revocation_list(), *certificates)))
    put(CERTIFICATE_SIGNATURES, _certificate_signatures(ca, certificates))


def _accounts(issuer: Issuer, count: int, algorithm: Algorithm = "Ed25519") -> list[Account]:
    without: Callable[[Any], bytes] = lambda _: b""  # noqa: E731
    return [
        make_account(issuer, Continent.EUROPE, algorithm, certify=without) for _ in range(count)
    ]


def _transaction(account: Account, nonce: int) -> tuple[Account, dict[str, Any]]:
    unsigned = unsigned_transaction(
        account, os.urandom(32).hex(), 1250, nonce, content={"memo": "rent"}
    )
    return account, sign(account, unsigned)


def _signed(account: Account, document: dict[str, Any]) -> tuple[bytes, bytes, bytes]:
    message = federation_dag.name_transaction(json.dumps(document).encode()).signing_bytes
    public_key = account.private_key.public_key().public_bytes_raw()
    return public_key, message, account.private_key.sign(message)


def _spoiled(
    clean: Sequence[tuple[bytes, bytes, bytes]], bad: frozenset[int]
) -> Iterator[tuple[bytes, bytes, bytes]]:
    for index, (public_key, message, signature) in enumerate(clean):
        # A signature of another message: nothing but the equation tells that it is bad.
        yield public_key, message, (clean[index - 1][2] if index in bad else signature)


def _votes(chance: random.Random) -> Iterator[bytes]:
    """Delegate by delegate, each over all transactions, as their answers come in."""
    transactions = [
        (chance.randbytes(32), chance.randbytes(32), nonce) for nonce in range(VOTED_TRANSACTIONS)
    ]
    messages = [federation_dag.vote_message(EPOCH, *one) for one in transactions]
    for _ in range(DELEGATES):
        key = Ed25519PrivateKey.generate()
        public_key = key.public_key().public_bytes_raw()
        for message in messages:
            yield public_key
            yield message
            yield key.sign(message)


def _object_sets(chance: random.Random) -> Iterator[bytes]:
    """Two to four ids a transaction: one or two read, one or two written."""
    objects = [chance.randbytes(32) for _ in range(OBJECTS)]
    for _ in range(OBJECT_TRANSACTIONS):
        for count in (chance.randint(1, 2), chance.randint(1, 2)):
            yield b"".join(chance.sample(objects, count))


def _positions_near_cities(chance: random.Random, gazetteer: Path) -> Iterator[bytes]:
    rows = [line.split("\t") for line in gazetteer.read_text(encoding="utf-8").splitlines()]
    metres_to_e7 = 1e7 / 111_195  # a degree of latitude
    for _ in range(POSITIONS):
        _, latitude_e7, longitude_e7, *_ = chance.choice(rows)
        north_m, east_m = chance.gauss(0, NEAR_CITY_M), chance.gauss(0, NEAR_CITY_M)
        shrink = math.cos(math.radians(int(latitude_e7) / 1e7))
        yield _POSITION.pack(
            int(latitude_e7) + round(north_m * metres_to_e7),
            _wrapped(int(longitude_e7) + round(east_m * metres_to_e7 / shrink)),
        )


def _positions_on_the_sphere(chance: random.Random) -> Iterator[bytes]:
    for _ in range(POSITIONS):
        latitude = math.degrees(math.asin(chance.uniform(-1, 1)))
        longitude = chance.uniform(-180, 180)
        yield _POSITION.pack(round(latitude * 1e7), round(longitude * 1e7))


def _wrapped(longitude_e7: int) -> int:
    return (longitude_e7 + 1_800_000_000) % 3_600_000_000 - 1_800_000_000


def _certificate_signatures(ca: FederationCa, certificates: Sequence[bytes]) -> Iterator[bytes]:
    public_key = ca.certificate.public_key()
    for der in certificates:
        certificate = x509.load_der_x509_certificate(der)
        yield public_key.public_bytes_raw()  # type: ignore[union-attr]
        yield certificate.tbs_certificate_bytes
        yield certificate.signature
