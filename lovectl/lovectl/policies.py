"""Makes the deployed policies mean to MiniStack what they mean to AWS.

Three differences. MiniStack's CloudFormation leaves out the permissions boundary of a role. AWS
authorises a batch of messages as the single action (`SendMessageBatch` as `sqs:SendMessage`),
MiniStack by an action of the call's own name, which AWS doesn't have. And MiniStack does not tell
key policies the encryption context of a KMS call. All else is enforced as it is deployed; what a
local stack can't prove for this, tests/unit/test_policies.py does.
"""

import json
from collections.abc import Callable
from typing import Any, Final

#: Actions of SQS that AWS applies to the call with a batch too.
BATCHED: Final = ("sqs:SendMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility")
ENCRYPTION_CONTEXT: Final = "kms:EncryptionContext:"
#: Logical id of the boundary, which template.yaml sets for every function; another template that
#: has none is deployed without.
BOUNDARY: Final = "Boundary"

Document = dict[str, Any]


def adapt_policies(client: Callable[..., Any], stack_name: str) -> None:
    """Rewrite the policies of the deployed stack for MiniStack.

    Parameters
    ----------
    client : callable
        `client("iam")` gives a boto3 client.
    stack_name : str
        Of the CloudFormation stack.
    """
    iam, kms = client("iam"), client("kms")
    resources = client("cloudformation").describe_stack_resources(StackName=stack_name)
    ids = {
        one["LogicalResourceId"]: (one["ResourceType"], one["PhysicalResourceId"])
        for one in resources["StackResources"]
    }
    for logical_id, (kind, name) in ids.items():
        if kind == "AWS::Lambda::Function" and BOUNDARY in ids:
            _, boundary = ids[BOUNDARY]
            _, role = ids[f"{logical_id}Role"]
            iam.put_role_permissions_boundary(RoleName=role, PermissionsBoundary=boundary)
        elif kind == "AWS::IAM::Role":
            for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
                found = iam.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"]
                text = json.dumps(with_batches(found))
                iam.put_role_policy(RoleName=name, PolicyName=policy, PolicyDocument=text)
        elif kind == "AWS::IAM::ManagedPolicy":
            version = iam.get_policy(PolicyArn=name)["Policy"]["DefaultVersionId"]
            found = iam.get_policy_version(PolicyArn=name, VersionId=version)["PolicyVersion"]
            text = json.dumps(with_batches(found["Document"]))
            iam.create_policy_version(PolicyArn=name, PolicyDocument=text, SetAsDefault=True)
        elif kind == "AWS::KMS::Key":
            policy = json.loads(kms.get_key_policy(KeyId=name, PolicyName="default")["Policy"])
            text = json.dumps(without_encryption_context(policy))
            kms.put_key_policy(KeyId=name, PolicyName="default", Policy=text)


def with_batches(document: Document) -> Document:
    """The policy with MiniStack's names of batched calls beside AWS's names.

    >>> statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": "*"}
    >>> with_batches({"Statement": [statement]})["Statement"][0]["Action"]
    ['sqs:SendMessage', 'sqs:SendMessageBatch']
    """

    def named(statement: Document) -> Document:
        actions = _list(statement["Action"])
        batched = [f"{action}Batch" for action in actions if action in BATCHED]
        return {**statement, "Action": [*actions, *batched]}

    return {**document, "Statement": [named(one) for one in _list(document["Statement"])]}


def without_encryption_context(document: Document) -> Document:
    """The key policy with conditions on the encryption context that hold where none is told.

    >>> condition = {"StringEquals": {"kms:EncryptionContext:continent": "Asia"}}
    >>> changed = without_encryption_context({"Statement": [{"Condition": condition}]})
    >>> changed["Statement"][0]["Condition"]
    {'StringEqualsIfExists': {'kms:EncryptionContext:continent': 'Asia'}}
    """

    def relaxed(statement: Document) -> Document:
        conditions = {
            f"{operator}IfExists"
            if all(key.startswith(ENCRYPTION_CONTEXT) for key in keys)
            else operator: keys
            for operator, keys in statement.get("Condition", {}).items()
        }
        return {**statement, "Condition": conditions} if conditions else statement

    return {**document, "Statement": [relaxed(one) for one in _list(document["Statement"])]}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
