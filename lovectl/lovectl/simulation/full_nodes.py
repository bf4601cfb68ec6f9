"""Asks full nodes straight for what they keep, and believes only what is signed."""

import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import grpc

from love_node.config import NodeConfig, PublicDelegate, electorate_of, load_config
from love_node.fetched import FETCH_IDS_MAX, NONCE_BYTES_MIN, check_fetched
from love_node.kept import KeptItem, PublicKey
from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.delegates import CONFIG_FILE, FULL_NODES, NODES_DIRECTORY
from lovectl.pki import TransportPki

CALL_TIMEOUT_S: Final = 10.0
MESSAGE_BYTES_MAX: Final = 4 * 1024 * 1024


class FullNodes:
    """The full nodes of a running stack, round their proxies.

    Parameters
    ----------
    directory : Path
        The stack's.
    """

    def __init__(self, directory: Path, pki: TransportPki) -> None:
        self._configs = {
            name: load_config(directory / NODES_DIRECTORY / name / CONFIG_FILE)
            for name in FULL_NODES
        }
        self._pki = pki

    @property
    def delegates(self) -> tuple[PublicDelegate, ...]:
        """All delegates of the epoch, as the full nodes know them."""
        return next(iter(self._configs.values())).delegates_public

    @property
    def epoch(self) -> int:
        """The epoch that they vote in."""
        return next(iter(self._configs.values())).epoch

    def keepers(self, transaction_ids: Collection[bytes]) -> dict[bytes, dict[str, KeptItem]]:
        """Who keeps each of these, and what.

        Raises
        ------
        love_node.fetched.NotGenuine
            An answer isn't signed by the node's key, or not about this query.
        grpc.RpcError
            A node doesn't answer.
        """
        found: dict[bytes, dict[str, KeptItem]] = {one: {} for one in transaction_ids}
        for name, config in self._configs.items():
            for item in self._fetch(config, list(found)):
                found[item.transaction_id][name] = item
        return found

    def _fetch(self, config: NodeConfig, transaction_ids: list[bytes]) -> list[KeptItem]:
        electorate = electorate_of(config.delegates_public)
        key: PublicKey = electorate[config.delegate_id]
        client = self._pki.client_pem_file.read_bytes()
        credentials = grpc.ssl_channel_credentials(self._pki.ca_file.read_bytes(), client, client)
        options = [("grpc.max_receive_message_length", MESSAGE_BYTES_MAX)]
        kept: list[KeptItem] = []
        with grpc.secure_channel(config.address, credentials, options) as channel:
            stub: Any = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
            left = transaction_ids
            while left:
                request = node_pb2.FetchRequest(
                    nonce=secrets.token_bytes(NONCE_BYTES_MIN), transaction_ids=left[:FETCH_IDS_MAX]
                )
                response = stub.Fetch(request, timeout=CALL_TIMEOUT_S)
                fetched = check_fetched(
                    request, response, config.delegate_id, key, electorate, config.epoch
                )
                kept += fetched.items
                left = [*left[FETCH_IDS_MAX:], *fetched.left_ids]
        return kept
