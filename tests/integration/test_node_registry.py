"""A delegate believes the registry that is signed, and no list that somebody wrote into its files."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from voting.node_process import node_ports, signed_header
from voting.served_node import ServedNode

from federation.registry import Registry
from love_node.v1 import node_pb2
from lovectl.delegates import EPOCH, Delegate, genesis, give_registry, make_delegates
from lovectl.pki import TransportPki
from lovectl.registry_stack import sign


@pytest.fixture
def delegates(tmp_path: Path, transport_pki: TransportPki) -> list[Delegate]:
    return make_delegates(tmp_path / "nodes", node_ports(), transport_pki)


@pytest.fixture
def first(delegates: list[Delegate]) -> Registry:
    return genesis(delegates, lambda each: f"{each}.example:50051")


@pytest.fixture
def node(
    delegates: list[Delegate], transport_pki: TransportPki, tmp_path: Path
) -> Iterator[ServedNode]:
    """The first delegate; it is started by the test."""
    made = ServedNode(delegates[0], transport_pki, tmp_path / "node.log")
    yield made
    if made.server.identity is not None:
        made.server.stop()


def followed(first: Registry, signers: list[Delegate]) -> Registry:
    """The registry of the next epoch, with these delegates' signatures."""
    change = msgspec.structs.replace(first, epoch=EPOCH + 1, previous=first.digest, signatures=[])
    keys = [
        (one.delegate_id, load_pem_private_key((one.directory / "key.pem").read_bytes(), None))
        for one in signers
    ]
    return sign(change, keys)


def test_a_node_votes_in_the_epoch_of_the_signed_chain_whatever_its_configuration_says(
    node: ServedNode, delegates: list[Delegate], first: Registry
) -> None:
    give_registry(node.delegate.directory, [first, followed(first, delegates)])
    node.configure(epoch=EPOCH + 7)
    node.server.start()
    [vote] = node.vote(signed_header(1), epoch=EPOCH + 1)
    assert vote.status == node_pb2.Vote.STATUS_SIGNED
    [late] = node.vote(signed_header(2), epoch=EPOCH)
    assert late.reason == "wrong_epoch"


@pytest.mark.parametrize("signers", [0, 3])
def test_a_node_does_not_start_by_a_change_that_less_than_two_thirds_have_signed(
    signers: int, node: ServedNode, delegates: list[Delegate], first: Registry
) -> None:
    # Three of the four light delegates have 9 of 15 million.
    give_registry(node.delegate.directory, [first, followed(first, delegates[:signers])])
    assert "not_enough_stake" in node.refused_at_start()


def test_a_node_does_not_start_by_a_chain_that_begins_elsewhere_than_at_its_pin(
    node: ServedNode, first: Registry
) -> None:
    give_registry(node.delegate.directory, [first])
    node.configure(registry_pin="0" * 64)
    assert "not_pinned" in node.refused_at_start()


def test_a_node_does_not_start_on_another_level_than_it_was_elected_for(
    node: ServedNode, first: Registry
) -> None:
    give_registry(node.delegate.directory, [first])
    said = node.refused_at_start("--level", "global")
    assert "as city" in said
    assert "not as global" in said


def test_a_node_does_not_start_with_another_key_than_it_was_elected_with(
    node: ServedNode, delegates: list[Delegate], first: Registry
) -> None:
    give_registry(node.delegate.directory, [first])
    node.configure(private_key_file=str(delegates[1].directory / "key.pem"))
    assert "with another key" in node.refused_at_start()
