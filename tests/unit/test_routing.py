"""From a continent to its cluster's URI: exactly seven resolve, from each of four providers."""

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from federation import route_providers, routing
from federation.errors import SettingsError
from federation.limits import ROUTES_REST_S
from federation.regions import CLUSTERS, CONTINENTS, UnknownContinent
from federation.route_providers import PROVIDERS, Routes, RoutesUnavailable
from federation.routing import (
    Route,
    Router,
    RouterSettings,
    get_mongo_uri_by_continent,
    start_router,
)
from federation.secrets import settings_client
from persist.atlas import AtlasSettings, AtlasTier, connect_atlas
from persist.tier import TierUnavailable

NAMES = [one.value for one in CONTINENTS]
URIS = {one.value: f"mongodb+srv://{CLUSTERS[one]}.example.net" for one in CONTINENTS}
MEMBERS = {"uris": URIS, "ca_pem": "the CA", "client_pem": "key and certificate"}
REGION = "eu-central-1"
TOKEN = "hvs.right"
SERVER_ID = "vault.love.example"
ENVIRONMENT = {
    "MONGO_URI_PROVIDER": "environment",
    **{f"MONGO_URI_{one.name}": URIS[one.value] for one in CONTINENTS},
    "MONGO_CA_PEM": "the CA",
    "MONGO_CLIENT_PEM": "key and certificate",
}


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Source:
    """A provider that may change, or fail."""

    def __init__(self, answer: Routes | RoutesUnavailable) -> None:
        self.answer = answer
        self.reads = 0

    def read(self) -> Routes:
        self.reads += 1
        if isinstance(self.answer, RoutesUnavailable):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No setting, client or route of another test; credentials that nobody takes."""
    for name in [one for one in os.environ if one.startswith(("MONGO_", "VAULT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    settings_client.cache_clear()
    routing._router.cache_clear()
    yield
    settings_client.cache_clear()
    routing._router.cache_clear()


@pytest.fixture
def aws() -> Iterator[None]:
    """AWS in this process."""
    with mock_aws():
        yield


# ── The seven names ──────────────────────────────────────────────────────────────────────────


@given(name=st.one_of(st.sampled_from(NAMES), st.text(), st.sampled_from(NAMES).map(str.lower)))
def test_exactly_the_seven_continents_resolve_and_any_other_name_is_told_them(name: str) -> None:
    router = Router(Source(Routes(URIS)), RouterSettings())
    if name in NAMES:
        assert router.route(name).uri == URIS[name]
    else:
        with pytest.raises(UnknownContinent) as refused:
            router.route(name)
        assert all(one in str(refused.value) for one in NAMES)


def test_an_unknown_continent_is_refused_even_if_the_provider_names_it() -> None:
    router = Router(Source(Routes({**URIS, "Atlantis": "mongodb://deep"})), RouterSettings())
    with pytest.raises(UnknownContinent):
        router.route("Atlantis")


@pytest.mark.parametrize("uri", [None, "", "https://example.net", "postgres://user:hidden@host"])
def test_a_continent_without_a_usable_uri_is_unavailable_and_the_others_are_not(
    uri: str | None,
) -> None:
    uris = {name: text for name, text in URIS.items() if name != "Africa"}
    if uri is not None:
        uris["Africa"] = uri
    router = Router(Source(Routes(uris)), RouterSettings())
    with pytest.raises(RoutesUnavailable, match="Africa") as refused:
        router.route("Africa")
    assert "hidden" not in str(refused.value)
    assert router.known_route("Africa") is None
    assert router.route("Europe").uri == URIS["Europe"]


# ── Time ─────────────────────────────────────────────────────────────────────────────────────


def test_routes_are_read_once_within_their_time_and_again_after_it() -> None:
    clock, source = Clock(), Source(Routes(URIS))
    router = Router(source, RouterSettings(mongo_uri_ttl_s=60), clock)
    for name in NAMES:
        router.route(name)
    clock.now_s += 59.9
    assert not router.expired()
    router.route("Asia")
    assert source.reads == 1
    source.answer = Routes({**URIS, "Asia": "mongodb://moved"})
    clock.now_s += 0.1
    assert router.expired()
    assert router.known_route("Asia") == Route(URIS["Asia"], "", "")
    assert router.route("Asia").uri == "mongodb://moved"
    assert source.reads == 2


def test_while_the_provider_fails_the_known_routes_serve_until_their_limit_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, source = Clock(), Source(Routes(URIS))
    settings = RouterSettings(mongo_uri_ttl_s=60, mongo_uri_stale_max_s=600)
    router = Router(source, settings, clock)
    router.route("Asia")
    source.answer = RoutesUnavailable("secret love/mongo: AccessDenied")
    clock.now_s += 660
    with caplog.at_level(logging.WARNING, routing.__name__):
        assert router.route("Asia").uri == URIS["Asia"]
    assert "660 s ago serve: secret love/mongo: AccessDenied" in caplog.text
    clock.now_s += 0.1
    with pytest.raises(RoutesUnavailable, match="AccessDenied"):
        router.route("Asia")
    source.answer = Routes(URIS)
    clock.now_s += ROUTES_REST_S
    assert router.route("Asia").uri == URIS["Asia"]


def test_a_failing_provider_is_asked_again_only_after_a_rest() -> None:
    clock, source = Clock(), Source(RoutesUnavailable("Vault is sealed"))
    router = Router(source, RouterSettings(), clock)
    for name in NAMES:
        with pytest.raises(RoutesUnavailable, match="Vault is sealed"):
            router.route(name)
    assert source.reads == 1
    clock.now_s += ROUTES_REST_S
    router.refresh()
    assert source.reads == 2


def test_without_any_time_to_live_every_use_reads() -> None:
    source = Source(Routes(URIS))
    router = Router(source, RouterSettings(mongo_uri_ttl_s=0))
    assert [router.route("Asia").uri for _ in range(3)] == [URIS["Asia"]] * 3
    assert source.reads == 3


# ── Settings ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("provider", "lacking"),
    [
        ("environment", [f"MONGO_URI_{one.name}" for one in CONTINENTS]),
        ("ssm", ["MONGO_PARAMETERS"]),
        ("secrets_manager", ["MONGO_SECRET"]),
        ("vault", ["VAULT_ADDR", "VAULT_PATH"]),
    ],
)
def test_all_that_router_and_provider_lack_is_said_in_one_message(
    provider: str, lacking: list[str]
) -> None:
    with pytest.raises(SettingsError) as refused:
        start_router({"MONGO_URI_PROVIDER": provider, "MONGO_URI_TTL_S": "-1"})
    assert refused.value.problems[0].startswith("MONGO_URI_TTL_S ")
    assert refused.value.problems[1:] == [f"{name} is missing" for name in lacking]


@pytest.mark.parametrize(
    "address",
    ["http://vault.example:8200", "http://127.0.0.1.example", "http://localhost:1@vault.example"],
)
def test_vault_is_not_asked_in_clear_over_a_network(address: str) -> None:
    settings = {"MONGO_URI_PROVIDER": "vault", "VAULT_ADDR": address}
    with pytest.raises(SettingsError) as refused:
        start_router(settings)
    assert refused.value.problems[0].startswith("VAULT_ADDR ")
    assert refused.value.problems[1:] == ["VAULT_PATH is missing"]


def test_an_unknown_provider_is_told_the_four() -> None:
    with pytest.raises(SettingsError) as refused:
        start_router({"MONGO_URI_PROVIDER": "etcd"})
    assert all(name in str(refused.value) for name in ("'etcd'", *PROVIDERS))


def test_the_atlas_tier_says_at_its_start_all_that_it_lacks() -> None:
    with pytest.raises(SettingsError) as refused:
        connect_atlas()
    assert refused.value.problems == ["KMS_KEY_ARNS is missing", "MONGO_SECRET is missing"]


def test_without_routes_the_atlas_tier_is_unavailable(tmp_path: Path) -> None:
    router = Router(Source(RoutesUnavailable("parameters /love/mongo: timeout")), RouterSettings())
    tier = AtlasTier(AtlasSettings(kms_key_arns="{}"), router, tmp_path)
    with pytest.raises(TierUnavailable, match="parameters /love/mongo: timeout"):
        tier.insert("Europe", [])


# ── The four providers ───────────────────────────────────────────────────────────────────────


def test_the_environment_gives_all_routes_and_imports_no_remote_client() -> None:
    code = (
        "import os, sys\n"
        "from federation.routing import get_mongo_uri_by_continent, start_router\n"
        "route = start_router().route('MiddleEast')\n"
        "print(route.uri, route.ca_pem, route.client_pem, sep='|')\n"
        "print(get_mongo_uri_by_continent('Europe'))\n"
        "print({'boto3', 'botocore', 'hvac', 'requests'} & set(sys.modules))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines() == [
        f"{URIS['MiddleEast']}|the CA|key and certificate",
        URIS["Europe"],
        "set()",
    ]


def test_parameter_store_gives_all_routes(aws: None, monkeypatch: pytest.MonkeyPatch) -> None:
    _put_parameters()
    monkeypatch.setenv("MONGO_URI_PROVIDER", "ssm")
    monkeypatch.setenv("MONGO_PARAMETERS", "/love/mongo/")
    assert {name: get_mongo_uri_by_continent(name) for name in NAMES} == URIS
    assert start_router().route("Asia") == _whole_route("Asia")


def test_a_missing_parameter_makes_only_its_continent_unavailable(aws: None) -> None:
    _put_parameters()
    boto3.client("ssm").delete_parameter(Name="/love/mongo/Africa/uri")
    router = start_router({"MONGO_URI_PROVIDER": "ssm", "MONGO_PARAMETERS": "/love/mongo"})
    with pytest.raises(RoutesUnavailable, match="no MongoDB URI of Africa"):
        router.route("Africa")
    assert router.route("Asia") == _whole_route("Asia")


def test_parameters_under_another_prefix_are_not_found(aws: None) -> None:
    _put_parameters()
    router = start_router({"MONGO_URI_PROVIDER": "ssm", "MONGO_PARAMETERS": "/other"})
    with pytest.raises(RoutesUnavailable, match="parameters /other names no MongoDB URI"):
        router.route("Asia")


def test_secrets_manager_is_the_default_and_gives_all_routes(
    aws: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_secret(json.dumps(MEMBERS))
    monkeypatch.setenv("MONGO_SECRET", "love/mongo")
    assert {name: get_mongo_uri_by_continent(name) for name in NAMES} == URIS
    assert start_router().route("Asia") == _whole_route("Asia")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "ResourceNotFoundException"),
        ("no JSON", "is not JSON"),
        ("[]", "array"),
        ('{"uris": {"Asia": 7}}', "int"),
        ('{"uris": {}}', "names no MongoDB URI"),
        ('{"uris": {"Atlantis": "mongodb://deep"}}', "names no MongoDB URI"),
    ],
)
def test_a_secret_that_is_missing_or_malformed_is_unavailable(
    aws: None, text: str | None, why: str
) -> None:
    if text is not None:
        _put_secret(text)
    with pytest.raises(RoutesUnavailable, match=why):
        start_router({"MONGO_SECRET": "love/mongo"}).route("Asia")


def test_an_aws_that_refuses_connections_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    # Port 1 is never served.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(RoutesUnavailable, match="EndpointConnectionError"):
        start_router({"MONGO_SECRET": "love/mongo"}).route("Asia")
    with pytest.raises(RoutesUnavailable, match="EndpointConnectionError"):
        start_router({"MONGO_URI_PROVIDER": "ssm", "MONGO_PARAMETERS": "/love"}).route("Asia")


# ── Vault ────────────────────────────────────────────────────────────────────────────────────


class StandInVault(BaseHTTPRequestHandler):
    """The two requests of Vault's HTTP API that are used: KV version 2's read, AWS login."""

    secret: Any = MEMBERS
    hangs: threading.Event | None = None

    def do_GET(self) -> None:
        if self.hangs is not None:
            self.hangs.wait()
        if self.headers["X-Vault-Token"] != TOKEN:
            self._answer(403, {"errors": ["permission denied"]})
        elif self.path != "/v1/secret/data/love/mongo":
            self._answer(404, {"errors": []})
        else:
            self._answer(200, {"data": {"data": self.secret, "metadata": {"version": 3}}})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = b64decode(asked["iam_request_body"]).decode()
        headers = json.loads(b64decode(asked["iam_request_headers"]))
        authorization = headers["Authorization"][0]
        signed = re.match(
            r"AWS4-HMAC-SHA256 Credential=testing/\d{8}/us-east-1/sts/aws4_request, "
            r"SignedHeaders=\S*x-vault-aws-iam-server-id\S*, Signature=[0-9a-f]{64}$",
            authorization,
        )
        meant = headers["X-Vault-AWS-IAM-Server-ID"] == [SERVER_ID]
        known = asked["role"] == "love-persist" and request.startswith("Action=GetCallerIdentity")
        if self.path == "/v1/auth/aws/login" and signed and meant and known:
            self._answer(200, {"auth": {"client_token": TOKEN, "lease_duration": 60}})
        else:
            self._answer(400, {"errors": ["entry for role not found"]})

    def log_message(self, format: str, *args: Any) -> None:
        """The test's output stays clean."""

    def _answer(self, status: int, body: Any) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        # Whoever was kept waiting too long has hung up.
        with contextlib.suppress(ConnectionError):
            self.end_headers()
            self.wfile.write(payload)


Vault = Callable[..., Router]


@pytest.fixture
def vault() -> Iterator[Vault]:
    """Makes a router on a stand-in Vault; the arguments are its settings."""
    handler = type("Handler", (StandInVault,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def router(secret: Any = MEMBERS, hangs: Any = None, **settings: str) -> Router:
            handler.secret, handler.hangs = secret, hangs  # type: ignore[attr-defined]
            environment = {
                "MONGO_URI_PROVIDER": "vault",
                "VAULT_ADDR": f"http://127.0.0.1:{server.server_port}",
                "VAULT_PATH": "love/mongo",
                "VAULT_SERVER_ID": SERVER_ID,
            }
            return start_router({**environment, **settings})

        yield router
        server.shutdown()


def test_vault_gives_all_routes_to_the_bearer_of_a_token(vault: Vault) -> None:
    router = vault(VAULT_TOKEN=TOKEN)
    assert {name: router.route(name) for name in NAMES} == {
        name: _whole_route(name) for name in NAMES
    }


def test_vault_gives_all_routes_to_who_proves_its_aws_identity(vault: Vault) -> None:
    assert vault().route("Asia") == _whole_route("Asia")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"VAULT_TOKEN": "hvs.wrong"}, "Forbidden"),
        ({"VAULT_TOKEN": TOKEN, "VAULT_PATH": "love/other"}, "InvalidPath"),
        ({"VAULT_ROLE": "stranger"}, "InvalidRequest"),
        ({"VAULT_TOKEN": TOKEN, "VAULT_ADDR": "http://127.0.0.1:1"}, "ConnectionError"),
        ({"VAULT_TOKEN": TOKEN, "secret": {"uris": [1]}}, "array"),
        ({"VAULT_TOKEN": TOKEN, "secret": None}, "null"),
    ],
)
def test_a_vault_that_refuses_or_lacks_the_secret_is_unavailable(
    vault: Vault, settings: dict[str, Any], why: str
) -> None:
    with pytest.raises(RoutesUnavailable, match=why) as refused:
        vault(**settings).route("Asia")
    assert TOKEN not in str(refused.value)


def test_a_vault_that_hangs_is_unavailable(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(route_providers, "SETTING_READ_TIMEOUT_S", 0.1)
    release = threading.Event()
    try:
        with pytest.raises(RoutesUnavailable, match="ReadTimeout"):
            vault(hangs=release, VAULT_TOKEN=TOKEN).route("Asia")
    finally:
        release.set()


def _whole_route(name: str) -> Route:
    return Route(URIS[name], "the CA", "key and certificate")


def _put_parameters() -> None:
    ssm = boto3.client("ssm")
    values = {f"/love/mongo/{name}/uri": uri for name, uri in URIS.items()}
    values["/love/mongo/ca_pem"] = MEMBERS["ca_pem"]
    values["/love/mongo/client_pem"] = MEMBERS["client_pem"]
    for name, value in values.items():
        ssm.put_parameter(Name=name, Value=value, Type="SecureString")


def _put_secret(text: str) -> None:
    boto3.client("secretsmanager").create_secret(Name="love/mongo", SecretString=text)
