"""compose.yaml, the images it builds, and what watches them: hardened, complete, and in step with each other."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from love_node.config import load_config, load_key
from love_node.metrics import NodeMetrics
from lovectl.compose_keys import (
    METRICS_PORT,
    MONGO_MEMBERS,
    NODE_PORT,
    OFFLINE,
    SECRETS_FILE,
    KeysExist,
    make_keys,
)
from lovectl.delegates import LEVELS, LIGHT_NODES, NODES, STAKES
from lovectl.paths import REPOSITORY

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILES = sorted((REPOSITORY / "infrastructure" / "containers").glob("*.Dockerfile"))
PROMETHEUS = REPOSITORY / "infrastructure" / "prometheus"
DASHBOARD = REPOSITORY / "infrastructure" / "grafana" / "dashboards" / "nodes.json"
#: They end by themselves.
ONE_SHOTS = {"mongo-initiate"}
KEYS = "${LOVE_KEYS:-./.cache/compose}"

each_service = pytest.mark.parametrize("name", SERVICES)
each_dockerfile = pytest.mark.parametrize("file", DOCKERFILES, ids=lambda file: file.name)


def mounts(service: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in service.get("volumes", []) if isinstance(each, dict)]


@each_service
def test_a_service_can_write_only_where_it_has_to_and_gains_no_right(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged", False)
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(each["read_only"] for each in mounts(service))
    assert not any("docker.sock" in str(each) for each in service.get("volumes", []))


@each_service
def test_a_service_runs_as_a_user_that_is_not_root(name: str) -> None:
    user = SERVICES[name]["user"].split(":")[0]
    assert user.isdigit()
    assert int(user) > 0


@each_service
def test_a_service_has_limits_of_cpu_memory_and_processes(name: str) -> None:
    assert set(SERVICES[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@each_service
def test_a_service_says_whether_it_is_healthy(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if name in ONE_SHOTS:
        assert check == {"disable": True}
    else:
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= set(check)


@each_service
def test_a_service_waits_for_the_health_of_what_it_needs(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        expected = "completed_successfully" if needed in ONE_SHOTS else "healthy"
        assert how["condition"] == f"service_{expected}"


@each_service
def test_an_image_has_a_version(name: str) -> None:
    tag = SERVICES[name]["image"].rsplit("/", 1)[-1].partition(":")[2]
    assert re.fullmatch(r"v?\d+\.\d+\.\d+(-\d+)?", tag)


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    assert {name for name, each in SERVICES.items() if "ports" in each} == {"api"}
    assert SERVICES["api"]["ports"] == ["127.0.0.1:${LOVE_API_PORT:-4566}:4566"]
    reaches_out = {name for name, network in COMPOSE["networks"].items() if not network}
    assert reaches_out == {"edge"}
    assert [name for name, each in SERVICES.items() if "edge" in each.get("networks", [])] == [
        "api"
    ]
    # Prometheus has no way to the stores, and Grafana none to the delegates.
    assert SERVICES["prometheus"]["networks"] == ["metrics", "watching"]
    assert SERVICES["grafana"]["networks"] == ["watching"]


def test_nothing_reaches_immudb_but_through_its_front() -> None:
    assert SERVICES["immudb-front"]["network_mode"] == "service:immudb"
    starter = (REPOSITORY / "infrastructure/containers/immudb.sh").read_text()
    assert "--address 127.0.0.1" in starter


def test_the_seven_delegates_are_there_at_their_levels() -> None:
    nodes = {name: each for name, each in SERVICES.items() if name.startswith("node-")}
    assert {name: each["command"][-1] for name, each in nodes.items()} == LEVELS


def test_every_secret_is_a_file_and_none_is_in_the_environment() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN", variable):
                assert variable.endswith("__FILE")
                assert value.startswith("/run/secrets/")
    assert all(set(each) == {"file"} for each in COMPOSE["secrets"].values())


def test_all_named_volumes_and_networks_are_used() -> None:
    named = {
        each.partition(":")[0]
        for service in SERVICES.values()
        for each in service.get("volumes", [])
        if isinstance(each, str)
    }
    assert named == set(COMPOSE["volumes"])
    networks = {each for service in SERVICES.values() for each in service.get("networks", [])}
    assert networks == set(COMPOSE["networks"])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("keys") / "compose"
    make_keys(directory)
    return directory


def test_compose_keys_makes_what_compose_mounts_and_nothing_else(keys: Path) -> None:
    mounted = {
        source.removeprefix(f"{KEYS}/").split("/")[0]
        for source in (
            *(each["source"] for service in SERVICES.values() for each in mounts(service)),
            *(each["file"] for each in COMPOSE["secrets"].values()),
        )
        if source.startswith(KEYS)
    }
    assert {each.name for each in keys.iterdir()} == {*mounted, OFFLINE}
    assert (keys / "grafana" / "password").stat().st_size > 20


def test_keys_are_the_owners_alone_but_for_the_container_that_gets_them(keys: Path) -> None:
    assert keys.stat().st_mode & 0o777 == 0o700
    assert (keys / OFFLINE).stat().st_mode & 0o777 == 0o700
    assert (keys / "node-tokyo" / "key.pem").stat().st_mode & 0o777 == 0o444


def test_keys_are_never_made_anew_over_old_ones(keys: Path) -> None:
    before = (keys / "node-tokyo" / "key.pem").read_bytes()
    with pytest.raises(KeysExist, match="is not empty"):
        make_keys(keys)
    assert (keys / "node-tokyo" / "key.pem").read_bytes() == before


@pytest.mark.parametrize("name", NODES)
def test_a_delegates_settings_are_complete_where_its_container_sees_them(
    name: str, keys: Path, tmp_path: Path
) -> None:
    text = (keys / name / "config.json").read_text()
    assert str(keys) not in text
    moved = tmp_path / "config.json"
    moved.write_text(text.replace("/run/love", str(keys / name)))
    config = load_config(moved)
    load_key(config)
    assert config.database_file.parent == Path("/var/lib/love")
    assert config.address == f"0.0.0.0:{NODE_PORT}"
    assert config.http_address == f"0.0.0.0:{METRICS_PORT}"
    certificate = x509.load_pem_x509_certificate((keys / name / "server.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert name in names.get_values_for_type(x509.DNSName)


def test_the_api_knows_all_stores_and_delegates_by_their_names_in_compose(keys: Path) -> None:
    secrets = json.loads((keys / "api" / SECRETS_FILE).read_bytes())
    template = (REPOSITORY / "template.yaml").read_text()
    assert set(secrets) == set(re.findall(r"Default: (love/\w+)\n", template))
    assert secrets["love/immudb"]["address"] == "immudb:3322"
    assert {each["address"] for each in secrets["love/delegates"]["delegates"]} == {
        f"{name}:{NODE_PORT}" for name in NODES
    }
    aliases = {SERVICES[name]["networks"]["stores"]["aliases"][0] for name in MONGO_MEMBERS}
    for uri in secrets["love/mongo"]["uris"].values():
        assert set(uri.removeprefix("mongodb://").partition("/")[0].split(",")) == aliases


def test_members_and_clients_of_the_replica_set_are_named_as_its_script_names_them(
    keys: Path,
) -> None:
    script = (REPOSITORY / "infrastructure/mongod/rs-initiate.js").read_text()
    operator = x509.load_pem_x509_certificate((keys / "mongo-operator/operator.pem").read_bytes())
    secrets = json.loads((keys / "api" / SECRETS_FILE).read_bytes())
    persist = x509.load_pem_x509_certificate(secrets["love/mongo"]["client_pem"].encode())
    for certificate in (operator, persist):
        assert f'"{certificate.subject.rfc4514_string()}"' in script
    for name in MONGO_MEMBERS:
        member = x509.load_pem_x509_certificate((keys / name / "member.pem").read_bytes())
        assert member.subject.rfc4514_string().startswith(f"CN={name},OU=members,O=")
        usage = member.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
        assert f'"{name}.love.internal:27017"' in script
    revoked = x509.load_pem_x509_crl((keys / "mongo-1" / "crl.pem").read_bytes())
    ca = x509.load_pem_x509_certificate((keys / "mongo-1" / "ca.pem").read_bytes())
    assert revoked.is_signature_valid(ca.public_key())  # type: ignore[arg-type]


def stages(file: Path) -> tuple[dict[str, str], list[list[str]]]:
    """Defaults of the arguments before the first FROM, and the instructions of each stage."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", file.read_text())).splitlines()
    arguments: dict[str, str] = {}
    found: list[list[str]] = []
    for line in filter(None, map(str.strip, lines)):
        if line.startswith("FROM "):
            found.append([line])
        elif not found:
            name, _, value = line.removeprefix("ARG ").partition("=")
            arguments[name] = value
        else:
            found[-1].append(line)
    return arguments, found


@each_dockerfile
def test_an_image_ends_as_a_user_that_is_not_root_and_has_a_health_check(file: Path) -> None:
    last = stages(file)[1][-1]
    user = [line.removeprefix("USER ") for line in last if line.startswith("USER ")][-1]
    assert int(user.partition(":")[0]) > 0
    assert any(line.startswith("HEALTHCHECK ") for line in last)
    assert last[-2].startswith("ENTRYPOINT [") or last[-1].startswith("ENTRYPOINT [")


@each_dockerfile
def test_an_image_is_built_on_images_with_versions_and_holds_no_keys(file: Path) -> None:
    arguments, found = stages(file)
    for value in arguments.values():
        assert re.search(r":\d+\.\d+(\.\d+)?(-[\w.-]+)?$", value), value
    for stage in found:
        base = re.fullmatch(r"FROM (\$\{(\w+)\}|\w+)( AS \w+)?", stage[0])
        assert base is not None, stage[0]
        assert base[2] in arguments
        copied = [line for line in stage if line.startswith(("COPY ", "ADD "))]
        assert not any(re.search(r"\.cache|\.pem|COPY (--\S+ )*\. ", line) for line in copied)


def test_the_health_checks_of_compose_are_those_of_the_images() -> None:
    for service in SERVICES.values():
        build = service.get("build")
        if build is None or service["healthcheck"].get("disable"):
            continue
        last = stages(REPOSITORY / build["dockerfile"])[1][-1]
        line = next(each for each in last if each.startswith("HEALTHCHECK"))
        said = json.loads(line.partition("CMD ")[2])
        assert service["healthcheck"]["test"][1:] == [each.replace("$", "$$") for each in said]


def test_prometheus_scrapes_each_delegate_at_its_level() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    job = next(each for each in config["scrape_configs"] if each["job_name"] == "delegates")
    scraped = {
        target: each["labels"]["level"]
        for each in job["static_configs"]
        for target in each["targets"]
    }
    assert scraped == {f"{name}:{METRICS_PORT}": level for name, level in LEVELS.items()}


def expressions() -> list[str]:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [rule["expr"] for group in groups for rule in group["rules"]] + [
        target["expr"] for panel in panels for target in panel["targets"]
    ]


def test_rules_and_dashboard_ask_only_for_series_that_delegates_or_rules_give() -> None:
    families = list(NodeMetrics("node", "city", "light").registry.collect())
    given = {
        f"{family.name}{suffix}"
        for family in families
        for suffix in ("", "_total", "_bucket", "_sum", "_count", "_info")
    }
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    recorded = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    asked = {
        name
        for expression in expressions()
        for name in re.findall(r"(?:\w+:)?love_node\w*(?::\w+)*", expression)
    }
    assert len(asked) > 5
    assert asked <= given | recorded


def test_the_alert_of_a_lost_quorum_counts_the_delegates_own_stakes() -> None:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    rules = {rule.get("alert"): rule for group in groups for rule in group["rules"]}
    unit = min(STAKES.values())
    light = {STAKES[name] // unit for name in LIGHT_NODES}
    assert light == {3}
    total = sum(STAKES.values()) // unit
    assert f"({light.pop()} * count(" in rules["QuorumLost"]["expr"]
    assert rules["QuorumLost"]["expr"].endswith(f"< {-(-2 * total // 3)}")


def test_every_alert_has_a_row_in_the_operators_manual() -> None:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    manual = (REPOSITORY / "docs" / "operations.md").read_text()
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert [each for each in alerts if f"| `{each}` |" not in manual] == []


def test_the_dashboard_is_provisioned_with_the_data_source_it_names() -> None:
    home = REPOSITORY / "infrastructure" / "grafana"
    source = yaml.safe_load((home / "provisioning/datasources/prometheus.yml").read_text())
    dashboard = json.loads(DASHBOARD.read_text())
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert uids == {source["datasources"][0]["uid"]}
    provider = yaml.safe_load((home / "provisioning/dashboards/love.yml").read_text())
    target = provider["providers"][0]["options"]["path"]
    assert target in {each["target"] for each in mounts(SERVICES["grafana"])}
