"""Copies in the fallback table: found by a sparse index, marked by leaving it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import Tier
from federation.limits import COPIES_A_ROUND_MAX, RECONCILED_KEPT_S, UNRECONCILED_BUCKETS
from persist.dynamodb import UNRECONCILED, DynamodbTier
from persist.record import Record, Rejection
from persist.tier import TierUnavailable
from reconcile.copies import CopyRef, Page

INDEX: Final = UNRECONCILED
_MARKED: Final = "ConditionalCheckFailedException"


class _Cursor(msgspec.Struct, frozen=True):
    bucket: int = 0
    start: dict[str, dict[str, str]] | None = None


class DynamodbCopies:
    """One continent's copies.

    Parameters
    ----------
    client : boto3 DynamoDB client
    """

    tier: Tier = "dynamodb"

    def __init__(self, client: Any, table: str, tier: DynamodbTier, continent: str) -> None:
        self._client = client
        self._table = table
        self._tier = tier
        self._continent = continent

    def page(self, after: str, goes_on: Callable[[], bool]) -> Page:
        """The oldest of one bucket, by one query a bucket; buckets one after the other."""
        del goes_on  # four short queries at most
        cursor = msgspec.json.decode(after, type=_Cursor) if after else _Cursor()
        for bucket in range(cursor.bucket, UNRECONCILED_BUCKETS):
            arguments: dict[str, Any] = {
                "IndexName": INDEX,
                "Limit": COPIES_A_ROUND_MAX,
                "KeyConditionExpression": f"{UNRECONCILED} = :bucket",
                "ExpressionAttributeValues": {":bucket": {"S": f"{self._continent}#{bucket}"}},
            }
            if cursor.start is not None and bucket == cursor.bucket:
                arguments["ExclusiveStartKey"] = cursor.start
            answer = self._ask("query", arguments)
            refs = [_ref(item["pk"]["S"]) for item in answer["Items"]]
            behind = answer.get("LastEvaluatedKey")
            if refs:
                follows = _Cursor(bucket, behind) if behind else _Cursor(bucket + 1)
                return Page(
                    refs,
                    msgspec.json.encode(follows).decode(),
                    follows.bucket < UNRECONCILED_BUCKETS,
                )
        return Page([], after, more=False)

    def pause(self, after: str) -> None:
        """What went home or was parked has left the index, so the next run goes further anyway."""

    def read(self, ref: CopyRef) -> tuple[Record, bytes] | Rejection | None:
        """A consistent read; DynamoDB has no log that could have a gap."""
        if ref.kind == "gap":
            return None
        return self._tier.fetch_as(ref.kind, ref.transaction_id)

    def mark(self, refs: Sequence[CopyRef], now_ms: int) -> None:
        """They expire after a while; the first mark stays."""
        for ref in refs:
            self._update(
                ref,
                f"SET reconciled_at_ms = :now, expires_at_s = :end REMOVE {UNRECONCILED}",
                "attribute_exists(pk) AND attribute_not_exists(reconciled_at_ms)",
                {
                    ":now": {"N": str(now_ms)},
                    ":end": {"N": str(now_ms // 1000 + RECONCILED_KEPT_S)},
                },
            )

    def park(self, ref: CopyRef, reason: str, now_ms: int) -> None:
        """It leaves the index, and never expires."""
        self._update(
            ref,
            f"SET parked_reason = :reason, parked_at_ms = :now REMOVE {UNRECONCILED}",
            "attribute_exists(pk) AND attribute_not_exists(reconciled_at_ms)",
            {":now": {"N": str(now_ms)}, ":reason": {"S": reason}},
        )

    def _update(
        self, ref: CopyRef, expression: str, condition: str, values: Mapping[str, Any]
    ) -> None:
        self._ask(
            "update_item",
            {
                "Key": {"pk": {"S": f"{ref.kind}#{ref.transaction_id}"}},
                "UpdateExpression": expression,
                "ConditionExpression": condition,
                "ExpressionAttributeValues": values,
            },
        )

    def _ask(self, operation: str, arguments: Mapping[str, Any]) -> Any:
        try:
            return getattr(self._client, operation)(TableName=self._table, **arguments)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == _MARKED:
                return {}
            raise TierUnavailable(f"DynamoDB: {code}") from error
        except BotoCoreError as error:
            raise TierUnavailable(f"DynamoDB: {type(error).__name__}") from error


def _ref(key: str) -> CopyRef:
    kind, _, transaction_id = key.partition("#")
    return msgspec.convert({"kind": kind, "transaction_id": transaction_id}, CopyRef)
