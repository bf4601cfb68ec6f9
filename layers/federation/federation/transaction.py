"""A transaction as a dApp posts it, its header, and the sealed envelope that travels."""

from base64 import b64decode
from binascii import Error as Base64Error
from hashlib import sha256
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

import federation_dag
from federation.errors import InvalidField
from federation.limits import (
    CONTENT_BYTES_MAX,
    CONTENT_SALT_HEX_MIN,
    LATITUDE_E7_MAX,
    LONGITUDE_E7_MAX,
    OBJECT_IDS_MAX,
    SAFE_INTEGER_MAX,
)

TRANSACTION_VERSION: Final = 1
#: Hex digits that tell wrapped content keys of one sealing key apart.
KEY_TAG_DIGITS: Final = 16

Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
SafeNatural = Annotated[int, Meta(ge=0, le=SAFE_INTEGER_MAX)]
ObjectIds = Annotated[list[Hex32], Meta(max_length=OBJECT_IDS_MAX)]


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the sender's device saw itself.

    Attributes
    ----------
    latitude_e7, longitude_e7 : int
        Degrees (WGS 84) times ten million: integers, because JSON floats have no canonical form
        that every language writes alike.
    accuracy_m : int
        Radius in metres within which the position holds.
    observed_at_ms : int
        Unix time of the observation in milliseconds.
    """

    latitude_e7: Annotated[int, Meta(ge=-SAFE_INTEGER_MAX, le=SAFE_INTEGER_MAX)]
    longitude_e7: Annotated[int, Meta(ge=-SAFE_INTEGER_MAX, le=SAFE_INTEGER_MAX)]
    accuracy_m: SafeNatural
    observed_at_ms: SafeNatural

    def in_range(self) -> bool:
        """Whether latitude and longitude are on the globe."""
        return (
            abs(self.latitude_e7) <= LATITUDE_E7_MAX and abs(self.longitude_e7) <= LONGITUDE_E7_MAX
        )


class Transaction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a dApp posts; `amount` is in milli-LOVE, `content` never leaves `send` unsealed."""

    version: int
    sender: Hex32
    recipient: Hex32
    amount: Annotated[int, Meta(gt=0, le=SAFE_INTEGER_MAX)]
    nonce: SafeNatural
    position: Position
    reads: ObjectIds
    writes: ObjectIds
    content: dict[str, Any]
    signature: str


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The public fields and the id of a transaction: what is signed and what nodes see."""

    version: int
    transaction_id: Hex32
    sender: Hex32
    recipient: Hex32
    amount: int
    nonce: int
    position: Position
    reads: list[str]
    writes: list[str]


class Sealed(msgspec.Struct, frozen=True):
    """Content encrypted by a content key; `key_id` names that key's wrapped form."""

    key_id: str
    ciphertext: str


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True):
    """A verified transaction under way, its content sealed.

    Attributes
    ----------
    algorithm, public_key, signature : str
        Named as in the certificate; key and signature are base64.
    wrapped_key : str
        Base64, filled inside `send` only; an `InboxMessage` and a `Batch` keep each key once.
    home_continent : str or None
        From the sender's certificate.
    accepted_at_ms : int
        When `send` took it; freshness is judged against this, so waiting never makes it stale.
    """

    header: Header
    algorithm: str
    public_key: str
    signature: str
    sealed: Sealed
    accepted_at_ms: int
    request_id: str
    home_continent: str | None = None
    wrapped_key: str = ""


class ParsedTransaction(msgspec.Struct, frozen=True):
    """A well-formed transaction: parsed, within limits, named; its signature not yet checked."""

    transaction: Transaction
    header: Header
    transaction_id: bytes
    signing_bytes: bytes
    signature: bytes
    content_bytes: bytes


def parse_transaction(document: bytes) -> ParsedTransaction:
    """Read one posted transaction strictly (I-JSON, RFC 7493) and name it (JCS, RFC 8785).

    Raises
    ------
    InvalidField
        Names the field and the rule: not JSON, duplicate member, unknown field, float, unsafe
        integer, amount, sender equal to recipient, content without salt or too long.
    """
    try:
        named = federation_dag.name_transaction(document)
    except federation_dag.CanonicalError as error:
        raise InvalidField(
            error.path.strip("/").replace("/", "."), error.rule, "not_i_json"
        ) from None
    try:
        transaction = msgspec.json.decode(named.canonical, type=Transaction)
    except msgspec.ValidationError as error:
        raise invalid_field(error) from None
    _check(transaction)
    content_bytes = named.content or b""
    if len(content_bytes) > CONTENT_BYTES_MAX:
        raise InvalidField("content", f"is at most {CONTENT_BYTES_MAX} bytes")
    return ParsedTransaction(
        transaction=transaction,
        header=msgspec.json.decode(named.signing_bytes, type=Header),
        transaction_id=named.transaction_id,
        signing_bytes=named.signing_bytes,
        signature=_decoded("signature", transaction.signature),
        content_bytes=content_bytes,
    )


def associated_data(header: Header) -> bytes:
    """The ids that sealed content is bound to: transaction id, then sender, 32 bytes each."""
    return bytes.fromhex(header.transaction_id) + bytes.fromhex(header.sender)


def content_key_name(sealing_key_id: str, wrapped_key: bytes) -> str:
    """The name of a wrapped content key: its sealing key's, with a tag.

    Execution environments wrap keys of their own: the tag keeps their names apart in a batch.
    """
    return f"{sealing_key_id}.{sha256(wrapped_key).hexdigest()[:KEY_TAG_DIGITS]}"


def _check(transaction: Transaction) -> None:
    if transaction.version != TRANSACTION_VERSION:
        raise InvalidField("version", f"is {TRANSACTION_VERSION}")
    if transaction.sender == transaction.recipient:
        raise InvalidField("recipient", "differs from sender")
    salt = transaction.content.get("salt")
    if not isinstance(salt, str) or len(salt) < CONTENT_SALT_HEX_MIN or not _is_hex(salt):
        # Without it, anybody who sees the id could guess short contents by trying them.
        raise InvalidField("content.salt", f"is {CONTENT_SALT_HEX_MIN} or more hex digits")


def _is_hex(text: str) -> bool:
    return all(character in "0123456789abcdef" for character in text)


def _decoded(field: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (Base64Error, ValueError):
        raise InvalidField(field, "is base64 (RFC 4648 section 4)") from None


def decoded_or_empty(text: str) -> bytes:
    """Base64 decoded; what isn't base64 is no key, no signature and no ciphertext: no bytes at all."""
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""


def invalid_field(error: msgspec.ValidationError) -> InvalidField:
    """Turn msgspec's `… - at `$.position.accuracy_m`` into a field and a rule."""
    rule, _, place = str(error).partition(" - at `")
    field = place.rstrip("`").removeprefix("$").lstrip(".")
    for start in ("Object missing required field `", "Object contains unknown field `"):
        if rule.startswith(start):
            name = rule.removeprefix(start).rstrip("`")
            field = f"{field}.{name}" if field else name
            rule = "is required" if "missing" in start else "is not a known field"
    return InvalidField(field, rule)
