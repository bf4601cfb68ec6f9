"""Who may read what: parties the content, a full node by a signed query what is sealed, others nothing."""

import base64
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from federation.batch import Tier
from federation.limits import QUERY_AGE_S_MAX, QUERY_AHEAD_S_MAX
from federation.message_signatures import SignedRequest, sign_request
from persist.readers import (
    NoncesUnavailable,
    Reader,
    Readers,
    ReadForbidden,
    delegates_of,
    query_path,
)
from persist.record import record_of
from persist.tier import fetch

NOW_S = 10_000
STRANGER = "ee" * 32
FULL, LIGHT, LATTICE = (
    Ed25519PrivateKey.generate(),
    Ed25519PrivateKey.generate(),
    MLDSA65PrivateKey.generate(),
)
REGISTRY = {
    "delegates": [
        {
            "delegate_id": delegate_id,
            "level": level,
            "algorithm": algorithm,
            "public_key": base64.b64encode(key.public_key().public_bytes_raw()).decode(),
            "address": "127.0.0.1:1",
            "stake": 1,
        }
        for delegate_id, level, algorithm, key in (
            ("node-full", "continent", "Ed25519", FULL),
            ("node-light", "city", "Ed25519", LIGHT),
            ("node-lattice", "global", "ML-DSA-65", LATTICE),
        )
    ]
}


class Nonces:
    """Nonces in memory: another request's are refused."""

    def __init__(self) -> None:
        self.used: dict[tuple[str, str], str] = {}
        self.is_down = False

    def use(self, delegate_id: str, nonce: str, request_id: str, now_s: int) -> bool:
        if self.is_down:
            raise NoncesUnavailable("nonces: down")
        return self.used.setdefault((delegate_id, nonce), request_id) == request_id


class Store:
    """One record, found under its id."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def fetch(self, transaction_id: str, continent: str | None) -> Any:
        return self.found


@pytest.fixture
def nonces() -> Nonces:
    return Nonces()


@pytest.fixture
def item(groups: Any) -> Any:
    return groups.item(content={"note": "for two"})


def query(
    transaction_id: str,
    delegate_id: str = "node-full",
    key: Any = FULL,
    algorithm: str = "Ed25519",
    *,
    request_id: str = "request-1",
    created_s: int = NOW_S,
    nonce: str = "n" * 16,
) -> Reader:
    """A stranger's request, signed by a delegate."""
    headers = sign_request(
        SignedRequest("GET", query_path(transaction_id)), b"", key, algorithm,
        keyid=delegate_id, nonce=nonce, created_s=created_s,
    )  # fmt: skip
    fields = {name.lower(): value for name, value in headers.items()}
    return Reader(STRANGER, request_id, fields)


def read(item: Any, reader: Reader, nonces: Nonces, groups: Any, found: Any = None) -> Any:
    tier: Tier = "atlas"
    found = found or record_of(item, item.continent, groups.wrapped_keys, tier, 5)
    readers = Readers(lambda: delegates_of(REGISTRY), nonces.use, lambda: NOW_S)
    transaction_id = item.envelope.header.transaction_id
    return fetch(
        transaction_id, None, Store(found), groups.private_keys,
        lambda header: readers.share(header, reader),
    )  # fmt: skip


@pytest.mark.parametrize("who", ["sender", "recipient"])
def test_a_party_reads_the_content(who: str, item: Any, nonces: Nonces, groups: Any) -> None:
    reader = Reader(getattr(item.envelope.header, who))
    assert read(item, reader, nonces, groups)["content"]["note"] == "for two"


@pytest.mark.parametrize(
    ("delegate_id", "key", "algorithm"),
    [("node-full", FULL, "Ed25519"), ("node-lattice", LATTICE, "ML-DSA-65")],
)
def test_a_full_node_reads_what_is_sealed_and_never_the_content(
    delegate_id: str, key: Any, algorithm: str, item: Any, nonces: Nonces, groups: Any
) -> None:
    import cert_rust

    header = item.envelope.header
    reader = query(header.transaction_id, delegate_id, key, algorithm)
    found = read(item, reader, nonces, groups)
    assert found["outcome"] == "found"
    assert "content" not in found
    assert "for two" not in json.dumps(found)
    assert found["header"] == msgspec.to_builtins(header)
    assert found["votes"] == item.votes or found["votes"] == [list(one) for one in item.votes]
    assert found["signature"] == item.envelope.signature
    # It is the sealed record itself: whoever has the sealing key opens it.
    sealed = found["sealed"]
    opened = cert_rust.hybrid_open(
        base64.b64decode(groups.private_keys["sealing"]),
        base64.b64decode(sealed["wrapped_key"]),
        base64.b64decode(sealed["ciphertext"]),
        bytes.fromhex(header.transaction_id) + bytes.fromhex(header.sender),
    )
    assert json.loads(opened)["note"] == "for two"


def refused(item: Any, reader: Reader, nonces: Nonces, groups: Any) -> str:
    found = read(item, reader, nonces, groups)
    assert found.keys() == {"outcome", "reason", "detail"}
    assert found["outcome"] == "forbidden"
    return str(found["reason"])


def test_a_stranger_without_a_signature_is_no_party(item: Any, nonces: Nonces, groups: Any) -> None:
    assert refused(item, Reader(STRANGER), nonces, groups) == "not_a_party"
    digest_alone = Reader(STRANGER, "r", {"content-digest": "sha-256=::"})
    assert refused(item, digest_alone, nonces, groups) == "not_a_party"


def test_a_light_node_is_refused_by_its_level(item: Any, nonces: Nonces, groups: Any) -> None:
    reader = query(item.envelope.header.transaction_id, "node-light", LIGHT)
    assert refused(item, reader, nonces, groups) == "not_a_full_node"


@pytest.mark.parametrize(
    ("delegate_id", "key"),
    [("node-full", LIGHT), ("node-nobody", FULL), ("node-light", FULL)],
    ids=["another's key", "unknown keyid", "a light node by a full node's key"],
)
def test_a_signature_by_another_key_is_refused(
    delegate_id: str, key: Any, item: Any, nonces: Nonces, groups: Any
) -> None:
    reader = query(item.envelope.header.transaction_id, delegate_id, key)
    assert refused(item, reader, nonces, groups) == "bad_query_signature"
    assert not nonces.used


def test_a_query_of_one_transaction_reads_no_other(item: Any, nonces: Nonces, groups: Any) -> None:
    reader = query("ab" * 32)
    assert refused(item, reader, nonces, groups) == "bad_query_signature"


@pytest.mark.parametrize(
    ("created_s", "fresh"),
    [
        (NOW_S - QUERY_AGE_S_MAX - 1, False),
        (NOW_S - QUERY_AGE_S_MAX, True),
        (NOW_S + QUERY_AHEAD_S_MAX, True),
        (NOW_S + QUERY_AHEAD_S_MAX + 1, False),
    ],
)
def test_a_query_is_fresh_for_a_named_time(
    created_s: int, fresh: bool, item: Any, nonces: Nonces, groups: Any
) -> None:
    reader = query(item.envelope.header.transaction_id, created_s=created_s)
    if fresh:
        assert read(item, reader, nonces, groups)["outcome"] == "found"
    else:
        assert refused(item, reader, nonces, groups) == "stale_query"
        assert not nonces.used


def test_a_query_is_good_for_one_request_in_every_tier(
    item: Any, nonces: Nonces, groups: Any
) -> None:
    reader = query(item.envelope.header.transaction_id)
    # The tiers that are asked one after the other for one request all see the same query.
    for _ in range(2):
        assert read(item, reader, nonces, groups)["outcome"] == "found"
    again = msgspec.structs.replace(reader, request_id="request-2")
    assert refused(item, again, nonces, groups) == "replayed_query"


def test_a_query_in_a_request_without_an_id_is_not_answered(
    item: Any, nonces: Nonces, groups: Any
) -> None:
    reader = query(item.envelope.header.transaction_id, request_id="")
    assert read(item, reader, nonces, groups)["outcome"] == "unavailable"


def test_with_the_nonces_unreachable_a_query_is_not_answered_but_a_party_is(
    item: Any, nonces: Nonces, groups: Any
) -> None:
    nonces.is_down = True
    reader = query(item.envelope.header.transaction_id)
    assert read(item, reader, nonces, groups) == {
        "outcome": "unavailable",
        "reason": "nonces: down",
    }
    party = Reader(item.envelope.header.sender)
    assert read(item, party, nonces, groups)["outcome"] == "found"


def test_a_record_whose_header_was_changed_decides_nothing(
    item: Any, nonces: Nonces, groups: Any
) -> None:
    record, sealed = record_of(item, item.continent, groups.wrapped_keys, "atlas", 5)
    header = msgspec.structs.replace(record.header, recipient=STRANGER)
    changed = msgspec.structs.replace(record, header=header)
    for reader in (Reader(STRANGER), Reader(item.envelope.header.recipient)):
        found = read(item, reader, nonces, groups, (changed, sealed))
        assert found == {"outcome": "unavailable", "reason": "record_damaged"}


def test_a_refusal_says_why_to_the_caller(item: Any, nonces: Nonces) -> None:
    readers = Readers(lambda: delegates_of(REGISTRY), nonces.use, lambda: NOW_S)
    with pytest.raises(ReadForbidden, match="node-light is no full node"):
        readers.share(
            item.envelope.header,
            query(item.envelope.header.transaction_id, "node-light", LIGHT),
        )
