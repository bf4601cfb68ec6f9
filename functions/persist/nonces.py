"""The nonces of signed queries, each used once: a conditional put in DynamoDB, gone after a while."""

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from federation.limits import QUERY_AGE_S_MAX, QUERY_AHEAD_S_MAX
from persist.readers import NoncesUnavailable

#: Longer than any query that carries it is fresh. DynamoDB deletes late, never early.
KEPT_S: Final = QUERY_AGE_S_MAX + QUERY_AHEAD_S_MAX + 60
CONNECT_TIMEOUT_MS: Final = 500
READ_TIMEOUT_MS: Final = 1_000


class QueryNonces:
    """Remembers which query used which nonce.

    Parameters
    ----------
    client : boto3 DynamoDB client
    table : str
        With key `pk`, and time to live by `expires_at_s`; this class uses keys `nonce#…`.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def use(self, delegate_id: str, nonce: str, request_id: str, now_s: int) -> bool:
        """Whether no other request used the nonce; from now on it is this one's.

        The tiers that are asked for the sake of one request share its nonce by `request_id`, which
        API Gateway makes.

        Raises
        ------
        NoncesUnavailable
        """
        try:
            self._client.put_item(
                TableName=self._table,
                Item={
                    "pk": {"S": f"nonce#{delegate_id}#{nonce}"},
                    "request_id": {"S": request_id},
                    "expires_at_s": {"N": str(now_s + KEPT_S)},
                },
                ConditionExpression="attribute_not_exists(pk) OR request_id = :this",
                ExpressionAttributeValues={":this": {"S": request_id}},
            )
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalCheckFailedException":
                return False
            raise NoncesUnavailable(f"nonces: {code}") from error
        except BotoCoreError as error:
            raise NoncesUnavailable(f"nonces: {type(error).__name__}") from error
        return True


def connect_nonces(table: str) -> QueryNonces:
    """The nonces of this account and region."""
    from federation.aws_clients import dynamodb_client

    client = dynamodb_client(CONNECT_TIMEOUT_MS, READ_TIMEOUT_MS, connections_max=1)
    return QueryNonces(client, table)
