"""What is stored of a transaction, checked before it is written and after it is read."""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

import cert_rust
import federation_dag
import flag_rust
from federation.batch import Item, Place, Receipt, Tier
from federation.errors import FederationError
from federation.transaction import Header, associated_data, decoded_or_empty

STORED_FLAG: Final[Mapping[Tier, int]] = {
    "atlas": flag_rust.STORED_ATLAS,
    "dynamodb": flag_rust.STORED_DYNAMODB,
    "immudb": flag_rust.STORED_IMMUDB,
}


class RecordDamaged(FederationError):
    """A record that was read is not what was written, or not what its sender signed."""

    def __init__(self, transaction_id: str, why: str) -> None:
        super().__init__("record_damaged", f"record of {transaction_id}: {why}")


class Inconsistent(FederationError):
    """An item must not be written: its parts contradict each other."""

    def __init__(self, transaction_id: str, why: str) -> None:
        super().__init__("inconsistent", f"transaction {transaction_id}: {why}")


class Record(msgspec.Struct, frozen=True):
    """A stored transaction; readable by itself, whatever else is lost.

    `content` is kept beside it: the sealed content with its wrapped key, encrypted by the tier.
    `cluster` is the Atlas cluster that it lies in, if that isn't its continent's own. `refused` is
    never stored: on reading it says why a stored transaction can't be final any more.
    """

    transaction_id: str
    sender: str
    nonce: int
    header: Header
    algorithm: str
    public_key: str
    signature: str
    accepted_at_ms: int
    request_id: str
    home_continent: str | None
    place: Place | None
    layer: int
    votes: list[tuple[str, str]]
    stake: int
    final: bool
    continent: str
    shard: int | None
    cross_shard: bool
    rewards: list[tuple[str, int]]
    flags: int
    tier: Tier
    stored_at_ms: int
    cluster: str | None = None
    refused: str | None = None

    def receipt(self) -> Receipt:
        """The proof that it is stored, or that its votes went to another transaction."""
        return Receipt(
            transaction_id=self.transaction_id,
            status="rejected" if self.refused else "stored",
            reason=self.refused,
            tier=self.tier,
            continent=self.continent,
            shard=self.shard,
            final=self.final,
            stored_at_ms=self.stored_at_ms,
            cluster=self.cluster,
        )


class Rejection(msgspec.Struct, frozen=True):
    """A recorded rejection; it holds no content and doesn't take the nonce."""

    transaction_id: str
    reason: str
    header: Header
    continent: str
    shard: int | None
    tier: Tier
    stored_at_ms: int
    cluster: str | None = None

    def receipt(self) -> Receipt:
        """The proof that the rejection is recorded."""
        return Receipt(
            transaction_id=self.transaction_id,
            status="rejected",
            reason=self.reason,
            tier=self.tier,
            continent=self.continent,
            shard=self.shard,
            final=False,
            stored_at_ms=self.stored_at_ms,
            cluster=self.cluster,
        )


class Sealing(msgspec.Struct, frozen=True):
    """Sealed content as it goes into the tier's own encryption; the members are base64."""

    key_id: str
    wrapped_key: str
    ciphertext: str

    @property
    def private_key_id(self) -> str:
        """Which key of `love/sealing` opens it.

        `send` tags the key's name with the wrapped key, so that a batch can tell them apart.
        """
        return self.key_id.rsplit(".", 1)[0]


def record_of(
    item: Item, continent: str, wrapped_keys: Mapping[str, str], tier: Tier, now_ms: int
) -> tuple[Record, bytes]:
    """The record of an accepted item, and its sealed content.

    Raises
    ------
    Inconsistent
        Flags that can't be, another continent, a content key that is missing.
    """
    envelope, header = item.envelope, item.envelope.header
    if item.continent != continent:
        raise Inconsistent(header.transaction_id, f"belongs to {item.continent}, not {continent}")
    wrapped_key = wrapped_keys.get(envelope.sealed.key_id)
    if wrapped_key is None:
        raise Inconsistent(header.transaction_id, "its wrapped content key is missing")
    try:
        flags = flag_rust.merge(item.flags, STORED_FLAG[tier])
        flag_rust.check(flags)
    except (flag_rust.FlagError, OverflowError) as error:
        raise Inconsistent(header.transaction_id, str(error)) from None
    record = Record(
        transaction_id=header.transaction_id,
        sender=header.sender,
        nonce=header.nonce,
        header=header,
        algorithm=envelope.algorithm,
        public_key=envelope.public_key,
        signature=envelope.signature,
        accepted_at_ms=envelope.accepted_at_ms,
        request_id=envelope.request_id,
        home_continent=envelope.home_continent,
        place=item.place,
        layer=item.layer,
        votes=item.votes,
        stake=item.stake,
        final=item.final,
        continent=continent,
        shard=item.shard,
        cross_shard=item.cross_shard,
        rewards=item.rewards,
        flags=flags,
        tier=tier,
        stored_at_ms=now_ms,
    )
    sealing = Sealing(envelope.sealed.key_id, wrapped_key, envelope.sealed.ciphertext)
    return record, msgspec.json.encode(sealing)


def unsigned(records: Sequence[tuple[Record, bytes]]) -> list[str]:
    """Ids of the records whose key is not the sender's, or whose signature doesn't hold."""
    batch = federation_dag.verify_headers([_signed(record) for record, _ in records])
    return [
        record.transaction_id
        for (record, _), header in zip(records, batch, strict=True)
        if header is None or header.sender.hex() != record.sender
    ]


def rejection_of(item: Item, reason: str, continent: str, tier: Tier, now_ms: int) -> Rejection:
    """The record of a rejected item."""
    return Rejection(
        transaction_id=item.envelope.header.transaction_id,
        reason=reason,
        header=item.envelope.header,
        continent=continent,
        shard=item.shard,
        tier=tier,
        stored_at_ms=now_ms,
    )


def open_content(record: Record, sealed: bytes, private_keys: Mapping[str, str]) -> dict[str, Any]:
    """The clear content of a record, once the record has proved to be what its sender signed.

    Parameters
    ----------
    private_keys : mapping of key id to base64 private key
        The secret `love/sealing`.

    Raises
    ------
    RecordDamaged
    """
    sealing = msgspec.json.decode(sealed, type=Sealing)
    key_id = sealing.private_key_id
    if key_id not in private_keys:
        raise RecordDamaged(record.transaction_id, f"there is no sealing key {key_id!r}")
    try:
        content_bytes = cert_rust.hybrid_open(
            b64decode(private_keys[key_id]),
            b64decode(sealing.wrapped_key),
            b64decode(sealing.ciphertext),
            associated_data(record.header),
        )
    except cert_rust.SealError:
        raise RecordDamaged(record.transaction_id, "its content can't be opened") from None
    content: dict[str, Any] = json.loads(content_bytes)
    _check_as_signed(record, content)
    return content


def sealed_record(record: Record, sealed: bytes) -> dict[str, Any]:
    """What a full node is given of a record: what proves it, and its content as it lies sealed."""
    return {
        "place": record.place,
        "rewards": record.rewards,
        "votes": record.votes,
        "algorithm": record.algorithm,
        "public_key": record.public_key,
        "signature": record.signature,
        "sealed": msgspec.json.decode(sealed, type=Sealing),
    }


def _check_as_signed(record: Record, content: dict[str, Any]) -> None:
    header = msgspec.to_builtins(record.header)
    transaction_id = header.pop("transaction_id")
    document = {**header, "content": content, "signature": ""}
    recomputed = federation_dag.name_transaction(msgspec.json.encode(document)).transaction_id.hex()
    if not recomputed == transaction_id == record.transaction_id:
        raise RecordDamaged(record.transaction_id, "header and content don't give its id")
    check_header(record)


def check_header(record: Record) -> None:
    """What can be told of a record without opening its content.

    Raises
    ------
    RecordDamaged
        Its index fields are not its header's, or the header is not what its sender signed.
    """
    if (record.header.sender, record.header.nonce) != (record.sender, record.nonce):
        raise RecordDamaged(record.transaction_id, "its index fields are not its header's")
    match federation_dag.verify_headers([_signed(record)]).reasons:
        case ["not_the_sender"]:
            raise RecordDamaged(record.transaction_id, "the key is not the sender's")
        case [str()]:
            raise RecordDamaged(record.transaction_id, "the signature doesn't hold")


def _signed(record: Record) -> tuple[str, bytes, bytes, bytes]:
    header = msgspec.json.encode(record.header)
    public_key, signature = map(decoded_or_empty, (record.public_key, record.signature))
    return record.algorithm, public_key, header, signature


def as_text(value: bytes) -> str:
    """Base64, for stores that keep text."""
    return b64encode(value).decode()
