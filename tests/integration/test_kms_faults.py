"""KMS that refuses or hangs: keys in memory serve on, its breaker opens, the canary closes it."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from one_cluster import router_to

from federation.breaker import calling_as
from lovectl.processes import free_ports
from lovectl.servers import FerretDbServer
from persist.atlas import AtlasSettings, AtlasTier
from persist.canary import run_canary
from persist.kms_encryption import KmsEncryption
from persist.tier import TierUnavailable, store_group

PROXY = "persist-kms"
TIMEOUT_S = 0.5
#: What a call behind an open breaker may take.
RESTING_S = 0.05
ID = "a" * 64


@pytest.fixture
def network(
    kms: Any,
    toxiproxy: Any,
    proxied: Callable[[str, int], int],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    """The way to KMS, which may be broken under the name PROXY."""
    port = proxied(PROXY, urlsplit(kms.meta.endpoint_url).port or 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", f"https://127.0.0.1:{port}")
    yield toxiproxy.api
    toxiproxy.api.cure(PROXY)
    toxiproxy.api.up(PROXY)


@pytest.fixture(scope="module")
def own_ferretdb(server_directory: Path, transport_pki: Any) -> Iterator[FerretDbServer]:
    """Its data keys keep a way to KMS that is gone after these tests: no other test may see them."""
    directory = server_directory / "ferretdb-kms"
    server = FerretDbServer("ferretdb-kms", directory, free_ports(1)[0], transport_pki)
    server.start()
    yield server
    server.stop()


def _break(network: Any, fault: str) -> None:
    if fault == "refused":
        network.down(PROXY)
    else:
        network.toxic(PROXY, "timeout", timeout=0)


def _mend(network: Any) -> None:
    network.cure(PROXY)
    network.up(PROXY)


@pytest.mark.parametrize("fault", ["refused", "hanging"])
def test_a_dead_kms_costs_two_tries_and_then_next_to_nothing(
    network: Any, key_arns: dict[str, str], fault: str
) -> None:
    encryption = KmsEncryption(key_arns, TIMEOUT_S)
    _break(network, fault)
    for _ in range(2):
        with pytest.raises(TierUnavailable):
            encryption.encrypt("Europe", ID, b"sealed")
    started_s = time.perf_counter()
    with pytest.raises(TierUnavailable):
        encryption.encrypt("Europe", ID, b"sealed")
    assert time.perf_counter() - started_s < RESTING_S
    [state] = encryption.breakers()
    assert (state.name, state.state) == ("kms/Europe", "open")
    _mend(network)
    with calling_as("canary"):
        ciphertext = encryption.encrypt("Europe", ID, b"sealed")
    assert encryption.decrypt("Europe", ID, ciphertext) == b"sealed"
    assert encryption.breakers()[0].state == "closed"


def test_a_data_key_in_memory_serves_on_while_kms_is_down(
    network: Any, key_arns: dict[str, str]
) -> None:
    encryption = KmsEncryption(key_arns, TIMEOUT_S)
    first = encryption.encrypt("Europe", ID, b"sealed")
    assert encryption.decrypt("Europe", ID, first) == b"sealed"
    _break(network, "refused")
    for _ in range(2):
        with pytest.raises(TierUnavailable):
            encryption.encrypt("Asia", ID, b"sealed")
    ciphertext = encryption.encrypt("Europe", ID, b"sealed")
    assert encryption.decrypt("Europe", ID, ciphertext) == b"sealed"
    assert {one.name: one.state for one in encryption.breakers()} == {
        "kms/Europe": "closed",
        "kms/Asia": "open",
    }


def test_a_key_that_kms_refuses_is_an_answer_and_opens_no_breaker(
    network: Any, kms: Any, key_arns: dict[str, str]
) -> None:
    del network
    disabled = kms.create_key()["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=disabled)
    arn = kms.describe_key(KeyId=disabled)["KeyMetadata"]["Arn"]
    encryption = KmsEncryption({"Europe": arn}, TIMEOUT_S)
    for _ in range(3):
        with pytest.raises(TierUnavailable):
            encryption.encrypt("Europe", ID, b"sealed")
    assert encryption.breakers()[0].state == "closed"


# A data key keeps the way to KMS that it was made by: each case has a continent of its own.
@pytest.mark.parametrize(("fault", "continent"), [("refused", "Europe"), ("hanging", "Asia")])
def test_a_dead_kms_is_told_from_a_dead_cluster(
    network: Any,
    own_ferretdb: Any,
    key_arns: dict[str, str],
    tmp_path: Path,
    groups: Any,
    fault: str,
    continent: str,
) -> None:
    router = router_to(
        own_ferretdb.port,
        own_ferretdb.pki.ca_file.read_text(),
        own_ferretdb.pki.client_pem_file.read_text(),
    )
    settings = AtlasSettings(
        json.dumps(key_arns), persist_timeout_ms=2_000, persist_slow_ms=2_000, cold_timeout_ms=1_000
    )
    store = AtlasTier(settings, router, tmp_path)
    sender = groups.account(continent)
    _break(network, fault)
    for _ in range(2):
        persisted = store_group(groups.group(groups.item(sender)), "atlas", store)
        assert persisted.reason.startswith(f"KMS of {continent}: ")
    persisted = store_group(groups.group(groups.item(sender)), "atlas", store)
    assert f"KMS of {continent}: resting" in persisted.reason
    states = {one.name: one.state for one in store.breakers()}
    assert (states[f"kms/{continent}"], states[f"atlas/{continent}"]) == ("open", "closed")
    _mend(network)
    report = run_canary(
        [groups.group(groups.item(sender))], "atlas", store, lambda: groups.private_keys
    )
    assert report.outcome == "ok", report.parts
    assert store_group(groups.group(groups.item(sender)), "atlas", store).outcome == "stored"
