"""Reads another's record as a full node does: a query signed by HTTP message signatures (RFC 9421)."""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from federation.message_signatures import SignedRequest, Signer, sign_request
from lovectl.delegates import CONFIG_FILE

NONCE_BYTES: Final = 16


@dataclass(frozen=True)
class Node:
    """A delegate and the key it signs with."""

    delegate_id: str
    level: str
    algorithm: str
    key: Signer


def load_nodes(directory: Path) -> dict[str, Node]:
    """The delegates of a stack by id, from the files that they started from."""
    nodes = {}
    for file in sorted(directory.glob(f"*/{CONFIG_FILE}")):
        config: Mapping[str, str] = json.loads(file.read_text())
        key = load_pem_private_key(Path(config["private_key_file"]).read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey | MLDSA65PrivateKey)
        nodes[config["delegate_id"]] = Node(
            config["delegate_id"], config["level"], config["algorithm"], key
        )
    return nodes


def sign_query(
    node: Node,
    transaction_id: str,
    *,
    nonce: str | None = None,
    created_s: int | None = None,
    method: str = "GET",
) -> dict[str, str]:
    """The header fields of a signed query for `transaction_id`.

    Parameters
    ----------
    nonce, created_s : optional
        By default a fresh one, and now.
    method : str
        Another one makes a signature that must be refused; for tests.
    """
    return sign_request(
        SignedRequest(method, f"/api/transaction/{transaction_id}"),
        b"",
        node.key,
        node.algorithm,
        keyid=node.delegate_id,
        nonce=nonce or secrets.token_urlsafe(NONCE_BYTES),
        created_s=int(time.time()) if created_s is None else created_s,
    )
