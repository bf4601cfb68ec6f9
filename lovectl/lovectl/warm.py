"""Calls each function once when a stack comes up, so that no first transaction waits for imports.

On AWS, SnapStart and the canary do this. MiniStack starts a process for a function at its first
call, and one more for each call that overlaps with others.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from lovectl.errors import DeployFailed

ALIAS: Final = "live"
#: More would only wait for the same two cores.
CALLS_AT_ONCE: Final = 4
CALL_TIMEOUT_S: Final = 30
INITIALISE_TIMEOUT_S: Final = 60

_EMPTY_BATCH: Final[dict[str, Any]] = {"batch_id": "warm-up", "wrapped_keys": {}, "items": []}
_HEALTH: Final = {"action": "health"}
#: Logical id of each function to an event that changes nothing.
EVENTS: Final[dict[str, dict[str, Any]]] = {
    "PersistAtlasFunction": _HEALTH,
    "PersistDynamodbFunction": _HEALTH,
    "PersistImmudbFunction": _HEALTH,
    "DposFunction": _EMPTY_BATCH,
    "PopFunction": _EMPTY_BATCH,
    "ShardFunction": _EMPTY_BATCH,
    "RewardFunction": {"batch_id": "warm-up", "groups": [], "rewards": []},
    "DispatchFunction": {"Records": []},
    "AuditFunction": {"Records": []},
    "ReconcileFunction": {"action": "gather", "continent": "Europe"},
    "CanaryFunction": {},
    "SendFunction": {
        "httpMethod": "GET",
        "path": "/api/health",
        "resource": "/api/health",
        "headers": {},
        "multiValueHeaders": {},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {"requestId": "warm-up", "stage": "live", "identity": {}},
        "body": None,
        "isBase64Encoded": False,
    },
}


#: Its threads copy dictionaries that others change; rare, and over at once.
MINISTACK_RACE: Final = "dictionary changed size during iteration"


def warm_up(client: Callable[..., Any], stack_name: str) -> list[str]:
    """Invoke every function of the deployed stack once; gives a sentence for each that failed.

    Parameters
    ----------
    client : callable
        `client("lambda")` gives a boto3 client.
    stack_name : str
        Of the CloudFormation stack.

    Raises
    ------
    DeployFailed
        A function's module can't be imported.
    """
    functions = dict(functions_of(client("cloudformation"), stack_name))
    _wait_until_initialised(client("lambda"), functions)
    config = Config(read_timeout=CALL_TIMEOUT_S, max_pool_connections=CALLS_AT_ONCE)
    caller = client("lambda", config=config)
    with ThreadPoolExecutor(max_workers=CALLS_AT_ONCE) as pool:
        failures = pool.map(
            lambda each: _call(caller, each, functions[each]),
            [each for each in EVENTS if each in functions],
        )
        return [failure for failure in failures if failure]


def functions_of(client: Any, stack_name: str) -> Iterator[tuple[str, str]]:
    """Logical id and name of each function; `client` is a boto3 client of CloudFormation."""
    for resource in client.describe_stack_resources(StackName=stack_name)["StackResources"]:
        if resource["ResourceType"] == "AWS::Lambda::Function":
            yield resource["LogicalResourceId"], resource["PhysicalResourceId"]


def _wait_until_initialised(client: Any, functions: dict[str, str]) -> None:
    """With SnapStart a published version imports its module before its first call."""
    end_s = time.monotonic() + INITIALISE_TIMEOUT_S
    for logical_id, function in functions.items():
        while True:
            found = client.get_function_configuration(FunctionName=function, Qualifier=ALIAS)
            # What MiniStack's own race kept from starting is started by the call that follows.
            if found["State"] == "Active" or MINISTACK_RACE in found.get("StateReason", ""):
                break
            if found["State"] == "Failed" or time.monotonic() > end_s:
                raise DeployFailed(
                    f"{logical_id} does not start ({found['State']}): {found.get('StateReason')}"
                )
            time.sleep(0.05)


def _call(client: Any, logical_id: str, function: str) -> str:
    try:
        answer = client.invoke(
            FunctionName=function, Qualifier=ALIAS, Payload=json.dumps(EVENTS[logical_id]).encode()
        )
        said = answer["Payload"].read().decode(errors="replace")
    except (BotoCoreError, ClientError) as error:
        return f"{logical_id} could not be called: {error}"
    if "FunctionError" in answer:
        return f"{logical_id} failed when it was called first: {said}"
    return ""
