"""A delegate as a service: health, drain, metrics, reflection; bad requests and bad machines."""

import datetime
import json
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from voting.node_process import node_ports, signed_header
from voting.served_node import WAIT_S, ServedNode, status_of, until

from love_node.delegate import MESSAGE_BYTES_MAX
from love_node.locks import VoteLocks
from love_node.v1 import node_pb2
from lovectl.delegates import EPOCH, make_delegates
from lovectl.pki import TransportPki

VOTE = "/love.node.v1.DelegateService/Vote"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def stopped(tmp_path: Path, transport_pki: TransportPki) -> ServedNode:
    *ports, http_port = node_ports(1)
    delegate = make_delegates(tmp_path / "nodes", ports, transport_pki)[0]
    node = ServedNode(delegate, transport_pki, tmp_path / "node.log")
    node.http_port = http_port
    node.configure(http_address=f"127.0.0.1:{http_port}", level="city")
    return node


@pytest.fixture
def node(stopped: ServedNode) -> Iterator[ServedNode]:
    stopped.server.start()
    try:
        yield stopped
    finally:
        stopped.server.stop()


@pytest.mark.parametrize(
    ("message", "status", "reason"),
    [
        pytest.param(
            node_pb2.VoteRequest(epoch=EPOCH + 1, items=[signed_header(1)]).SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
            "future_epoch",
            id="an epoch in the future",
        ),
        pytest.param(
            node_pb2.VoteRequest(
                epoch=EPOCH, items=[node_pb2.SignedHeader(header=b"{}")] * 10_001
            ).SerializeToString(),
            grpc.StatusCode.INVALID_ARGUMENT,
            "too_many_items",
            id="10,001 items",
        ),
        pytest.param(
            bytes(33 * 1024 * 1024),
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "no_whole_message",
            id="33 MiB",
        ),
        pytest.param(
            b"\xff" * 4_000,
            grpc.StatusCode.INVALID_ARGUMENT,
            "malformed_message",
            id="garbage",
        ),
    ],
)
def test_a_bad_request_gets_its_status_is_audited_and_the_next_one_is_served(
    node: ServedNode, message: bytes, status: grpc.StatusCode, reason: str
) -> None:
    assert status_of(node, VOTE, message) == status
    [vote] = node.vote(signed_header(1))
    assert vote.status == node_pb2.Vote.STATUS_SIGNED
    until(lambda: bool(node.refusals()))
    [event] = node.refusals()
    assert (event["specversion"], event["source"]) == ("1.0", node.delegate.delegate_id)
    assert event["data"]["reason"] == reason
    assert event["data"]["address"].startswith("ipv4:127.0.0.1:")
    assert "CN=" in event["subject"]
    assert node.figure(f'love_node_refusals_total{{reason="{reason}"}}') == 1


def test_a_message_just_within_the_limit_is_read(node: ServedNode) -> None:
    request = node_pb2.VoteRequest(epoch=EPOCH, items=[node_pb2.SignedHeader(header=b"{}")])
    request.items[0].signature = bytes(MESSAGE_BYTES_MAX - 100)
    with node.channel() as channel:
        answer = channel.unary_unary(VOTE)(request.SerializeToString(), timeout=WAIT_S)
    [vote] = node_pb2.VoteResponse.FromString(answer).votes
    assert vote.status == node_pb2.Vote.STATUS_REFUSED


def test_refused_items_are_audited_by_reason_and_counted(node: ServedNode) -> None:
    rival = signed_header(1, amount=2)
    node.vote(signed_header(1), signed_header(2))
    node.vote(rival, rival)
    [event] = node.refusals()
    assert event["data"]["reason"] == "nonce_locked"
    assert event["data"]["detail"] == "2 of 2 items"
    assert node.figure('love_node_votes_total{result="signed"}') == 2
    assert node.figure('love_node_refusals_total{reason="nonce_locked"}') == 2
    assert node.figure("love_node_locks") == 2
    assert node.figure("love_node_vote_seconds_count") == 2
    # One at the start, to see that the disk can be written.
    assert node.figure("love_node_commit_seconds_count") == 3
    assert 'kind="light"' in node.http("/metrics")[1]


def test_reflection_names_the_service_and_its_messages(node: ServedNode) -> None:
    with node.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"love.node.v1.DelegateService", "grpc.health.v1.Health"} <= set(
            database.get_services()
        )
        file = database.FindFileContainingSymbol("love.node.v1.DelegateService")
    assert [one.name for one in file.service[0].method][:1] == ["Vote"]


def test_on_sigterm_health_says_so_and_the_vote_in_flight_is_still_given(
    stopped: ServedNode,
) -> None:
    # The call is in flight from its start; its message comes when the node has been told to end.
    stopped.configure(drain_s=WAIT_S)
    stopped.server.start()
    told_to_end = threading.Event()

    def message() -> Iterator[bytes]:
        told_to_end.wait(WAIT_S)
        yield node_pb2.VoteRequest(epoch=EPOCH, items=[signed_header(1)]).SerializeToString()

    with stopped.channel() as channel:
        told = iter(
            health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest(service="love.node.v1.DelegateService"),
                timeout=WAIT_S,
            )
        )
        assert next(told).status == SERVING
        call = channel.stream_unary(VOTE).future(message(), timeout=2 * WAIT_S)
        until(lambda: stopped.figure("love_node_votes_in_flight") == 1)
        assert stopped.server.identity is not None
        stopped.server.identity.send(signal.SIGTERM)
        assert next(told).status == NOT_SERVING
        assert stopped.http("/healthz")[0] == 503
        told_to_end.set()
        [vote] = node_pb2.VoteResponse.FromString(call.result()).votes
        assert vote.status == node_pb2.Vote.STATUS_SIGNED
    stopped.server.stop()


def test_without_its_database_a_node_is_not_serving_until_it_can_write_again(
    node: ServedNode,
) -> None:
    assert node.http("/healthz") == (200, "SERVING\n")
    writer = sqlite3.connect(node.delegate.directory / "votes.sqlite3", isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    request = node_pb2.VoteRequest(epoch=EPOCH, items=[signed_header(1)])
    assert status_of(node, VOTE, request.SerializeToString()) == grpc.StatusCode.INTERNAL
    assert node.http("/healthz")[0] == 503
    with node.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        asked = health.Check(health_pb2.HealthCheckRequest(service="love.node.v1.DelegateService"))
        assert asked.status == NOT_SERVING
    writer.execute("ROLLBACK")
    writer.close()
    until(lambda: node.http("/healthz")[0] == 200)
    assert node.vote(signed_header(1))[0].status == node_pb2.Vote.STATUS_SIGNED


def test_a_full_disk_is_said_at_start(stopped: ServedNode) -> None:
    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    assert "love-node: database" in stopped.refused_at_start(preexec_fn=no_room)


def test_a_damaged_database_is_said_at_start(stopped: ServedNode) -> None:
    (stopped.delegate.directory / "votes.sqlite3").write_bytes(b"not a database" * 400)
    assert "file is not a database" in stopped.refused_at_start()


def test_a_clock_behind_the_last_vote_is_said_at_start(node: ServedNode) -> None:
    node.vote(signed_header(1))
    node.server.stop()
    ahead_ms = int(time.time() * 1000) + 3_600_000
    ahead = VoteLocks(node.delegate.directory / "votes.sqlite3", now_ms=lambda: ahead_ms)
    ahead.probe()
    ahead.close()
    assert "behind the last vote; clock_tolerance_s is 60" in node.refused_at_start()
    node.configure(clock_tolerance_s=7_200)
    node.server.start()
    assert node.vote(signed_header(2))[0].status == node_pb2.Vote.STATUS_SIGNED


def test_a_level_by_the_command_line_goes_before_the_files(stopped: ServedNode) -> None:
    command = [
        sys.executable, "-m", "love_node",
        "--config", str(stopped.delegate.config_file), "--level", "global",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        # A full node may have something to tell of its peers first.
        ready = next(one for one in map(json.loads, process.stdout) if "ready" in one)
        assert ready["level"] == "global"
        assert 'kind="full"' in stopped.http("/metrics")[1]
        process.terminate()
    assert process.returncode == 0


def test_a_clock_outside_the_certificates_validity_is_wrong(transport_pki: TransportPki) -> None:
    from love_node.clock import check_clock
    from love_node.errors import WrongClock

    certificate = transport_pki.server_certificate_file.read_bytes()
    now = datetime.datetime.now(datetime.UTC)
    check_clock(now, certificate, 0, 0)
    for days in (-1, 400):
        with pytest.raises(WrongClock, match="validity of server_cert_pem_file"):
            check_clock(now + datetime.timedelta(days=days), certificate, 0, 0)
