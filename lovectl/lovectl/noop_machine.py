"""Deploys the no-op machine: the pipeline's own definition, with functions that do nothing."""

import io
import json
import re
import time
import uuid
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from lovectl.paths import REPOSITORY

HERE: Final = Path(__file__).parent
DEFINITION: Final = REPOSITORY / "statemachine" / "pipeline.asl.json"

#: Which no-op stands for a function of the pipeline; the others pass their batch through.
STANDS_FOR: Final = {
    "ShardFunction": "group",
    "PersistAtlasFunction": "store",
    "PersistDynamodbFunction": "store",
    "PersistImmudbFunction": "store",
}
#: Substitutions of the definition that are no functions.
VALUES: Final = {"ContinentsAtOnce": "2"}


#: Who may take the role that all of them have; it may do nothing, as they do nothing.
TRUST: Final = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "states.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}


def deploy_noop(aws: Callable[[str], Any], refusing: Sequence[str] = ()) -> str:
    """Create the no-op functions and their machine; returns the machine's ARN.

    Parameters
    ----------
    aws : callable
        `aws("lambda")` is a boto3 client.
    refusing : sequence of str
        Functions of the pipeline that stand for a tier that is down, such as `PersistAtlasFunction`.
    """
    stands_for = {**STANDS_FOR, **dict.fromkeys(refusing, "refuse")}
    functions, states = aws("lambda"), aws("stepfunctions")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.write(HERE / "noop" / "noop.py", "noop.py")
    suffix = uuid.uuid4().hex[:8]
    made = aws("iam").create_role(
        RoleName=f"noop-{suffix}", AssumeRolePolicyDocument=json.dumps(TRUST)
    )
    role = made["Role"]["Arn"]
    arns = {
        name: functions.create_function(
            FunctionName=f"noop-{name.replace('_', '-')}-{suffix}",
            Runtime="python3.13",
            Role=role,
            Handler=f"noop.{name}",
            Code={"ZipFile": archive.getvalue()},
            Timeout=5,
        )["FunctionArn"]
        for name in ("pass_through", "group", "store", "refuse")
    }
    definition = re.sub(
        r"\$\{(\w+)\}",
        lambda match: VALUES.get(match[1]) or arns[stands_for.get(match[1], "pass_through")],
        DEFINITION.read_text(),
    )
    machine = states.create_state_machine(
        name=f"noop-{suffix}", definition=definition, roleArn=role, type="EXPRESS"
    )
    return str(machine["stateMachineArn"])


def noop_execution_ms(states: Any, machine_arn: str, items: int) -> float:
    """Milliseconds of one synchronous execution with a batch of `items` of the usual size."""
    header = {"transaction_id": "0" * 64, "sender": "0" * 64, "recipient": "0" * 64}
    item = {"envelope": {"header": header, "sealed": {"ciphertext": "x" * 400}}}
    batch = {"batch_id": "noop", "wrapped_keys": {}, "items": [item] * items}
    started_s = time.perf_counter()
    answer = states.start_sync_execution(stateMachineArn=machine_arn, input=json.dumps(batch))
    elapsed_ms = (time.perf_counter() - started_s) * 1000
    if answer["status"] != "SUCCEEDED":
        raise RuntimeError(
            f"the no-op machine failed: {answer.get('error')}: {answer.get('cause')}"
        )
    if len(json.loads(answer["output"])["receipts"]) != items:
        raise RuntimeError("the no-op machine lost receipts")
    return elapsed_ms
