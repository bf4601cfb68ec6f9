"""A registry goes from signer to signer as a file, and anybody checks a chain without a stack."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from typer import Typer
from typer.testing import CliRunner, Result

from federation.registry import NO_PREVIOUS, Candidate, Registry, parse_registry
from federation.registry_source import read_file, write_file
from lovectl import commands
from lovectl.errors import StackError
from lovectl.paths import write_private
from lovectl.pki import private_pem
from lovectl.registry_changes import next_registry, parse_seats
from lovectl.registry_commands import _write as write_proposal

KEYS = {name: Ed25519PrivateKey.generate() for name in "abc"}
GENESIS = Registry(
    1,
    NO_PREVIOUS,
    {"city": 3},
    [
        Candidate(
            name,
            "city",
            "Rome",
            "localhost:1",
            "Ed25519",
            b64encode(key.public_key().public_bytes_raw()).decode(),
            1,
        )
        for name, key in KEYS.items()
    ],
)


def registry(*arguments: Any) -> Result:
    app = Typer()
    commands.register(app)
    return CliRunner().invoke(app, ["registry", *map(str, arguments)])


def signed_by(path: Path, *names: str) -> None:
    for name in names:
        key = write_private(path.parent / f"{name}.pem", private_pem(KEYS[name]))
        result = registry("sign", path, "--key", key, "--as", name, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["digest"] == parse_registry(path.read_bytes()).digest


@pytest.fixture
def proposal(tmp_path: Path) -> Path:
    path = tmp_path / "next.json"
    write_proposal(path, next_registry(GENESIS, seats=parse_seats("city=2")))
    return path


def test_a_file_signed_by_two_thirds_one_after_the_other_makes_a_chain_that_holds(
    proposal: Path, tmp_path: Path
) -> None:
    signed_by(proposal, "a", "c", "a")
    chain = tmp_path / "chain.json"
    write_file(chain, [GENESIS, parse_registry(proposal.read_bytes())])
    result = registry("verify", "--file", chain, "--pin", GENESIS.digest, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "verdict": "holds",
        "pin": GENESIS.digest,
        "epoch": 2,
        "digest": read_file(chain)[1].digest,
    }


@pytest.mark.parametrize(
    ("signers", "pin", "said"),
    [(("a",), GENESIS.digest, "not_enough_stake"), (("a", "b", "c"), "0" * 64, "not_pinned")],
)
def test_a_chain_that_does_not_hold_fails_by_name(
    signers: tuple[str, ...], pin: str, said: str, proposal: Path, tmp_path: Path
) -> None:
    signed_by(proposal, *signers)
    chain = tmp_path / "chain.json"
    write_file(chain, [GENESIS, parse_registry(proposal.read_bytes())])
    result = registry("verify", "--file", chain, "--pin", pin)
    assert isinstance(result.exception, StackError)
    assert said in str(result.exception)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"epoch": 1}', b"\xff"])
def test_a_file_that_holds_no_registry_is_refused_by_name(text: bytes, proposal: Path) -> None:
    key = write_private(proposal.parent / "a.pem", private_pem(KEYS["a"]))
    proposal.write_bytes(text)
    result = registry("sign", proposal, "--key", key, "--as", "a")
    assert isinstance(result.exception, StackError)
    assert str(result.exception).startswith("malformed: ")


def test_a_key_that_can_t_sign_is_refused_by_its_file(proposal: Path) -> None:
    other: Any = X25519PrivateKey.generate()
    for key in (b"no key", private_pem(other)):
        path = write_private(proposal.parent / "wrong.pem", key)
        result = registry("sign", proposal, "--key", path, "--as", "a")
        assert isinstance(result.exception, StackError)
        assert "wrong.pem" in str(result.exception)


@pytest.mark.parametrize(
    "arguments", [("sign", "FILE", "--as", "a"), ("verify", "--file", "FILE"), ("propose",)]
)
def test_what_belongs_together_is_asked_for_together(
    arguments: tuple[str, ...], proposal: Path
) -> None:
    result = registry(*(str(proposal) if one == "FILE" else one for one in arguments))
    assert result.exit_code == 2
