"""The canary: what it sends is real, no tier's silence passes for success, alarms watch its metric."""

import inspect
import io
import json
import re
from base64 import b64decode, b64encode
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ReadTimeoutError

import cert_rust
from canary import app
from canary.groups import canary_groups
from canary.tiers import Report, send_to_tiers
from federation import secrets
from federation.batch import TIERS
from federation.regions import CONTINENTS
from lovectl.paths import REPOSITORY
from persist.record import open_content, record_of, unsigned

FUNCTIONS = {tier: f"persist-{tier}" for tier in TIERS}
PART = {"continent": "Europe", "outcome": "ok", "reason": None}


class Lambda:
    """Answers for the tiers as it is told; an answer may be an error to raise."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._answers = answers
        self.payloads: list[Any] = []

    def invoke(self, *, FunctionName: str, Payload: bytes) -> Any:
        self.payloads.append(json.loads(Payload))
        answer = self._answers[FunctionName]
        if isinstance(answer, Exception):
            raise answer
        return answer


def _answered(tier: str, outcome: str = "ok", **more: Any) -> Any:
    report = {"tier": tier, "outcome": outcome, "took_ms": 1.5, "parts": [PART], "breakers": []}
    return {"Payload": io.BytesIO(json.dumps({**report, **more}).encode())}


def _sealer() -> tuple[cert_rust.ContentSealer, dict[str, str], str]:
    private_key, public_key = cert_rust.hybrid_keygen()
    keys = {"sealing-9": b64encode(private_key).decode()}
    public = b64encode(public_key).decode()
    return cert_rust.ContentSealer(public_key, "sealing-9"), keys, public


def test_a_canary_of_each_continent_is_signed_and_opens_with_the_sealing_key() -> None:
    sealer, keys, _ = _sealer()
    groups = canary_groups(CONTINENTS, sealer, "sealing-9")
    assert [one.continent for one in groups] == [one.value for one in CONTINENTS]
    for group in groups:
        [item] = group.items
        entry = record_of(item, group.continent, group.wrapped_keys, "atlas", 7)
        assert unsigned([entry]) == []
        assert open_content(*entry, keys)["memo"] == "canary"
        assert not entry[0].final
        assert entry[0].rewards == []


def test_no_two_canaries_are_the_same() -> None:
    sealer, _, _ = _sealer()
    groups = [*canary_groups(CONTINENTS, sealer, "k"), *canary_groups(CONTINENTS, sealer, "k")]
    headers = [group.items[0].envelope.header for group in groups]
    assert len({one.transaction_id for one in headers}) == len(headers)
    assert len({(one.sender, one.nonce) for one in headers}) == len(headers)


def test_every_tier_gets_the_same_groups_and_its_answer_is_told() -> None:
    sealer, _, _ = _sealer()
    groups = canary_groups(CONTINENTS, sealer, "k")
    client = Lambda({f"persist-{tier}": _answered(tier) for tier in TIERS})
    reports = send_to_tiers(client, FUNCTIONS, groups)
    assert [(one.tier, one.outcome) for one in reports] == [(tier, "ok") for tier in TIERS]
    assert [one["action"] for one in client.payloads] == ["canary"] * 3
    sent = json.loads(msgspec.json.encode(groups))
    assert all(one["groups"] == sent for one in client.payloads)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ReadTimeoutError(endpoint_url="http://127.0.0.1"), "ReadTimeoutError"),
        ({"Payload": io.BytesIO(b"{}"), "FunctionError": "Unhandled"}, "function_failed"),
        ({"Payload": io.BytesIO(b'{"outcome": "fine"}')}, "not understood"),
        ({"Payload": io.BytesIO(b"<html>")}, "not understood"),
    ],
    ids=["time-out", "crash", "another answer", "no JSON"],
)
def test_a_tier_that_does_not_answer_as_it_must_has_failed(answer: Any, reason: str) -> None:
    answers = {f"persist-{tier}": _answered(tier) for tier in TIERS}
    client = Lambda({**answers, "persist-dynamodb": answer})
    reports = {one.tier: one for one in send_to_tiers(client, FUNCTIONS, [])}
    assert [reports[tier].outcome for tier in TIERS] == ["ok", "failed", "ok"]
    assert str(reports["dynamodb"].reason).startswith(reason)


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The handler, with tiers that answer as `answers` says."""
    _, _, public = _sealer()
    sealing = {"sealing": {"public_key": public, "key_id": "sealing-9"}}
    monkeypatch.setitem(secrets._cache, "love/trust", (float("inf"), sealing))
    monkeypatch.setenv("TRUST_SECRET", "love/trust")
    for tier in TIERS:
        monkeypatch.setenv(f"PERSIST_{tier.upper()}_FUNCTION", f"persist-{tier}")
    app._settings.cache_clear()
    run: Any = inspect.unwrap(app.handler)

    def handled(answers: dict[str, Any]) -> Any:
        monkeypatch.setattr(app, "_lambda", lambda: Lambda(answers))
        return run({}, SimpleNamespace())

    yield handled
    app._settings.cache_clear()


def _metrics(text: str) -> dict[tuple[str, ...], float]:
    """`canary_ok` by tier, or by tier and continent."""
    found = {}
    for line in text.splitlines():
        if "canary_ok" in line and "_aws" in line:
            emitted = json.loads(line)
            name = (emitted["tier"], *filter(None, [emitted.get("continent")]))
            [found[name]] = emitted["canary_ok"]
    return found


def test_each_tier_and_each_continent_of_atlas_has_its_metric(
    handle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = {"continent": "Asia", "outcome": "failed", "reason": "refused"}
    answers = {f"persist-{tier}": _answered(tier) for tier in TIERS}
    answers["persist-atlas"] = _answered("atlas", "failed", parts=[PART, failed])
    report = handle(answers)
    assert report["outcome"] == "failed"
    measured = _metrics(capsys.readouterr().out)
    assert {name: measured[name] for name in [("atlas",), ("dynamodb",), ("immudb",)]} == {
        ("atlas",): 0.0,
        ("dynamodb",): 1.0,
        ("immudb",): 1.0,
    }
    assert {name[1] for name, ok in measured.items() if len(name) == 2 and not ok} == {"Asia"}
    assert len(measured) == len(TIERS) + len(CONTINENTS)


def test_an_atlas_that_does_not_answer_is_down_for_every_continent(
    handle: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {f"persist-{tier}": _answered(tier) for tier in TIERS}
    answers["persist-atlas"] = ReadTimeoutError(endpoint_url="http://127.0.0.1")
    assert handle(answers)["outcome"] == "failed"
    measured = _metrics(capsys.readouterr().out)
    assert [measured["atlas", one.value] for one in CONTINENTS] == [0.0] * len(CONTINENTS)


def test_what_a_tier_answers_is_what_the_canary_reads() -> None:
    from federation.breaker import BreakerState
    from persist.canary import CanaryPart, CanaryReport

    said = CanaryReport(
        "immudb",
        "failed",
        3.5,
        [CanaryPart("Europe", "failed", "refused")],
        [BreakerState("immudb", "open", 5, "refused")],
    )
    read = msgspec.json.decode(msgspec.json.encode(said), type=Report)
    assert msgspec.to_builtins(read) == {**msgspec.to_builtins(said), "reason": None}


def test_an_alarm_watches_each_tier_and_takes_silence_for_failure() -> None:
    template = (REPOSITORY / "template.yaml").read_text()
    alarms = re.findall(r"  Canary\w+Alarm:\n(.*?)\n\n", template, re.DOTALL)
    watched = [re.search(r"Name: tier, Value: (\w+)", one) for one in alarms]
    assert [one and one[1] for one in watched] == list(TIERS)
    for alarm in alarms:
        assert "TreatMissingData: breaching" in alarm
        assert "MetricName: canary_ok" in alarm
        assert "ComparisonOperator: LessThanThreshold" in alarm


def test_the_sealing_key_of_the_secret_is_what_seals(
    handle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del handle
    client = Lambda({f"persist-{tier}": _answered(tier) for tier in TIERS})
    monkeypatch.setattr(app, "_lambda", lambda: client)
    run: Any = inspect.unwrap(app.handler)
    run({}, SimpleNamespace())
    [group, *_] = client.payloads[0]["groups"]
    [(name, wrapped)] = group["wrapped_keys"].items()
    assert name.startswith("sealing-9.")
    assert b64decode(wrapped)
