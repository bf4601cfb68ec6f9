"""Reads what lies in each store, directly, with other clients than the functions use.

It goes round the proxies, the functions and their encryption: plain PyMongo without CSFLE, boto3,
immuDB's gRPC interface. So it can't share their mistakes.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final

from lovectl.verdict import Copy

DATABASE: Final = "love_currency_db"
STORE_TIMEOUT_MS: Final = 10_000
#: Before the id of each transaction whose copy in immuDB counts for nothing any more.
MARK: Final = b"reconciled:"
#: immuDB gives at most 1,000 entries to one scan.
SCAN_ENTRIES_MAX: Final = 1000
#: Whole records in one scan: gRPC takes 4 MiB a message, a record has up to 20 KB.
SCAN_RECORDS_MAX: Final = 150


@dataclass(frozen=True)
class ImmudbAccess:
    """Where immuDB's front is, and as whom to open a session; PEM of its CA and of our certificate."""

    address: str
    username: str
    password: str
    database: str
    server_ca_pem: str
    client_pem: str


@dataclass(frozen=True)
class Stores:
    """The places of all stores, without the proxies in front of them.

    Attributes
    ----------
    mongo_uris : mapping of continent to URI
        With the TLS files in them.
    dynamodb : boto3 client
    table : str
        Name of the transactions table.
    """

    mongo_uris: Mapping[str, str]
    dynamodb: Any
    table: str
    immudb: ImmudbAccess


def read_copies(stores: Stores) -> list[Copy]:
    """Every stored transaction of every tier."""
    copies = [
        _copy(record, "atlas", continent)
        for continent in stores.mongo_uris
        for record in atlas_records(stores, continent)
    ]
    copies += [_copy(record, "dynamodb", "") for record in dynamodb_records(stores)]
    marked = immudb_marks(stores.immudb)
    copies += [
        _copy(record, "immudb", "", reconciled=record["transaction_id"] in marked)
        for record in immudb_records(stores)
    ]
    return copies


def rejected_among(transaction_ids: Collection[str], stores: Stores) -> dict[str, str]:
    """Those of them that are rejected on record in any tier, each with its reason."""
    found = [
        *(one for each in stores.mongo_uris for one in atlas_records(stores, each, "rejections")),
        *(json.loads(one["record"]["S"]) for one in dynamodb_records(stores, "rejection#")),
        *immudb_records(stores, "rejection:"),
    ]
    reasons = {str(one["transaction_id"]): str(one["reason"]) for one in found}
    return {one: reasons[one] for one in transaction_ids if one in reasons}


def atlas_records(
    stores: Stores, continent: str, collection: str = "transactions"
) -> list[dict[str, Any]]:
    """The raw documents of a continent's cluster, `content` as the ciphertext that it is."""
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](
        stores.mongo_uris[continent], timeoutMS=STORE_TIMEOUT_MS
    ) as client:
        return list(client[DATABASE][collection].find())


def dynamodb_records(stores: Stores, prefix: str = "transaction#") -> Iterator[dict[str, Any]]:
    """The raw items of the fallback table, in DynamoDB's own JSON."""
    pages = stores.dynamodb.get_paginator("scan").paginate(
        TableName=stores.table,
        ConsistentRead=True,
        FilterExpression="begins_with(pk, :prefix)",
        ExpressionAttributeValues={":prefix": {"S": prefix}},
    )
    for page in pages:
        yield from page["Items"]


def immudb_records(stores: Stores, prefix: str = "transaction:") -> Iterator[dict[str, Any]]:
    """The raw values of immuDB under `prefix`, parsed as the JSON that they are."""
    for value in immudb_values(stores.immudb, prefix.encode()):
        record: dict[str, Any] = json.loads(value)
        yield record


def immudb_marks(access: ImmudbAccess) -> set[str]:
    """Ids of the transactions in immuDB whose home copies reconcile has proved."""
    return {key.removeprefix(MARK).decode() for key, _ in immudb_entries(access, MARK)}


def immudb_values(access: ImmudbAccess, prefix: bytes) -> Iterator[bytes]:
    """Every value under `prefix`."""
    for _, value in immudb_entries(access, prefix):
        yield value


def immudb_entries(access: ImmudbAccess, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every key under `prefix` with its value, over a session of its own."""
    from immudb.grpc import schema_pb2

    with _immudb_session(access) as (stub, metadata):
        seek = b""
        while True:
            request = schema_pb2.ScanRequest(prefix=prefix, seekKey=seek, limit=SCAN_RECORDS_MAX)
            entries = stub.Scan(request, metadata=metadata).entries
            yield from ((entry.key, entry.value) for entry in entries)
            if len(entries) < SCAN_RECORDS_MAX:
                return
            seek = entries[-1].key


def immudb_found(access: ImmudbAccess, keys: Iterable[bytes]) -> Iterator[bytes | Exception | None]:
    """The value of each key, None where there is none, and the failure where it can't be read."""
    import grpc
    from immudb.grpc import schema_pb2

    with _immudb_session(access) as (stub, metadata):
        for key in keys:
            try:
                yield stub.Get(schema_pb2.KeyRequest(key=key), metadata=metadata).value
            except grpc.RpcError as error:
                yield None if "key not found" in str(error) else error


@contextmanager
def _immudb_session(access: ImmudbAccess) -> Iterator[tuple[Any, Any]]:
    """The service's stub, and the metadata of a session."""
    from google.protobuf import empty_pb2
    from immudb.grpc import schema_pb2, schema_pb2_grpc

    from federation.immudb_channel import open_channel

    with open_channel(asdict(access)) as channel:
        stub = schema_pb2_grpc.ImmuServiceStub(channel)
        session = stub.OpenSession(
            schema_pb2.OpenSessionRequest(
                username=access.username.encode(),
                password=access.password.encode(),
                databaseName=access.database,
            )
        )
        metadata = (("sessionid", session.sessionID),)
        try:
            yield stub, metadata
        finally:
            # The server keeps only so many, each for minutes.
            stub.CloseSession(empty_pb2.Empty(), metadata=metadata)


def _copy(
    record: Mapping[str, Any], tier: Any, continent: str, *, reconciled: bool = False
) -> Copy:
    plain = {name: _plain(value) for name, value in record.items()}
    header = plain.get("header") or plain
    if isinstance(header, str | bytes):
        header = json.loads(header)
    found = str(header["transaction_id"] if "transaction_id" in header else plain["_id"])
    return Copy(
        transaction_id=found,
        sender=str(header["sender"]),
        nonce=int(header["nonce"]),
        tier=tier,
        continent=continent or str(plain.get("continent", "")),
        reconciled=reconciled or "reconciled_at_ms" in plain,
    )


def _plain(value: Any) -> Any:
    """A value of DynamoDB's JSON without its type tag; any other value as it is."""
    if isinstance(value, dict) and len(value) == 1:
        tag, inner = next(iter(value.items()))
        if tag in ("S", "N", "B", "BOOL"):
            return inner
        if tag == "M":
            return {name: _plain(one) for name, one in inner.items()}
    return value
