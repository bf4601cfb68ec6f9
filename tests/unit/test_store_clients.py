"""The clients of DynamoDB and immuDB: their certificates come from settings, and none is left out."""

import asyncio
from pathlib import Path

import pytest

from federation.aws_clients import dynamodb_client
from federation.errors import SettingsError
from federation.immudb_channel import open_channel
from lovectl.processes import LOOPBACK, free_ports
from persist.cluster_nodes import knock

CERTIFICATE = "DYNAMODB_CLIENT_CERTIFICATE_FILE"
SECRET = {"address": "127.0.0.1:1", "server_ca_pem": "a CA", "client_pem": "key and certificate"}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a function, as far as a client needs it to be made."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.delenv(CERTIFICATE, raising=False)


def test_a_client_of_dynamodb_tries_once_within_its_limits() -> None:
    config = dynamodb_client(120, 800, connections_max=3).meta.config
    assert (config.connect_timeout, config.read_timeout) == (0.12, 0.8)
    assert (config.retries["total_max_attempts"], config.max_pool_connections) == (1, 3)


def test_dynamodb_is_shown_no_certificate_unless_one_is_set() -> None:
    assert dynamodb_client(100, 100).meta.config.client_cert is None


def test_dynamodb_is_shown_the_certificate_that_is_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "client.pem"
    file.touch()
    monkeypatch.setenv(CERTIFICATE, str(file))
    assert dynamodb_client(100, 100).meta.config.client_cert == str(file)


def test_a_certificate_that_is_set_but_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CERTIFICATE, str(tmp_path / "none.pem"))
    with pytest.raises(SettingsError, match=rf"{CERTIFICATE} '.*none\.pem' can't be read: No such"):
        dynamodb_client(100, 100)


@pytest.mark.parametrize("member", ["address", "server_ca_pem", "client_pem"])
def test_there_is_no_channel_to_immudb_without_both_certificates(member: str) -> None:
    with pytest.raises(SettingsError, match=f"the secret of immuDB has no {member}"):
        open_channel({**SECRET, member: ""})
    with pytest.raises(SettingsError, match=f"the secret of immuDB has no {member}"):
        open_channel({name: value for name, value in SECRET.items() if name != member})


async def test_a_cluster_one_of_whose_servers_is_down_is_there_and_one_without_any_is_not() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    [closed] = free_ports(1)
    async with server:
        await knock([(LOOPBACK, closed), (LOOPBACK, port)], 1.0)
    with pytest.raises(OSError):
        await knock([(LOOPBACK, closed)], 1.0)
