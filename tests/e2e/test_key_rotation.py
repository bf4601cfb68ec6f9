"""Keys are rotated on the running stack while money is sent; each document opens before and after."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.deploy import STACK_NAME
from lovectl.key_rotation import KeysNotRotated, Mode
from lovectl.keys import rotate_in_traffic


def test_rewrapping_during_traffic_fails_no_read_and_no_write(access: Access) -> None:
    report = rotate_in_traffic(access)
    _holds(report)
    assert [one["continent"] for one in report["continents"]] == [one.value for one in CONTINENTS]
    assert report["data_keys_rewrapped"] >= len(CONTINENTS)
    for one in report["continents"]:
        assert one["customer_key"] == one["replaced_key"]


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


def test_a_key_that_is_not_there_stops_the_rotation_and_nothing_else(access: Access) -> None:
    arn = f"arn:aws:kms:eu-central-1:000000000000:key/mrk-{'0' * 32}"
    with pytest.raises(KeysNotRotated, match=r"Asia: .*\n?.*--to-key"):
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


def _holds(report: dict[str, Any]) -> None:
    assert report["failures"] == []
    assert (report["failed_reads"], report["failed_writes"]) == (0, 0)
    assert report["old_documents_opened"] == report["old_documents"] > 0
    assert report["new_documents_opened"] == report["new_documents"] > 0
    assert set(report["tiers"]) == {"atlas"}
    assert report["verdict"] == "holds"
