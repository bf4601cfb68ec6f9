"""Which KMS keys encrypt and decrypt: those of the template, and those that rotations added."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
from moto import mock_aws

from federation import secrets
from federation.limits import CUSTOMER_KEYS_REST_S, CUSTOMER_KEYS_TTL_S
from persist import customer_keys
from persist.customer_keys import CustomerKeys, key_identity

FIRST = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1"
SECOND = "arn:aws:kms:eu-central-1:111122223333:key/mrk-2"
REPLICA = "arn:aws:kms:eu-west-2:111122223333:key/mrk-1"
PARAMETER = "/love/customer-keys"


@pytest.fixture
def ssm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A mocked Parameter Store."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    with mock_aws():
        secrets.settings_client.cache_clear()
        yield boto3.client("ssm")
    secrets.settings_client.cache_clear()


class Clock:
    """Seconds that go on only when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _put(ssm: Any, *arns: str) -> None:
    value = json.dumps({"Europe": arns})
    ssm.put_parameter(Name=PARAMETER, Value=value, Type="String", Overwrite=True)


def test_the_setting_may_name_one_key_or_several() -> None:
    keys = CustomerKeys({"Europe": [SECOND, FIRST], "Asia": FIRST})
    assert keys.of("Europe") == (SECOND, FIRST)
    assert keys.of("Asia") == (FIRST,)


def test_a_parameter_that_is_not_there_changes_nothing(ssm: Any) -> None:
    assert CustomerKeys({"Europe": FIRST}, PARAMETER).of("Europe") == (FIRST,)


def test_a_rotated_key_encrypts_and_the_template_s_goes_on_decrypting(ssm: Any) -> None:
    _put(ssm, SECOND)
    assert CustomerKeys({"Europe": FIRST}, PARAMETER).of("Europe") == (SECOND, FIRST)


def test_a_key_and_its_replica_are_listed_once(ssm: Any) -> None:
    _put(ssm, REPLICA)
    assert CustomerKeys({"Europe": FIRST}, PARAMETER).of("Europe") == (REPLICA,)
    single = "arn:aws:kms:eu-central-1:111122223333:key/1"
    other = "arn:aws:kms:eu-west-2:111122223333:key/1"
    assert key_identity(single) != key_identity(other)


def test_a_rotation_is_noticed_after_its_time_beside_the_work(ssm: Any) -> None:
    clock = Clock()
    keys = CustomerKeys({"Europe": FIRST}, PARAMETER, clock)
    assert keys.of("Europe") == (FIRST,)
    _put(ssm, SECOND)
    clock.now_s = CUSTOMER_KEYS_TTL_S - 0.1
    assert keys.of("Europe") == (FIRST,)
    clock.now_s = CUSTOMER_KEYS_TTL_S
    keys.of("Europe")  # starts the reading, and doesn't wait for it
    for _ in range(500):
        if keys.of("Europe") == (SECOND, FIRST):
            break
        time.sleep(0.01)
    assert keys.of("Europe") == (SECOND, FIRST)


def test_an_unknown_key_makes_the_list_be_read_again_but_not_for_every_record(ssm: Any) -> None:
    clock = Clock()
    keys = CustomerKeys({"Europe": FIRST}, PARAMETER, clock)
    known = keys.of("Europe")
    _put(ssm, SECOND)
    clock.now_s = CUSTOMER_KEYS_REST_S / 2
    assert keys.renewed("Europe", known) is None
    clock.now_s = CUSTOMER_KEYS_REST_S
    assert keys.renewed("Europe", known) == (SECOND, FIRST)
    assert keys.renewed("Europe", (SECOND, FIRST)) is None


def test_known_keys_serve_on_while_the_parameter_can_not_be_read(ssm: Any) -> None:
    clock = Clock()
    _put(ssm, SECOND)
    keys = CustomerKeys({"Europe": FIRST}, PARAMETER, clock)
    known = keys.of("Europe")
    ssm.put_parameter(Name=PARAMETER, Value="no JSON", Type="String", Overwrite=True)
    clock.now_s = CUSTOMER_KEYS_TTL_S
    assert keys.renewed("Europe", known) is None
    assert keys.of("Europe") == (SECOND, FIRST)


def test_the_first_to_ask_at_once_read_the_list_once_and_all_know_it(
    ssm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(ssm, SECOND)
    reads: list[str] = []

    class Counting:
        def get_parameter(self, Name: str) -> Any:
            reads.append(Name)
            time.sleep(0.05)
            return ssm.get_parameter(Name=Name)

    monkeypatch.setattr(customer_keys, "settings_client", lambda service: Counting())
    keys = CustomerKeys({"Europe": FIRST}, PARAMETER)
    with ThreadPoolExecutor(7) as pool:
        found = list(pool.map(keys.of, ["Europe"] * 7))
    assert found == [(SECOND, FIRST)] * 7
    assert reads == [PARAMETER]


@pytest.mark.parametrize("value", ["no JSON", '{"Europe": "not a list"}', "[]"])
def test_a_list_of_another_form_is_not_believed(ssm: Any, value: str) -> None:
    ssm.put_parameter(Name=PARAMETER, Value=value, Type="String", Overwrite=True)
    assert CustomerKeys({"Europe": FIRST}, PARAMETER).of("Europe") == (FIRST,)
