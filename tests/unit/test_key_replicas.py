"""Replicas of the customer keys: one a continent, used by the same functions for the same things."""

from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import cfn_yaml

from federation.regions import CONTINENTS, Continent
from lovectl.paths import REPOSITORY

TEMPLATE = REPOSITORY / "template.yaml"
REPLICAS = REPOSITORY / "infrastructure" / "kms" / "replicas.yaml"

NO_VALUE = {"Ref": "AWS::NoValue"}


def _resources(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = cfn_yaml.load(str(path))["Resources"]
    return loaded


def _statements(key: dict[str, Any]) -> dict[str, Any]:
    return {one["Sid"]: one for one in key["Properties"]["KeyPolicy"]["Statement"]}


@pytest.mark.parametrize("continent", CONTINENTS)
def test_a_replica_lets_its_key_be_used_as_the_primary_does(continent: Continent) -> None:
    primary = _resources(TEMPLATE)[f"{continent}Key"]
    replica = _resources(REPLICAS)[f"{continent}Replica"]
    assert primary["Properties"]["MultiRegion"] is True
    assert replica["Properties"]["PrimaryKeyArn"] == {"Ref": f"{continent}KeyArn"}
    ours, theirs = _statements(primary), _statements(replica)
    assert ours.keys() == theirs.keys()
    for sid in ours.keys() - {"Administration"}:
        for part in ("Effect", "Action", "Condition"):
            assert ours[sid][part] == theirs[sid][part]
    # A replica is rotated, and replicated, by its primary alone.
    extra = set(ours["Administration"]["Action"]) - set(theirs["Administration"]["Action"])
    assert all("Rotat" in one or one == "kms:ReplicateKey" for one in extra)
    assert set(theirs["Administration"]["Action"]) <= set(ours["Administration"]["Action"])


def test_every_role_that_uses_a_primary_may_use_its_replica() -> None:
    rotation = {"Fn::If": ["HasKeyRotationRole", {"Ref": "KeyRotationRoleArn"}, NO_VALUE]}
    atlas, dynamodb, immudb = (f"Persist{tier}" for tier in ("Atlas", "Dynamodb", "Immudb"))
    reconcile = "Reconcile"
    primary = _statements(_resources(TEMPLATE)["EuropeKey"])
    fields = [_role(atlas), _role(reconcile), rotation]
    assert primary["FieldKeys"]["Principal"]["AWS"] == fields
    assert primary["Records"]["Principal"]["AWS"] == [
        _role(dynamodb),
        _role(immudb),
        _role(reconcile),
    ]
    replica = _statements(_resources(REPLICAS)["EuropeReplica"])
    assert replica["FieldKeys"]["Principal"]["AWS"] == [
        _parameter(atlas),
        _parameter(reconcile),
        rotation,
    ]
    assert replica["Records"]["Principal"]["AWS"] == [
        _parameter(dynamodb),
        _parameter(immudb),
        _parameter(reconcile),
    ]


def _role(function: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [f"{function}FunctionRole", "Arn"]}


def _parameter(function: str) -> dict[str, str]:
    return {"Ref": f"{function}RoleArn"}
