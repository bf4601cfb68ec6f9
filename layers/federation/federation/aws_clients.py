"""The one place that makes DynamoDB clients: with named time limits and, where set, a certificate."""

from pathlib import Path
from typing import Any

import msgspec

from federation.errors import SettingsError
from federation.limits import DYNAMODB_CONNECTIONS_MAX
from federation.settings import load_settings


class DynamodbAccess(msgspec.Struct, frozen=True):
    """How DynamoDB, or the gateway in front of it, is reached."""

    dynamodb_client_certificate_file: str = ""


def dynamodb_client(
    connect_timeout_ms: int,
    read_timeout_ms: int,
    connections_max: int = DYNAMODB_CONNECTIONS_MAX,
) -> Any:
    """A boto3 DynamoDB client that tries once: whoever waits decides what comes next.

    AWS checks who calls by SigV4 and IAM and takes no client certificate. A gateway in front of
    the service (on premises, and in the local stack) may ask for one: `DYNAMODB_CLIENT_CERTIFICATE_FILE`
    names a PEM file that holds certificate and private key. The file is read for each new
    connection, so a replaced one is used without a restart.

    Parameters
    ----------
    connect_timeout_ms, read_timeout_ms : int
        How long a connection, and each part of an answer, is waited for.
    connections_max : int
        Connections that are kept open.

    Raises
    ------
    SettingsError
        The named file can't be read.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=connect_timeout_ms / 1000,
        read_timeout=read_timeout_ms / 1000,
        retries={"total_max_attempts": 1},
        max_pool_connections=connections_max,
        client_cert=_certificate_file(),
    )
    return boto3.client("dynamodb", config=config)


def _certificate_file() -> str | None:
    name = load_settings(DynamodbAccess).dynamodb_client_certificate_file
    if not name:
        return None
    try:
        with Path(name).open("rb"):
            return name
    except OSError as error:
        reason = f"DYNAMODB_CLIENT_CERTIFICATE_FILE {name!r} can't be read: {error.strerror}"
        raise SettingsError([reason]) from None
