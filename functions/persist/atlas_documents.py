"""What lies in an Atlas cluster: documents, and the questions that more than one operation asks of them."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from pymongo.errors import BulkWriteError

from persist.encryption_schema import TRANSACTIONS
from persist.finality import FINALITY, PENDING, entry_of, finality_in, with_finality
from persist.motor_db_handler import Document, MotorDBHandler
from persist.record import Record, RecordDamaged, Rejection

PAIRS: Final = {
    "votes": ("delegate_id", "signature"),
    "rewards": ("delegate_id", "amount"),
}
DUPLICATE_KEY: Final = 11000


def only_duplicates(error: BulkWriteError) -> list[int]:
    """Which documents exist already; any other fault, or a missing majority, is raised again."""
    faults = error.details["writeErrors"]
    only_duplicates = all(fault["code"] == DUPLICATE_KEY for fault in faults)
    if not only_duplicates or error.details.get("writeConcernErrors"):
        raise error
    return [fault["index"] for fault in faults]


async def note_pending(handler: MotorDBHandler, records: Sequence[Record]) -> None:
    """Leave work entries for those that aren't final; before the records, so none is missed."""
    entries = [entry_of(record).document() for record in records if not record.final]
    if not entries:
        return
    try:
        await handler.insert_many(PENDING, entries)
    except BulkWriteError as error:
        only_duplicates(error)


async def settled(handler: MotorDBHandler, record: Record) -> Record:
    """The record with the outcome of a later vote, which is looked for only if it may exist."""
    if record.final:
        return record
    found = await handler.find_one(FINALITY, {"_id": record.transaction_id})
    return with_finality(record, None if found is None else finality_in(found, PAIRS))


async def nonce_conflicts(
    handler: MotorDBHandler, records: Sequence[Record]
) -> tuple[frozenset[str], frozenset[str]]:
    """Those whose (sender, nonce) another transaction holds for sure, and the contested of them."""
    if not records:
        return frozenset(), frozenset()
    wanted = [{"sender": one.sender, "nonce": one.nonce} for one in records]
    fields = {"sender": 1, "nonce": 1, "final": 1}
    found = await handler.find(TRANSACTIONS, {"$or": wanted}, fields)
    holders = {(one["sender"], one["nonce"]): one for one in found}
    lost = {
        one.transaction_id: (one, holder)
        for one in records
        if (holder := holders.get((one.sender, one.nonce))) and holder["_id"] != one.transaction_id
    }
    open_ids = [holder["_id"] for one, holder in lost.values() if one.final and not holder["final"]]
    query = {"_id": {"$in": open_ids}, "outcome": "final"}
    later = await handler.find(FINALITY, query, {"_id": 1}) if open_ids else []
    still_open = set(open_ids) - {one["_id"] for one in later}
    contested = (
        name for name, (one, holder) in lost.items() if one.final and holder["_id"] in still_open
    )
    return frozenset(lost), frozenset(contested)


def document_of(record: Record, sealed: bytes) -> Document:
    """The document of a record, its sealed content beside its fields."""
    fields = document_fields(record)
    # It is not stored: on reading `finality` tells it.
    del fields["refused"]
    return {"_id": record.transaction_id, **fields, "content": sealed}


def document_fields(value: msgspec.Struct) -> Document:
    """The fields of what has votes and rewards, in the form of a document.

    Pairs become documents: a query can name their members, and FerretDB takes no array in one.
    """
    fields: Document = msgspec.to_builtins(value)
    for name, members in PAIRS.items():
        fields[name] = [dict(zip(members, pair, strict=True)) for pair in fields[name]]
    return fields


def record_in(document: Mapping[str, Any]) -> Record:
    """The record of a document of `transactions`, without its content.

    Raises
    ------
    RecordDamaged
        The document is none of a record.
    """
    try:
        fields = dict(document)
        for name, members in PAIRS.items():
            fields[name] = [[pair[member] for member in members] for pair in fields[name]]
        return msgspec.convert(fields, Record)
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        why = f"its document is none of a record: {type(error).__name__} {error}"
        raise RecordDamaged(str(document.get("_id")), why) from error


def entry_in(document: Mapping[str, Any]) -> tuple[Record, bytes]:
    """The record of a document, and its content as it was decrypted from CSFLE.

    Raises
    ------
    RecordDamaged
    """
    content = document.get("content")
    if not isinstance(content, bytes):
        raise RecordDamaged(str(document.get("_id")), "its document has no content")
    return record_in(document), bytes(content)


def records_in(documents: Sequence[Mapping[str, Any]]) -> dict[str, Record]:
    """Those that are records, by their ids; what is damaged holds up nobody else."""
    found: dict[str, Record] = {}
    for document in documents:
        with contextlib.suppress(RecordDamaged):
            found[document["_id"]] = record_in(document)
    return found


def rejections_in(documents: Sequence[Mapping[str, Any]]) -> dict[str, Rejection]:
    """Those that are rejections, by their ids."""
    found: dict[str, Rejection] = {}
    for document in documents:
        with contextlib.suppress(msgspec.ValidationError):
            found[document["_id"]] = msgspec.convert(document, Rejection)
    return found
