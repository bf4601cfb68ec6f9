"""The decision: token first, then certificate, then that both name the same account."""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from authorize.certificate import check_certificate, read_header
from authorize.errors import Forbidden, Unauthenticated
from authorize.issuer_keys import Patience
from authorize.key_source import key_source
from authorize.token import TokenRules, check_token

PATIENCE: Final = Patience()


class Trusted(msgspec.Struct, frozen=True):
    """Whom the federation trusts: its CA, its revocation list, and the token issuer."""

    ca_certificate: bytes
    crl: bytes | None
    rules: TokenRules

    @classmethod
    def of_secret(
        cls, secret: Mapping[str, Any], leeway_s: int, patience: Patience = PATIENCE
    ) -> "Trusted":
        """Read the secret `love/trust`."""
        given = secret.get("jwks")
        keys = key_source(
            secret.get("jwks_url"),
            secret.get("jwks_ca_pem"),
            json.dumps(given) if given is not None else None,
            patience,
        )
        revoked = frozenset(secret.get("revoked_tokens", ()))
        return cls(
            ca_certificate=b64decode(secret["ca_certificate"]),
            crl=b64decode(secret["crl"]) if secret.get("crl") else None,
            rules=TokenRules(secret["issuer"], secret["audience"], keys, leeway_s, revoked),
        )


def proof_headers(event: Mapping[str, Any]) -> dict[str, str]:
    """The header fields of an authorizer's event by lower-case name.

    Raises
    ------
    Unauthenticated
        `Authorization` or `Client-Cert` is there twice: one of them was not set by who should.
    """
    lines: dict[str, list[str]] = {}
    several = event.get("multiValueHeaders")
    single = {name: [value] for name, value in (event.get("headers") or {}).items()}
    for name, values in (several or single).items():
        lines.setdefault(name.lower(), []).extend(values)
    for name in ("authorization", "client-cert"):
        if len(lines.get(name, ())) > 1:
            raise Unauthenticated("header_twice", f"{name} is there twice")
    return {name: values[-1] for name, values in lines.items()}


def admit(headers: Mapping[str, str], trusted: Trusted, now_s: int | None = None) -> dict[str, str]:
    """What the handlers may know of an admitted sender; all values are strings.

    Parameters
    ----------
    headers : mapping
        As the client spelled them.

    Raises
    ------
    Unauthenticated, Forbidden, KeysUnavailable
    """
    by_name = {name.lower(): value for name, value in headers.items()}
    der = read_header(by_name.get("client-cert"))
    claims = check_token(by_name.get("authorization"), der, trusted.rules)
    subject = str(claims["sub"])
    now_s = int(time.time()) if now_s is None else now_s
    account = check_certificate(der, trusted.ca_certificate, trusted.crl, now_s, subject)
    if account.account_id != subject:
        raise Forbidden("not_the_account", "the certificate's account is not the token's", subject)
    return {
        "sender": account.account_id,
        "home_continent": account.home_continent or "",
        "algorithm": account.algorithm,
        "public_key": b64encode(account.public_key).decode(),
        "certificate_serial": account.serial.hex(),
    }
