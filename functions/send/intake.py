"""From posted bytes to sealed envelopes: parse, compare the sender, verify, seal; all or nothing."""

from base64 import b64encode
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Protocol

import msgspec

import federation_dag
from federation.errors import InvalidField
from federation.limits import REQUEST_BATCH_ITEMS_MAX
from federation.transaction import (
    Envelope,
    ParsedTransaction,
    Sealed,
    associated_data,
    content_key_name,
    parse_transaction,
)
from send.problems import Problem


class Sender(msgspec.Struct, frozen=True):
    """The admitted account, as `authorize` passed it on."""

    account_id: str
    algorithm: str
    public_key: str
    home_continent: str | None
    request_id: str


class Sealer(Protocol):
    """Seals content under one content key for a while (`cert_rust.ContentSealer`)."""

    def seal(self, content: bytes, associated_data: bytes) -> tuple[bytes, bytes]:
        """Wrapped key and ciphertext."""
        ...


class Refused(Problem):
    """A problem that is about access: it is written down."""


def split_documents(body: bytes) -> list[bytes]:
    """The transactions of a posted batch, each as canonical JSON.

    Raises
    ------
    Problem
        400 or 422; the field is `transactions` or a member of it.
    """

    class Posted(msgspec.Struct, forbid_unknown_fields=True):
        transactions: list[msgspec.Raw]

    try:
        canonical = federation_dag.canonicalize(body)
        posted = msgspec.json.decode(canonical, type=Posted)
    except federation_dag.CanonicalError as error:
        field = _bracketed(error.path)
        raise Problem.of_field(InvalidField(field, error.rule, "not_i_json")) from None
    except msgspec.ValidationError as error:
        raise Problem.of_field(InvalidField("transactions", str(error))) from None
    count = len(posted.transactions)
    if not 1 <= count <= REQUEST_BATCH_ITEMS_MAX:
        rule = f"holds 1 to {REQUEST_BATCH_ITEMS_MAX} transactions, not {count}"
        raise Problem.of_field(InvalidField("transactions", rule))
    return [bytes(raw) for raw in posted.transactions]


def take(
    documents: Sequence[bytes],
    prefixes: Sequence[str],
    sender: Sender,
    sealer: Sealer,
    sealing_key_id: str,
    accepted_at_ms: int,
) -> list[Envelope]:
    """Envelopes of the posted transactions.

    Parameters
    ----------
    prefixes : sequence of str
        What goes before a field's name, such as `transactions[3].`.

    Raises
    ------
    Problem
        The first fault; then none is taken.
    """
    parsed = [
        _parsed(document, prefix) for document, prefix in zip(documents, prefixes, strict=True)
    ]
    for one, prefix in zip(parsed, prefixes, strict=True):
        if one.header.sender != sender.account_id:
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "the sender is not the account of the certificate",
                field=f"{prefix}sender",
                reason="not_the_sender",
            )
    _verify(parsed, prefixes, sender)
    return [_sealed(one, sender, sealer, sealing_key_id, accepted_at_ms) for one in parsed]


def _parsed(document: bytes, prefix: str) -> ParsedTransaction:
    try:
        return parse_transaction(document)
    except InvalidField as error:
        raise Problem.of_field(error, prefix) from None


def _verify(parsed: Sequence[ParsedTransaction], prefixes: Sequence[str], sender: Sender) -> None:
    import base64

    key = base64.b64decode(sender.public_key)
    answers = federation_dag.batch_verify(
        [(sender.algorithm, key, one.signing_bytes, one.signature) for one in parsed]
    )
    for good, prefix in zip(answers, prefixes, strict=True):
        if not good:
            raise Refused(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"{prefix}signature: is not the sender's over this transaction",
                field=f"{prefix}signature",
                rule="is the sender's signature over the header",
                reason="bad_signature",
            )


def _sealed(
    parsed: ParsedTransaction, sender: Sender, sealer: Sealer, key_id: str, accepted_at_ms: int
) -> Envelope:
    wrapped_key, ciphertext = sealer.seal(parsed.content_bytes, associated_data(parsed.header))
    return Envelope(
        header=parsed.header,
        algorithm=sender.algorithm,
        public_key=sender.public_key,
        signature=_b64(parsed.signature),
        sealed=Sealed(content_key_name(key_id, wrapped_key), _b64(ciphertext)),
        accepted_at_ms=accepted_at_ms,
        request_id=sender.request_id,
        home_continent=sender.home_continent,
        wrapped_key=_b64(wrapped_key),
    )


def _bracketed(pointer: str) -> str:
    """`/transactions/3/amount` as `transactions[3].amount`."""
    field = ""
    for part in pointer.strip("/").split("/"):
        if part.isdigit():
            field += f"[{part}]"
        else:
            field += f".{part}" if field else part
    return field


def _b64(value: bytes) -> str:
    return b64encode(value).decode()


def sender_of(authorizer: dict[str, Any], request_id: str) -> Sender:
    """The sender out of the authorizer's context, where every value is a string."""
    return Sender(
        account_id=authorizer["sender"],
        algorithm=authorizer["algorithm"],
        public_key=authorizer["public_key"],
        home_continent=authorizer.get("home_continent") or None,
        request_id=request_id,
    )
