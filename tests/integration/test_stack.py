"""A stack comes up, is found, and goes down without a trace; of a tiny template, to be quick."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from lovectl import stack as stacks
from lovectl.delegates import LIGHT_NODES
from lovectl.errors import AlreadyRunning, NotRunning, StackError
from lovectl.guardian import marked
from lovectl.processes import ProcessIdentity, stop
from lovectl.state import load_state

NAME = "lifecycle"

TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: live
      GatewayResponses:
        MISSING_AUTHENTICATION_TOKEN:
          StatusCode: 404
          ResponseParameters: { Headers: { Content-Type: "'application/problem+json'" } }
          ResponseTemplates: { application/json: '{"status":404}' }
  SendFunction:
    Type: AWS::Serverless::Function
    Properties:
      Handler: send.app.handler
      Runtime: python3.13
      CodeUri: functions/
      AutoPublishAlias: live
      Events:
        Health:
          Type: Api
          Properties: { RestApiId: !Ref Api, Path: /api/health, Method: GET }
Outputs:
  ApiId:
    Value: !Ref Api
"""
HANDLER = """
import json, os

def handler(event, context):
    seen = {name: value for name, value in os.environ.items() if name.startswith("AWS_ENDPOINT")}
    return {"statusCode": 200, "body": json.dumps(seen)}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A template with one API and one function."""
    directory = tmp_path_factory.mktemp("source")
    (directory / "template.yaml").write_text(TEMPLATE)
    (directory / "statemachine").mkdir()
    package = directory / "functions" / "send"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "app.py").write_text(HANDLER)
    return directory


@pytest.fixture(scope="module")
def stack(source: Path) -> Iterator[stacks.Stack]:
    """A running stack of that template."""
    running = stacks.up(NAME, source=source)
    yield running
    running.down()


def test_every_server_and_its_proxy_is_up(stack: stacks.Stack) -> None:
    found = stacks.status(NAME)
    assert found["state"] == "up"
    assert set(found["servers"].values()) == {"up"}
    assert set(found["proxies"].values()) == {"up"}
    assert {"mongo-asia", "mongo-me", "immudb", "dynamodb", "inbox", "kms", *LIGHT_NODES} <= set(
        found["proxies"]
    )


def test_handlers_reach_stores_through_the_proxies(stack: stacks.Stack) -> None:
    status, seen = _get(stack, "/api/health")
    assert status == 200
    proxies = stack.state.proxies
    for proxy, service in stacks.AWS_PROXIES.items():
        assert seen[f"AWS_ENDPOINT_URL_{service}"].endswith(f":{proxies[proxy].listen_port}")


def test_gateway_responses_of_the_template_are_in_effect(stack: stacks.Stack) -> None:
    assert _get(stack, "/nothing") == (404, {"status": 404})


def test_the_secrets_of_the_contract_are_there(stack: stacks.Stack) -> None:
    names = {each["Name"] for each in stack.client("secretsmanager").list_secrets()["SecretList"]}
    assert {"love/trust", "love/sealing", "love/mongo", "love/immudb", "love/delegates"} <= names


def test_a_second_stack_of_the_name_is_refused(stack: stacks.Stack, source: Path) -> None:
    with pytest.raises(AlreadyRunning, match="lovectl down"):
        stacks.up(NAME, source=source)


def test_a_running_stack_is_found_from_its_file_alone(stack: stacks.Stack) -> None:
    found = stacks.find(NAME)
    assert found is not None
    assert found.api_url == stack.api_url
    assert found.client("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_keys_and_data_are_readable_by_this_user_only(stack: stacks.Stack) -> None:
    for path in (stack.directory, *stack.directory.glob("*/*.pem"), stack.directory / "state.json"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_down_leaves_no_process_no_key_and_no_data(source: Path) -> None:
    name = f"{NAME}-down"
    stack = stacks.up(name, source=source)
    servers = [each.process for each in stack.state.servers.values()]
    stack.down()
    assert not any(each.is_running() for each in servers)
    assert [each.name for each in stack.directory.iterdir()] == ["logs"]
    assert stacks.find(name) is None
    with pytest.raises(NotRunning):
        stacks.status(name)


def test_a_process_that_took_over_the_id_of_a_server_is_not_stopped() -> None:
    with subprocess.Popen(["/bin/sleep", "30"]) as other:
        mine = ProcessIdentity.of(other.pid)
        stop(msgspec.structs.replace(mine, started_ticks=mine.started_ticks - 1))
        assert mine.is_running()
        stop(mine)
        other.wait(timeout=5)
    assert not mine.is_running()


def test_when_the_deployment_fails_every_server_is_stopped(source: Path, tmp_path: Path) -> None:
    name = f"{NAME}-broken"
    (tmp_path / "template.yaml").write_text(TEMPLATE.replace("AWS::Serverless::Api", "AWS::No"))
    (tmp_path / "functions").symlink_to(source / "functions")
    (tmp_path / "statemachine").symlink_to(source / "statemachine")
    with pytest.raises(StackError, match="sam deploy failed"):
        stacks.up(name, source=tmp_path)
    assert load_state(name) is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing_running(number: signal.Signals) -> None:
    name = f"{NAME}-interrupted-by-{number.name.lower()}"
    directory = stacks.stack_directory(name)
    command = [sys.executable, "-c", "from lovectl.app import main; main()", "up", "--name", name]
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as starting:
        servers = _servers_once_some_run(name)
        os.kill(starting.pid, number)
        assert starting.wait(timeout=30) != 0
    assert not any(each.is_running() for each in servers)
    assert not (directory / "state.json").exists()
    _wait_until_nothing_runs_in(directory)


def test_servers_end_with_whoever_started_them_even_if_killed(source: Path) -> None:
    name = f"{NAME}-killed"
    start = "import sys, time; from pathlib import Path; from lovectl import stack"
    command = [sys.executable, "-c", f"{start}; stack.up({name!r}, source=Path(sys.argv[1]))"]
    with subprocess.Popen([*command, str(source)], stderr=subprocess.DEVNULL) as starting:
        _servers_once_some_run(name)
        starting.kill()
    _wait_until_nothing_runs_in(stacks.stack_directory(name))
    with stacks.running(name, source=source) as again:  # what the dead one left is no obstacle
        assert stacks.find(name) is not None
        assert again.state.api_url


def test_a_server_that_nobody_noted_ends_with_whoever_started_it() -> None:
    start = "import subprocess, os; from lovectl.guardian import mark"
    run = "subprocess.Popen(['sleep', '600'], env={**os.environ, **mark()}); print(mark().popitem()[1])"
    command = [sys.executable, "-c", f"{start}; {run}"]
    token = subprocess.check_output(command, text=True).strip()
    end_s = time.monotonic() + 30
    while marked(token) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not marked(token)


def _wait_until_nothing_runs_in(directory: Path) -> None:
    """Also processes that were not noted before the start was interrupted."""
    end_s = time.monotonic() + 30
    while (left := _running_in(directory)) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not left


def _running_in(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if (
                entry.name.isdigit()
                and f"{directory}/".encode() in (entry / "cmdline").read_bytes()
            ):
                found.append(entry.name)
    return found


def _servers_once_some_run(name: str) -> list[ProcessIdentity]:
    end_s = time.monotonic() + 30
    while time.monotonic() < end_s:
        state = load_state(name)
        if state is not None and len(state.servers) >= 5:
            return [each.process for each in state.servers.values()]
        time.sleep(0.02)
    raise AssertionError("nothing was started")


def _get(stack: stacks.Stack, path: str) -> tuple[int, dict[str, object]]:
    import httpx

    with httpx.Client(verify=_context(stack)) as client:
        answer = client.get(stack.api_url + path)
    return answer.status_code, answer.json()


def _context(stack: stacks.Stack) -> object:
    import ssl

    return ssl.create_default_context(cafile=str(stack.pki.ca_file))
