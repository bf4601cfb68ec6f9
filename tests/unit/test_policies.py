"""The policies of template.yaml, evaluated by a simulator of AWS's rules, with no server.

What the local AWS enforces is proven by tests/e2e/test_least_privilege.py; here is what it can't:
every action that AWS knows, conditions on the encryption context, what AWS's services may do.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
from policies.deployed import ACCOUNT, REGION, STACK, Deployed, Role, deployed, secret_names
from policies.rights import documented_rights, may, writes_log
from policies.simulator import Request, actions_of, allowed

from federation.regions import CONTINENTS
from lovectl.policies import with_batches, without_encryption_context

SECRETS = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:"
#: Service and type, as AWS calls them, of each type of resource that is asked for.
TYPES = {
    "AWS::ApiGateway::RestApi": ("apigateway", "RestApi"),
    "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm"),
    "AWS::DynamoDB::Table": ("dynamodb", "table"),
    "AWS::Events::Rule": ("events", "rule-on-default-event-bus"),
    "AWS::IAM::ManagedPolicy": ("iam", "policy"),
    "AWS::IAM::Role": ("iam", "role"),
    "AWS::KMS::Key": ("kms", "key"),
    "AWS::Lambda::EventSourceMapping": ("lambda", "eventSourceMapping"),
    "AWS::Lambda::Function": ("lambda", "function"),
    "AWS::Lambda::LayerVersion": ("lambda", "layerVersion"),
    "AWS::Logs::LogGroup": ("logs", "log-group"),
    "AWS::SQS::Queue": ("sqs", "queue"),
    "AWS::StepFunctions::StateMachine": ("states", "statemachine"),
}
SECRET, PARAMETER, LOG_STREAM, INDEX = (
    ("secretsmanager", "Secret"),
    ("ssm", "parameter"),
    ("logs", "log-stream"),
    ("dynamodb", "index"),
)
#: Parameters of Parameter Store, of which the template makes none.
PARAMETERS = {
    "MongoParameters": "/love/mongo/Asia/uri",
    "CustomerKeysParameter": f"/love/customer-keys/{STACK}",
}
#: Types with nothing to ask for: parts of others, or set up by whoever deploys.
PARTS = {
    "AWS::ApiGateway::Deployment",
    "AWS::ApiGateway::Stage",
    "AWS::Lambda::Alias",
    "AWS::Lambda::Permission",
    "AWS::Lambda::Version",
    "AWS::SQS::QueuePolicy",
}
#: Services whose actions that take no resource are asked for too.
WITHOUT_RESOURCE = tuple(
    (service, "*")
    for service in (
        *("dynamodb", "iam", "kms", "lambda", "logs", "s3"),
        *("secretsmanager", "sqs", "states", "sts", "xray"),
    )
)
#: What all functions may do beside the documented rights; SAM's policies name them.
TRACES = {
    f"xray:{action}"
    for action in (
        *("PutTraceSegments", "PutTelemetryRecords"),
        *("GetSamplingRules", "GetSamplingTargets", "GetSamplingStatisticSummaries"),
    )
}
#: Anybody may ask who he is; no policy can forbid it.
ALWAYS = {"sts:GetCallerIdentity"}
#: The only statements that may name every resource, and why.
EVERY_RESOURCE = {
    "logs:CreateLogDelivery": "log delivery takes no resource",
    "logs:GetLogDelivery": "log delivery takes no resource",
    "logs:UpdateLogDelivery": "log delivery takes no resource",
    "logs:DeleteLogDelivery": "log delivery takes no resource",
    "logs:ListLogDeliveries": "log delivery takes no resource",
    "logs:PutResourcePolicy": "log delivery takes no resource",
    "logs:DescribeResourcePolicies": "log delivery takes no resource",
    "logs:DescribeLogGroups": "log delivery takes no resource",
    "xray:PutTraceSegments": "X-Ray takes no resource",
    "xray:PutTelemetryRecords": "X-Ray takes no resource",
    "xray:GetSamplingRules": "X-Ray takes no resource",
    "xray:GetSamplingTargets": "X-Ray takes no resource",
    "xray:GetSamplingStatisticSummaries": "X-Ray takes no resource",
    "ec2:CreateNetworkInterface": "Lambda's own, for functions in a VPC",
    "ec2:DescribeNetworkInterfaces": "Lambda's own, for functions in a VPC",
    "ec2:DescribeSubnets": "Lambda's own, for functions in a VPC",
    "ec2:DeleteNetworkInterface": "Lambda's own, for functions in a VPC",
    "ec2:AssignPrivateIpAddresses": "Lambda's own, for functions in a VPC",
    "ec2:UnassignPrivateIpAddresses": "Lambda's own, for functions in a VPC",
}
ROLES = tuple(deployed().roles)
#: Roles of state machines, and of what starts them, with the service that assumes them.
NOT_LAMBDA = {"Pipeline": "states", "Reconcile": "states", "ReconcileEveryMinute": "events"}
ROTATION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/key-rotation"
ADMINISTRATOR = f"arn:aws:iam::{ACCOUNT}:user/administrator"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}

Context = Mapping[str, str | list[str]]
NONE: Context = {}


@cache
def stack() -> Deployed:
    return deployed()


@cache
def actions() -> dict[tuple[str, str], list[str]]:
    return actions_of([*TYPES.values(), SECRET, PARAMETER, LOG_STREAM, INDEX, *WITHOUT_RESOURCE])


def encryption_context(continent: str = "") -> Context:
    """The condition keys of a KMS call of the Encryption SDK, or of CSFLE."""
    if not continent:
        return {}
    return {
        "kms:EncryptionContext:continent": continent,
        "kms:EncryptionContext:schema": "love-record-v1",
        "kms:EncryptionContextKeys": ["continent", "schema"],
    }


class Questions:
    """Requests with the policies that decide on them."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {"all": ALL}
        self.requests: list[Request] = []

    def ask(
        self, role: str, action: str, resource: str, policy: Any = None, context: Context = NONE
    ) -> None:
        """May the function of this name do that?"""
        found = stack().roles[role]
        identity = [f"{role}-{n}" for n in range(len(found.policies))]
        self.documents.update(zip(identity, found.policies, strict=True))
        if found.boundary is not None:
            self.documents["boundary"] = found.boundary
        self._add(found.session, identity, found, action, resource, policy, context)

    def ask_for(
        self,
        principal: str,
        action: str,
        resource: str,
        policy: Any,
        context: Context = NONE,
        identity: tuple[str, ...] = (),
    ) -> None:
        """May somebody else do that?"""
        self._add(principal, identity, None, action, resource, policy, context)

    def answers(self) -> list[bool]:
        return allowed(self.documents, self.requests)

    def _add(
        self,
        principal: str,
        identity: Any,
        role: Role | None,
        action: str,
        resource: str,
        policy: Any,
        context: Context,
    ) -> None:
        if policy is not None:
            self.documents[resource] = policy
        self.requests.append(
            Request(
                principal=principal,
                action=action,
                resource=resource,
                account=ACCOUNT,
                identity=identity,
                boundary="boundary" if role is not None and role.boundary else None,
                resource_policy=resource if policy is not None else None,
                context={"aws:SecureTransport": "true", **context},
            )
        )


def everything() -> Iterator[tuple[str, str, str, Any, Context]]:
    """Every action on every resource: action, the resource's name and ARN, its policy, context."""
    for name, resource in stack().resources.items():
        if resource.type not in TYPES:
            continue
        contexts: list[Context] = [{}]
        if resource.type == "AWS::KMS::Key":
            contexts += [encryption_context(name.removesuffix("Key"))]
        for action in actions()[TYPES[resource.type]]:
            for context in contexts:
                yield action, name, resource.arn, resource.policy, context
            if action.startswith("lambda:Invoke"):
                yield action, f"{name}:live", f"{resource.arn}:live", None, {}
        for index in resource.properties.get("GlobalSecondaryIndexes", []):
            for action in actions()[INDEX]:
                path = f"index/{index['IndexName']}"
                yield action, f"{name}/{path}", f"{resource.arn}/{path}", None, {}
        if resource.type == "AWS::Logs::LogGroup":
            for action in actions()[LOG_STREAM]:
                yield action, name, f"{resource.arn}:log-stream:s", None, {}
    for name, value in secret_names().items():
        for action in actions()[SECRET]:
            yield action, name, f"{SECRETS}{value}-AbCdEf", None, {}
    for name, path in PARAMETERS.items():
        for action in actions()[PARAMETER]:
            yield action, name, f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{path}", None, {}
    for service in WITHOUT_RESOURCE:
        for action in actions()[service]:
            yield action, "*", "*", None, {}


def is_common(role: str, action: str, resource: str) -> bool:
    """Whether it belongs to a function's log and traces, or to the pipeline's log."""
    if action in ALWAYS:
        return True
    if NOT_LAMBDA.get(role) == "states":
        return (
            resource == "*" and action in EVERY_RESOURCE and action.startswith(("logs:", "xray:"))
        )
    if action in TRACES:
        return resource == "*"
    return writes_log(action, resource)


@pytest.mark.parametrize("role", ROLES)
def test_a_function_may_do_what_is_documented_and_nothing_else_that_aws_knows(role: str) -> None:
    rights = documented_rights()[role]
    questions, asked = Questions(), list(everything())
    for action, _, arn, policy, context in asked:
        questions.ask(role, action, arn, policy, context)
    granted = {
        (action, name)
        for (action, name, *_), answer in zip(asked, questions.answers(), strict=True)
        if answer
    }
    expected = {(action, name) for action, name, *_ in asked if may(rights, action, name)}
    assert {one for one in granted if not is_common(role, *one)} == expected
    for action, pattern in rights:
        assert any(may(frozenset({(action, pattern)}), *one) for one in expected), (
            f"docs/security.md gives {action} on {pattern}, which names no resource"
        )


def test_every_role_is_documented() -> None:
    assert set(documented_rights()) == set(ROLES)


def test_every_type_of_resource_is_one_that_these_tests_know() -> None:
    unknown = {one.type for one in stack().resources.values()} - set(TYPES) - PARTS
    assert not unknown, f"say in TYPES how to ask for {unknown}, or in PARTS why not"


def test_a_function_is_within_the_boundary_and_may_be_assumed_by_lambda_alone() -> None:
    for name, role in stack().roles.items():
        service = NOT_LAMBDA.get(name, "lambda")
        assert [one["Principal"] for one in role.trust["Statement"]] == [
            {"Service": [f"{service}.amazonaws.com"]}
        ]
        assert (role.boundary is None) == (name in NOT_LAMBDA)


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every statement that the template itself writes for a role, or for the boundary."""
    for name, role in stack().roles.items():
        for document in role.inline:
            for statement in document["Statement"]:
                yield name, statement
    boundary = stack().roles["SendFunction"].boundary
    assert boundary is not None
    for statement in boundary["Statement"]:
        yield "Boundary", statement


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_no_statement_allows_every_action_or_without_reason_every_resource() -> None:
    seen = 0
    for where, statement in statements():
        if statement["Effect"] != "Allow":
            continue
        seen += 1
        assert set(statement) <= {"Sid", "Effect", "Action", "Resource", "Condition"}, where
        for action in as_list(statement["Action"]):
            assert "*" not in action, f"{where} allows {action}"
            if "*" in as_list(statement["Resource"]):
                assert action in EVERY_RESOURCE, f"{where} allows {action} on every resource"
    assert seen > 20


def test_keys_are_used_by_persist_and_reconcile_alone_each_for_its_own_data() -> None:
    continents = [one.value for one in CONTINENTS]
    fields = {("kms:Encrypt", ""), ("kms:Decrypt", "")}
    questions, expected = Questions(), []
    for continent in continents:
        key = stack().resources[f"{continent}Key"]
        records = {("kms:GenerateDataKey", continent), ("kms:Decrypt", continent)}
        uses = {
            "PersistAtlasFunction": fields,
            "PersistDynamodbFunction": records,
            "PersistImmudbFunction": records,
            "ReconcileFunction": fields | records,
        }
        for role in ROLES:
            for action in ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"):
                for bound_to in ("", *continents):
                    questions.ask(role, action, key.arn, key.policy, encryption_context(bound_to))
                    expected.append((action, bound_to) in uses.get(role, set()))
    assert questions.answers() == expected
    assert any(expected)


def test_an_administrator_of_the_account_may_administer_a_key_but_not_use_it() -> None:
    key = stack().resources["AsiaKey"]
    administration = {"kms:PutKeyPolicy", "kms:DisableKey", "kms:ScheduleKeyDeletion"}
    use = {
        *("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyPair"),
        *("kms:GenerateDataKeyWithoutPlaintext", "kms:ReEncryptFrom", "kms:ReEncryptTo"),
        "kms:CreateGrant",
    }
    questions, asked = Questions(), sorted(administration | use)
    for action in asked:
        questions.ask_for(ADMINISTRATOR, action, key.arn, key.policy, {}, ("all",))
    answers = dict(zip(asked, questions.answers(), strict=True))
    assert {action for action, answer in answers.items() if answer} == administration


def test_the_rotation_role_may_wrap_field_keys_anew_where_one_is_given() -> None:
    key = deployed(KeyRotationRoleArn=ROTATION_ROLE).resources["AsiaKey"]
    questions = Questions()
    asked = [
        ("kms:Decrypt", "", key.policy),
        ("kms:Encrypt", "", key.policy),
        ("kms:Decrypt", "Asia", key.policy),
        ("kms:GenerateDataKey", "", key.policy),
    ]
    for action, continent, policy in asked:
        questions.ask_for(ROTATION_ROLE, action, key.arn, policy, encryption_context(continent))
    assert questions.answers() == [True, True, False, False]
    without = stack().resources["AsiaKey"]
    questions = Questions()
    questions.ask_for(ROTATION_ROLE, "kms:Decrypt", without.arn, without.policy, {}, ("all",))
    assert questions.answers() == [False]


def test_the_inbox_is_reached_by_tls_alone() -> None:
    inbox = stack().resources["Inbox"]
    questions = Questions()
    for secure in ("true", "false"):
        questions.ask(
            "SendFunction",
            "sqs:SendMessage",
            inbox.arn,
            inbox.policy,
            {"aws:SecureTransport": secure},
        )
    assert questions.answers() == [True, False]


def test_the_function_reads_its_uris_from_the_chosen_provider_alone() -> None:
    def granted(provider: str) -> set[str]:
        role = deployed(MongoUriProvider=provider).roles["PersistAtlasFunction"]
        return {
            name
            for document in role.policies
            for statement in document["Statement"]
            for resource in as_list(statement["Resource"])
            for name in ("secret:love/mongo", "parameter/love/mongo")
            if name in resource
        }

    assert granted("secrets_manager") == {"secret:love/mongo"}
    assert granted("ssm") == {"parameter/love/mongo"}
    assert granted("vault") == set()


def test_a_function_may_be_invoked_from_outside_by_this_api_and_this_schedule_alone() -> None:
    permissions = stack().of_type("AWS::Lambda::Permission")
    assert permissions
    for name, permission in permissions.items():
        if name == "CanaryFunctionEveryMinutePermission":
            assert permission.properties["Principal"] == "events.amazonaws.com"
            rule = stack().resources["CanaryFunctionEveryMinute"]
            assert permission.properties["SourceArn"] == rule.arn
            continue
        assert permission.properties["Principal"] == "apigateway.amazonaws.com", name
        api = stack().resources["Api"]
        assert api.type == "AWS::ApiGateway::RestApi"
        source = permission.properties["SourceArn"]
        assert source.startswith(f"arn:aws:execute-api:{REGION}:{ACCOUNT}:love-Api-1A2B3C/"), name


def test_no_code_of_a_function_may_touch_network_interfaces() -> None:
    boundary = stack().roles["SendFunction"].boundary
    questions = Questions()
    questions.documents["boundary"] = boundary
    action = "ec2:CreateNetworkInterface"
    arn = f"arn:aws:ec2:{REGION}:{ACCOUNT}:network-interface/*"
    function = {"lambda:SourceFunctionArn": stack().resources["SendFunction"].arn}
    for context in ({}, function):
        questions.requests.append(
            Request(
                principal=stack().roles["SendFunction"].session,
                action=action,
                resource=arn,
                account=ACCOUNT,
                identity=["all"],
                boundary="boundary",
                context=context,
            )
        )
    assert questions.answers() == [True, False]


def test_the_local_stack_changes_nothing_but_names_of_batches_and_encryption_contexts() -> None:
    for role in stack().roles.values():
        for document in role.policies:
            changed = with_batches(document)
            for before, after in zip(document["Statement"], changed["Statement"], strict=True):
                added = set(as_list(after["Action"])) - set(as_list(before["Action"]))
                assert {one.removesuffix("Batch") for one in added} <= set(
                    as_list(before["Action"])
                )
                assert {**after, "Action": None} == {**before, "Action": None}
    for key in stack().of_type("AWS::KMS::Key").values():
        assert key.policy is not None
        before = [{**one, "Condition": None} for one in key.policy["Statement"]]
        changed = without_encryption_context(key.policy)["Statement"]
        assert [{**one, "Condition": None} for one in changed] == before
        assert [one.get("Condition") for one in changed] == [
            None,
            {"Null": {"kms:EncryptionContextKeys": "true"}},
            {"StringEqualsIfExists": key.policy["Statement"][2]["Condition"]["StringEquals"]},
        ]
