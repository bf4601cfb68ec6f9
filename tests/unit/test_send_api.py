"""The API's face, without AWS: forms that are refused, headers on every answer, rates, CORS."""

import inspect
import json
import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import pytest

import cert_rust
from federation import secrets
from federation.errors import SettingsError
from federation.limits import (
    REQUEST_HEADERS_BYTES_MAX,
    REQUEST_HEADERS_MAX,
    REQUEST_PATH_CHARACTERS_MAX,
)
from send import app
from send.http_headers import ORIGINS_MAX, SECURITY_HEADERS, cors_of
from send.openapi import openapi_json, swagger_html, swagger_policy
from send.problems import Problem
from send.rate import Spent
from send.reads import TierReader
from send.request_form import header_lines, signature_fields

ACCOUNT = "ab" * 32
_, PUBLIC_KEY = cert_rust.hybrid_keygen()
Answer = dict[str, Any]
Call = Callable[..., Answer]


class Rates:
    """Buckets whose answer is set; remembers what was asked."""

    def __init__(self) -> None:
        self.costs: list[int] = []
        self.answer = Spent(True, 990, 1, 0)

    def spend(self, sender: str, cost: int) -> Spent:
        assert sender == ACCOUNT
        self.costs.append(cost)
        return self.answer


class Lambda:
    """The persist functions: what each answers, by name."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[dict[str, Any]] = []

    def invoke(self, FunctionName: str, Payload: bytes) -> Any:
        self.asked.append(json.loads(Payload))
        body = json.dumps(self.answers[FunctionName]).encode()
        return {"Payload": type("Body", (), {"read": lambda _: body})()}


ABSENT = {"outcome": "absent"}


class Depth:
    """The inbox has room, unless it is full."""

    is_full = False

    def check(self) -> None:
        if self.is_full:
            raise Problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "more waits",
                reason="inbox_full",
                headers={"Retry-After": "7"},
            )


@pytest.fixture
def rates() -> Rates:
    return Rates()


@pytest.fixture
def tiers() -> Lambda:
    return Lambda(atlas=ABSENT, dynamodb=ABSENT, immudb=ABSENT)


@pytest.fixture
def refusals() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def inbox_depth() -> Depth:
    return Depth()


@pytest.fixture
def call(
    rates: Rates,
    tiers: Lambda,
    refusals: list[dict[str, Any]],
    inbox_depth: Depth,
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    """Calls the handler as API Gateway does; `headers` and `body` as the client sent them."""
    reader = TierReader(tiers, {one: one for one in ("atlas", "dynamodb", "immudb")})
    monkeypatch.setattr(app, "_rates", lambda: rates)
    settings = app.Settings("love/trust", "url", "atlas", "dynamodb", "immudb", "requests")
    monkeypatch.setattr(app, "_settings", lambda: settings)
    sealing = {"key_id": "sealing", "public_key": b64encode(PUBLIC_KEY).decode()}
    monkeypatch.setitem(secrets._cache, "love/trust", (float("inf"), {"sealing": sealing}))
    monkeypatch.setattr(app, "_reader", lambda: reader)
    monkeypatch.setattr(app, "_inbox_depth", lambda: inbox_depth)
    monkeypatch.setattr(app, "record_refusal", lambda **told: refusals.append(told))

    def run(
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: str | None = None,
        **more: Any,
    ) -> Answer:
        event = {
            "httpMethod": method,
            "path": path,
            "headers": headers or {},
            "body": body,
            "isBase64Encoded": False,
            "requestContext": {
                "requestId": "request-1",
                "identity": {"sourceIp": "192.0.2.7"},
                "authorizer": {"sender": ACCOUNT, "algorithm": "Ed25519", "public_key": "AA=="},
            },
            **more,
        }
        # The tracer wants the segment that Lambda opens.
        handle: Any = inspect.unwrap(app.handler)
        answer: Answer = handle(event, None)
        return answer

    return run


def problem(answer: Answer) -> dict[str, Any]:
    assert answer["multiValueHeaders"]["Content-Type"] == ["application/problem+json"]
    document: dict[str, Any] = json.loads(answer["body"])
    assert document["status"] == answer["statusCode"]
    return document


JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/openapi.json"),
        ("GET", "/swagger"),
        ("GET", "/api/nothing"),
        ("GET", "/api/transaction/zz"),
        ("POST", "/api/send_transaction"),
        ("OPTIONS", "/api/send_transaction"),
    ],
)
def test_every_answer_carries_the_security_headers(method: str, path: str, call: Call) -> None:
    headers = call(method, path)["multiValueHeaders"]
    for name, value in SECURITY_HEADERS.items():
        if (path, name) != ("/swagger", "Content-Security-Policy"):
            assert headers[name] == [value]


def test_the_pages_policy_allows_exactly_its_own_scripts() -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", swagger_html(), re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = b64encode(sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in swagger_policy()
    assert "unsafe" not in swagger_policy().split("script-src")[1].split(";")[0]
    assert not re.search(r"<script[^>]+src=|<link[^>]+href=", swagger_html())


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON", "application/json; charset=utf-8",
     'application/json;charset="UTF-8"'],
)  # fmt: skip
def test_json_is_taken_however_it_is_spelled(content_type: str, call: Call) -> None:
    answer = call("POST", "/api/send_transaction", {"content-type": content_type}, "{}")
    assert answer["statusCode"] == 400


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": ""},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json-seq"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json, text/plain"},
        {**JSON, "Content-Encoding": "gzip"},
    ],
)
def test_content_that_is_not_plain_json_is_415(headers: dict[str, str], call: Call) -> None:
    answer = call("POST", "/api/send_transaction", headers, "{}")
    assert answer["statusCode"] == 415
    assert problem(answer)["field"] in ("Content-Type", "Content-Encoding")


def test_two_content_types_are_none(call: Call) -> None:
    lines = {"multiValueHeaders": {"Content-Type": ["application/json", "text/plain"]}}
    assert call("POST", "/api/send_transaction", None, "{}", **lines)["statusCode"] == 415


@pytest.mark.parametrize("name", ["queryStringParameters", "multiValueQueryStringParameters"])
def test_an_unknown_query_parameter_is_400_and_named(name: str, call: Call) -> None:
    answer = call("GET", "/api/health", **{name: {"verbose": "1"}})
    assert (answer["statusCode"], problem(answer)["field"]) == (400, "query.verbose")


def test_a_read_takes_no_body(call: Call) -> None:
    answer = call("GET", f"/api/transaction/{'a' * 64}", None, "love")
    assert (answer["statusCode"], problem(answer)["rule"]) == (400, "has no body")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({f"X-{n}": "a" for n in range(REQUEST_HEADERS_MAX + 1)}, 431),
        ({"X-Long": "a" * REQUEST_HEADERS_BYTES_MAX}, 431),
        ({f"X-{n}": "a" for n in range(REQUEST_HEADERS_MAX)}, 200),
    ],
)
def test_header_fields_have_limits(headers: dict[str, str], status: int, call: Call) -> None:
    assert call("GET", "/openapi.json", headers)["statusCode"] == status


def test_a_path_has_a_limit(call: Call) -> None:
    longest = "/api/" + "a" * (REQUEST_PATH_CHARACTERS_MAX - len("/api/"))
    assert call("GET", longest)["statusCode"] == 404
    assert call("GET", longest + "a")["statusCode"] == 414


# ── rates ───────────────────────────────────────────────────────────────────────────────────────


def test_a_request_costs_its_transactions_and_what_is_no_batch_costs_one(
    call: Call, rates: Rates
) -> None:
    call("POST", "/api/send_transaction", JSON, "{}")
    call("POST", "/api/send_transactions", JSON, '{"transactions": [{}, {}, {}]}')
    call("POST", "/api/send_transactions", JSON, "love")
    call("GET", f"/api/transaction/{'a' * 64}")
    assert rates.costs == [1, 3, 1, 1]


def test_above_the_rate_is_429_says_when_to_come_again_and_is_written_down(
    call: Call, rates: Rates, refusals: list[dict[str, Any]], tiers: Lambda
) -> None:
    rates.answer = Spent(False, 3, 10, 4)
    answer = call("GET", f"/api/transaction/{'a' * 64}")
    assert (answer["statusCode"], problem(answer)["reason"]) == (429, "rate_limited")
    headers = answer["multiValueHeaders"]
    assert headers["Retry-After"] == ["4"]
    assert headers["RateLimit"] == ['"sender";r=3;t=10']
    assert headers["RateLimit-Policy"] == ['"sender";q=1000;w=10']
    [told] = refusals
    assert (told["reason"], told["subject"]) == ("rate_limited", ACCOUNT)
    assert (told["request_id"], told["address"]) == ("request-1", "192.0.2.7")
    assert not tiers.asked


# ── reads ───────────────────────────────────────────────────────────────────────────────────────


def test_the_tiers_are_told_who_asks_and_by_which_signature(call: Call, tiers: Lambda) -> None:
    fields = {"Signature": "love=:AA==:", "signature-input": "love=()", "X-Other": "x"}
    assert call("GET", f"/api/transaction/{'a' * 64}", fields)["statusCode"] == 404
    assert len(tiers.asked) == 3
    assert tiers.asked[0]["reader"] == {
        "account_id": ACCOUNT,
        "request_id": "request-1",
        "signature_fields": {"signature-input": "love=()", "signature": "love=:AA==:"},
    }


@pytest.mark.parametrize(
    "reason",
    ["not_a_party", "bad_query_signature", "stale_query", "replayed_query", "not_a_full_node"],
)
def test_what_a_tier_forbids_is_403_is_written_down_and_no_other_tier_is_asked(
    reason: str, call: Call, tiers: Lambda, refusals: list[dict[str, Any]]
) -> None:
    tiers.answers["atlas"] = {"outcome": "forbidden", "reason": reason, "detail": "because"}
    answer = call("GET", f"/api/transaction/{'a' * 64}")
    assert answer["statusCode"] == 403
    assert (problem(answer)["reason"], problem(answer)["detail"]) == (reason, "because")
    assert [one["reason"] for one in refusals] == [reason]
    assert len(tiers.asked) == 1


def test_only_what_a_tier_shares_is_shown(call: Call, tiers: Lambda) -> None:
    receipt = {"status": "stored"}
    sealed = {"outcome": "found", "receipt": receipt, "header": {}, "sealed": {}, "x": 1}
    tiers.answers["atlas"] = sealed
    answer = call("GET", f"/api/transaction/{'a' * 64}")
    assert json.loads(answer["body"]).keys() == {"receipt", "header", "sealed"}


REJECTED = {"outcome": "found", "receipt": {"status": "rejected"}, "header": {}}


def test_a_repetition_s_rejection_does_not_hide_what_is_stored_elsewhere(
    call: Call, tiers: Lambda
) -> None:
    tiers.answers["atlas"] = REJECTED
    tiers.answers["immudb"] = {"outcome": "found", "receipt": {"status": "stored"}}
    answer = call("GET", f"/api/transaction/{'a' * 64}")
    assert json.loads(answer["body"])["receipt"] == {"status": "stored"}


def test_a_rejection_is_told_only_if_every_tier_answers(call: Call, tiers: Lambda) -> None:
    tiers.answers["dynamodb"] = REJECTED
    answer = call("GET", f"/api/transaction/{'a' * 64}")
    assert json.loads(answer["body"])["receipt"] == {"status": "rejected"}
    tiers.answers["atlas"] = {"outcome": "unavailable", "reason": "down"}
    answer = call("GET", f"/api/transaction/{'a' * 64}")
    assert answer["statusCode"] == HTTPStatus.SERVICE_UNAVAILABLE


def test_lines_of_one_field_are_joined() -> None:
    event = {"multiValueHeaders": {"Signature": ["a=:AA==:", "b=:AA==:"], "X-A": ["1"]}}
    assert header_lines(event)["signature"] == ["a=:AA==:", "b=:AA==:"]
    assert signature_fields(event) == {"signature": "a=:AA==:, b=:AA==:"}


# ── CORS ────────────────────────────────────────────────────────────────────────────────────────


def test_without_a_setting_no_origin_may_call(call: Call) -> None:
    assert cors_of("") is None
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = call("OPTIONS", "/api/send_transaction", headers)
    assert answer["statusCode"] == 404
    assert not any(
        name.lower().startswith("access-control") for name in answer["multiValueHeaders"]
    )


def test_listed_origins_are_echoed_and_no_others() -> None:
    config = cors_of("https://app.example, https://wallet.example:8443,http://localhost:3000")
    assert config is not None
    for origin in ("https://app.example", "https://wallet.example:8443", "http://localhost:3000"):
        answer = config.to_dict(origin)
        assert answer["Access-Control-Allow-Origin"] == origin
        assert "Access-Control-Allow-Credentials" not in answer
    for origin in ("https://evil.example", "http://app.example", "null", "*", None):
        assert config.to_dict(origin) == {}


@pytest.mark.parametrize(
    "setting",
    [
        "*",
        "https://*.example",
        "http://app.example",
        "https://app.example/",
        "https://App.example",
        "null",
        "app.example",
        "https://user@app.example",
        ",".join(f"https://app{n}.example" for n in range(ORIGINS_MAX + 1)),
    ],
)
def test_what_is_no_https_origin_is_refused_at_start(setting: str) -> None:
    with pytest.raises(SettingsError, match="CORS_ORIGINS"):
        cors_of(setting)


def test_the_document_tells_of_rates_signatures_and_new_refusals() -> None:
    document = json.loads(openapi_json())
    read = document["paths"]["/api/transaction/{transaction_id}"]["get"]
    assert {"403", "429", "431"} <= read["responses"].keys()
    assert {one["name"] for one in read["parameters"]} >= {"Signature", "Signature-Input"}
    assert "signature" in document["components"]["securitySchemes"]
    post = document["paths"]["/api/send_transactions"]["post"]
    assert {"413", "415", "429"} <= post["responses"].keys()
    assert "RateLimit" in post["responses"]["202"]["headers"]
    for scheme in (one for entry in read["security"] for one in entry):
        assert scheme in document["components"]["securitySchemes"]


# ── what API Gateway answers itself ─────────────────────────────────────────────────────────────


def api_properties() -> dict[str, Any]:
    from samcli.yamlhelper import yaml_parse

    from lovectl.paths import REPOSITORY

    template = yaml_parse((REPOSITORY / "template.yaml").read_text())
    found: dict[str, Any] = template["Resources"]
    return found


def test_answers_of_api_gateway_itself_are_problems_with_the_security_headers() -> None:
    responses = api_properties()["Api"]["Properties"]["GatewayResponses"]
    assert {"UNAUTHORIZED", "ACCESS_DENIED", "DEFAULT_4XX", "DEFAULT_5XX"} <= responses.keys()
    for kind, response in responses.items():
        headers = response["ResponseParameters"]["Headers"]
        assert headers["Content-Type"] == "'application/problem+json'", kind
        assert SECURITY_HEADERS.keys() <= headers.keys(), kind
        # A static value is all between its quotes; more of them in between would end it.
        texts = [value for value in headers.values() if isinstance(value, str)]
        assert all(re.fullmatch(r"'[^']*'", text) for text in texts), kind
        template = response["ResponseTemplates"]["application/json"]
        assert "$context.requestId" in template, kind


def test_preflights_need_no_token_and_everything_that_reads_or_sends_does() -> None:
    events = api_properties()["SendFunction"]["Properties"]["Events"]
    open_to_all = {
        (one["Properties"]["Method"], one["Properties"]["Path"])
        for one in events.values()
        if one["Properties"].get("Auth") == {"Authorizer": "NONE"}
    }
    guarded = {
        one["Properties"]["Path"] for one in events.values() if "Auth" not in one["Properties"]
    }
    assert guarded == {
        "/api/send_transaction",
        "/api/send_transactions",
        "/api/transaction/{transaction_id}",
    }
    assert open_to_all == {
        *(("OPTIONS", path) for path in guarded),
        ("GET", "/api/health"),
        ("GET", "/swagger"),
        ("GET", "/openapi.json"),
    }


@pytest.mark.parametrize("path", ["/api/send_transaction", "/api/send_transactions"])
def test_a_full_inbox_is_told_with_the_time_to_come_again_and_costs_the_sender_nothing(
    call: Call, inbox_depth: Depth, rates: Rates, refusals: list[dict[str, Any]], path: str
) -> None:
    inbox_depth.is_full = True
    answer = call("POST", path, JSON, "{}")
    assert (answer["statusCode"], problem(answer)["reason"]) == (503, "inbox_full")
    assert answer["multiValueHeaders"]["Retry-After"] == ["7"]
    assert rates.costs == []
    assert refusals == []
