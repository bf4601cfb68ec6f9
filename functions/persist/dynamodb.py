"""Tier 2: DynamoDB, conditional puts in transactions; a nonce is an item of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.aws_clients import dynamodb_client
from federation.limits import UNRECONCILED_BUCKETS
from federation.settings import load_settings
from persist.breaker import Breaker
from persist.customer_keys import CustomerKeys
from persist.kms_encryption import KmsEncryption
from persist.record import Record, Rejection
from persist.tier import Inserted, TierUnavailable

#: DynamoDB takes 100 actions in a transaction; a record is two: itself and its nonce.
RECORDS_MAX: Final = 50
#: Each round settles at least one record, or meets other writers of the same ones.
ROUNDS_MAX: Final = 8
#: Attribute (and index by it) of what has not been moved to its home cluster: continent and bucket.
UNRECONCILED: Final = "unreconciled"
_SETTLED = "ConditionalCheckFailed"
_AGAIN = ("TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded")

AttributeMap = dict[str, dict[str, Any]]


class DynamodbSettings(msgspec.Struct, frozen=True):
    """Which table and keys, and how long they are waited for."""

    transactions_table: str
    kms_key_arns: str
    kms_keys_parameter: str = ""
    persist_timeout_ms: int = 800
    cold_timeout_ms: int = 3_000


class DynamodbTier:
    """The fallback table.

    Parameters
    ----------
    client, cold_client : boto3 DynamoDB clients
        The second one, with more patience, is used until the table has answered once.
    """

    def __init__(
        self, client: Any, table: str, encryption: KmsEncryption, cold_client: Any = None
    ) -> None:
        self._warm_client = client
        self._client = cold_client or client
        self._table = table
        self._encryption = encryption
        self._breaker = Breaker()

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """TransactWriteItems, as many as one takes; what a condition refuses is looked at."""
        stored: dict[str, Record] = {}
        conflicts: set[str] = set()
        for start in range(0, len(records), RECORDS_MAX):
            chunk = records[start : start + RECORDS_MAX]
            try:
                items = {
                    record.transaction_id: (record, self._item(record, sealed))
                    for record, sealed in chunk
                }
                self._insert_chunk(items, stored, conflicts)
            except TierUnavailable:
                if not stored and not conflicts:
                    raise
                break  # what is stored has its receipt; the rest goes to the next tier
        return Inserted(stored, frozenset(conflicts))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """One conditional put each; the first stays."""
        return {one.transaction_id: self._reject(one) for one in rejections}

    def _reject(self, rejection: Rejection) -> Record | Rejection:
        stored = self._get(f"transaction#{rejection.transaction_id}")
        if stored is not None:
            return msgspec.json.decode(stored["record"]["S"], type=Record)
        key = f"rejection#{rejection.transaction_id}"
        fields = msgspec.json.encode(rejection).decode()
        item = {"pk": {"S": key}, "record": {"S": fields}, **_unreconciled(rejection)}
        if self._ask("put_item", Item=item, ConditionExpression="attribute_not_exists(pk)") is None:
            return rejection
        first = self._get(key)
        if first is None:
            raise TierUnavailable("DynamoDB: a rejection that exists can't be read")
        return msgspec.json.decode(first["record"]["S"], type=Rejection)

    def fetch(
        self, transaction_id: str, continent: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        """A consistent read of the record, else of the rejection."""
        return self.fetch_as("transaction", transaction_id) or self.fetch_as(
            "rejection", transaction_id
        )

    def fetch_as(
        self, kind: Literal["transaction", "rejection"], transaction_id: str
    ) -> tuple[Record, bytes] | Rejection | None:
        """A consistent read of the one or of the other."""
        found = self._get(f"{kind}#{transaction_id}")
        if found is None:
            return None
        if kind == "rejection":
            return msgspec.json.decode(found["record"]["S"], type=Rejection)
        record = msgspec.json.decode(found["record"]["S"], type=Record)
        sealed = self._encryption.decrypt(record.continent, transaction_id, found["content"]["B"])
        return record, sealed

    def ping(self) -> None:
        """A read of what isn't there."""
        self._get("ping#")

    def _insert_chunk(
        self,
        waiting: dict[str, tuple[Record, AttributeMap]],
        stored: dict[str, Record],
        conflicts: set[str],
    ) -> None:
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            order = list(waiting)
            reasons = self._transact([waiting[one] for one in order])
            if reasons is None:
                stored.update({one: waiting[one][0] for one in order})
                return
            for n, transaction_id in enumerate(order):
                if _SETTLED not in reasons[2 * n : 2 * n + 2]:
                    continue
                del waiting[transaction_id]
                found = self._get(f"transaction#{transaction_id}")
                if found is None:
                    conflicts.add(transaction_id)
                else:
                    stored[transaction_id] = msgspec.json.decode(found["record"]["S"], type=Record)
        raise TierUnavailable("DynamoDB: other writers kept these records busy")

    def _transact(self, entries: Sequence[tuple[Record, AttributeMap]]) -> list[str] | None:
        """`None` when all is written, else the reason of each action."""
        puts = []
        for record, item in entries:
            nonce = {
                "pk": {"S": f"nonce#{record.sender}#{record.nonce}"},
                "transaction_id": {"S": record.transaction_id},
            }
            for one in (item, nonce):
                put = {"TableName": self._table, "Item": one}
                puts.append({"Put": {**put, "ConditionExpression": "attribute_not_exists(pk)"}})
        return self._guarded(
            lambda: self._client.transact_write_items(TransactItems=puts),
        )

    def _item(self, record: Record, sealed: bytes) -> AttributeMap:
        return {
            "pk": {"S": f"transaction#{record.transaction_id}"},
            "transaction_id": {"S": record.transaction_id},
            "sender": {"S": record.sender},
            "nonce": {"N": str(record.nonce)},
            "continent": {"S": record.continent},
            **_unreconciled(record),
            "record": {"S": msgspec.json.encode(record).decode()},
            "content": {
                "B": self._encryption.encrypt(record.continent, record.transaction_id, sealed)
            },
        }

    def _get(self, key: str) -> Mapping[str, Any] | None:
        found: list[Mapping[str, Any]] = []

        def get() -> None:
            answer = self._client.get_item(
                TableName=self._table, Key={"pk": {"S": key}}, ConsistentRead=True
            )
            if "Item" in answer:
                found.append(answer["Item"])

        self._guarded(get)
        return found[0] if found else None

    def _ask(self, operation: str, **arguments: Any) -> list[str] | None:
        return self._guarded(
            lambda: getattr(self._client, operation)(TableName=self._table, **arguments)
        )

    def _guarded(self, call: Any) -> list[str] | None:
        """Make the call behind the breaker; the reasons, if its conditions refuse it."""
        if not self._breaker.allows():
            raise TierUnavailable("DynamoDB: resting after failures")
        try:
            call()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                self._breaker.succeeded()
                return [_SETTLED]
            if code == "TransactionCanceledException":
                reasons = [one.get("Code", "None") for one in error.response["CancellationReasons"]]
                if all(one in ("None", _SETTLED, *_AGAIN) for one in reasons):
                    self._breaker.succeeded()
                    return reasons
            self._breaker.failed()
            raise TierUnavailable(f"DynamoDB: {code}") from error
        except BotoCoreError as error:
            self._breaker.failed()
            raise TierUnavailable(f"DynamoDB: {type(error).__name__}") from error
        self._breaker.succeeded()
        self._client = self._warm_client
        return None


def _unreconciled(record: Record | Rejection) -> AttributeMap:
    """Written with the record itself, so that no crash hides a copy from `reconcile`."""
    bucket = int(record.transaction_id[:8], 16) % UNRECONCILED_BUCKETS
    return {
        UNRECONCILED: {"S": f"{record.continent}#{bucket}"},
        "stored_at_ms": {"N": str(record.stored_at_ms)},
    }


def connect_dynamodb() -> DynamodbTier:
    """The tier as the environment sets it."""
    settings = load_settings(DynamodbSettings)
    warm, cold = (
        dynamodb_client(settings.persist_timeout_ms, read_timeout_ms)
        for read_timeout_ms in (settings.persist_timeout_ms, settings.cold_timeout_ms)
    )
    keys = CustomerKeys(msgspec.json.decode(settings.kms_key_arns), settings.kms_keys_parameter)
    return DynamodbTier(warm, settings.transactions_table, KmsEncryption(keys), cold)
