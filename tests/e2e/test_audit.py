"""Refusals and key uses of the running stack are in the audit trail and in the log, come what may."""

import json
import secrets
import time
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner

from federation.limits import AUDIT_REST_S
from lovectl import audit_commands
from lovectl.access import Access
from lovectl.accounts import Account, make_token, sign, unsigned_transaction
from lovectl.audit_commands import logged_events
from lovectl.client import Client
from lovectl.faults import taken_down
from lovectl.measures import function_log_lines

MakeAccount = Callable[..., Account]
Settle = Callable[[Account, str], dict[str, Any]]
Audited = Callable[..., list[dict[str, Any]]]

STACK = "tests"


def stolen(client: Client, owner: Account, thief: Account) -> dict[str, Any]:
    """The problem that a thief gets who posts a transaction of `owner`."""
    document = sign(owner, unsigned_transaction(owner, secrets.token_hex(32), 10, 0))
    answer = client.request("POST", "api/send_transaction", json=document, headers=thief.headers())
    assert answer.status_code == 403, answer.text
    problem: dict[str, Any] = answer.json()
    return problem


def lovectl(*arguments: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(audit_commands.app, [*arguments, "--name", STACK, "--json"])
    assert done.exit_code in (0, 1, 2), done.exception
    return done.exit_code, json.loads(done.stdout)


def test_a_refusal_tells_who_what_from_where_when_why_and_for_which_request(
    account: MakeAccount, client: Client, access: Access, audited: Audited
) -> None:
    owner, thief = account(), account()
    problem = stolen(client, owner, thief)
    [event] = audited(thief.account_id)
    assert event["what"] == "org.lovecurrency.access.refused"
    assert (event["source"], event["why"]) == ("/functions/send", problem["reason"])
    assert (event["where"], event["request_id"]) == ("127.0.0.1", problem["request_id"])
    assert event["when"].endswith("Z")
    logged = logged_events(function_log_lines(access.aws, 0))
    assert event["event_id"] in logged


def test_a_token_that_has_expired_is_written_down_with_its_address(
    account: MakeAccount, client: Client, access: Access, audited: Audited
) -> None:
    sender = account()
    claims = {"exp": 1_700_000_000, "iat": 1_699_999_000}
    token = make_token(access.issuer, sender.account_id, sender.certificate, claims)
    headers = {**sender.headers(), "Authorization": f"Bearer {token}"}
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 0))
    answer = client.request("POST", "api/send_transaction", json=document, headers=headers)
    assert answer.status_code == 401
    event = audited()[-1]
    assert (event["source"], event["where"]) == ("/functions/authorize", "127.0.0.1")
    assert "expired" in event["why"]
    assert event["request_id"]


def test_whoever_has_content_opened_is_in_the_trail_with_the_key(
    account: MakeAccount, client: Client, settle: Settle, audited: Audited
) -> None:
    sender = account()
    document = sign(sender, unsigned_transaction(sender, secrets.token_hex(32), 10, 0))
    answer = client.request("POST", "api/send_transaction", json=document, headers=sender.headers())
    transaction_id = answer.json()["transaction_id"]
    assert settle(sender, transaction_id)["content"]
    uses = audited(sender.account_id, what="key.used")
    assert uses
    assert {one["key"] for one in uses} == {"sealing/sealing-1"}
    assert {one["why"] for one in uses} == {f"open content of {transaction_id}"}
    assert all(one["request_id"] for one in uses)


def test_the_use_of_every_continent_s_kms_key_is_in_the_trail(
    access: Access, audited: Audited
) -> None:
    arns = {value for name, value in access.outputs.items() if name.endswith("KeyArn")}
    assert len(arns) == 7
    unwrapped = {
        one["key"]
        for one in audited("persist", what="key.used")
        if one["why"].startswith("unwrap data key")
    }
    assert arns <= unwrapped


def test_with_sqs_down_a_refusal_stands_and_reaches_the_trail_before_the_next(
    account: MakeAccount, client: Client, access: Access, audited: Audited
) -> None:
    owner, thief = account(), account()
    with taken_down(access.proxies, ("inbox",)):
        asked = [stolen(client, owner, thief)["request_id"]]
    time.sleep(AUDIT_REST_S)
    asked.append(stolen(client, owner, thief)["request_id"])
    assert {one["request_id"] for one in audited(thief.account_id)} >= {asked[1]}
    # Another process of the function may have served the second: then the first is in the log only.
    lovectl("respool")
    assert {one["request_id"] for one in audited(thief.account_id)} == set(asked)
    assert lovectl("verify", "--logs")[1]["verdict"] == "whole"


@pytest.mark.parametrize("times", [12])
def test_with_immudb_down_refusals_stand_and_reach_the_trail_in_order_once_it_is_back(
    times: int, account: MakeAccount, client: Client, access: Access, audited: Audited
) -> None:
    owner, thief = account(), account()
    before = len(audited())
    with taken_down(access.proxies, ("immudb",)):
        asked = [stolen(client, owner, thief)["request_id"] for _ in range(times)]
        logged = function_log_lines(access.aws, 0)
        assert all(any(one in line for line in logged) for one in asked)
    events = audited(thief.account_id)
    assert [one["request_id"] for one in events] == asked
    assert len(audited()) == before + times
    code, report = lovectl("verify", "--logs")
    assert (code, report["verdict"], report["findings"]) == (0, "whole", [])
    assert report["logged_but_not_in_trail"] == []
    assert report["entries"] >= report["logged"] > times
    code, shown = lovectl("tail", "-n", str(times))
    assert code == 0
    assert {one["request_id"] for one in shown["events"]} >= set(asked[-3:])
