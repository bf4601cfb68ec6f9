"""A delegate in its container: hardened as compose.yaml says, and true to its promises through restarts."""

import urllib.request

import grpc
import pytest
from containers.conftest import Compose
from engine.docker import Docker
from voting.node_process import signed_header

from love_node.v1 import node_pb2, node_pb2_grpc
from lovectl.compose_keys import METRICS_PORT, NODE_PORT
from lovectl.delegates import EPOCH, LEVELS, NODES

pytestmark = pytest.mark.containers


def vote(compose: Compose, name: str, item: node_pb2.SignedHeader) -> node_pb2.Vote:
    """This delegate's vote, asked as the API asks: by name, with the client's certificate."""
    api = compose.keys / "api"
    credentials = grpc.ssl_channel_credentials(
        (api / "ca.pem").read_bytes(),
        (api / "client-key.pem").read_bytes(),
        (api / "client.pem").read_bytes(),
    )
    options = [("grpc.ssl_target_name_override", name)]
    target = f"{compose.address(name, 'votes')}:{NODE_PORT}"
    with grpc.secure_channel(target, credentials, options) as channel:
        stub = node_pb2_grpc.DelegateServiceStub(channel)  # type: ignore[no-untyped-call]
        [answer] = stub.Vote(node_pb2.VoteRequest(epoch=EPOCH, items=[item]), timeout=20).votes
    return answer


def metrics(compose: Compose, name: str) -> str:
    """What Prometheus would read, on the network that it shares with the delegates."""
    url = f"http://{compose.address(name, 'metrics')}:{METRICS_PORT}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("name", NODES)
def test_a_delegate_is_healthy_by_its_health_check_and_of_its_level(
    name: str, delegates: Compose
) -> None:
    assert delegates.inspect(name)["State"]["Health"]["Status"] == "healthy"
    assert f'level="{LEVELS[name]}"' in metrics(delegates, name)


def test_the_process_is_not_root_and_can_gain_nothing(delegates: Compose) -> None:
    status = delegates.inside("node-tokyo", "cat", "/proc/self/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Uid"].split() == ["65532"] * 4
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"] == "1"


@pytest.mark.parametrize("path", ["/x", "/opt/love/x", "/run/love/x", "/etc/x"])
def test_only_the_vote_locks_and_scratch_space_can_be_written(
    path: str, delegates: Compose
) -> None:
    written = delegates.inside("node-tokyo", "touch", path)
    assert written.returncode != 0
    assert "Read-only file system" in written.stderr
    assert delegates.inside("node-tokyo", "touch", "/tmp/x").returncode == 0
    assert (
        delegates.inside("node-tokyo", "test", "-s", "/var/lib/love/votes.sqlite3").returncode == 0
    )


def test_a_delegate_sees_no_keys_but_its_own(delegates: Compose) -> None:
    seen = delegates.inside("node-tokyo", "ls", "/run/love").stdout.split()
    assert sorted(seen) == sorted(each.name for each in (delegates.keys / "node-tokyo").iterdir())


def test_the_image_holds_no_keys_and_no_compiler(docker: Docker, node_image: str) -> None:
    found = docker.says(
        *("run", "--rm", "--network=none", "--entrypoint=/bin/sh", node_image, "-c"),
        "find / -xdev -name '*key*.pem' -not -path '/usr/*' -not -path '/opt/love/lib/*';"
        " ls /usr/bin/gcc /usr/local/cargo 2>/dev/null; true",
    )
    assert found == ""


def test_every_delegate_votes_over_mutual_tls(delegates: Compose) -> None:
    for name in NODES:
        assert vote(delegates, name, signed_header(1)).status == node_pb2.Vote.STATUS_SIGNED
    assert 'love_node_votes_total{result="signed"} 1.0' in metrics(delegates, "node-tokyo")


def test_a_promise_outlives_the_container(delegates: Compose) -> None:
    first = vote(delegates, "node-nairobi", signed_header(7, amount=1))
    assert first.status == node_pb2.Vote.STATUS_SIGNED
    before = delegates.inspect("node-nairobi")["Id"]
    delegates.run("up", "--detach", "--no-build", "--force-recreate", "--wait", "node-nairobi")
    assert delegates.inspect("node-nairobi")["Id"] != before
    second = vote(delegates, "node-nairobi", signed_header(7, amount=2))
    assert second.status == node_pb2.Vote.STATUS_REFUSED
    assert second.reason == "nonce_locked"
    assert second.locked_transaction_id == first.transaction_id


def test_sigterm_drains_a_delegate_and_ends_it_well(delegates: Compose) -> None:
    delegates.run("stop", "node-santiago")
    state = delegates.inspect("node-santiago")["State"]
    assert state["ExitCode"] == 0
    delegates.run("up", "--detach", "--no-build", "--wait", "node-santiago")
