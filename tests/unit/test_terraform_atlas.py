"""The Terraform of the seven Atlas clusters has the structure that is promised.

No provider is needed: the files are parsed, and only the settings are planned. The same checks run
over copies with one thing spoilt each, so a check that finds nothing anywhere would be noticed.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import hcl2
import pytest

from federation.regions import CLUSTERS, CONTINENTS, REGIONS, Continent

ATLAS: Final = Path(__file__).parents[2] / "infrastructure" / "terraform" / "atlas"
CLUSTER: Final = "modules/cluster"

#: Africa's cluster is on Azure; its AWS region is that of the key only (DESIGN section 4).
AZURE_REGIONS: Final = {Continent.AFRICA: ["SOUTH_AFRICA_NORTH"]}

SECRETS: Final = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    re.compile(r"mongodb(?:\+srv)?://[^\s\"/@]+:[^\s\"/@]+@"),
    re.compile(
        r"(?i)\b\w*(?:password|secret|private_key|access_key|token)\w*\s*=\s*\"[^\"$]",
    ),
)
#: What matches everybody, in IPv4 and IPv6.
OPEN_NETWORKS: Final = ("0.0.0.0/0", "::/0")
#: Actions that change or remove what is stored.
CHANGING: Final = {"UPDATE", "REMOVE", "DROP_COLLECTION", "DROP_DATABASE", "ANY_ACTION"}


def test_the_structure_has_no_fault() -> None:
    assert list(_faults(ATLAS)) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "fault"),
    [
        ("continents.tf", '"mongo-me"', '"mongo-middle-east"', "cluster names"),
        ("continents.tf", "    Oceania = {", "    Antarctica = {", "seven continents"),
        ("continents.tf", '"EU_WEST_2"', '"EU_WEST_1"', "regions of Europe"),
        (
            "continents.tf",
            '["AP_NORTHEAST_1", "AP_SOUTHEAST_1"]',
            '["AP_SOUTHEAST_1", "AP_NORTHEAST_1"]',
            "regions of Asia",
        ),
        ("continents.tf", '"af-south-1"', '"us-east-1"', "key region of Africa"),
        ("main.tf", "for_each = local.continents", 'for_each = toset(["Asia"])', "for_each"),
        ("main.tf", "/love/mongo/${each.key}/uri", "/mongo/${each.key}", "parameter of the URI"),
        ("main.tf", '"SecureString"', '"String"', "parameter of the URI"),
        ("main.tf", "key_region   = each.value.key_region", 'key_region = "x"', "own key"),
        ("variables.tf", 'default     = "M10"', 'default     = "M0"', "default tier"),
        ("variables.tf", ">= 24", ">= 0", "width of networks"),
        ("variables.tf", 'description = "Where alerts go."', "", "alert_email is not described"),
        ("outputs.tf", "made.project_id", "var.nothing", "nothing is not declared"),
        (f"{CLUSTER}/cluster.tf", "TLS1_3", "TLS1_2", "TLS"),
        (f"{CLUSTER}/cluster.tf", "pit_enabled                    = true", "", "point in time"),
        (f"{CLUSTER}/cluster.tf", "backup_enabled                 = true", "", "backups"),
        (
            f"{CLUSTER}/cluster.tf",
            "= var.restore_window_days\n\n  policy",
            "= 0\n\n  policy",
            "window",
        ),
        (f"{CLUSTER}/cluster.tf", "[2, 1]", "[1, 1]", "odd number"),
        (
            f"{CLUSTER}/cluster.tf",
            "instance_size = var.instance_size",
            'instance_size = "M10"',
            "tier",
        ),
        (f"{CLUSTER}/cluster.tf", 'rest_provider    = "AWS"', 'rest_provider = "NONE"', "at rest"),
        (
            f"{CLUSTER}/cluster.tf",
            "mongodbatlas_encryption_at_rest.this.project_id",
            "mongodbatlas_project.this.id",
            "key is there before",
        ),
        (f"{CLUSTER}/key.tf", "= aws_kms_key.this.arn\n    region", '= "x"\n    region', "at rest"),
        (f"{CLUSTER}/key.tf", "enable_key_rotation     = true", "", "rotated"),
        (f"{CLUSTER}/key.tf", "sts:ExternalId", "sts:Other", "external id"),
        (f"{CLUSTER}/project.tf", "enabled                     = true", "", "auditing"),
        (f"{CLUSTER}/project.tf", '"authenticate"', '"createIndex"', "audit filter"),
        (f"{CLUSTER}/project.tf", "^${local.key_vault_database}", "^other", "audit filter"),
        (
            f"{CLUSTER}/network.tf",
            "cidr_block = each.key",
            'cidr_block = "0.0.0.0/0"',
            "open network",
        ),
        (
            f"{CLUSTER}/users.tf",
            'x509_type          = "CUSTOMER"',
            'password = "hunter2"',
            "secret",
        ),
        (
            f"{CLUSTER}/users.tf",
            'x509_type          = "CUSTOMER"',
            "password = var.persist_subject",
            "password",
        ),
        (f"{CLUSTER}/users.tf", 'aws_iam_type       = "ROLE"', "", "certificate nor a role"),
        (f"{CLUSTER}/users.tf", "    INSERT = {", "    UPDATE = {", "persist may change"),
        (
            f"{CLUSTER}/users.tf",
            '["love_persist"].role_name',
            '["atlasAdmin"].role_name',
            "role that is not ours",
        ),
        (f"{CLUSTER}/users.tf", "scopes {", "labels {", "scope"),
        (f"{CLUSTER}/alerts.tf", '"NO_PRIMARY"', '"HOST_DOWN"', "alert NO_PRIMARY"),
        (f"{CLUSTER}/alerts.tf", "OPLOG_SLAVE_LAG_MASTER_TIME", "OPCOUNTER_CMD", "alert OPLOG"),
        (f"{CLUSTER}/variables.tf", 'variable "stack_region"', 'variable "nobody"', "is not used"),
    ],
)
def test_a_spoilt_copy_is_found_out(
    tmp_path: Path, file: str, old: str, new: str, fault: str
) -> None:
    copy = tmp_path / "atlas"
    shutil.copytree(ATLAS, copy, ignore=shutil.ignore_patterns(".terraform"))
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    assert any(fault in one for one in _faults(copy)), list(_faults(copy))


@pytest.mark.parametrize(
    "line",
    [
        'access_key = "AKIAIOSFODNN7EXAMPLE"',
        'value = "mongodb+srv://persist:hunter2@mongo-asia.example.net"',
        'pem = "-----BEGIN EC PRIVATE KEY-----"',
        'client_secret = "mdb_sa_sk_0123456789"',
    ],
)
def test_a_secret_in_clear_is_found_out(tmp_path: Path, line: str) -> None:
    copy = tmp_path / "atlas"
    shutil.copytree(ATLAS, copy, ignore=shutil.ignore_patterns(".terraform"))
    (copy / "extra.tfvars").write_text(f"{line}\n")
    assert any("secret" in one for one in _faults(copy))


#: Settings that nothing is wrong with.
GOOD: Final[Mapping[str, Any]] = {
    "atlas_org_id": "0123456789abcdef01234567",
    "alert_email": "operations@example.org",
    "allowed_cidrs": ["198.51.100.7/32"],
    "client_ca_pem": "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
}


@pytest.fixture(scope="module")
def settings_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Variables and continents without resources: Terraform checks them without a provider."""
    if shutil.which("terraform") is None:
        pytest.skip("Terraform is not installed")
    directory = tmp_path_factory.mktemp("settings")
    for name in ("variables.tf", "continents.tf"):
        shutil.copy(ATLAS / name, directory)
    return directory


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"instance_size": "M20"},
        {"instance_sizes": {"Asia": "M30"}},
        {"allowed_cidrs": ["198.51.100.0/24", "203.0.113.9/32"]},
        {"key_rotation_role_arn": "arn:aws:iam::123456789012:role/keys"},
    ],
)
def test_sound_settings_are_taken(settings_only: Path, changed: Mapping[str, Any]) -> None:
    code, said = _plan(settings_only, {**GOOD, **changed})
    assert code == 0, said


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"allowed_cidrs": ["0.0.0.0/0"]}, "at most 256 addresses"),
        ({"allowed_cidrs": ["::/0"]}, "at most 256 addresses"),
        ({"allowed_cidrs": ["2001:db8::/32"]}, "at most 256 addresses"),
        ({"allowed_cidrs": ["198.51.0.0/16"]}, "at most 256 addresses"),
        ({"allowed_cidrs": ["198.51.100.7"]}, "at most 256 addresses"),
        ({"allowed_cidrs": []}, "give allowed_cidrs"),
        ({"instance_size": "M0"}, "dedicated tier"),
        ({"instance_sizes": {"Asia": "M5"}}, "dedicated tier"),
        ({"instance_sizes": {"Antarctica": "M10"}}, "none of the seven"),
        ({"mongo_db_major_version": "7.0"}, "from 8.0 on"),
        ({"restore_window_days": 1}, "Between 2 and 35"),
        ({"atlas_org_id": "org"}, "24 hexadecimal"),
        ({"client_ca_pem": "ca.pem"}, "PEM certificates only"),
        (
            {"client_ca_pem": GOOD["client_ca_pem"] + "-----BEGIN PRIVATE KEY-----\n"},
            "PEM certificates only",
        ),
        ({"persist_subject": "persist"}, "begins with CN="),
        ({"key_rotation_role_arn": "keys"}, "ARN of an IAM role"),
        ({"alert_email": "operations"}, "e-mail"),
    ],
)
def test_unsound_settings_are_refused(
    settings_only: Path, changed: Mapping[str, Any], reason: str
) -> None:
    code, said = _plan(settings_only, {**GOOD, **changed})
    assert code == 1
    assert reason in " ".join(said.split())


def _plan(directory: Path, settings: Mapping[str, Any]) -> tuple[int, str]:
    """Exit code and message of `terraform plan` with these settings."""
    (directory / "settings.auto.tfvars.json").write_text(json.dumps(settings))
    planned = subprocess.run(
        ["terraform", "plan", "-no-color", "-input=false", "-lock=false"],
        cwd=directory,
        env={**os.environ, "CHECKPOINT_DISABLE": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return planned.returncode, planned.stdout + planned.stderr


def _faults(root: Path) -> Iterator[str]:
    """What is not as promised, in words."""
    top, module = _Files(root), _Files(root / CLUSTER)
    yield from _faults_of_text(root)
    yield from _faults_of_continents(top)
    yield from _faults_of_settings(top)
    yield from _faults_of_cluster(module)
    yield from _faults_of_key(module)
    yield from _faults_of_audit(module)
    yield from _faults_of_users(module)
    yield from _faults_of_alerts(module)
    for files in (top, module):
        yield from files.faults_of_variables()


def _faults_of_text(root: Path) -> Iterator[str]:
    for path in sorted((*root.rglob("*.tf"), *root.rglob("*.tfvars"))):
        text = path.read_text()
        if any(pattern.search(text) for pattern in SECRETS):
            yield f"{path.name}: a secret in clear"
        if any(network in text for network in OPEN_NETWORKS):
            yield f"{path.name}: an open network"


def _faults_of_continents(top: "_Files") -> Iterator[str]:
    found = top.local("continents")
    if set(found) != {one.value for one in CONTINENTS}:
        yield f"not the seven continents: {sorted(found)}"
        return
    if {one: found[one.value]["cluster"] for one in CONTINENTS} != dict(CLUSTERS):
        yield "cluster names differ from federation/regions.py"
    for continent in CONTINENTS:
        wanted = AZURE_REGIONS.get(
            continent, [one.upper().replace("-", "_") for one in REGIONS[continent]]
        )
        provider = "AZURE" if continent in AZURE_REGIONS else "AWS"
        entry = found[continent.value]
        if (entry["regions"], entry["provider"]) != (wanted, provider):
            yield f"regions of {continent} differ from federation/regions.py"
        if entry["key_region"] != REGIONS[continent][0]:
            yield f"key region of {continent} is not its first region"
    cluster = top.block("module", "cluster")
    parameters = {kind: top.resource("aws_ssm_parameter", kind) for kind in ("uri", "key_arn")}
    for block in (cluster, *parameters.values()):
        if block.get("for_each") != "${local.continents}":
            yield "for_each is not over the seven continents"
    if cluster.get("key_region") != "${each.value.key_region}":
        yield "a continent without its own key"
    if (parameters["uri"]["name"], parameters["uri"]["type"]) != (
        "/love/mongo/${each.key}/uri",
        "SecureString",
    ):
        yield "parameter of the URI: another name, or in clear"


def _faults_of_settings(top: "_Files") -> Iterator[str]:
    if top.variables["instance_size"].get("default") != "M10":
        yield "default tier is not M10"
    for name in ("instance_size", "instance_sizes", "allowed_cidrs", "client_ca_pem"):
        if not top.variables[name].get("validation"):
            yield f"{name} is not validated"
    conditions = " ".join(
        str(one.get("condition")) for one in top.variables["allowed_cidrs"]["validation"]
    )
    if not re.search(r"tonumber\(.*\)\s*>=\s*24", conditions):
        yield "the width of networks is not limited"


def _faults_of_cluster(module: "_Files") -> Iterator[str]:
    cluster = module.resource("mongodbatlas_advanced_cluster", "this")
    if cluster["advanced_configuration"]["minimum_enabled_tls_protocol"] != "TLS1_3":
        yield "TLS below 1.3"
    if cluster.get("pit_enabled") is not True:
        yield "no restore to a point in time"
    if cluster.get("backup_enabled") is not True:
        yield "no backups"
    if cluster.get("encryption_at_rest_provider") != "AWS":
        yield "the cluster is not encrypted at rest by the key"
    if cluster["project_id"] != "${mongodbatlas_encryption_at_rest.this.project_id}":
        yield "nothing says that the key is there before the cluster"
    regions = str(cluster["replication_specs"])
    if "instance_size = var.instance_size" not in regions:
        yield "the tier is not variable"
    counts = [
        sum(int(one) for one in group.split(","))
        for group in re.findall(r"\[([0-9, ]+)\]", str(module.local("node_counts")))
    ]
    if counts != [3, 3]:
        yield f"electable nodes are not an odd number, three: {counts}"
    schedule = module.resource("mongodbatlas_cloud_backup_schedule", "this")
    if schedule.get("restore_window_days") != "${var.restore_window_days}":
        yield "the restore window is not the variable's"


def _faults_of_key(module: "_Files") -> Iterator[str]:
    key = module.resource("aws_kms_key", "this")
    if (key.get("region"), key.get("enable_key_rotation")) != ("${var.key_region}", True):
        yield "the KMS key is not in the continent's region, or not rotated"
    (at_rest,) = module.resource("mongodbatlas_encryption_at_rest", "this")["aws_kms_config"]
    if (at_rest.get("enabled"), at_rest.get("customer_master_key_id")) != (
        True,
        "${aws_kms_key.this.arn}",
    ):
        yield "encryption at rest doesn't use the continent's key"
    (statement,) = module.block("data", "aws_iam_policy_document", "atlas_trust")["statement"]
    if [one["variable"] for one in statement["condition"]] != ["sts:ExternalId"]:
        yield "the role may be taken without the external id"


def _faults_of_audit(module: "_Files") -> Iterator[str]:
    auditing = module.resource("mongodbatlas_auditing", "this")
    if auditing.get("enabled") is not True:
        yield "auditing is off"
    wanted = ('"authenticate"', '"authCheck"', "^${local.key_vault_database}", "audited_changes")
    for part in wanted:
        if part not in auditing["audit_filter"]:
            yield f"the audit filter lacks {part}"


def _faults_of_users(module: "_Files") -> Iterator[str]:
    for name, user in module.resources("mongodbatlas_database_user").items():
        if "password" in user:
            yield f"user {name} has a password"
        elif user.get("x509_type") != "CUSTOMER" and user.get("aws_iam_type") != "ROLE":
            yield f"user {name} has neither a certificate nor a role"
        if user.get("auth_database_name") != "$external":
            yield f"user {name} is not an external one"
        if not user.get("scopes"):
            yield f"user {name} has no scope"
        for role in user["roles"]:
            ours = re.search(r'\["(\w+)"\]', role["role_name"])
            if ours is None or ours[1] not in module.local("roles"):
                yield f"user {name} has a role that is not ours"
    for action in CHANGING & set(module.local("persist_rights")):
        # What the canary wrote is nobody's, and a work entry is no data.
        if module.local("persist_rights")[action] != {"${(local.database)}": ["canary", "pending"]}:
            yield "persist may change what is stored"
    # Rewrapping a data key is an update; of the key vault alone.
    rights = module.local("key_rotation_rights")
    if {database for places in rights.values() for database in places} != {
        "${(local.key_vault_database)}"
    }:
        yield "key rotation reaches beyond the key vault"


def _faults_of_alerts(module: "_Files") -> Iterator[str]:
    made = {one["metric"] for one in module.local("metric_alerts").values()}
    made |= set(module.local("event_alerts").values())
    for event in (
        "NO_PRIMARY",
        "OPLOG_SLAVE_LAG_MASTER_TIME",
        "NORMALIZED_SYSTEM_CPU_USER",
        "DISK_PARTITION_SPACE_USED_DATA",
        "ASSERT_USER",
    ):
        if event not in made:
            yield f"no alert {event}"
    for name, alert in module.resources("mongodbatlas_alert_configuration").items():
        if alert.get("enabled") is not True or not alert.get("notification"):
            yield f"alert {name} is off, or tells nobody"


class _Files:
    """The blocks of one directory's files."""

    def __init__(self, directory: Path) -> None:
        self._texts = [path.read_text() for path in sorted(directory.glob("*.tf"))]
        self._documents = [_plain(hcl2.loads(text)) for text in self._texts]

    @property
    def variables(self) -> dict[str, dict[str, Any]]:
        return {
            name: body
            for document in self._documents
            for block in document.get("variable", [])
            for name, body in block.items()
        }

    def local(self, name: str) -> Any:
        for document in self._documents:
            for block in document.get("locals", []):
                if name in block:
                    return block[name]
        raise AssertionError(f"no local {name}")

    def block(self, *labels: str) -> dict[str, Any]:
        kind, *names = labels
        for document in self._documents:
            for block in document.get(kind, []):
                found = block
                for name in names:
                    found = found.get(name, {})
                if found:
                    return dict(found)
        raise AssertionError(f"no {' '.join(labels)}")

    def resource(self, kind: str, name: str) -> dict[str, Any]:
        return self.block("resource", kind, name)

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        return {
            name: body
            for document in self._documents
            for block in document.get("resource", [])
            for name, body in block.get(kind, {}).items()
        }

    def faults_of_variables(self) -> Iterator[str]:
        used = {name for text in self._texts for name in re.findall(r"\bvar\.(\w+)", _code(text))}
        for name in sorted(used - set(self.variables)):
            yield f"variable {name} is not declared"
        for name, body in self.variables.items():
            # Its own validation doesn't use it.
            others = [
                re.sub(rf'(?ms)^variable "{name}" \{{.*?^\}}', "", _code(text))
                for text in self._texts
            ]
            if not any(re.search(rf"\bvar\.{name}\b", text) for text in others):
                yield f"variable {name} is not used"
            if not body.get("description"):
                yield f"variable {name} is not described"
            if not body.get("type"):
                yield f"variable {name} has no type"


def _code(text: str) -> str:
    return re.sub(r"(?m)^\s*#.*$", "", text)


def _plain(value: Any) -> Any:
    """Without the parser's quotation marks and notes."""
    if isinstance(value, Mapping):
        return {
            _plain(key): _plain(item) for key, item in value.items() if not key.startswith("__")
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value
