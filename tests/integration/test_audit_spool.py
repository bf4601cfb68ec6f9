"""The spool on a real FIFO queue keeps its order, and the use of real keys gets into it."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from one_cluster import router_to

from federation import audit
from federation.audit_spool import AuditSpool
from federation.backoff import put_back
from federation.limits import AUDIT_REST_S
from federation.regions import CONTINENTS
from federation.telemetry import stage_logger
from lovectl.processes import free_ports
from lovectl.servers import LOCAL_REGION, aws_client, session_arguments
from persist import login
from persist.atlas import AtlasSettings, AtlasTier
from persist.field_encryption import FieldKeys, aws_credentials
from persist.immudb_tier import ImmudbTier
from persist.kms_encryption import KmsEncryption
from persist.login import Handshake, note_failure
from persist.motor_db_handler import MotorDBHandler
from persist.tier import TierUnavailable, ping

LOG = stage_logger("audit")


class Handle:
    """A received message, as `put_back` needs it."""

    def __init__(self, message: Any) -> None:
        self.receipt_handle: str = message["ReceiptHandle"]
        self.receive_count = 0


@pytest.fixture
def queue(ministack: Any, request: pytest.FixtureRequest) -> str:
    """A FIFO queue of the local AWS."""
    made = ministack.client("sqs").create_queue(
        QueueName=f"{request.node.name[-60:].strip('[]')}.fifo",
        Attributes={"FifoQueue": "true", "VisibilityTimeout": "60"},
    )
    return str(made["QueueUrl"])


@pytest.fixture
def sqs(ministack: Any) -> Any:
    return ministack.client("sqs")


def receive(sqs: Any, queue: str, most: int = 10) -> list[Any]:
    answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=most)
    return list(answer.get("Messages", []))


def ids(messages: list[Any]) -> list[str]:
    return [json.loads(one["Body"])["id"] for one in messages]


def fill(sqs: Any, queue: str, count: int) -> None:
    spool = AuditSpool(sqs, queue, LOG)
    for n in range(count):
        spool.put({"id": f"event-{n}"})


def test_nothing_of_the_group_is_delivered_while_something_before_it_is_in_flight(
    sqs: Any, queue: str
) -> None:
    fill(sqs, queue, 15)
    first = receive(sqs, queue, 4)
    assert ids(first) == [f"event-{n}" for n in range(4)]
    assert receive(sqs, queue) == []
    # Three are done with, one is not: it still holds up the others.
    for one in first[:3]:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
    assert receive(sqs, queue) == []
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=first[3]["ReceiptHandle"])
    assert ids(receive(sqs, queue)) == [f"event-{n}" for n in range(4, 14)]


def test_what_is_put_back_comes_again_in_order_and_before_what_follows(
    sqs: Any, queue: str
) -> None:
    fill(sqs, queue, 12)
    batch = receive(sqs, queue)
    assert len(batch) == 10
    put_back(sqs, queue, map(Handle, batch), 0, LOG)
    assert ids(receive(sqs, queue)) == [f"event-{n}" for n in range(10)]
    assert receive(sqs, queue) == []


def test_an_event_that_is_sent_twice_is_delivered_once(sqs: Any, queue: str) -> None:
    fill(sqs, queue, 3)
    fill(sqs, queue, 4)
    assert ids(receive(sqs, queue)) == [f"event-{n}" for n in range(4)]


def test_what_is_recorded_while_sqs_is_down_is_sent_in_order_once_it_is_back(
    ministack: Any, queue: str, toxiproxy: Any, proxied: Callable[[str, int], int], sqs: Any
) -> None:
    port = proxied("spool", ministack.port)
    now_s = [0.0]
    client = aws_client("sqs", f"https://127.0.0.1:{port}", ministack.pki.ca_file)
    spool = AuditSpool(client, queue, LOG, lambda: now_s[0])
    spool.put({"id": "before"})
    toxiproxy.api.down("spool")
    for n in range(12):
        spool.put({"id": f"down-{n}"})
        now_s[0] += AUDIT_REST_S / 4
    toxiproxy.api.up("spool")
    now_s[0] += AUDIT_REST_S
    spool.put({"id": "after"})
    expected = ["before", *(f"down-{n}" for n in range(12)), "after"]
    batch = receive(sqs, queue)
    for one in batch:
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
    assert ids(batch) + ids(receive(sqs, queue)) == expected


# ── keys and logins ─────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def recorded(
    ministack: Any, queue: str, sqs: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The environment of a function; gives the data of the events that came into the spool."""
    values = {
        "AWS_ENDPOINT_URL": ministack.endpoint_url,
        "AWS_CA_BUNDLE": str(ministack.pki.ca_file),
        "AWS_ACCESS_KEY_ID": session_arguments()["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": session_arguments()["aws_secret_access_key"],
        "AWS_DEFAULT_REGION": LOCAL_REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AUDIT_QUEUE_URL": queue,
    }
    for name, value in values.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setattr(audit, "_store_refusals_s", {})
    monkeypatch.setattr(login, "_looked_s", {})
    audit._spool.cache_clear()

    def take() -> list[dict[str, Any]]:
        found = receive(sqs, queue)
        for one in found:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=one["ReceiptHandle"])
        return [json.loads(one["Body"])["data"] for one in found]

    yield take
    audit._spool.cache_clear()


@pytest.fixture
def key_arn(ministack: Any) -> str:
    return str(ministack.client("kms").create_key()["KeyMetadata"]["Arn"])


def test_each_answer_of_kms_is_recorded_and_a_cached_data_key_asks_for_none(
    recorded: Callable[[], list[dict[str, Any]]], key_arn: str
) -> None:
    encryption = KmsEncryption({"Europe": key_arn})
    ciphertext = encryption.encrypt("Europe", "id", b"first")
    [made] = recorded()
    assert (made["key"], made["purpose"]) == (key_arn, "KMS GenerateDataKey")
    encryption.encrypt("Europe", "id", b"second")
    assert recorded() == []
    assert KmsEncryption({"Europe": key_arn}).decrypt("Europe", "id", ciphertext) == b"first"
    [unwrapped] = recorded()
    assert (unwrapped["key"], unwrapped["purpose"]) == (key_arn, "KMS Decrypt")


async def test_making_and_unwrapping_a_data_key_of_csfle_is_recorded(
    recorded: Callable[[], list[dict[str, Any]]], key_arn: str, ferretdb: Any
) -> None:
    keys = FieldKeys("content-audited", key_arn, aws_credentials())
    for expected in (["make data key", "unwrap data key"], ["unwrap data key"]):
        handler = await MotorDBHandler.new(ferretdb.uri, "love_currency_db", keys=keys)
        await handler.close()
        found = recorded()
        assert [one["purpose"] for one in found] == [f"{one} content-audited" for one in expected]
        assert {one["key"] for one in found} == {key_arn}


def test_a_login_that_immudb_refuses_is_recorded_once(
    recorded: Callable[[], list[dict[str, Any]]], key_arn: str, immudb_access: dict[str, str]
) -> None:
    access = {**immudb_access, "password": "Wrong-Password-1"}
    tier = ImmudbTier(lambda: access, KmsEncryption({"Europe": key_arn}), 1.0, 3.0)
    for _ in range(2):
        with pytest.raises(TierUnavailable):
            ping(tier)
    [refused] = recorded()
    assert refused["reason"] == "store_login_refused"
    assert refused["detail"].startswith("immudb: ")
    assert "Wrong-Password-1" not in json.dumps(refused)


@pytest.mark.parametrize("foreign", [False, True], ids=["none", "of a foreign CA"])
def test_a_certificate_that_mongodb_refuses_is_recorded(
    foreign: bool,
    recorded: Callable[[], list[dict[str, Any]]],
    key_arn: str,
    ferretdb: Any,
    foreign_pki: Any,
    tmp_path: Path,
) -> None:
    router = router_to(
        ferretdb.port,
        ferretdb.pki.ca_file.read_text(),
        foreign_pki.client_pem_file.read_text() if foreign else "",
    )
    settings = AtlasSettings(json.dumps({one.value: key_arn for one in CONTINENTS}))
    tier = AtlasTier(settings, router, tmp_path)
    with pytest.raises(TierUnavailable):
        tier.reject("Europe", [])
    [refused] = waited_for(recorded)
    assert refused["reason"] == "store_login_refused"
    assert refused["detail"].startswith("mongodb Europe: ")
    assert "alert" in refused["detail"]


def test_a_certificate_that_immudb_s_front_refuses_is_recorded(
    recorded: Callable[[], list[dict[str, Any]]],
    key_arn: str,
    immudb_access: dict[str, str],
    foreign_pki: Any,
) -> None:
    access = {**immudb_access, "client_pem": foreign_pki.client_pem_file.read_text()}
    tier = ImmudbTier(lambda: access, KmsEncryption({"Europe": key_arn}), 1.0, 3.0)
    with pytest.raises(TierUnavailable):
        ping(tier)
    [refused] = waited_for(recorded)
    assert refused["detail"].startswith("immudb: ")
    assert "alert" in refused["detail"]


def test_a_store_that_is_down_has_refused_nobody(
    recorded: Callable[[], list[dict[str, Any]]], immudb_access: dict[str, str]
) -> None:
    ca_pem, client_pem = immudb_access["server_ca_pem"], immudb_access["client_pem"]
    host, _, port = immudb_access["address"].rpartition(":")
    nobody = Handshake(host, free_ports(1)[0], ca_pem, client_pem)
    taken = Handshake(host, int(port), ca_pem, client_pem)
    looked = note_failure("immudb", OSError("refused"), lambda: [nobody, taken])
    assert looked is not None
    assert looked.result(30) is None
    assert recorded() == []
    assert note_failure("immudb", OSError("refused"), lambda: [nobody]) is None


def waited_for(recorded: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What is recorded beside the work comes a little later."""
    end_s = time.monotonic() + 30
    while not (found := recorded()) and time.monotonic() < end_s:
        time.sleep(0.05)
    return found
