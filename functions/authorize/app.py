"""The handler of `authorize`: a request's headers in, a policy with the sender out."""

import functools
from typing import Any

import msgspec

from authorize.access import Trusted, admit
from authorize.errors import Forbidden, Unauthenticated
from authorize.policy import allow, deny
from federation.audit import record_refusal, source_address
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler


class Settings(msgspec.Struct, frozen=True):
    """Where trust is kept, and for how long a revocation may go unseen."""

    trust_secret: str
    trust_ttl_s: int = 30
    token_leeway_s: int = 5


@stage_handler("authorize")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Admit a sender, or turn him away and write it down."""
    settings = _settings()
    secret = read_secret(settings.trust_secret, settings.trust_ttl_s)
    request = event.get("requestContext") or {}
    try:
        sender = admit(
            event.get("headers") or {}, Trusted.of_secret(secret, settings.token_leeway_s)
        )
    except Unauthenticated as refusal:
        _record(refusal, request, context)
        # The one way to a 401 that API Gateway knows: this very message.
        raise Exception("Unauthorized") from None  # noqa: TRY002
    except Forbidden as refusal:
        _record(refusal, request, context)
        return deny(event["methodArn"], refusal.subject, refusal.reason)
    return allow(event["methodArn"], sender["sender"], sender)


def _record(refusal: Unauthenticated | Forbidden, request: dict[str, Any], context: Any) -> None:
    record_refusal(
        source="authorize",
        reason=refusal.reason,
        subject=refusal.subject,
        # Where the gateway doesn't name the request, the invocation's id leads to the log.
        request_id=str(request.get("requestId") or getattr(context, "aws_request_id", "")),
        detail=refusal.detail,
        address=source_address(request),
    )


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)
