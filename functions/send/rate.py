"""How much a sender may ask for: a token bucket each, kept in DynamoDB as one number (GCRA).

The generic cell rate algorithm (ITU-T I.371) keeps a bucket as the time at which it is full again,
its theoretical arrival time. One conditional update moves it, so that no two callers can spend the
same token, wherever they run.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.errors import SettingsError
from federation.limits import REQUEST_BATCH_ITEMS_MAX

#: A bucket that is full again needs no record; DynamoDB deletes it some time after this.
KEPT_S: Final = 3600
#: Buckets that one execution environment remembers.
BUCKETS_MAX: Final = 10_000
#: After a failure the table is left alone for so long: its time-out is paid once, not each time.
REST_S: Final = 1.0
_US: Final = 1_000_000


class Rate(msgspec.Struct, frozen=True):
    """Tokens that come back a second, and how many a full bucket holds."""

    per_s: int
    burst: int

    def check(self) -> "Rate":
        """This rate, if a whole batch can pass at all.

        Raises
        ------
        SettingsError
        """
        if self.per_s < 1 or self.burst < REQUEST_BATCH_ITEMS_MAX:
            raise SettingsError(
                [
                    f"RATE_PER_S is at least 1 and RATE_BURST at least {REQUEST_BATCH_ITEMS_MAX}: "
                    "a batch is taken whole or not at all"
                ]
            )
        return self

    @property
    def token_us(self) -> int:
        """Microseconds until one token comes back."""
        return math.ceil(_US / self.per_s)

    @property
    def full_us(self) -> int:
        """Microseconds until an empty bucket is full."""
        return self.token_us * self.burst


class Spent(msgspec.Struct, frozen=True):
    """What became of a request for tokens.

    Attributes
    ----------
    remaining : int
        Tokens left.
    full_in_s, retry_after_s : int
        Until the bucket is full; until this very request can pass (0 if it did).
    """

    allowed: bool
    remaining: int
    full_in_s: int
    retry_after_s: int


class SenderRate:
    """The buckets of all senders.

    While the table can't be reached in time, each execution environment counts by itself, from what
    it knows: a sender may get more than his rate then, but money flows.

    Parameters
    ----------
    client : boto3 DynamoDB client
        Its time-outs are what a request may wait for the table.
    table : str
        With key `pk`, and time to live by `expires_at_s`; this class uses keys `rate#…`.
    clock_s : callable, optional
        Unix time in seconds.
    failed : callable, optional
        Called with a sentence when the table is given up for a while.
    """

    def __init__(
        self,
        client: Any,
        table: str,
        rate: Rate,
        clock_s: Callable[[], float] = time.time,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        self._client = client
        self._table = table
        self._rate = rate.check()
        self._clock_s = clock_s
        self._failed = failed
        self._resting_until_s = 0.0
        #: Sender to theoretical arrival time, as last seen here.
        self._known: OrderedDict[str, int] = OrderedDict()

    def spend(self, sender: str, cost: int) -> Spent:
        """Take `cost` tokens out of the sender's bucket, all or none."""
        now_s = self._clock_s()
        now_us = int(now_s * _US)
        cost_us = cost * self._rate.token_us
        if now_s < self._resting_until_s:
            return self._spend_here(sender, now_us, cost_us)
        try:
            return self._spend_there(sender, now_us, cost_us)
        except (BotoCoreError, ClientError) as error:
            self._resting_until_s = now_s + REST_S
            if self._failed is not None:
                self._failed(f"rates are counted here for a while: {type(error).__name__}")
            return self._spend_here(sender, now_us, cost_us)

    def _spend_here(self, sender: str, now_us: int, cost_us: int) -> Spent:
        arrival_us = max(self._known.get(sender, 0), now_us)
        if arrival_us + cost_us - now_us > self._rate.full_us:
            return self._refused(arrival_us, now_us, cost_us)
        return self._allowed(sender, arrival_us + cost_us, now_us)

    def _spend_there(self, sender: str, now_us: int, cost_us: int) -> Spent:
        """One update, as a rule; two when the bucket is not as this environment knows it.

        An expression can't take the greater of two numbers, so an update is either for a bucket
        that is full by now, or for one that isn't; its condition says for which. The time only
        grows: once a bucket was found not to be full at `now_us`, it stays so.
        """
        was_full = self._known.get(sender, 0) < now_us
        for full in (was_full, not was_full, was_full):
            arrival_us, passed = self._update(sender, now_us, cost_us, full)
            if passed:
                return self._allowed(sender, arrival_us, now_us)
            if arrival_us >= now_us and arrival_us + cost_us - now_us > self._rate.full_us:
                self._remember(sender, arrival_us)
                return self._refused(arrival_us, now_us, cost_us)
        return self._refused(max(arrival_us, now_us), now_us, cost_us)

    def _update(self, sender: str, now_us: int, cost_us: int, full: bool) -> tuple[int, bool]:
        """The bucket's time after a successful update, else as it is; whether it succeeded."""
        values = {":now": now_us, ":cost": cost_us}
        if full:
            values[":next"] = now_us + values.pop(":cost")
            change = "SET arrival_us = :next"
            condition = "attribute_not_exists(arrival_us) OR arrival_us < :now"
        else:
            values[":last"] = now_us + self._rate.full_us - cost_us
            change = "SET arrival_us = arrival_us + :cost"
            condition = "arrival_us BETWEEN :now AND :last"
        values[":expires"] = now_us // _US + KEPT_S
        try:
            answer = self._client.update_item(
                TableName=self._table,
                Key={"pk": {"S": f"rate#{sender}"}},
                UpdateExpression=f"{change}, expires_at_s = :expires",
                ConditionExpression=condition,
                ExpressionAttributeValues={
                    name: {"N": str(value)} for name, value in values.items()
                },
                ReturnValues="UPDATED_NEW",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            found: Any = error.response.get("Item") or {}
            return int(found.get("arrival_us", {"N": "0"})["N"]), False
        return int(answer["Attributes"]["arrival_us"]["N"]), True

    def _allowed(self, sender: str, arrival_us: int, now_us: int) -> Spent:
        self._remember(sender, arrival_us)
        ahead_us = max(0, arrival_us - now_us)
        remaining = max(0, self._rate.full_us - ahead_us) // self._rate.token_us
        return Spent(True, remaining, math.ceil(ahead_us / _US), 0)

    def _refused(self, arrival_us: int, now_us: int, cost_us: int) -> Spent:
        ahead_us = arrival_us - now_us
        wait_us = ahead_us + cost_us - self._rate.full_us
        return Spent(
            False,
            max(0, self._rate.full_us - ahead_us) // self._rate.token_us,
            math.ceil(ahead_us / _US),
            max(1, math.ceil(wait_us / _US)),
        )

    def _remember(self, sender: str, arrival_us: int) -> None:
        self._known[sender] = arrival_us
        self._known.move_to_end(sender)
        if len(self._known) > BUCKETS_MAX:
            self._known.popitem(last=False)


def rate_headers(rate: Rate, spent: Spent) -> dict[str, str]:
    """What a caller may know of his bucket (draft-ietf-httpapi-ratelimit-headers)."""
    window_s = math.ceil(rate.burst / rate.per_s)
    return {
        "RateLimit-Policy": f'"sender";q={rate.burst};w={window_s}',
        "RateLimit": f'"sender";r={spent.remaining};t={spent.full_in_s}',
    }
