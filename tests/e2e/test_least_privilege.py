"""With the credentials that each function runs on, everything is tried on the running stack.

What docs/security.md gives a function must go through; everything else must be refused. Resources
are those of the deployed stack, so a new one is tried by every function, and a new type fails.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from policies.deployed import secret_names
from policies.rights import documented_rights, may, writes_log

from lovectl import stack as stacks
from lovectl.access import Access
from lovectl.deploy import BUCKET, STACK_NAME
from lovectl.servers import LOCAL_REGION

DENIED = {"AccessDenied", "AccessDeniedException"}
#: Errors that only come after the policies let a call through; none of these calls does harm.
HARMLESS = {
    "AWS.SimpleQueueService.EmptyBatchRequest",
    "ConditionalCheckFailedException",
    "InvalidExecutionInput",
    "MissingParameter",
    "ReceiptHandleIsInvalid",
    "ResourceAlreadyExistsException",
}
AT_ONCE = 4
#: State machines, and what starts one: their credentials are in no process.
NOT_FUNCTIONS = {"Pipeline", "Reconcile", "ReconcileEveryMinute"}

Call = Callable[[Any], Any]
Probe = tuple[str, str, str, Call]
#: Parts of other resources, and what takes no call of its own.
PARTS = {
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::Stage",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::SQS::QueuePolicy",
}
#: The local AWS asks no policy about these: tests/unit/test_policies.py alone proves them.
UNASKED = {"AWS::Lambda::EventSourceMapping", "AWS::Lambda::LayerVersion"}
PLAINTEXT = b"x" * 32


@dataclass(frozen=True)
class Deployed:
    """A resource of the running stack."""

    name: str
    type: str
    id: str


@dataclass(frozen=True)
class Caller:
    """Who a function is to AWS: the credentials in its process."""

    access_key: str
    secret_key: str
    token: str

    def client(self, service: str, access: Access) -> Any:
        session = boto3.Session(self.access_key, self.secret_key, self.token, LOCAL_REGION)
        return session.client(  # type: ignore[call-overload]
            service,
            endpoint_url=access.endpoint_url,
            verify=str(access.ca_file),
            config=Config(
                inject_host_prefix=False,
                retries={"total_max_attempts": 1},
                max_pool_connections=AT_ONCE,
            ),
        )


def resources(access: Access) -> list[Deployed]:
    found = access.aws("cloudformation").describe_stack_resources(StackName=STACK_NAME)
    return [
        Deployed(one["LogicalResourceId"], one["ResourceType"], one["PhysicalResourceId"])
        for one in found["StackResources"]
    ]


def callers(functions: dict[str, str]) -> dict[str, Caller]:
    """The credentials in the environment of each function's process, by its logical id."""
    stack = stacks.find("tests")
    assert stack is not None
    parent = stack.state.servers["ministack"].process.pid
    found: dict[str, Caller] = {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if directory.stat().st_uid != os.getuid():
                continue
            status = (directory / "stat").read_text().rsplit(")", 1)[1].split()
            raw = (directory / "environ").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended meanwhile
        if int(status[1]) != parent:
            continue
        environment = dict(line.split("=", 1) for line in raw if "=" in line)
        name = functions.get(environment.get("AWS_LAMBDA_FUNCTION_NAME", ""))
        if name is not None:
            found[name] = Caller(
                environment["AWS_ACCESS_KEY_ID"],
                environment["AWS_SECRET_ACCESS_KEY"],
                environment["AWS_SESSION_TOKEN"],
            )
    return found


@pytest.fixture(scope="module")
def functions(access: Access) -> dict[str, Caller]:
    """Every function's credentials."""
    names = {one.id: one.name for one in resources(access) if one.type == "AWS::Lambda::Function"}
    found = callers(names)
    assert set(found) == set(names.values()), "a function has no process: see lovectl/warm.py"
    return found


def table(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    described = access.aws("dynamodb").describe_table(TableName=name)["Table"]
    attribute = described["KeySchema"][0]["AttributeName"]
    key = {attribute: {"S": "nobody"}}
    never = {"ConditionExpression": f"attribute_exists({attribute})"}
    values = {":k": {"S": "nobody"}}
    yield "dynamodb:GetItem", lambda c: c.get_item(TableName=name, Key=key)
    yield "dynamodb:BatchGetItem", lambda c: c.batch_get_item(RequestItems={name: {"Keys": [key]}})
    yield "dynamodb:PutItem", lambda c: c.put_item(TableName=name, Item=key, **never)
    yield "dynamodb:UpdateItem", lambda c: c.update_item(TableName=name, Key=key, **never)
    yield "dynamodb:DeleteItem", lambda c: c.delete_item(TableName=name, Key=key)
    yield (
        "dynamodb:BatchWriteItem",
        lambda c: c.batch_write_item(RequestItems={name: [{"DeleteRequest": {"Key": key}}]}),
    )
    yield (
        "dynamodb:Query",
        lambda c: c.query(
            TableName=name,
            KeyConditionExpression=f"{attribute} = :k",
            ExpressionAttributeValues=values,
        ),
    )
    for index in described.get("GlobalSecondaryIndexes", []):
        hashed = index["KeySchema"][0]["AttributeName"]
        yield (
            f"dynamodb:Query /index/{index['IndexName']}",
            lambda c, index=index, hashed=hashed: c.query(
                TableName=name,
                IndexName=index["IndexName"],
                KeyConditionExpression=f"{hashed} = :k",
                ExpressionAttributeValues=values,
            ),
        )
    yield "dynamodb:Scan", lambda c: c.scan(TableName=name)
    yield "dynamodb:UpdateTable", lambda c: c.update_table(TableName=name)
    yield "dynamodb:DeleteTable", lambda c: c.delete_table(TableName=name)


def queue(access: Access, url: str) -> Iterator[tuple[str, Call]]:
    at = {"QueueUrl": url}
    handle = "no-such-handle"
    entry = {"Id": "1", "ReceiptHandle": handle}
    # Nothing of these three stays: the body is missing, and what is received is visible at once.
    yield "sqs:SendMessage", lambda c: c.send_message(**at, MessageBody="")
    yield "sqs:SendMessage", lambda c: c.send_message_batch(**at, Entries=[])
    yield (
        "sqs:ReceiveMessage",
        lambda c: c.receive_message(**at, VisibilityTimeout=0, WaitTimeSeconds=0),
    )
    yield "sqs:DeleteMessage", lambda c: c.delete_message(**at, ReceiptHandle=handle)
    yield (
        "sqs:ChangeMessageVisibility",
        lambda c: c.change_message_visibility(**at, ReceiptHandle=handle, VisibilityTimeout=0),
    )
    yield (
        "sqs:ChangeMessageVisibility",
        lambda c: c.change_message_visibility_batch(
            **at, Entries=[{**entry, "VisibilityTimeout": 0}]
        ),
    )
    yield "sqs:GetQueueAttributes", lambda c: c.get_queue_attributes(**at, AttributeNames=["All"])
    yield "sqs:PurgeQueue", lambda c: c.purge_queue(**at)
    yield (
        "sqs:SetQueueAttributes",
        lambda c: c.set_queue_attributes(**at, Attributes={"Policy": ""}),
    )
    yield "sqs:DeleteQueue", lambda c: c.delete_queue(**at)


def key(access: Access, key_id: str) -> Iterator[tuple[str, Call]]:
    named = {"KeyId": key_id}
    wrapped = access.aws("kms").encrypt(**named, Plaintext=PLAINTEXT)["CiphertextBlob"]
    role = "arn:aws:iam::000000000000:role/nobody"
    yield "kms:Encrypt", lambda c: c.encrypt(**named, Plaintext=PLAINTEXT)
    yield "kms:Decrypt", lambda c: c.decrypt(CiphertextBlob=wrapped)
    yield "kms:Decrypt", lambda c: c.decrypt(**named, CiphertextBlob=wrapped)
    yield "kms:GenerateDataKey", lambda c: c.generate_data_key(**named, KeySpec="AES_256")
    yield (
        "kms:GenerateDataKeyWithoutPlaintext",
        lambda c: c.generate_data_key_without_plaintext(**named, KeySpec="AES_256"),
    )
    yield (
        "kms:CreateGrant",
        lambda c: c.create_grant(**named, GranteePrincipal=role, Operations=["Decrypt"]),
    )
    yield "kms:GetKeyPolicy", lambda c: c.get_key_policy(**named, PolicyName="default")
    yield "kms:PutKeyPolicy", lambda c: c.put_key_policy(**named, PolicyName="default", Policy="{}")
    yield "kms:DisableKey", lambda c: c.disable_key(**named)
    yield "kms:ScheduleKeyDeletion", lambda c: c.schedule_key_deletion(**named)


def function(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    named = {"FunctionName": name}
    yield "lambda:InvokeFunction", lambda c: c.invoke(**named, InvocationType="DryRun")
    yield "lambda:GetFunction", lambda c: c.get_function(**named)
    yield "lambda:UpdateFunctionCode", lambda c: c.update_function_code(**named, ZipFile=b"")
    yield (
        "lambda:UpdateFunctionConfiguration",
        lambda c: c.update_function_configuration(**named, Timeout=1),
    )
    yield (
        "lambda:AddPermission",
        lambda c: c.add_permission(
            **named, StatementId="x", Action="lambda:InvokeFunction", Principal="*"
        ),
    )
    yield "lambda:DeleteFunction", lambda c: c.delete_function(**named)


def alias(access: Access, arn: str) -> Iterator[tuple[str, Call]]:
    yield (
        "lambda:InvokeFunction",
        lambda c: c.invoke(FunctionName=arn, InvocationType="DryRun"),
    )


def state_machine(access: Access, arn: str) -> Iterator[tuple[str, Call]]:
    named = {"stateMachineArn": arn}
    # This is no JSON, so nothing is ever started.
    yield "states:StartSyncExecution", lambda c: c.start_sync_execution(**named, input="{")
    yield "states:StartExecution", lambda c: c.start_execution(**named, input="{")
    yield "states:DescribeStateMachine", lambda c: c.describe_state_machine(**named)
    yield "states:UpdateStateMachine", lambda c: c.update_state_machine(**named, definition="{}")
    yield "states:DeleteStateMachine", lambda c: c.delete_state_machine(**named)


def role(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    named = {"RoleName": name}
    yield "iam:GetRole", lambda c: c.get_role(**named)
    yield (
        "iam:PutRolePolicy",
        lambda c: c.put_role_policy(**named, PolicyName="x", PolicyDocument="{}"),
    )
    yield (
        "iam:AttachRolePolicy",
        lambda c: c.attach_role_policy(
            **named, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
        ),
    )
    yield (
        "iam:UpdateAssumeRolePolicy",
        lambda c: c.update_assume_role_policy(**named, PolicyDocument="{}"),
    )
    yield (
        "iam:DeleteRolePermissionsBoundary",
        lambda c: c.delete_role_permissions_boundary(**named),
    )


def managed_policy(access: Access, arn: str) -> Iterator[tuple[str, Call]]:
    yield (
        "iam:CreatePolicyVersion",
        lambda c: c.create_policy_version(PolicyArn=arn, PolicyDocument="{}", SetAsDefault=True),
    )
    yield "iam:DeletePolicy", lambda c: c.delete_policy(PolicyArn=arn)


def log_group(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    named = {"logGroupName": name}
    event = {"timestamp": 0, "message": "least privilege"}
    access.aws("logs").create_log_stream(**named, logStreamName="probe")
    yield "logs:CreateLogStream", lambda c: c.create_log_stream(**named, logStreamName="probe")
    yield (
        "logs:PutLogEvents",
        lambda c: c.put_log_events(**named, logStreamName="probe", logEvents=[event]),
    )
    yield "logs:FilterLogEvents", lambda c: c.filter_log_events(**named)
    yield "logs:DeleteLogStream", lambda c: c.delete_log_stream(**named, logStreamName="probe")
    yield "logs:DeleteLogGroup", lambda c: c.delete_log_group(**named)


def api(access: Access, api_id: str) -> Iterator[tuple[str, Call]]:
    yield "apigateway:GET", lambda c: c.get_rest_api(restApiId=api_id)
    yield "apigateway:DELETE", lambda c: c.delete_rest_api(restApiId=api_id)


def alarm(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    yield "cloudwatch:DisableAlarmActions", lambda c: c.disable_alarm_actions(AlarmNames=[name])
    yield "cloudwatch:DeleteAlarms", lambda c: c.delete_alarms(AlarmNames=[name])


def rule(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    yield "events:DescribeRule", lambda c: c.describe_rule(Name=name)
    yield "events:DisableRule", lambda c: c.disable_rule(Name=name)
    yield "events:RemoveTargets", lambda c: c.remove_targets(Rule=name, Ids=["nobody"])
    yield "events:DeleteRule", lambda c: c.delete_rule(Name=name)


def secret(access: Access, name: str) -> Iterator[tuple[str, Call]]:
    named = {"SecretId": name}
    yield "secretsmanager:GetSecretValue", lambda c: c.get_secret_value(**named)
    yield "secretsmanager:PutSecretValue", lambda c: c.put_secret_value(**named, SecretString="{}")
    yield "secretsmanager:DescribeSecret", lambda c: c.describe_secret(**named)
    yield (
        "secretsmanager:PutResourcePolicy",
        lambda c: c.put_resource_policy(**named, ResourcePolicy="{}"),
    )
    yield "secretsmanager:DeleteSecret", lambda c: c.delete_secret(**named)


#: How to try each type of resource: the service, and the calls.
TYPES: dict[str, tuple[str, Callable[[Access, str], Iterator[tuple[str, Call]]]]] = {
    "AWS::ApiGateway::RestApi": ("apigateway", api),
    "AWS::CloudWatch::Alarm": ("cloudwatch", alarm),
    "AWS::DynamoDB::Table": ("dynamodb", table),
    "AWS::Events::Rule": ("events", rule),
    "AWS::IAM::ManagedPolicy": ("iam", managed_policy),
    "AWS::IAM::Role": ("iam", role),
    "AWS::KMS::Key": ("kms", key),
    "AWS::Lambda::Alias": ("lambda", alias),
    "AWS::Lambda::Function": ("lambda", function),
    "AWS::Logs::LogGroup": ("logs", log_group),
    "AWS::SQS::Queue": ("sqs", queue),
    "AWS::StepFunctions::StateMachine": ("stepfunctions", state_machine),
}
#: Calls that are about the account, not about a resource of the stack.
ACCOUNT_WIDE: dict[str, tuple[str, Call]] = {
    "iam:CreateUser": ("iam", lambda c: c.create_user(UserName="probe")),
    "iam:ListRoles": ("iam", lambda c: c.list_roles()),
    "kms:CreateKey": ("kms", lambda c: c.create_key()),
    "kms:ListKeys": ("kms", lambda c: c.list_keys()),
    "secretsmanager:ListSecrets": ("secretsmanager", lambda c: c.list_secrets()),
    "sqs:ListQueues": ("sqs", lambda c: c.list_queues()),
    "dynamodb:ListTables": ("dynamodb", lambda c: c.list_tables()),
    "lambda:ListFunctions": ("lambda", lambda c: c.list_functions()),
    "logs:CreateLogGroup": ("logs", lambda c: c.create_log_group(logGroupName="probe")),
    "s3:ListAllMyBuckets": ("s3", lambda c: c.list_buckets()),
    "s3:ListBucket": ("s3", lambda c: c.list_objects_v2(Bucket=BUCKET)),
    "s3:PutObject": ("s3", lambda c: c.put_object(Bucket=BUCKET, Key="probe", Body=b"")),
    "ssm:GetParameter": ("ssm", lambda c: c.get_parameter(Name="/love/mongo/Asia/uri")),
    "ssm:PutParameter": ("ssm", lambda c: c.put_parameter(Name="/probe", Value="x", Type="String")),
    "cloudformation:DescribeStacks": ("cloudformation", lambda c: c.describe_stacks()),
    "cloudformation:DeleteStack": (
        "cloudformation",
        lambda c: c.delete_stack(StackName=STACK_NAME),
    ),
}


@pytest.fixture(scope="module")
def probes(access: Access) -> list[Probe]:
    """Every call to try: the action, the resource's name in the documents, the service, the call."""
    found = []
    for one in resources(access):
        if one.type in PARTS | UNASKED:
            continue
        service, calls = TYPES[one.type]
        name = one.name
        if one.type == "AWS::Lambda::Alias":
            name = f"{one.name.removesuffix('Aliaslive')}:live"
        for right, call in calls(access, one.id):
            # A part of a resource is named behind the action.
            action, _, part = right.partition(" ")
            found.append((action, f"{name}{part}", service, call))
    for name, value in secret_names().items():
        found += [(action, name, "secretsmanager", call) for action, call in secret(access, value)]
    roles = [one for one in resources(access) if one.type == "AWS::IAM::Role"]
    for one in roles:
        arn = f"arn:aws:iam::000000000000:role/{one.id}"
        found.append(("sts:AssumeRole", one.name, "sts", assume(arn)))
    found += [(action, "*", service, call) for action, (service, call) in ACCOUNT_WIDE.items()]
    return found


def assume(arn: str) -> Call:
    return lambda c: c.assume_role(RoleArn=arn, RoleSessionName="probe")


def attempt(call: Call, client: Any) -> str:
    """`""` when it went through, else the code of the error."""
    try:
        call(client)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def test_every_type_of_resource_in_the_stack_is_tried(access: Access) -> None:
    unknown = {one.type for one in resources(access)} - set(TYPES) - PARTS - UNASKED
    assert not unknown, f"say in TYPES how to try {unknown}, or in PARTS why not"


def test_every_function_runs_as_its_own_role(functions: dict[str, Caller], access: Access) -> None:
    roles = {one.name: one.id for one in resources(access) if one.type == "AWS::IAM::Role"}
    for name, caller in functions.items():
        arn = caller.client("sts", access).get_caller_identity()["Arn"]
        assert arn.split("/")[1] == roles[f"{name}Role"]


@pytest.mark.parametrize("name", sorted(set(documented_rights()) - NOT_FUNCTIONS))
def test_a_function_can_do_its_own_work_and_nothing_else(
    name: str,
    functions: dict[str, Caller],
    probes: list[Probe],
    access: Access,
) -> None:
    rights = documented_rights()[name]
    services = {service for _, _, service, _ in probes}
    clients = {service: functions[name].client(service, access) for service in services}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        codes = list(pool.map(lambda probe: attempt(probe[3], clients[probe[2]]), probes))
    went_wrong = []
    for (action, resource, _, _), code in zip(probes, codes, strict=True):
        if may(rights, action, resource) or writes_log(action, resource):
            if code and code not in HARMLESS:
                went_wrong.append(f"{action} on {resource} is its right, but: {code}")
        elif code not in DENIED:
            went_wrong.append(f"{action} on {resource} was not refused: {code or 'done'}")
    assert not went_wrong, "\n".join(went_wrong)


def test_every_function_of_the_stack_is_documented(functions: dict[str, Caller]) -> None:
    assert set(functions) == set(documented_rights()) - NOT_FUNCTIONS


def test_credentials_of_nobody_and_forged_ones_are_refused(
    functions: dict[str, Caller], access: Access
) -> None:
    send = functions["SendFunction"]
    forged = Caller(send.access_key, "f" * 64, send.token)
    without_token = Caller(send.access_key, send.secret_key, "")
    unknown = Caller("ASIA0000000000000000", "f" * 64, "f" * 64)
    for caller in (forged, without_token, unknown):
        client = caller.client("secretsmanager", access)
        code = attempt(lambda c: c.get_secret_value(SecretId="love/trust"), client)
        assert code in {
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
            "InvalidToken",
        }, code
