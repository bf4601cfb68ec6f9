"""Customer keys that a rotation makes: like the one before, usable by the functions, listed first."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from typer.testing import CliRunner

from federation.regions import CONTINENTS, Continent
from lovectl.app import app
from lovectl.commands import register
from lovectl.customer_keys import CustomerKeyRing
from lovectl.key_rotation import KeysNotRotated, deployed_key_stack
from persist.customer_keys import CustomerKeys

PARAMETER = "/love/customer-keys/test"
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "functions",
                "Effect": "Allow",
                "Principal": {"AWS": "arn:aws:iam::123456789012:role/persist"},
                "Action": ["kms:Encrypt", "kms:Decrypt"],
                "Resource": "*",
            }
        ],
    }
)


class Aws:
    """moto for KMS and Parameter Store."""

    def __init__(self) -> None:
        self.kms = boto3.client("kms")
        self.ssm = boto3.client("ssm")

    def __call__(self, service: str) -> Any:
        return getattr(self, service)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """The mocked AWS."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        yield Aws()


@pytest.fixture
def template_key(aws: Aws) -> str:
    """The customer key that the template made for Europe."""
    made = aws.kms.create_key(MultiRegion=True, Policy=POLICY, Description="Wraps Europe.")
    return str(made["KeyMetadata"]["Arn"])


@pytest.fixture
def ring(aws: Aws, template_key: str) -> CustomerKeyRing:
    """The ring of a stack that was never rotated."""
    outputs = {f"{one.value}KeyArn": template_key for one in CONTINENTS}
    return CustomerKeyRing(aws, {**outputs, "CustomerKeysParameter": PARAMETER})


def test_a_stack_that_was_never_rotated_has_the_template_s_key(
    ring: CustomerKeyRing, template_key: str
) -> None:
    assert ring.of(Continent.EUROPE) == [template_key]


def test_a_new_key_is_like_the_one_before_and_the_functions_may_use_it(
    ring: CustomerKeyRing, aws: Aws
) -> None:
    arn = ring.create(Continent.EUROPE)
    made = aws.kms.describe_key(KeyId=arn)["KeyMetadata"]
    assert (made["MultiRegion"], made["Description"]) == (True, "Wraps Europe.")
    policy = aws.kms.get_key_policy(KeyId=arn, PolicyName="default")["Policy"]
    assert json.loads(policy) == json.loads(POLICY)
    assert aws.kms.get_key_rotation_status(KeyId=arn)["KeyRotationEnabled"] is True
    assert aws.kms.list_grants(KeyId=arn)["Grants"] == []


def test_the_functions_encrypt_with_the_newest_key_and_decrypt_with_all(
    ring: CustomerKeyRing, aws: Aws, template_key: str
) -> None:
    first, second = ring.create(Continent.EUROPE), ring.create(Continent.EUROPE)
    ring.put_first(Continent.EUROPE, first)
    ring.put_first(Continent.EUROPE, second)
    assert ring.of(Continent.EUROPE) == [second, first, template_key]
    assert ring.of(Continent.ASIA) == [template_key]
    seen = CustomerKeys({"Europe": template_key, "Asia": template_key}, PARAMETER)
    assert seen.of("Europe") == (second, first, template_key)
    assert seen.of("Asia") == (template_key,)


def test_the_template_s_key_can_become_the_first_again(
    ring: CustomerKeyRing, template_key: str
) -> None:
    other = ring.create(Continent.EUROPE)
    ring.put_first(Continent.EUROPE, other)
    ring.put_first(Continent.EUROPE, template_key)
    assert ring.of(Continent.EUROPE) == [template_key, other]
    seen = CustomerKeys({"Europe": template_key}, PARAMETER)
    assert seen.of("Europe") == (template_key, other)


def test_rewrapping_under_the_template_s_key_writes_no_list(
    ring: CustomerKeyRing, aws: Aws, template_key: str
) -> None:
    ring.put_first(Continent.EUROPE, template_key)
    assert aws.ssm.describe_parameters()["Parameters"] == []


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--new-key", "--to-key", "arn:aws:kms:x"], "exclude each other"),
        (["--to-key", "arn:aws:kms:x"], "needs --continent"),
        (["--continent", "Europe", "--to-key", "alias/love"], "is no ARN"),
        (["--continent", "Atlantis"], "Atlantis"),
    ],
)
def test_bad_options_of_a_rotation_name_the_rule(arguments: list[str], rule: str) -> None:
    if not any(group.name == "keys" for group in app.registered_groups):
        register(app)
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["keys", "rotate", *arguments])
    assert done.exit_code == 2
    assert rule in done.output


class Stacks:
    """CloudFormation with one stack."""

    def __init__(self, outputs: dict[str, str]) -> None:
        self._outputs = [{"OutputKey": k, "OutputValue": v} for k, v in outputs.items()]

    def describe_stacks(self, StackName: str) -> dict[str, Any]:
        return {"Stacks": [{"StackName": StackName, "Outputs": self._outputs}]}


@pytest.mark.parametrize(
    ("outputs", "environment", "rule"),
    [
        ({}, {}, "no output CustomerKeysParameter"),
        ({"CustomerKeysParameter": PARAMETER}, {"MONGO_URI_PROVIDER": "paper"}, "'paper' is none"),
        (
            {"CustomerKeysParameter": PARAMETER},
            {"MONGO_URI_PROVIDER": "environment"},
            "MONGO_URI_ASIA is missing",
        ),
    ],
)
def test_what_a_deployed_rotation_lacks_is_said_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
    outputs: dict[str, str],
    environment: dict[str, str],
    rule: str,
) -> None:
    monkeypatch.setattr(boto3, "client", lambda service: Stacks(outputs))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeysNotRotated, match=rule), deployed_key_stack("love"):
        pass
