"""What an outage left undone is done by reconcile, through the whole system."""

import secrets
import time
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import federation_dag
from federation.regions import CLUSTERS, Continent
from lovectl.access import Access
from lovectl.accounts import make_account, sign, unsigned_transaction
from lovectl.checker import read_copies, rejected_among
from lovectl.client import Client
from lovectl.delegates import EPOCH, NODES, STAKES
from lovectl.faults import taken_down
from lovectl.reconcile import parked, reconcile
from lovectl.sending import Accepted, plan, post_all, wait_for_receipts
from lovectl.verdict import judge

COUNT = 20
TIMEOUT_S = 120.0
#: A little longer than the collector's `REST` (layers/rust_core/src/collector/line.rs).
DELEGATE_REST_S = 2.5
FULL_NODE = "node-europe"


def _send(access: Access, client: Client, continents: tuple[Continent, ...]) -> list[Accepted]:
    return post_all(client, plan(access.issuer, COUNT, continents=continents, batch=5))


def _answers(client: Client, accepted: list[Accepted]) -> dict[str, dict[str, Any]]:
    answers = wait_for_receipts(client, accepted, timeout_s=TIMEOUT_S)
    assert len(answers) == len(accepted)
    return answers


def test_what_was_stored_without_votes_is_final_when_the_delegates_are_back(
    access: Access, client: Client
) -> None:
    with taken_down(access.proxies, tuple(NODES)):
        accepted = _send(access, client, (Continent.ASIA, Continent.EUROPE))
        answers = _answers(client, accepted)
        assert not any(one["receipt"]["final"] for one in answers.values())
        away = reconcile(access)
        assert away["status"] == "SUCCEEDED", away
        assert not any(one["receipt"]["final"] for one in _answers(client, accepted).values())
    # Until then `dpos` doesn't ask a delegate that failed, and a run tries each batch once.
    time.sleep(DELEGATE_REST_S)
    report = reconcile(access)
    assert report["status"] == "SUCCEEDED", report
    assert {one["outcome"] for one in report["clusters"]} == {"done"}
    assert len(report["clusters"]) == len(Continent)
    assert all(one["receipt"]["final"] for one in _answers(client, accepted).values())
    # A party would be given the content instead of what proves the record.
    stranger = make_account(access.issuer, Continent.AFRICA)
    for one in accepted:
        found = client.fetch_as_node(stranger, access.nodes[FULL_NODE], one.transaction_id)
        _assert_proven(access, found)


@pytest.mark.parametrize("away", [("mongo-europe",), ("mongo-europe", "dynamodb")])
def test_a_rejection_on_record_in_a_fallback_tier_is_found_there(
    access: Access, client: Client, away: tuple[str, ...]
) -> None:
    sender = make_account(access.issuer, Continent.EUROPE)

    def of_nonce_one(amount: int) -> str:
        unsigned = unsigned_transaction(sender, secrets.token_hex(32), amount, 1)
        [sent_id] = client.send(sender, [sign(sender, unsigned)])
        return sent_id

    kept = of_nonce_one(1)
    _until(lambda: client.read(sender, kept) is not None)
    with taken_down(access.proxies, away):
        refused = of_nonce_one(2)
        _until(lambda: bool(rejected_among([refused], access.stores)))
    found = rejected_among([kept, refused], access.stores)
    assert found == {refused: "nonce_conflict"}
    assert judge([refused], read_copies(access.stores)).stored == 0
    assert reconcile(access)["status"] == "SUCCEEDED"
    assert rejected_among([refused], access.stores) == found


def _until(holds: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.2)


def _assert_proven(access: Access, found: dict[str, Any]) -> None:
    """Two thirds of the stake have signed, as the delegates' own keys say."""
    header = found["header"]
    name, sender = (bytes.fromhex(header[one]) for one in ("transaction_id", "sender"))
    keys = [
        (
            node.delegate_id,
            node.algorithm,
            node.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            STAKES[node.delegate_id],
        )
        for node in access.nodes.values()
    ]
    votes = [
        (delegate_id, name, sender, header["nonce"], b64decode(signature))
        for delegate_id, signature in found["votes"]
    ]
    [tally] = federation_dag.dpos_parallel_collect(votes, keys, EPOCH)
    assert tally.final


@pytest.mark.parametrize(("away", "tier"), [((), "dynamodb"), (("dynamodb",), "immudb")])
def test_copies_of_an_outage_go_home_and_each_money_is_there_once(
    access: Access, client: Client, away: tuple[str, ...], tier: str
) -> None:
    clusters = tuple(CLUSTERS[one] for one in (Continent.ASIA, Continent.EUROPE))
    with taken_down(access.proxies, (*clusters, *away)):
        accepted = _send(access, client, (Continent.ASIA, Continent.EUROPE))
        answers = _answers(client, accepted)
        assert {one["receipt"]["tier"] for one in answers.values()} == {tier}
    ids = {one.transaction_id for one in accepted}
    assert judge(ids, read_copies(access.stores)).stored_per_tier[tier] == COUNT  # type: ignore[index]
    # A breaker may rest for a moment after the outage.
    for _ in range(10):
        report = reconcile(access)
        assert report["status"] == "SUCCEEDED", report
        verdict = judge(ids, read_copies(access.stores))
        assert not verdict.lost
        assert not verdict.duplicated or verdict.reconciled < COUNT
        if verdict.reconciled == COUNT:
            break
    assert verdict.holds
    assert verdict.stored_per_tier == {"atlas": COUNT, "dynamodb": 0, "immudb": 0}
    for one in _answers(client, accepted).values():
        assert one["receipt"]["tier"] == "atlas"
        assert one["receipt"]["final"]


def test_poison_is_parked_with_its_reason_and_gone_from_the_dead_letters(access: Access) -> None:
    sqs, dead = access.aws("sqs"), access.outputs["DeadLettersQueueUrl"]
    sent = sqs.send_message(QueueUrl=dead, MessageBody="no transaction")["MessageId"]
    report = reconcile(access)
    assert report["dead_letters"]["parked"] == 1, report
    [row] = [row for row in parked(access.stores) if row["id"] == sent]
    assert (row["reason"], row["kind"]) == ("unreadable", "message")
    counts = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]
    assert counts["ApproximateNumberOfMessages"] == "0"
    assert counts["ApproximateNumberOfMessagesNotVisible"] == "0"
