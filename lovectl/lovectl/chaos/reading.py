"""Reads evidence straight from each store, round the proxies, the functions and their encryption."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from federation.regions import CONTINENTS
from lovectl.access import Access
from lovectl.chaos.evidence import (
    RECONCILED_FIELDS,
    Damage,
    DelegateKey,
    Evidence,
    Federation,
    StoredCopy,
    StoredRejection,
    Tier,
)
from lovectl.chaos.opening import Keys
from lovectl.checker import (
    DATABASE,
    STORE_TIMEOUT_MS,
    dynamodb_records,
    immudb_found,
    immudb_marks,
    immudb_values,
)
from lovectl.customer_keys import CustomerKeyRing
from lovectl.servers import session_arguments

#: What a final transaction pays in milli-LOVE (`REWARD_PER_TRANSACTION` of the template's reward).
REWARD_PER_TRANSACTION: Final = 1_000
TRANSACTIONS: Final = "transactions"
REJECTIONS: Final = "rejections"
#: Votes that came after a transaction was stored lie beside it: a record itself is never changed.
FINALITY: Final = "finality"

_VOTED: Final = ("votes", "stake", "rewards")
_Opened = tuple[dict[str, Any] | None, str]
_Found = StoredCopy | StoredRejection | Damage


class StoreReader:
    """Reads all stores of a running stack.

    Parameters
    ----------
    access : Access
        Its stores' own ports are used, and the local AWS without a proxy.
    """

    def __init__(self, access: Access) -> None:
        self._stores = access.stores
        ring = CustomerKeyRing(access.aws, access.outputs)
        arguments = session_arguments()
        self._keys = Keys(
            access.aws("kms"),
            {one.value: ring.of(one) for one in CONTINENTS},
            _secret(access, "love/sealing")["keys"],
            {
                "accessKeyId": arguments["aws_access_key_id"],
                "secretAccessKey": arguments["aws_secret_access_key"],
            },
            str(access.ca_file),
        )
        #: What was opened once needn't be again: by the digest of ids and ciphertext.
        self._opened: dict[bytes, dict[str, Any]] = {}

    def evidence(self, senders: Collection[str], transaction_ids: Collection[str] = ()) -> Evidence:
        """Everything of these senders, in all tiers.

        Parameters
        ----------
        transaction_ids : collection of str
            Are looked up one by one in immuDB if damage keeps it from giving all of them.
        """
        copies: list[StoredCopy] = []
        rejections: list[StoredRejection] = []
        damage: list[Damage] = []
        for found in self._everything(senders, transaction_ids):
            if isinstance(found, StoredCopy):
                copies.append(found)
            elif isinstance(found, StoredRejection):
                rejections.append(found)
            else:
                damage.append(found)
        return Evidence(copies, rejections, damage)

    def _everything(
        self, senders: Collection[str], transaction_ids: Collection[str]
    ) -> Iterator[_Found]:
        # Each cluster is a server of its own that has to look through all that it holds.
        uris = self._stores.mongo_uris
        with ThreadPoolExecutor(len(uris)) as pool:
            read = [pool.submit(self._atlas, *one, senders) for one in uris.items()]
            yield from self._dynamodb(senders)
            yield from self._immudb(senders, transaction_ids)
            for one in read:
                yield from one.result()

    def _atlas(self, continent: str, uri: str, senders: Collection[str]) -> list[_Found]:
        found: list[_Found] = []
        try:
            found.extend(self._cluster(continent, uri, senders))
        except PyMongoError as error:
            found.append(Damage("atlas", continent, f"{type(error).__name__}: {error}"))
        return found

    def _cluster(self, continent: str, uri: str, senders: Collection[str]) -> Iterator[_Found]:
        with (
            MongoClient[dict[str, Any]](uri, timeoutMS=STORE_TIMEOUT_MS) as client,
            self._keys.field_encryption(client) as encryption,
        ):
            database = client[DATABASE]
            later = {one["_id"]: one for one in database[FINALITY].find()}
            wanted = {"sender": {"$in": sorted(senders)}}
            for stored in database[TRANSACTIONS].find(wanted):
                document = _settled(stored, later.get(stored["_id"]))

                def opened(content: Any, ids: tuple[str, str]) -> Any:
                    return self._keys.open_field(encryption, content, ids)

                yield self._read("atlas", continent, document, document.get("content"), opened)
            for document in database[REJECTIONS].find({"header.sender": {"$in": sorted(senders)}}):
                yield _rejection("atlas", continent, document)

    def _dynamodb(self, senders: Collection[str]) -> Iterator[_Found]:
        for item in dynamodb_records(self._stores):
            record = json.loads(item["record"]["S"])
            if record["sender"] in senders:
                marks: dict[str, Any] = {
                    name: item[name] for name in RECONCILED_FIELDS if name in item
                }
                yield self._read_message("dynamodb", {**record, **marks}, item["content"]["B"])
        for item in dynamodb_records(self._stores, "rejection#"):
            record = json.loads(item["record"]["S"])
            if record["header"]["sender"] in senders:
                yield _rejection("dynamodb", "", record)

    def _immudb(
        self, senders: Collection[str], transaction_ids: Collection[str]
    ) -> Iterator[_Found]:
        try:
            values = list(immudb_values(self._stores.immudb, b"transaction:"))
            marked = immudb_marks(self._stores.immudb)
            refused = list(immudb_values(self._stores.immudb, b"rejection:"))
        except grpc.RpcError as error:
            yield Damage("immudb", "", f"a scan failed: {error.details()}")
            yield from self._immudb_one_by_one(transaction_ids)
            return
        for value in values:
            stored = json.loads(value)
            if stored["sender"] in senders:
                yield self._immudb_copy(stored, stored["transaction_id"] in marked)
        for value in refused:
            rejection = json.loads(value)
            if rejection["header"]["sender"] in senders:
                yield _rejection("immudb", "", rejection)

    def _immudb_one_by_one(self, transaction_ids: Collection[str]) -> Iterator[StoredCopy | Damage]:
        wanted = list(transaction_ids)
        keys = [f"transaction:{one}".encode() for one in wanted]
        marked = immudb_marks(self._stores.immudb)
        for one, found in zip(wanted, immudb_found(self._stores.immudb, keys), strict=True):
            if isinstance(found, Exception):
                yield Damage("immudb", "", f"{one}: {found}")
            elif found is not None:
                yield self._immudb_copy(json.loads(found), one in marked)

    def _immudb_copy(self, stored: Mapping[str, Any], reconciled: bool) -> StoredCopy | Damage:
        record = {**stored["record"], "reconciled": reconciled}
        return self._read_message("immudb", record, b64decode(stored["content"]))

    def _read_message(
        self, tier: Tier, record: Mapping[str, Any], content: bytes
    ) -> StoredCopy | Damage:
        def opened(content: Any, ids: tuple[str, str]) -> Any:
            return self._keys.open_message(record["continent"], content, ids)

        return self._read(tier, "", record, content, opened)

    def _read(
        self,
        tier: Tier,
        place: str,
        record: Mapping[str, Any],
        content: Any,
        opener: Callable[[Any, tuple[str, str]], Any],
    ) -> StoredCopy | Damage:
        try:
            ids = (record["transaction_id"], record["sender"])
            clear, why = self._open(content, ids, opener)
            return StoredCopy(
                tier=tier,
                place=place,
                transaction_id=ids[0],
                sender=ids[1],
                nonce=int(record["nonce"]),
                continent=record["continent"],
                header=record["header"],
                algorithm=record["algorithm"],
                public_key=record["public_key"],
                signature=record["signature"],
                votes=[_pair(one, "delegate_id", "signature") for one in record["votes"]],
                stake=int(record["stake"]),
                final=record["final"],
                rewards=[_pair(one, "delegate_id", "amount") for one in record["rewards"]],
                shard=record["shard"],
                stored_at_ms=int(record["stored_at_ms"]),
                cluster=record.get("cluster"),
                content=clear,
                unopened=why,
                reconciled=any(record.get(name) for name in RECONCILED_FIELDS),
            )
        except (KeyError, TypeError, ValueError) as error:
            name = record.get("transaction_id") or record.get("_id")
            return Damage(tier, place, f"{name}: {type(error).__name__}: {error}")

    def _open(
        self,
        content: Any,
        ids: tuple[str, str],
        opener: Callable[[Any, tuple[str, str]], Any],
    ) -> _Opened:
        digest = hashlib.sha256("/".join(ids).encode() + bytes(content or b"")).digest()
        if digest not in self._opened:
            try:
                self._opened[digest] = opener(content, ids)
            except Exception as error:  # noqa: BLE001 - whatever keeps it shut is the finding
                return None, f"{type(error).__name__}: {error}"
        return self._opened[digest], ""


def federation_of(access: Access) -> Federation:
    """The delegates as their operators published them."""
    secret = _secret(access, "love/delegates")
    return Federation(
        secret["epoch"],
        {
            one["delegate_id"]: DelegateKey(
                one["delegate_id"], one["algorithm"], b64decode(one["public_key"]), one["stake"]
            )
            for one in secret["delegates"]
        },
        REWARD_PER_TRANSACTION,
    )


def _secret(access: Access, name: str) -> dict[str, Any]:
    answer = access.aws("secretsmanager").get_secret_value(SecretId=name)
    found: dict[str, Any] = json.loads(answer["SecretString"])
    return found


def _rejection(tier: Tier, place: str, record: Mapping[str, Any]) -> StoredRejection:
    return StoredRejection(
        tier, place, record["transaction_id"], record["header"]["sender"], record["reason"]
    )


def _settled(document: dict[str, Any], later: Mapping[str, Any] | None) -> dict[str, Any]:
    """A document of Atlas with the votes that it has got since."""
    if later is None or document["final"] or later["outcome"] != "final":
        return document
    return {**document, "final": True, **{name: later[name] for name in _VOTED}}


def _pair(entry: Any, first: str, second: str) -> tuple[Any, Any]:
    """A vote or reward: a document in Atlas, a pair in the other tiers."""
    return (entry[first], entry[second]) if isinstance(entry, Mapping) else (entry[0], entry[1])
