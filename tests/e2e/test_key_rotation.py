"""Keys are rotated on the running stack while money is sent; each document opens before and after."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from federation.limits import CUSTOMER_KEYS_TTL_S
from federation.regions import CLUSTERS, CONTINENTS, Continent
from lovectl.access import Access
from lovectl.accounts import Account, make_account, sign, unsigned_transaction
from lovectl.checker import dynamodb_records
from lovectl.client import Client
from lovectl.deploy import STACK_NAME
from lovectl.faults import taken_down
from lovectl.key_rotation import KeysNotRotated, Mode, local_key_stack, rotate_keys
from lovectl.keys import rotate_in_traffic


class Kept(NamedTuple):
    """A transaction, and what it has to give back."""

    account: Account
    transaction_id: str
    content: dict[str, Any]


def test_rewrapping_during_traffic_fails_no_read_and_no_write(
    access: Access, audited: Callable[..., list[dict[str, Any]]]
) -> None:
    report = rotate_in_traffic(access)
    _holds(report)
    assert [one["continent"] for one in report["continents"]] == [one.value for one in CONTINENTS]
    assert report["data_keys_rewrapped"] >= len(CONTINENTS)
    for one in report["continents"]:
        assert one["customer_key"] == one["replaced_key"]
    uses = [one for one in audited(what="key.used") if one["source"] == "/functions/lovectl"]
    assert {one["key"] for one in uses} == {one["customer_key"] for one in report["continents"]}
    assert all(one["why"].startswith("rewrap data keys of ") for one in uses)


def test_a_new_customer_key_and_data_key_take_over_during_traffic(access: Access) -> None:
    kms: Any = access.aws("kms")
    report = rotate_in_traffic(
        access, continents=(Continent.EUROPE,), mode=Mode.NEW_KEY, new_data_key=True
    )
    _holds(report)
    (europe,) = report["continents"]
    assert europe["customer_key"] != europe["replaced_key"]
    assert europe["data_keys_rewrapped"] >= 1
    assert europe["data_key"] is not None
    made = kms.describe_key(KeyId=europe["customer_key"])["KeyMetadata"]
    assert made["MultiRegion"] is True
    assert kms.get_key_rotation_status(KeyId=europe["customer_key"])["KeyRotationEnabled"] is True
    named = access.aws("ssm").get_parameter(Name=access.outputs["CustomerKeysParameter"])
    assert json.loads(named["Parameter"]["Value"])["Europe"][0] == europe["customer_key"]
    # The key before is not needed for field encryption any more: without it all goes on.
    kms.disable_key(KeyId=europe["replaced_key"])
    try:
        _holds(rotate_in_traffic(access, continents=(Continent.EUROPE,)))
    finally:
        kms.enable_key(KeyId=europe["replaced_key"])


def test_fallback_records_from_before_and_after_a_new_customer_key_are_read(
    access: Access, client: Client, settle: Callable[..., Any]
) -> None:
    def send_to_dynamodb() -> Kept:
        account = make_account(access.issuer, Continent.AFRICA)
        document = unsigned_transaction(account, secrets.token_hex(32), 1, 0)
        with taken_down(access.proxies, tuple(CLUSTERS.values())):
            (transaction_id,) = client.send(account, [sign(account, document)])
            answer = settle(account, transaction_id)
        assert answer["receipt"]["tier"] == "dynamodb"
        return Kept(account, transaction_id, document["content"])

    old = send_to_dynamodb()
    stack = local_key_stack(access)
    (africa,) = rotate_keys(stack, continents=(Continent.AFRICA,), mode=Mode.NEW_KEY)
    assert _wrapped_by(access, old, africa["replaced_key"])
    deadline_s = time.monotonic() + 3 * CUSTOMER_KEYS_TTL_S
    new = send_to_dynamodb()
    # A function that has read the list of keys a moment ago goes on with the key before.
    while not _wrapped_by(access, new, africa["customer_key"]) and time.monotonic() < deadline_s:
        time.sleep(5)
        new = send_to_dynamodb()
    assert _wrapped_by(access, new, africa["customer_key"])
    for one in (old, new):
        answer = client.read(one.account, one.transaction_id)
        assert answer is not None
        assert answer["content"] == one.content


def test_a_key_that_is_not_there_stops_the_rotation_and_nothing_else(access: Access) -> None:
    arn = f"arn:aws:kms:eu-central-1:000000000000:key/mrk-{'0' * 32}"
    with pytest.raises(KeysNotRotated, match=r"(?s)^Asia: .*--to-key arn"):
        rotate_in_traffic(access, continents=(Continent.ASIA,), mode=Mode.TO_KEY, to_key=arn)
    _holds(rotate_in_traffic(access, continents=(Continent.ASIA,)))


def test_an_operator_rotates_a_deployed_stack_by_the_environment_alone(access: Access) -> None:
    kms: Any = access.aws("kms")
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": kms.meta.endpoint_url,
        "AWS_CA_BUNDLE": str(access.ca_file),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": kms.meta.region_name,
        "MONGO_SECRET": "love/mongo",
    }
    command = [sys.executable, "-c", "from lovectl.app import main; main()", "keys", "rotate"]
    options = ["--deployed", STACK_NAME, "--continent", "Oceania", "--new-key", "--json"]
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (oceania,) = json.loads(done.stdout)["continents"]
    assert oceania["customer_key"] != oceania["replaced_key"]
    _holds(rotate_in_traffic(access, continents=(Continent.OCEANIA,)))


def _wrapped_by(access: Access, kept: Kept, arn: str) -> bool:
    """Whether the message in DynamoDB names this KMS key for its data key."""
    for record in dynamodb_records(access.stores):
        if record["transaction_id"]["S"] == kept.transaction_id:
            return arn.encode() in bytes(record["content"]["B"])
    raise AssertionError(f"{kept.transaction_id} is not in DynamoDB")


def _holds(report: dict[str, Any]) -> None:
    assert report["failures"] == []
    assert (report["failed_reads"], report["failed_writes"]) == (0, 0)
    assert report["old_documents_opened"] == report["old_documents"] > 0
    assert report["new_documents_opened"] == report["new_documents"] > 0
    assert set(report["tiers"]) == {"atlas"}
    assert report["verdict"] == "holds"
