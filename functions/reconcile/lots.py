"""Where poison messages are parked: the fallback table, else immuDB."""

from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.immudb_session import ConditionFailed, absent
from persist.immudb_tier import ImmudbTier
from persist.tier import TierUnavailable
from reconcile.dead_letters import ParkedMessage

PARKED: Final = "parked"


class DynamodbLot:
    """Items `parked#…`, which never expire.

    Parameters
    ----------
    client : boto3 DynamoDB client
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def park(self, message: ParkedMessage) -> None:
        """A conditional put: the first time and reason stay."""
        item = {
            "pk": {"S": f"{PARKED}#{message.digest}"},
            "message_id": {"S": message.message_id},
            "reason": {"S": message.reason},
            "body": {"S": message.body},
            "parked_at_ms": {"N": str(message.parked_at_ms)},
        }
        try:
            self._client.put_item(
                TableName=self._table, Item=item, ConditionExpression="attribute_not_exists(pk)"
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code != "ConditionalCheckFailedException":
                raise TierUnavailable(f"DynamoDB: {code}") from error
        except BotoCoreError as error:
            raise TierUnavailable(f"DynamoDB: {type(error).__name__}") from error


class ImmudbLot:
    """Entries `parked:message:…`."""

    def __init__(self, tier: ImmudbTier) -> None:
        self._tier = tier

    def park(self, message: ParkedMessage) -> None:
        """Under its digest, unless it lies there."""
        key = f"{PARKED}:message:{message.digest}".encode()
        entries = {key: msgspec.json.encode(message)}
        try:
            self._tier.within_session(lambda session: session.set(entries, [absent(key)]))
        except ConditionFailed:
            return
