"""The last position of each sender, in DynamoDB; money never waits for it.

One BatchGetItem reads a batch's senders. Writes are conditional (a newer observation is never
overwritten by an older one), one for each sender, side by side: BatchWriteItem takes no condition,
and a transaction would let one stale sender spoil the others. If the table can't be reached the
travel rule is skipped, and after two failures not even tried for a while.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.breaker import Breaker
from pop.place import LastPosition

WRITES_AT_ONCE: Final = 8
#: No canary tries this table: a batch does, so often.
REST_S: Final = 15.0
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
        self._breaker = Breaker("positions", patience_s=REST_S)
        #: The batch that is in work may use the table: reading and writing are one try.
        self._allowed = False
        #: Senders whose last position the last `read` could not give, known or not.
        self.unread = 0

    def read(self, senders: Iterable[str]) -> dict[str, LastPosition]:
        """The known last positions; empty when the table can't be reached."""
        wanted = list(senders)[:KEYS_MAX]
        self.unread = len(wanted)
        self._allowed = bool(wanted) and self._breaker.allows()
        if not self._allowed:
            return {}
        request = {self._table: {"Keys": [{"sender": {"S": sender}} for sender in wanted]}}
        try:
            answer = self._client.batch_get_item(RequestItems=request)
        except (BotoCoreError, ClientError) as error:
            self._breaker.failed(type(error).__name__)
            self._allowed = False
            return {}
        self.unread = len(answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", ()))
        found = answer["Responses"].get(self._table, ())
        return {item["sender"]["S"]: _position(item) for item in found}

    def write(self, newest: Mapping[str, LastPosition]) -> None:
        """Keep these where they are newer than those that `read` gave before; failure is tolerated."""
        if not self._allowed:
            return
        if not newest:
            # Only a write that arrives as well tells that the table is well.
            self._breaker.abandoned()
            return
        writes: list[Future[None]] = [
            self._pool.submit(self._put, sender, position) for sender, position in newest.items()
        ]
        done, late = wait(writes, timeout=self._timeout_s)
        for future in late:
            future.cancel()
        failures = [error for future in done if (error := future.exception()) is not None]
        if late or failures:
            self._breaker.failed(type(failures[0]).__name__ if failures else "no answer in time")
        else:
            self._breaker.succeeded()

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


def _position(item: Mapping[str, Mapping[str, str]]) -> LastPosition:
    return LastPosition(
        transaction_id=item["transaction_id"]["S"],
        latitude_e7=int(item["latitude_e7"]["N"]),
        longitude_e7=int(item["longitude_e7"]["N"]),
        accuracy_m=int(item["accuracy_m"]["N"]),
        observed_at_ms=int(item["observed_at_ms"]["N"]),
    )
