"""The replica set on premises is configured as promised; each rule is noticed when it is spoilt."""

import configparser
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from persist.atlas import CANARY, DATABASE, REJECTIONS, TRANSACTIONS
from persist.field_encryption import KEY_NAMES, KEY_VAULT, KEY_VAULT_DATABASE
from persist.finality import FINALITY, PENDING

MONGOD: Final = Path(__file__).parents[2] / "infrastructure" / "mongod"
MEMBERS: Final = 3
CHANGES_OF_RIGHTS: Final = {"createUser", "dropUser", "grantRolesToUser", "createRole", "dropRole"}


def problems(directory: Path) -> Iterator[str]:
    """What is wrong with the configuration in `directory`."""
    conf = yaml.safe_load((directory / "mongod.conf").read_text())
    yield from _tls_problems(conf["net"].get("tls", {}))
    yield from _access_problems(conf)
    yield from _member_problems(directory, conf)
    yield from _audit_problems(conf.get("auditLog", {}))
    yield from _openssl_problems(directory / "openssl.cnf")


def _tls_problems(tls: dict[str, Any]) -> Iterator[str]:
    if tls.get("mode") != "requireTLS":
        yield "TLS is not required"
    if set(str(tls.get("disabledProtocols")).split(",")) != {"TLS1_0", "TLS1_1", "TLS1_2"}:
        yield "another TLS than 1.3 is allowed"
    for file in ("certificateKeyFile", "clusterFile", "CAFile", "CRLFile"):
        if not str(tls.get(file, "")).startswith("/etc/love-mongod/tls/"):
            yield f"{file} is missing"
    for weakness in (
        "allowConnectionsWithoutCertificates",
        "allowInvalidCertificates",
        "allowInvalidHostnames",
    ):
        if tls.get(weakness) is not False:
            yield f"{weakness} is not off"


def _access_problems(conf: dict[str, Any]) -> Iterator[str]:
    security, parameters = conf.get("security", {}), conf.get("setParameter", {})
    if security.get("authorization") != "enabled":
        yield "nobody is asked for rights"
    if security.get("clusterAuthMode") != "x509":
        yield "members don't prove themselves by X.509"
    if "keyFile" in security:
        yield "a shared key would make a member too"
    if security.get("javascriptEnabled") is not False:
        yield "server-side scripts may run"
    if parameters.get("authenticationMechanisms") != "MONGODB-X509":
        yield "passwords are taken"
    if parameters.get("auditAuthorizationSuccess") is not True:
        yield "reads of the key vault are not audited"


def _member_problems(directory: Path, conf: dict[str, Any]) -> Iterator[str]:
    script = (directory / "rs-initiate.js").read_text()
    hosts = re.findall(r'"([a-z0-9.-]+):27017",', script)
    if len(set(hosts)) != MEMBERS:
        yield f"the set has {len(set(hosts))} members"
    bound = [conf["net"]["bindIp"]]
    for file in sorted((directory / "members").glob("*.env")):
        found = re.search(r"^BIND_IP=(\S+)$", file.read_text(), re.MULTILINE)
        bound.append(found[1] if found else "")
    own = {address for each in bound for address in each.split(",")} - {"127.0.0.1"}
    if own != set(hosts):
        yield f"members listen on {sorted(own)}, the set is {hosts}"
    if any(not address or address in ("0.0.0.0", "::", "*") for address in own):
        yield "a member listens on every interface"
    if not conf.get("replication", {}).get("replSetName"):
        yield "there is no replica set"
    unit = (directory / "love-mongod.service").read_text()
    if "--bind_ip ${BIND_IP}" not in unit or "--bind_ip_all" in unit:
        yield "the unit doesn't take the member's address"


def _audit_problems(audit: dict[str, Any]) -> Iterator[str]:
    if (audit.get("destination"), audit.get("format")) != ("file", "JSON"):
        yield "nothing is audited"
        return
    rules = json.loads(audit["filter"])["$or"]
    for kind in ("authenticate", "authCheck"):
        if {"atype": kind, "result": {"$ne": 0}} not in rules:
            yield f"a refused {kind} is not audited"
    if {
        "atype": "authCheck",
        "param.ns": {"$regex": f"^{KEY_VAULT_DATABASE}\\."},
    } not in rules:
        yield "the key vault is not audited"
    kinds = [set(rule["atype"]["$in"]) for rule in rules if isinstance(rule["atype"], dict)]
    if not any(kinds_of >= CHANGES_OF_RIGHTS for kinds_of in kinds):
        yield "changes of rights are not audited"


def _openssl_problems(file: Path) -> Iterator[str]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("[start]\n" + file.read_text())
    contexts = parser[parser[parser["start"]["openssl_conf"]]["ssl_conf"]]
    defaults = dict(parser[contexts["system_default"]])
    if defaults != {
        "MinProtocol": "TLSv1.3",
        "Groups": "X25519MLKEM768",
        "SignatureAlgorithms": "mldsa65",
    }:
        yield f"post-quantum TLS is {defaults}"


def test_the_configuration_is_as_promised() -> None:
    assert list(problems(MONGOD)) == []


@pytest.mark.parametrize(
    ("file", "good", "bad"),
    [
        ("mongod.conf", "mode: requireTLS", "mode: preferTLS"),
        ("mongod.conf", "TLS1_1,TLS1_2", "TLS1_1"),
        ("mongod.conf", "CAFile: /etc/love-mongod/tls/ca.pem", "logSuffix: none"),
        (
            "mongod.conf",
            "allowConnectionsWithoutCertificates: false",
            "allowConnectionsWithoutCertificates: true",
        ),
        ("mongod.conf", "allowInvalidCertificates: false", "allowInvalidCertificates: true"),
        ("mongod.conf", "authorization: enabled", "authorization: disabled"),
        ("mongod.conf", "clusterAuthMode: x509", "clusterAuthMode: sendX509"),
        ("mongod.conf", "authenticationMechanisms: MONGODB-X509", "ttlMonitorEnabled: true"),
        ("mongod.conf", "auditLog:", "unknown:"),
        ("mongod.conf", '{"atype": "authenticate", "result": {"$ne": 0}},', ""),
        ("mongod.conf", '"createUser", "updateUser", "dropUser",', ""),
        ("mongod.conf", "bindIp: 127.0.0.1", "bindIp: 0.0.0.0"),
        ("members/mongo-2.env", "mongo-2.love.internal", "0.0.0.0"),
        ("rs-initiate.js", '  "mongo-3.love.internal:27017",\n', ""),
        ("openssl.cnf", "Groups = X25519MLKEM768", "Groups = X25519MLKEM768:X25519"),
        ("openssl.cnf", "SignatureAlgorithms = mldsa65", "SignatureAlgorithms = mldsa65:ed25519"),
    ],
)
def test_a_spoilt_configuration_is_noticed(tmp_path: Path, file: str, good: str, bad: str) -> None:
    copy = tmp_path / "mongod"
    shutil.copytree(MONGOD, copy)
    text = (copy / file).read_text()
    assert good in text
    (copy / file).write_text(text.replace(good, bad))
    assert list(problems(copy))


def test_persist_may_insert_and_find_what_it_uses_and_nothing_else() -> None:
    script = (MONGOD / "rs-initiate.js").read_text()
    role = re.search(r"love_persist: \[(.*?)\n  \],", script, re.DOTALL)
    assert role is not None
    granted = {
        (database, collection): set(json.loads(actions))
        for database, collections, actions in re.findall(
            r"onEach\((\w+), (\[[^\]]*\]), (\[[^\]]*\])\)", role[1]
        )
        for collection in json.loads(collections)
    }
    constants = dict(re.findall(r'const (DATABASE|VAULT) = "(\w+)";', script))
    assert constants == {"DATABASE": DATABASE, "VAULT": KEY_VAULT_DATABASE}
    assert granted == {
        ("DATABASE", TRANSACTIONS): {"find", "insert", "createIndex"},
        ("DATABASE", REJECTIONS): {"find", "insert"},
        ("DATABASE", FINALITY): {"find", "insert"},
        ("DATABASE", PENDING): {"find", "insert", "remove"},
        ("DATABASE", CANARY): {"find", "insert", "remove"},
        ("VAULT", KEY_VAULT): {"find", "insert"},
        ("VAULT", KEY_NAMES): {"find", "insert"},
    }


def test_the_audit_filter_is_that_of_the_atlas_clusters() -> None:
    conf = yaml.safe_load((MONGOD / "mongod.conf").read_text())
    terraform = MONGOD.parent / "terraform" / "atlas" / "modules" / "cluster" / "project.tf"
    listed = re.search(r"audited_changes = \[(.*?)\]", terraform.read_text(), re.DOTALL)
    assert listed is not None
    atlas = set(re.findall(r'"(\w+)"', listed[1]))
    rules = json.loads(conf["auditLog"]["filter"])["$or"]
    # Atlas changes its replica sets itself.
    assert set(rules[-1]["atype"]["$in"]) == atlas | {"replSetReconfig"}
