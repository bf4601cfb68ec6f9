"""Who may read a record: its parties its content, a full node what is sealed, nobody else anything.

This is decided here, where the keys are, and not in the function that faces the network.
"""

import time
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from federation.errors import FederationError
from federation.limits import QUERY_AGE_S_MAX, QUERY_AHEAD_S_MAX
from federation.message_signatures import (
    BadSignature,
    SignedRequest,
    VerificationKey,
    verify_request,
)
from federation.transaction import Header

#: What a query's signature covers (RFC 9421 section 2); a query has no content, and says so.
COVERED: Final = frozenset({"@method", "@path", "content-digest"})

Share = Literal["content", "sealed"]


class ReadForbidden(FederationError):
    """This reader may not read this record.

    `reason` is `not_a_party`, `bad_query_signature`, `not_a_full_node`, `stale_query` or
    `replayed_query`.
    """


class NoncesUnavailable(FederationError):
    """Whether a query was seen before can't be told: it is not answered."""

    def __init__(self, detail: str) -> None:
        super().__init__("nonces_unavailable", detail)


class Reader(msgspec.Struct, frozen=True):
    """Who asks.

    Attributes
    ----------
    account_id : str
        The admitted account.
    request_id : str
        Of the API's request: all tiers that are asked for its sake see the same.
    signature_fields : mapping
        `signature-input`, `signature` and `content-digest` by lower-case name; empty if the request
        is not signed.
    """

    account_id: str
    request_id: str = ""
    signature_fields: dict[str, str] = {}


class Delegate(msgspec.Struct, frozen=True):
    """A delegate as the registry has it, with its level: `city`, `continent` or `global`."""

    level: str
    key: VerificationKey


#: `use(delegate_id, nonce, request_id, now_s)` is True unless another request used the nonce.
UseNonce = Callable[[str, str, str, int], bool]


class Readers:
    """Decides what a reader is given.

    Parameters
    ----------
    delegates : callable
        Gives the delegates by id; called for a signed query only, so that nobody else depends on
        their registry.
    use_nonce : callable
    now_s : callable, optional
        Unix time in seconds.
    """

    def __init__(
        self,
        delegates: Callable[[], Mapping[str, Delegate]],
        use_nonce: UseNonce,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._delegates = delegates
        self._use_nonce = use_nonce
        self._now_s = now_s

    def share(self, header: Header, reader: Reader) -> Share:
        """What of the record under `header` this reader is given.

        Raises
        ------
        ReadForbidden, NoncesUnavailable
        """
        if reader.account_id in (header.sender, header.recipient):
            return "content"
        if not reader.signature_fields.keys() & {"signature", "signature-input"}:
            raise ReadForbidden("not_a_party", "only sender and recipient may read a transaction")
        self._check_query(header.transaction_id, reader)
        return "sealed"

    def _check_query(self, transaction_id: str, reader: Reader) -> None:
        # The path is that of the record that was found, whatever the caller says he asked for.
        request = SignedRequest(
            method="GET", path=query_path(transaction_id), fields=reader.signature_fields
        )
        delegates = self._delegates()

        def key_of(delegate_id: str) -> VerificationKey | None:
            delegate = delegates.get(delegate_id)
            return None if delegate is None else delegate.key

        try:
            signed = verify_request(request, b"", key_of, COVERED)
        except BadSignature as error:
            raise ReadForbidden("bad_query_signature", error.detail) from None
        if delegates[signed.keyid].level == "city":
            raise ReadForbidden("not_a_full_node", f"{signed.keyid} is no full node")
        now_s = int(self._now_s())
        ends_s = signed.created_s + QUERY_AGE_S_MAX
        if signed.expires_s is not None:
            ends_s = min(ends_s, signed.expires_s)
        if signed.created_s > now_s + QUERY_AHEAD_S_MAX or now_s > ends_s:
            raise ReadForbidden(
                "stale_query",
                f"created is at most {QUERY_AGE_S_MAX} s ago and {QUERY_AHEAD_S_MAX} s ahead",
            )
        if not reader.request_id:
            # Two requests without an id would pass for one, and its nonce for unused.
            raise NoncesUnavailable("the request has no id")
        if not self._use_nonce(signed.keyid, signed.nonce, reader.request_id, now_s):
            raise ReadForbidden("replayed_query", "this signature was used before")


def query_path(transaction_id: str) -> str:
    """The path that a query's signature covers: below the API's base URL, wherever that is."""
    return f"/api/transaction/{transaction_id}"


def delegates_of(secret: Mapping[str, Any]) -> dict[str, Delegate]:
    """The delegates by id, out of the secret `love/delegates`, verified by `read_delegates`."""
    entries: Sequence[Mapping[str, Any]] = secret["delegates"]
    return {
        one["delegate_id"]: Delegate(
            one["level"], VerificationKey(one["algorithm"], b64decode(one["public_key"]))
        )
        for one in entries
    }
