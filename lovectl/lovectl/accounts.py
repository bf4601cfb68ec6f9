"""Accounts for the command line and the tests: a key, a certificate, a token, signed transactions."""

import hashlib
import json
import secrets
import time
import uuid
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey

import federation_dag
from federation.limits import CONTENT_SALT_HEX_MIN
from federation.regions import Continent
from federation.transaction import TRANSACTION_VERSION
from lovectl.pki import AccountKey, FederationCa
from lovectl.places import CITIES, City

Algorithm = Literal["Ed25519", "ML-DSA-65", "ML-DSA-44"]
PrivateKey = Ed25519PrivateKey | MLDSA65PrivateKey | MLDSA44PrivateKey

ALGORITHMS: Final[dict[Algorithm, type[PrivateKey]]] = {
    "Ed25519": Ed25519PrivateKey,
    "ML-DSA-65": MLDSA65PrivateKey,
    "ML-DSA-44": MLDSA44PrivateKey,
}

#: Long enough for a simulation that waits for stores to come back.
TOKEN_LIFETIME_S: Final = 3600
POSITION_ACCURACY_M: Final = 20


@dataclass(frozen=True)
class Issuer:
    """Who issues what an account needs: the federation's CA, and the issuer of access tokens."""

    ca: FederationCa
    token_key: Ed25519PrivateKey
    token_key_id: str
    token_issuer: str
    token_audience: str

    def certify(self, public_key: AccountKey, continent: str | None) -> bytes:
        """An account certificate (DER) whose SubjectAltName names the home continent."""
        certificate = self.ca.issue(public_key, continent)
        return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Account:
    """A sender: `token` is bound to `certificate` (RFC 8705), `city` is where its device is."""

    account_id: str
    algorithm: Algorithm
    private_key: PrivateKey
    certificate: bytes
    token: str
    continent: Continent
    city: City

    def headers(self) -> dict[str, str]:
        """The HTTP headers that prove this account (RFC 6750, RFC 9440)."""
        return {
            "Authorization": f"Bearer {self.token}",
            "Client-Cert": f":{b64encode(self.certificate).decode()}:",
        }


def make_account(
    issuer: Issuer,
    continent: Continent,
    algorithm: Algorithm = "Ed25519",
    *,
    city: City | None = None,
    certify: Callable[[AccountKey], bytes] | None = None,
) -> Account:
    """A fresh account whose certificate names `continent` as its home.

    Parameters
    ----------
    certify : callable, optional
        Makes another certificate than the issuer's usual one; for tests of refusals.
    """
    key = ALGORITHMS[algorithm].generate()
    public_key = key.public_key()
    certificate = certify(public_key) if certify else issuer.certify(public_key, continent.value)
    account_id = federation_dag.account_id(algorithm, public_key.public_bytes_raw()).hex()
    return Account(
        account_id=account_id,
        algorithm=algorithm,
        private_key=key,
        certificate=certificate,
        token=make_token(issuer, account_id, certificate),
        continent=continent,
        city=city or secrets.choice(CITIES[continent]),
    )


def make_token(
    issuer: Issuer, account_id: str, certificate: bytes, changes: Mapping[str, Any] | None = None
) -> str:
    """An access token (RFC 9068) bound to `certificate` (RFC 8705 `cnf.x5t#S256`).

    Parameters
    ----------
    changes : Mapping[str, Any], optional
        Claims to replace, such as `{"exp": 0}`; for tests of refusals.
    """
    now_s = int(time.time())
    thumbprint = urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
    claims: dict[str, Any] = {
        "iss": issuer.token_issuer,
        "aud": issuer.token_audience,
        "sub": account_id,
        "client_id": "lovectl",
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + TOKEN_LIFETIME_S,
        "jti": str(uuid.uuid4()),
        "cnf": {"x5t#S256": thumbprint},
        **(changes or {}),
    }
    headers = {"typ": "at+jwt", "kid": issuer.token_key_id}
    return jwt.encode(claims, issuer.token_key, algorithm="EdDSA", headers=headers)


def unsigned_transaction(
    account: Account,
    recipient: str,
    amount: int,
    nonce: int,
    *,
    content: Mapping[str, Any] | None = None,
    position: Mapping[str, int] | None = None,
    reads: Sequence[str] = (),
    writes: Sequence[str] = (),
) -> dict[str, Any]:
    """The members of a transaction but its signature; a fresh salt, if `content` has none."""
    return {
        "version": TRANSACTION_VERSION,
        "sender": account.account_id,
        "recipient": recipient,
        "amount": amount,
        "nonce": nonce,
        "position": dict(position) if position is not None else position_now(account.city),
        "reads": list(reads),
        "writes": list(writes),
        "content": {"salt": secrets.token_hex(CONTENT_SALT_HEX_MIN // 2), **(content or {})},
    }


def position_now(city: City) -> dict[str, int]:
    """An observation of a device in the middle of `city`, made now."""
    return {
        "latitude_e7": city.latitude_e7,
        "longitude_e7": city.longitude_e7,
        "accuracy_m": POSITION_ACCURACY_M,
        "observed_at_ms": time.time_ns() // 1_000_000,
    }


def sign(account: Account, transaction: Mapping[str, Any]) -> dict[str, Any]:
    """`transaction` with the account's signature over its header."""
    document = {**transaction, "signature": ""}
    message = federation_dag.name_transaction(json.dumps(document).encode()).signing_bytes
    document["signature"] = b64encode(account.private_key.sign(message)).decode()
    return document


def transaction_id(document: Mapping[str, Any]) -> str:
    """The id that the federation will give to `document`, as hex."""
    return federation_dag.name_transaction(json.dumps(document).encode()).transaction_id.hex()
