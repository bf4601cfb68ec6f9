"""What comes into the wheel is permissively licensed, from the registry, checked, and there once."""

import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

CRATE = Path(__file__).parents[2] / "layers" / "rust_core"
POLICY = tomllib.loads((CRATE / "deny.toml").read_text())
LOCKED = tomllib.loads((CRATE / "Cargo.lock").read_text())["package"]
ALLOWED = frozenset(POLICY["licenses"]["allow"])


def packages_in_use() -> dict[tuple[str, str], str]:
    """Licence by (name, version) of all that is compiled, on any platform, also for tests."""
    # Not `cargo metadata`, which also tells of optional packages that nobody asked for.
    command = ["cargo", "tree", "--locked", "--target", "all", "--edges", "all"]
    command += ["--prefix", "none", "--format", "{p}\t{l}"]
    lines = subprocess.check_output(command, cwd=CRATE, text=True).splitlines()
    packages = {}
    for line in lines:
        package, _, licence = line.partition("\t")
        if match := re.match(r"(\S+) v(\d\S*)", package):
            packages[match[1], match[2]] = licence.removesuffix(" (*)")
    return packages


PACKAGES = packages_in_use()


def is_allowed(expression: str, allowed: frozenset[str] = ALLOWED) -> bool:
    """Whether an SPDX expression can be met by allowed licences alone.

    AND binds closer than OR (SPDX 2.3, annex D); `/` is how older crates write OR.
    """
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def joined(operator: str, part: Callable[[], bool]) -> bool:
        parts = [part()]
        while tokens and tokens[0] == operator:
            tokens.pop(0)
            parts.append(part())
        return any(parts) if operator == "OR" else all(parts)

    def either() -> bool:
        return joined("OR", lambda: joined("AND", one))

    def one() -> bool:
        token = tokens.pop(0)
        if token == "(":
            inside = either()
            assert tokens.pop(0) == ")", expression
            return inside
        if tokens and tokens[0] == "WITH":
            tokens.pop(0)
            token = f"{token} WITH {tokens.pop(0)}"
        return token in allowed

    met = either()
    assert not tokens, expression
    return met


@pytest.mark.parametrize(
    ("expression", "met"),
    [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only/MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("MIT OR GPL-3.0-only AND GPL-2.0-only", True),
        ("(MIT OR GPL-3.0-only) AND GPL-2.0-only", False),
        ("ISC AND (GPL-3.0-only OR ISC)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("MIT WITH Some-exception", False),
        ("GPL-3.0-only WITH GCC-exception-3.1 OR MIT AND ISC", True),
    ],
)
def test_a_licence_expression_is_met_as_spdx_says(expression: str, met: bool) -> None:
    assert (
        is_allowed(expression, frozenset(["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"])) is met
    )


def test_every_licence_is_on_the_allow_list() -> None:
    refused = {one: found for one, found in PACKAGES.items() if not is_allowed(found or "none")}
    assert refused == {}
    assert len(PACKAGES) > 50


def test_everything_comes_from_the_registry_with_a_checksum() -> None:
    ours = [one for one in LOCKED if "source" not in one]
    assert [one["name"] for one in ours] == ["rust_core"]
    others = [one for one in LOCKED if "source" in one]
    assert {(one["name"], one["version"]) for one in LOCKED} >= set(PACKAGES)
    assert len({one["source"] for one in others}) == 1
    for one in others:
        assert one["source"].startswith("registry+"), one["name"]
        assert re.fullmatch("[0-9a-f]{64}", one["checksum"]), one["name"]


def test_no_requirement_of_ours_is_a_wildcard() -> None:
    manifest = tomllib.loads((CRATE / "Cargo.toml").read_text())
    wanted = {**manifest["dependencies"], **manifest["dev-dependencies"]}
    versions = [one if isinstance(one, str) else one["version"] for one in wanted.values()]
    assert [one for one in versions if "*" in one] == []
    assert len(versions) > 15


def compatible(version: str) -> str:
    """What SemVer calls one version: 1.2.3 → 1, 0.2.3 → 0.2."""
    major, minor, _ = version.split(".", 2)
    return major if major != "0" else f"0.{minor}"


def test_a_crate_is_there_twice_only_with_a_reason() -> None:
    versions = defaultdict(set)
    for name, version in PACKAGES:
        versions[name].add(compatible(version))
    older = {
        f"{name}@{version}"
        for name, found in versions.items()
        for version in found
        - {max(found, key=lambda text: [int(part) for part in text.split(".")])}
    }
    reasons = {skipped["crate"]: skipped["reason"] for skipped in POLICY["bans"]["skip"]}
    assert older == set(reasons)
    assert all(reasons.values())


def test_unsafe_code_is_denied_and_allowed_in_one_file_at_most() -> None:
    sources = {path: path.read_text() for path in sorted((CRATE / "src").rglob("*.rs"))}
    assert "#![deny(unsafe_code)]" in sources[CRATE / "src" / "lib.rs"]
    unsafe = [
        path.name
        for path, text in sources.items()
        if re.search(r"\bunsafe\b|(allow|expect|warn)\(unsafe_code\)", text)
    ]
    assert len(unsafe) <= 1, unsafe
