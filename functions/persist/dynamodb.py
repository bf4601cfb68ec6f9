"""Tier 2: DynamoDB, conditional puts in transactions; a nonce is an item of its own."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.aws_clients import dynamodb_client
from federation.breaker import BreakerState, StoreBreakers, calling_as
from federation.limits import BREAKER_PATIENCE_S, CANARY_KEPT_S, UNRECONCILED_BUCKETS
from federation.settings import load_settings
from persist.breaker_changes import note_change
from persist.customer_keys import CustomerKeys
from persist.kms_encryption import KmsEncryption
from persist.record import Record, RecordDamaged, Rejection
from persist.tier import (
    Allowance,
    Entry,
    Inserted,
    Part,
    TierUnavailable,
    asked_part,
    part_of,
    reject_in_chunks,
)

#: DynamoDB takes 100 actions in a transaction; a record is two: itself and its nonce.
RECORDS_MAX: Final = 50
REJECTIONS_MAX: Final = 100
#: Keys in one BatchGetItem.
READS_MAX: Final = 100
#: Each round settles at least one record, or meets other writers of the same ones.
ROUNDS_MAX: Final = 8
_NEW: Final = "attribute_not_exists(pk)"
#: A nonce outlives its record, which goes by its time to live once it is home: it stays its own.
_NEW_OR_OWN: Final = "attribute_not_exists(pk) OR transaction_id = :own"
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
    persist_timeout_ms: int = 150
    persist_slow_ms: int = 100
    cold_timeout_ms: int = 500
    kms_timeout_ms: int = 150
    breaker_patience_s: float = BREAKER_PATIENCE_S


class DynamodbTier:
    """The fallback table.

    Parameters
    ----------
    client, cold_client : boto3 DynamoDB clients
        The second one, with more patience, is used until the table has answered once.
    breakers : StoreBreakers, optional
        Of the table.
    timeout_s, cold_timeout_s : float
        For a call, and for the first one, as the clients have them: a write's calls have a few
        times as long together. By default only the clients limit each of them.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        encryption: KmsEncryption,
        cold_client: Any = None,
        breakers: StoreBreakers | None = None,
        timeout_s: float = float("inf"),
        cold_timeout_s: float = float("inf"),
    ) -> None:
        self._timeout_s = timeout_s
        self._cold_timeout_s = cold_timeout_s
        self._warm_client = client
        self._client = cold_client or client
        self._table = table
        self._encryption = encryption
        self._breakers = breakers or StoreBreakers("dynamodb")

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """TransactWriteItems, as many as one takes; what a condition refuses is looked at."""
        self._refuse_if_resting()  # before anything is encrypted
        stored: dict[str, Record] = {}
        conflicts: set[str] = set()
        contested: set[str] = set()
        for start in range(0, len(records), RECORDS_MAX):
            chunk = records[start : start + RECORDS_MAX]
            try:
                items = {
                    record.transaction_id: (
                        record,
                        {**self._item(record, sealed), **_unreconciled(record)},
                    )
                    for record, sealed in chunk
                }
                self._insert_chunk(items, stored, conflicts, contested)
            except TierUnavailable:
                if not stored and not conflicts:
                    raise
                break  # what is stored has its receipt; the rest goes to the next tier
        return Inserted(stored, frozenset(conflicts), frozenset(contested))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """TransactWriteItems of conditional puts; what a condition refuses is looked at."""
        allowance = self._allowance()
        return reject_in_chunks(
            rejections,
            REJECTIONS_MAX,
            lambda waiting, kept: self._reject_chunk(waiting, kept, allowance),
        )

    def _reject_chunk(
        self,
        waiting: dict[str, Rejection],
        kept: dict[str, Record | Rejection],
        allowance: Allowance,
    ) -> None:
        """Move from `waiting` to `kept` whatever is known to hold; calls for all at once."""
        _settle(kept, waiting, self._records(waiting, allowance))
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            puts = [_rejection_put(one) for one in waiting.values()]
            reasons = self._transact(puts, allowance)
            if reasons is None:
                kept.update(waiting)
                return
            there = [one for one, why in zip(waiting, reasons, strict=True) if why == _SETTLED]
            _settle(kept, waiting, self._rejections(there, allowance))
        if waiting:
            raise TierUnavailable("DynamoDB: other writers kept these rejections busy")

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
        """A consistent read of the one or of the other.

        Raises
        ------
        TierUnavailable, RecordDamaged
        """
        found = self._get(f"{kind}#{transaction_id}")
        if found is None:
            return None
        try:
            if kind == "rejection":
                return msgspec.json.decode(found["record"]["S"], type=Rejection)
            return self._entry(found)
        except KeyError as error:
            raise RecordDamaged(transaction_id, f"its item lacks {error}") from error

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        """Under keys of their own (`canary#…`), which DynamoDB deletes by their time to live."""
        return {continent: self._canary(*entry) for continent, entry in entries.items()}

    def _canary(self, record: Record, sealed: bytes) -> Entry | TierUnavailable:
        key = f"canary#{record.transaction_id}"
        expires_at_s = record.stored_at_ms // 1000 + CANARY_KEPT_S
        try:
            item = {
                **self._item(record, sealed),
                "pk": {"S": key},
                "expires_at_s": {"N": str(expires_at_s)},
            }
            put = {"TableName": self._table, "Item": item, "ConditionExpression": _NEW}
            # By the operation that stores money, which DynamoDB admits and bills apart from a put.
            self._guarded(lambda: self._client.transact_write_items(TransactItems=[{"Put": put}]))
            with calling_as("read"):
                found = self._get(key)
                if found is None:
                    return TierUnavailable("DynamoDB: what was written is not there")
                return self._entry(found)
        except TierUnavailable as error:
            return error

    def breakers(self) -> list[BreakerState]:
        """Of the table, then of each key that was used."""
        return [self._breakers.writes.state(), *self._encryption.breakers()]

    def health(self) -> list[Part]:
        """A read of what isn't there."""
        table = asked_part("dynamodb", lambda: self._get("ping#"), self._breakers.writes.state)
        return [table, *(part_of(one) for one in self._encryption.breakers())]

    def _insert_chunk(
        self,
        waiting: dict[str, tuple[Record, AttributeMap]],
        stored: dict[str, Record],
        conflicts: set[str],
        contested: set[str],
    ) -> None:
        allowance = self._allowance()
        for _ in range(ROUNDS_MAX):
            if not waiting:
                return
            order = list(waiting)
            puts = [put for one in order for put in _record_puts(*waiting[one])]
            reasons = self._transact(puts, allowance)
            if reasons is None:
                stored.update({one: waiting[one][0] for one in order})
                return
            why = dict(zip(order, zip(reasons[::2], reasons[1::2], strict=True), strict=True))
            settled = [one for one in order if _SETTLED in why[one]]
            _settle(stored, waiting, self._records(settled, allowance))
            # Where neither is there, its time to live has ended since: it is written anew.
            lost = [one for one in settled if one in waiting and why[one][1] == _SETTLED]
            contested |= self._contested([waiting[one][0] for one in lost], allowance)
            conflicts.update(lost)
            for one in lost:
                del waiting[one]
        raise TierUnavailable("DynamoDB: other writers kept these records busy")

    def _contested(self, lost: Sequence[Record], allowance: Allowance) -> set[str]:
        """The holder's own record may have gone home, and expired: there its finality is known."""
        final = [one for one in lost if one.final]
        nonces = self._look_up([_nonce_key(one) for one in final], allowance)
        holders = {key: nonce["transaction_id"]["S"] for key, nonce in nonces.items()}
        known = self._records(holders.values(), allowance)

        def is_held(record: Record) -> bool:
            holder = known.get(holders.get(_nonce_key(record), ""))
            return holder is not None and holder.final

        return {one.transaction_id for one in final if not is_held(one)}

    def _transact(
        self, puts: Sequence[Mapping[str, Any]], allowance: Allowance
    ) -> list[str] | None:
        """`None` when all is written, else the reason of each action."""
        allowance.left_s()
        actions = [{"Put": {"TableName": self._table, **one}} for one in puts]
        return self._guarded(lambda: self._client.transact_write_items(TransactItems=actions))

    def _records(self, transaction_ids: Iterable[str], allowance: Allowance) -> dict[str, Record]:
        """Those of these transactions that are stored."""
        found = self._look_up([f"transaction#{one}" for one in transaction_ids], allowance)
        return {
            key.removeprefix("transaction#"): msgspec.json.decode(item["record"]["S"], type=Record)
            for key, item in found.items()
        }

    def _rejections(
        self, transaction_ids: Iterable[str], allowance: Allowance
    ) -> dict[str, Rejection]:
        """Those of these rejections that are recorded."""
        found = self._look_up([f"rejection#{one}" for one in transaction_ids], allowance)
        return {
            key.removeprefix("rejection#"): msgspec.json.decode(item["record"]["S"], type=Rejection)
            for key, item in found.items()
        }

    def _look_up(self, keys: Iterable[str], allowance: Allowance) -> dict[str, Mapping[str, Any]]:
        """Consistent reads of many items, by key and without their content."""
        unique = list(dict.fromkeys(keys))
        found: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(unique), READS_MAX):
            waiting = [{"pk": {"S": one}} for one in unique[start : start + READS_MAX]]
            for _ in range(ROUNDS_MAX):
                items, waiting = self._batch_get(waiting, allowance)
                found.update({item["pk"]["S"]: item for item in items})
                if not waiting:
                    break
            else:
                raise TierUnavailable("DynamoDB: reads were left undone")
        return found

    def _batch_get(
        self, keys: Sequence[AttributeMap], allowance: Allowance
    ) -> tuple[list[Mapping[str, Any]], list[AttributeMap]]:
        """What is there of 100 keys at most, and the keys that DynamoDB did not get to."""
        allowance.left_s()
        request = {
            "Keys": keys,
            "ConsistentRead": True,
            "ProjectionExpression": "pk, transaction_id, #record",
            "ExpressionAttributeNames": {"#record": "record"},
        }
        answers: list[Any] = []
        self._guarded(
            lambda: answers.append(self._client.batch_get_item(RequestItems={self._table: request}))
        )
        left = answers[0].get("UnprocessedKeys", {}).get(self._table, {})
        return answers[0]["Responses"].get(self._table, []), left.get("Keys", [])

    def _allowance(self) -> Allowance:
        is_cold = self._client is not self._warm_client
        return Allowance("DynamoDB", self._timeout_s, self._cold_timeout_s if is_cold else 0.0)

    def _item(self, record: Record, sealed: bytes) -> AttributeMap:
        return {
            "pk": {"S": f"transaction#{record.transaction_id}"},
            "transaction_id": {"S": record.transaction_id},
            "sender": {"S": record.sender},
            "nonce": {"N": str(record.nonce)},
            "continent": {"S": record.continent},
            "record": {"S": msgspec.json.encode(record).decode()},
            "content": {
                "B": self._encryption.encrypt(record.continent, record.transaction_id, sealed)
            },
        }

    def _entry(self, item: Mapping[str, Any]) -> Entry:
        record = msgspec.json.decode(item["record"]["S"], type=Record)
        content = item["content"]["B"]
        return record, self._encryption.decrypt(record.continent, record.transaction_id, content)

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

    def _guarded(self, call: Any) -> list[str] | None:
        """Make the call behind the breaker; the reasons, if its conditions refuse it."""
        breaker = self._breakers.current
        if not breaker.allows():
            raise TierUnavailable(f"DynamoDB: {breaker.resting()}")
        started_s = time.perf_counter()
        warm = self._client is self._warm_client
        try:
            call()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            reasons = _reasons(code, error)
            if reasons is None:
                breaker.failed(code)
                raise TierUnavailable(f"DynamoDB: {code}") from error
        except BotoCoreError as error:
            breaker.failed(type(error).__name__)
            raise TierUnavailable(f"DynamoDB: {type(error).__name__}") from error
        else:
            reasons = None
            self._client = self._warm_client
        breaker.succeeded(time.perf_counter() - started_s if warm else 0.0)
        return reasons

    def _refuse_if_resting(self) -> None:
        if self._breakers.current.refuses():
            raise TierUnavailable(f"DynamoDB: {self._breakers.current.resting()}")


def _reasons(code: str, error: ClientError) -> list[str] | None:
    """Why its conditions refuse a transaction, if that is what the error says."""
    if code == "TransactionCanceledException":
        reasons = [one.get("Code", "None") for one in error.response["CancellationReasons"]]
        if all(one in ("None", _SETTLED, *_AGAIN) for one in reasons):
            return reasons
    return None


def _settle(
    settled: dict[str, Any], waiting: dict[str, Any], known: Mapping[str, Record | Rejection]
) -> None:
    """What is known of an id holds for it; it waits no longer."""
    settled.update(known)
    for one in known:
        del waiting[one]


def _record_puts(record: Record, item: AttributeMap) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record and its nonce, each unless it is there."""
    own = {"S": record.transaction_id}
    nonce = {"pk": {"S": _nonce_key(record)}, "transaction_id": own}
    return (
        {"Item": item, "ConditionExpression": _NEW},
        {
            "Item": nonce,
            "ConditionExpression": _NEW_OR_OWN,
            "ExpressionAttributeValues": {":own": own},
        },
    )


def _rejection_put(rejection: Rejection) -> dict[str, Any]:
    fields = msgspec.json.encode(rejection).decode()
    item = {
        "pk": {"S": f"rejection#{rejection.transaction_id}"},
        "record": {"S": fields},
        **_unreconciled(rejection),
    }
    return {"Item": item, "ConditionExpression": _NEW}


def _nonce_key(record: Record) -> str:
    return f"nonce#{record.sender}#{record.nonce}"


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
    patience_s = settings.breaker_patience_s
    encryption = KmsEncryption(
        keys,
        settings.kms_timeout_ms / 1000,
        lambda name: StoreBreakers(name, patience_s, changed=note_change),
    )
    breakers = StoreBreakers("dynamodb", patience_s, settings.persist_slow_ms / 1000, note_change)
    return DynamodbTier(
        warm,
        settings.transactions_table,
        encryption,
        cold,
        breakers,
        settings.persist_timeout_ms / 1000,
        settings.cold_timeout_ms / 1000,
    )
