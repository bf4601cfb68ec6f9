"""The last position of each sender, in DynamoDB; money never waits for it.

One BatchGetItem reads a batch's senders. Writes are conditional (a newer observation is never
overwritten by an older one), one for each sender, side by side: BatchWriteItem takes no condition,
and a transaction would let one stale sender spoil the others. If the table can't be reached the
travel rule is skipped, and after a few failures not even tried for a while.
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from pop.place import LastPosition

WRITES_AT_ONCE: Final = 8
FAILURES_MAX: Final = 3
REST_S: Final = 5.0
#: DynamoDB takes at most 100 keys in one BatchGetItem.
KEYS_MAX: Final = 100


class Positions:
    """The table of last positions.

    Parameters
    ----------
    client : boto3 DynamoDB client
        With short time-outs and one attempt.
    table : str
    timeout_ms : int
        How long the writes of a batch are waited for.
    """

    def __init__(self, client: Any, table: str, timeout_ms: int) -> None:
        self._client = client
        self._table = table
        self._timeout_s = timeout_ms / 1000
        self._pool = ThreadPoolExecutor(WRITES_AT_ONCE, thread_name_prefix="positions")
        self._failures = 0
        self._resting_until_s = 0.0

    def read(self, senders: Iterable[str]) -> dict[str, LastPosition]:
        """The known last positions; empty when the table can't be reached."""
        wanted = list(senders)[:KEYS_MAX]
        if not wanted or self._resting():
            return {}
        request = {self._table: {"Keys": [{"sender": {"S": sender}} for sender in wanted]}}
        try:
            found = self._client.batch_get_item(RequestItems=request)["Responses"]
        except (BotoCoreError, ClientError):
            self._failed()
            return {}
        self._failures = 0
        return {item["sender"]["S"]: _position(item) for item in found.get(self._table, [])}

    def write(self, newest: Mapping[str, LastPosition]) -> None:
        """Keep these positions where they are newer than the known ones; failure is tolerated."""
        if not newest or self._resting():
            return
        writes: list[Future[None]] = [
            self._pool.submit(self._put, sender, position) for sender, position in newest.items()
        ]
        done, late = wait(writes, timeout=self._timeout_s)
        for future in late:
            future.cancel()
        if late or any(future.exception() is not None for future in done):
            self._failed()

    def _put(self, sender: str, position: LastPosition) -> None:
        fields = msgspec.to_builtins(position)
        item = {"sender": {"S": sender}, "transaction_id": {"S": fields.pop("transaction_id")}}
        numbers = {name: {"N": str(value)} for name, value in fields.items()}
        try:
            self._client.put_item(
                TableName=self._table,
                Item={**item, **numbers},
                ConditionExpression="attribute_not_exists(sender) OR observed_at_ms < :observed",
                ExpressionAttributeValues={":observed": {"N": str(position.observed_at_ms)}},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise

    def _resting(self) -> bool:
        return time.monotonic() < self._resting_until_s

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._resting_until_s = time.monotonic() + REST_S


def _position(item: Mapping[str, Mapping[str, str]]) -> LastPosition:
    return LastPosition(
        transaction_id=item["transaction_id"]["S"],
        latitude_e7=int(item["latitude_e7"]["N"]),
        longitude_e7=int(item["longitude_e7"]["N"]),
        accuracy_m=int(item["accuracy_m"]["N"]),
        observed_at_ms=int(item["observed_at_ms"]["N"]),
    )
