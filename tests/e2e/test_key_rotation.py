"""Keys are rotated on the running stack while money is sent; each document opens before and after."""

import json
from typing import Any

import pytest

from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.keys import Mode, rotate


def test_rewrapping_during_traffic_fails_no_read_and_no_write(access: Access) -> None:
    report = rotate(access)
    _holds(report)
    assert [one["continent"] for one in report["continents"]] == [one.value for one in CONTINENTS]
    assert report["data_keys_rewrapped"] >= len(CONTINENTS)
    for one in report["continents"]:
        assert one["customer_key"] == one["replaced_key"]


def test_a_new_customer_key_and_data_key_take_over_during_traffic(access: Access) -> None:
    kms: Any = access.aws("kms")
    report = rotate(access, continents=(Continent.EUROPE,), mode=Mode.NEW_KEY, new_data_key=True)
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
        _holds(rotate(access, continents=(Continent.EUROPE,)))
    finally:
        kms.enable_key(KeyId=europe["replaced_key"])


@pytest.mark.parametrize("arn", ["arn:aws:kms:eu-central-1:000000000000:key/mrk-0"])
def test_a_key_that_is_not_there_stops_the_rotation_and_nothing_else(
    access: Access, arn: str
) -> None:
    with pytest.raises(Exception, match="mrk-0"):
        rotate(access, continents=(Continent.ASIA,), mode=Mode.TO_KEY, to_key=arn)
    _holds(rotate(access, continents=(Continent.ASIA,)))


def _holds(report: dict[str, Any]) -> None:
    assert report["failures"] == []
    assert (report["failed_reads"], report["failed_writes"]) == (0, 0)
    assert report["old_documents_opened"] == report["old_documents"] > 0
    assert report["new_documents_opened"] == report["new_documents"] > 0
    assert set(report["tiers"]) == {"atlas"}
    assert report["verdict"] == "holds"
