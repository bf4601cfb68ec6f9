"""The answers of a REST API Lambda authorizer."""

from typing import Any


def allow(method_arn: str, sender: str, context: dict[str, str]) -> dict[str, Any]:
    """The caller may call this method; `context` reaches the handler."""
    return _policy("Allow", method_arn, sender, context)


def deny(method_arn: str, subject: str, reason: str) -> dict[str, Any]:
    """The caller is known and may not: API Gateway answers 403."""
    return _policy("Deny", method_arn, subject, {"reason": reason})


def _policy(
    effect: str, method_arn: str, principal: str, context: dict[str, str]
) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": method_arn}
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": context,
    }
