"""The local AWS's interpreter, and moto's (LocalStack's) with JSONata's reference implementation.

Both run a definition in-process: only what a task answers is mocked. The second shares no code with
the first, not even the evaluator of expressions, which is a port to Python there.
"""

import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from asl.tasks import TaskFailed, Tasks, Throttled
from lovectl.paths import REPOSITORY

REGION = "us-east-1"
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/states"
RUN_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How an execution ended; `output` if it succeeded, `error` if not."""

    status: str
    output: Any = None
    error: str | None = None


Interpreter = Callable[[str, Any, Tasks], Outcome]


def definition(path: Path, values: dict[str, str], timeout_s: int) -> str:
    """The definition with its functions named by themselves, and no task waited for longer.

    Parameters
    ----------
    values : mapping
        Substitutions that are no functions.
    """
    text = path.read_text()
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return json.dumps(_prepared(json.loads(text), timeout_s))


def _prepared(node: Any, timeout_s: int) -> Any:
    if isinstance(node, list):
        return [_prepared(one, timeout_s) for one in node]
    if not isinstance(node, dict):
        if isinstance(node, str) and node.startswith("${") and node.endswith("}"):
            return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{node[2:-1]}"
        return node
    prepared = {name: _prepared(value, timeout_s) for name, value in node.items()}
    if prepared.get("Type") == "Task":
        prepared["TimeoutSeconds"] = timeout_s
    return prepared


def _function(arn: str) -> str:
    return arn.rsplit(":", 1)[1]


def in_ministack(text: str, given: Any, tasks: Tasks) -> Outcome:
    """One synchronous execution by the local AWS's own interpreter."""
    from ministack.services import stepfunctions

    def call(function: str, event: Any) -> Any:
        try:
            return tasks.call(_function(function), event)
        except TaskFailed as error:
            raise stepfunctions._ExecutionError(error.name, "mocked") from None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepfunctions, "_call_lambda", call)
        patch.setattr(stepfunctions, "_resolve_lambda_function_ref", lambda ref, optimized: ref)
        name = f"machine-{time.monotonic_ns()}"
        made = stepfunctions._create_state_machine(
            {"name": name, "definition": text, "roleArn": ROLE, "type": "EXPRESS"}
        )
        arn = json.loads(made[2])["stateMachineArn"]
        ran = stepfunctions._start_sync_execution(
            {"stateMachineArn": arn, "input": json.dumps(given)}
        )
        return _outcome(json.loads(ran[2]))


def in_moto(text: str, given: Any, tasks: Tasks) -> Outcome:
    """One execution by moto's interpreter, its JSONata evaluated by jsonata-js."""
    import boto3
    from moto import mock_aws
    from moto.stepfunctions.parser.asl.component.state.exec.state_task import lambda_eval_utils
    from moto.stepfunctions.parser.asl.jsonata import jsonata

    def invoke(parameters: dict[str, Any], **rest: Any) -> dict[str, Any]:
        del rest
        function = _function(parameters["FunctionName"])
        try:
            answer = tasks.call(function, json.loads(parameters["Payload"]))
        except Throttled:
            refusal = {
                "Error": {"Code": "TooManyRequestsException", "Message": "mocked"},
                "ResponseMetadata": {"HTTPStatusCode": 429, "RequestId": "mocked"},
            }
            raise ClientError(refusal, "Invoke") from None  # type: ignore[arg-type]
        except TaskFailed as error:
            failed = {"errorType": error.name, "errorMessage": "mocked"}
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": failed}
        return {"StatusCode": 200, "ExecutedVersion": "1", "Payload": answer}

    with (
        _reference_jsonata() as evaluate,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in [one for one in os.environ if one.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setattr(jsonata, "_eval_jsonata", evaluate)
        patch.setattr(lambda_eval_utils, "_invoke_lambda_function", invoke)
        with mock_aws(config={"stepfunctions": {"execute_state_machine": True}}):
            states = boto3.client("stepfunctions")
            made = states.create_state_machine(name="machine", definition=text, roleArn=ROLE)
            started = states.start_execution(
                stateMachineArn=made["stateMachineArn"], input=json.dumps(given)
            )
            ends_s = time.monotonic() + RUN_S
            while True:
                found = states.describe_execution(executionArn=started["executionArn"])
                if found["status"] != "RUNNING":
                    return _outcome(found)
                assert time.monotonic() < ends_s, "it runs for ever"
                time.sleep(0.01)


def _outcome(found: Any) -> Outcome:
    if found["status"] == "SUCCEEDED":
        return Outcome("SUCCEEDED", output=json.loads(found["output"]))
    return Outcome(found["status"], error=found.get("error"))


@contextmanager
def _reference_jsonata() -> Iterator[Callable[[str], Any]]:
    """Evaluates expressions in a Node of its own, one after the other."""
    import threading

    script = Path(__file__).with_name("evaluate.mjs")
    with subprocess.Popen(
        ["node", str(script), str(REPOSITORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as node:
        assert isinstance(node.stdin, io.TextIOWrapper)
        assert isinstance(node.stdout, io.TextIOWrapper)
        reader, writer, lock = node.stdout, node.stdin, threading.Lock()

        def evaluate(expression: str) -> Any:
            from moto.stepfunctions.parser.asl.jsonata.jsonata import JSONataException

            with lock:
                writer.write(json.dumps(expression) + "\n")
                writer.flush()
                answer = json.loads(reader.readline())
            if "error" in answer:
                raise JSONataException("UNKNOWN", answer["error"])
            return answer["value"]

        try:
            yield evaluate
        finally:
            writer.close()


INTERPRETERS: dict[str, Interpreter] = {"ministack": in_ministack, "moto": in_moto}
