"""JSON secrets out of AWS Secrets Manager, kept for a short while by each execution environment."""

import functools
import json
import time
from typing import Any

from federation.limits import (
    SECRET_TTL_S,
    SETTING_ATTEMPTS_MAX,
    SETTING_CONNECT_TIMEOUT_S,
    SETTING_READ_TIMEOUT_S,
)

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
        text = fetch_secret(name)
    except (BotoCoreError, ClientError):
        if known is None:
            raise
        _cache[name] = (now_s, known[1])
        return known[1]
    value: dict[str, Any] = json.loads(text)
    _cache[name] = (now_s, value)
    return value


def fetch_secret(name: str) -> str:
    """The text kept under `name`, read now.

    Raises
    ------
    botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError
        It can't be read.
    """
    return str(settings_client("secretsmanager").get_secret_value(SecretId=name)["SecretString"])


@functools.cache
def settings_client(service: str) -> Any:
    """A boto3 client that reads settings: it gives up soon, as somebody waits for the answer."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=SETTING_CONNECT_TIMEOUT_S,
        read_timeout=SETTING_READ_TIMEOUT_S,
        retries={"total_max_attempts": SETTING_ATTEMPTS_MAX},
    )
    return boto3.client(service, config=config)  # type: ignore[call-overload]
