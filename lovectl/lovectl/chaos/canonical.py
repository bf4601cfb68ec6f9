"""Names a transaction as its sender does, by a JCS (RFC 8785) that shares no code with ours."""

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

#: Not part of what is signed: the content never leaves `send` in clear, the signature signs itself.
_NOT_SIGNED = ("content", "signature")


def transaction_id(document: Mapping[str, Any]) -> str:
    """SHA-256 over the canonical JSON of everything but the signature, as hex.

    Examples
    --------
    >>> transaction_id({"nonce": 1}) == transaction_id({"nonce": 1, "signature": "x"})
    True
    """
    named = {name: value for name, value in document.items() if name != "signature"}
    return hashlib.sha256(rfc8785.dumps(named)).hexdigest()


def header_bytes(document: Mapping[str, Any]) -> bytes:
    """The canonical JSON that a transaction's signature is over: its public fields and its id."""
    header = {name: value for name, value in document.items() if name not in _NOT_SIGNED}
    return rfc8785.dumps({**header, "transaction_id": transaction_id(document)})


def canonical_bytes(value: Any) -> bytes:
    """The canonical JSON of any value; `ValueError` for what I-JSON can't say."""
    return rfc8785.dumps(value)
