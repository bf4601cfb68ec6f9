"""A change of the registry on a running stack: refused unsigned, in force when signed, settled exactly."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from federation.regions import Continent
from lovectl import commands, stack
from lovectl.access import access_to
from lovectl.errors import StackError
from lovectl.ledger import read_entries
from lovectl.registry_stack import read_chain
from lovectl.sending import plan, post_all, wait_for_receipts
from lovectl.trust import DELEGATES_SECRET

NAME = "registry"
#: Functions keep a secret for a minute.
IN_FORCE_S = 150.0
PER_TRANSACTION = 1_000


@pytest.fixture(scope="module")
def running() -> Iterator[stack.Stack]:
    with stack.running(NAME) as found:
        yield found


def lovectl(*arguments: str, code: int = 0) -> Any:
    app = Typer()
    commands.register(app)
    result = CliRunner().invoke(app, [*arguments, "--name", NAME, "--json"])
    if code:
        assert isinstance(result.exception, StackError), result.output
        return str(result.exception)
    assert result.exit_code == 0, f"{result.output} {result.exception!r}"
    return json.loads(result.stdout)


def sent(running: stack.Stack, count: int = 3) -> list[dict[str, Any]]:
    access = access_to(running)
    with access.client() as client:
        postings = plan(access.issuer, count, continents=(Continent.EUROPE,), batch=count)
        accepted = post_all(client, postings, progress=None)
        return list(wait_for_receipts(client, accepted, timeout_s=60, progress=None).values())


def final_soon(running: stack.Stack) -> list[dict[str, Any]]:
    """Sends until all of one batch is final; what comes before the minute is over is pending."""
    deadline_s = time.monotonic() + IN_FORCE_S
    while True:
        answers = sent(running)
        if all(one["receipt"]["final"] for one in answers):
            return answers
        assert time.monotonic() < deadline_s, answers
        time.sleep(3)


def test_a_change_is_refused_unsigned_and_in_force_when_signed_and_an_epoch_is_settled(
    running: stack.Stack, tmp_path: Path
) -> None:
    final_soon(running)
    before = lovectl("registry", "verify")
    assert (before["verdict"], before["epoch"]) == ("holds", 1)
    old_secret = running.client("secretsmanager").get_secret_value(SecretId=DELEGATES_SECRET)

    file = tmp_path / "proposal.json"
    lent = f"{'a' * 64}:node-tokyo:500000"
    arguments = ("--output", str(file), "--next-epoch", "--delegate", lent)
    proposed = lovectl("registry", "propose", *arguments)
    stakes = {one["delegate_id"]: one["stake"] for one in proposed["delegates"]}
    assert stakes["node-tokyo"] == 3_500_000
    assert set(proposed["registry"]["uptime_ppm"]) >= {"node-tokyo", "node-nairobi"}
    assert proposed["registry"]["evidence"] == []

    assert "not_enough_stake" in lovectl("registry", "apply", str(file), code=1)
    light = ("node-tokyo", "node-frankfurt", "node-nairobi")
    few = lovectl("registry", "sign", str(file), *(f"--node={one}" for one in light))
    assert (few["signed_stake"], few["enough"]) == (9_000_000, False)
    assert "not_enough_stake" in lovectl("registry", "apply", str(file), code=1)
    unchanged = running.client("secretsmanager").get_secret_value(SecretId=DELEGATES_SECRET)
    assert unchanged["SecretString"] == old_secret["SecretString"]

    assert lovectl("registry", "sign", str(file), "--node=node-global")["enough"]
    lovectl("registry", "apply", str(file))
    assert lovectl("registry", "apply", str(file))["digest"] == proposed["digest"]
    assert [one.epoch for one in read_chain(running)] == [1, 2]
    assert lovectl("registry", "show")["registry"]["epoch"] == 2

    was_final = {one.transaction_id for one in read_entries(access_to(running).stores) if one.final}
    final_soon(running)
    entries = read_entries(access_to(running).stores)
    now_final = {one.transaction_id for one in entries if one.final}
    assert was_final < now_final

    settled = [lovectl("rewards", "--epoch", epoch) for epoch in ("1", "2")]
    assert [one["forfeited"] for one in settled] == [{}, {}]
    assert sum(sum(one["due"].values()) for one in settled) == PER_TRANSACTION * len(now_final)
    assert sum(settled[0]["due"].values()) == PER_TRANSACTION * len(was_final)
