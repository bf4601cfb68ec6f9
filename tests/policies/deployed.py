"""The template as CloudFormation would get it from SAM, with every name filled in.

SAM's own translator makes the roles, so that also the policies which SAM attaches are looked at.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import boto3
from moto.iam.aws_managed_policies import aws_managed_policies_data
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from lovectl.paths import REPOSITORY

ACCOUNT: Final = "123456789012"
REGION: Final = "eu-central-1"
STACK: Final = "love"
TEMPLATE: Final = REPOSITORY / "template.yaml"
_NO_VALUE: Final = object()
_PSEUDO: Final = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": STACK,
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::NoValue": _NO_VALUE,
}
#: The ARN of each type that policies name.
ARNS: Final = {
    "AWS::ApiGateway::RestApi": f"arn:aws:apigateway:{REGION}::/restapis/{{}}",
    "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:{{}}",
    "AWS::DynamoDB::Table": f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{{}}",
    "AWS::Events::Rule": f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{{}}",
    "AWS::IAM::ManagedPolicy": f"arn:aws:iam::{ACCOUNT}:policy/{{}}",
    "AWS::IAM::Role": f"arn:aws:iam::{ACCOUNT}:role/{{}}",
    "AWS::KMS::Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{}}",
    "AWS::Lambda::Function": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{{}}",
    "AWS::Lambda::EventSourceMapping": f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{{}}",
    "AWS::Lambda::LayerVersion": f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{{}}:1",
    "AWS::Logs::LogGroup": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{{}}",
    "AWS::SQS::Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{{}}",
    "AWS::StepFunctions::StateMachine": f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{{}}",
}
#: Types whose `Ref` is the ARN.
_REF_IS_ARN: Final = (
    "AWS::IAM::ManagedPolicy",
    "AWS::Lambda::LayerVersion",
    "AWS::StepFunctions::StateMachine",
)

Document = dict[str, Any]


@dataclass(frozen=True)
class Role:
    """A role, with all that decides what it may do."""

    arn: str
    trust: Document
    inline: tuple[Document, ...]
    attached: tuple[Document, ...]
    boundary: Document | None

    @property
    def policies(self) -> tuple[Document, ...]:
        """The template's own, and those that SAM attaches."""
        return (*self.inline, *self.attached)

    @property
    def session(self) -> str:
        """Who a function or state machine of this role is to AWS."""
        name = self.arn.rsplit("/", 1)[-1]
        return f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/session"


@dataclass(frozen=True)
class Resource:
    """Another resource, and the policy that it has of its own."""

    type: str
    arn: str
    properties: Document
    policy: Document | None = None


@dataclass
class Deployed:
    """All roles and resources by logical id; a role by that of its function or state machine."""

    roles: dict[str, Role] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)

    def of_type(self, kind: str) -> dict[str, Resource]:
        """The resources of this CloudFormation type."""
        return {name: one for name, one in self.resources.items() if one.type == kind}


def template() -> Document:
    """`template.yaml` with its intrinsic functions in their long form."""
    parsed: Document = json.loads(json.dumps(yaml_parse(TEMPLATE.read_text())))
    return parsed


def secret_names() -> dict[str, str]:
    """Each secret's name by that of its parameter."""
    parameters = template()["Parameters"]
    return {name: one["Default"] for name, one in parameters.items() if name.endswith("Secret")}


def deployed(**parameters: str) -> Deployed:
    """What a deployment with these parameters, and else the defaults, makes."""
    return _Deployment(template(), parameters).make()


def managed_policy(arn: str) -> Document:
    """The document of a policy that AWS manages."""
    document: Document = _managed_policies()[arn.rsplit("/", 1)[-1]]["Document"]
    return document


@cache
def _managed_policies() -> Document:
    found: Document = json.loads(aws_managed_policies_data)
    return found


class _Deployment:
    def __init__(self, source: Document, parameters: Mapping[str, str]) -> None:
        # Digest of a registry: without a default, since every deployment has its own.
        parameters = {"RegistryPin": "0" * 64, **parameters}
        self.parameters = {
            name: parameters.get(name, declared.get("Default"))
            for name, declared in source["Parameters"].items()
        }
        assert not set(parameters) - set(self.parameters)
        source["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
        for resource in source["Resources"].values():
            for local in ("ContentUri", "DefinitionUri"):
                if local in resource.get("Properties", {}):
                    resource["Properties"][local] = "s3://bucket/key"
        session = boto3.Session(region_name=REGION)
        made = Translator({}, Parser(), boto_session=session).translate(
            source, {"RegistryPin": parameters["RegistryPin"]}
        )
        self.declared: Document = json.loads(json.dumps(made["Resources"]))
        self.conditions: Document = source.get("Conditions", {})

    def make(self) -> Deployed:
        found = Deployed()
        for name, declared in self.declared.items():
            properties = self.resolve(declared.get("Properties", {}))
            kind = declared["Type"]
            if kind == "AWS::IAM::Role":
                owner = name.removesuffix("Role")
                assert owner in self.declared, f"{name} is the role of nothing known"
                found.roles[owner] = self._role(name, properties)
            arn = self.arn(name) if kind in ARNS else ""
            found.resources[name] = Resource(kind, arn, properties, properties.get("KeyPolicy"))
        for resource in list(found.resources.values()):
            if resource.type == "AWS::SQS::QueuePolicy":
                for queue in resource.properties["Queues"]:
                    name = queue.rsplit("-", 2)[-2]
                    old = found.resources[name]
                    policy = resource.properties["PolicyDocument"]
                    found.resources[name] = Resource(old.type, old.arn, old.properties, policy)
        return found

    def _role(self, name: str, properties: Document) -> Role:
        boundary = properties.get("PermissionsBoundary")
        documents = {
            self.arn(each): self.resolve(one["Properties"]["PolicyDocument"])
            for each, one in self.declared.items()
            if one["Type"] == "AWS::IAM::ManagedPolicy"
        }
        return Role(
            arn=self.arn(name),
            trust=properties["AssumeRolePolicyDocument"],
            inline=tuple(one["PolicyDocument"] for one in properties.get("Policies", [])),
            attached=tuple(managed_policy(arn) for arn in properties.get("ManagedPolicyArns", [])),
            boundary=documents[boundary] if boundary else None,
        )

    def name(self, logical_id: str) -> str:
        """A name as CloudFormation makes it: a state machine's lacks the stack."""
        declared = self.declared[logical_id]
        if declared["Type"] == "AWS::Logs::LogGroup":
            return str(self.resolve(declared["Properties"]["LogGroupName"]))
        if declared["Type"] == "AWS::StepFunctions::StateMachine":
            return f"{logical_id}-1A2B3C"
        return f"{STACK}-{logical_id}-1A2B3C"

    def arn(self, logical_id: str) -> str:
        return ARNS[self.declared[logical_id]["Type"]].format(self.name(logical_id))

    def resolve(self, value: Any) -> Any:
        """The value with every intrinsic function worked out."""
        if isinstance(value, list):
            resolved = [self.resolve(one) for one in value]
            return [one for one in resolved if one is not _NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            [(function, argument)] = value.items()
            match function:
                case "Ref":
                    return self._ref(argument)
                case "Fn::GetAtt":
                    return self._attribute(*argument)
                case "Fn::Sub":
                    return self._substituted(argument)
                case "Fn::Join":
                    separator, parts = argument
                    return separator.join(str(one) for one in self.resolve(parts))
                case "Fn::Split":
                    separator, text = self.resolve(argument)
                    return str(text).split(separator)
                case "Fn::Select":
                    index, values = self.resolve(argument)
                    return values[int(index)]
                case "Fn::If":
                    condition, yes, no = argument
                    return self.resolve(yes if self._holds(self.conditions[condition]) else no)
                case _ if function.startswith("Fn::"):
                    raise AssertionError(f"{function} is not understood here")
        resolved_items = {name: self.resolve(one) for name, one in value.items()}
        return {name: one for name, one in resolved_items.items() if one is not _NO_VALUE}

    def _ref(self, name: str) -> Any:
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        declared = self.declared[name]
        if declared["Type"] == "AWS::Lambda::Alias":
            properties = declared["Properties"]
            return f"{self.arn(properties['FunctionName']['Ref'])}:{properties['Name']}"
        return self.arn(name) if declared["Type"] in _REF_IS_ARN else self.name(name)

    def _attribute(self, name: str, attribute: str) -> str:
        return self.arn(name) if attribute == "Arn" else f"{self.name(name)}.{attribute}"

    def _substituted(self, argument: Any) -> str:
        text, given = argument if isinstance(argument, list) else (argument, {})

        def value(found: re.Match[str]) -> str:
            name = found.group(1)
            if name.startswith("!"):
                return f"${{{name[1:]}}}"
            if name in given:
                return str(self.resolve(given[name]))
            logical_id, _, attribute = name.partition(".")
            return str(
                self._attribute(logical_id, attribute) if attribute else self._ref(logical_id)
            )

        return re.sub(r"\$\{([^}]+)\}", value, text)

    def _holds(self, condition: Document) -> bool:
        [(function, arguments)] = condition.items()
        match function:
            case "Fn::Equals":
                first, second = self.resolve(arguments)
                return bool(first == second)
            case "Fn::Not":
                return not self._holds(arguments[0])
            case "Fn::And":
                return all(self._holds(one) for one in arguments)
            case "Fn::Or":
                return any(self._holds(one) for one in arguments)
            case "Condition":
                return self._holds(self.conditions[arguments])
            case _:
                raise AssertionError(f"{function} is not understood here")
