"""JSON secrets out of AWS Secrets Manager, kept for a short while by each execution environment."""

import json
import time
from typing import Any

from federation.limits import SECRET_TTL_S

_cache: dict[str, tuple[float, dict[str, Any]]] = {}


def read_secret(name: str, ttl_s: float = SECRET_TTL_S) -> dict[str, Any]:
    """The JSON object kept under `name`; at most `ttl_s` seconds old.

    If Secrets Manager can't be reached, a value read before goes on being used: a store's
    password is not less right for being a minute old, and money must not stop for it.

    Raises
    ------
    botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
        The secret can't be read and was never read before.
    """
    now_s = time.monotonic()
    known = _cache.get(name)
    if known is not None and now_s - known[0] < ttl_s:
        return known[1]
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        text = _client().get_secret_value(SecretId=name)["SecretString"]
    except (BotoCoreError, ClientError):
        if known is None:
            raise
        _cache[name] = (now_s, known[1])
        return known[1]
    value: dict[str, Any] = json.loads(text)
    _cache[name] = (now_s, value)
    return value


_clients: list[Any] = []


def _client() -> Any:
    if not _clients:
        import boto3
        from botocore.config import Config

        config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
        _clients.append(boto3.client("secretsmanager", config=config))
    return _clients[0]
