"""The handler of `authorize`: a request's headers in, a policy with the sender out."""

import functools
from typing import Any

import msgspec

from authorize.access import Trusted, admit, proof_headers
from authorize.errors import Forbidden, Unauthenticated
from authorize.issuer_keys import KeysUnavailable, Patience
from authorize.policy import allow, deny
from federation.audit import record_refusal, source_address
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler


class Settings(msgspec.Struct, frozen=True):
    """Where trust is kept, and for how long it, and the issuer's keys, are believed unread."""

    trust_secret: str
    trust_ttl_s: int = 30
    token_leeway_s: int = 5
    jwks_ttl_s: float = 300
    jwks_cooldown_s: float = 10
    jwks_stale_max_s: float = 3600


@stage_handler("authorize")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Admit a sender, or turn him away and write it down."""
    settings = _settings()
    secret = read_secret(settings.trust_secret, settings.trust_ttl_s)
    patience = Patience(settings.jwks_ttl_s, settings.jwks_cooldown_s, settings.jwks_stale_max_s)
    trusted = Trusted.of_secret(secret, settings.token_leeway_s, patience)
    try:
        sender = admit(proof_headers(event), trusted)
    except Unauthenticated as refusal:
        _record(refusal.reason, refusal.detail, refusal.subject, event, context)
        # The one way to a 401 that API Gateway knows: this very message.
        raise Exception("Unauthorized") from None  # noqa: TRY002
    except Forbidden as refusal:
        _record(refusal.reason, refusal.detail, refusal.subject, event, context)
        return deny(event["methodArn"], refusal.subject, refusal.reason)
    except KeysUnavailable as failure:
        # API Gateway answers a failed authorizer with 500, which the template makes a 503.
        _record(failure.reason, failure.detail, "unknown", event, context)
        raise
    return allow(event["methodArn"], sender["sender"], sender)


def _record(reason: str, detail: str, subject: str, event: dict[str, Any], context: Any) -> None:
    request = event.get("requestContext") or {}
    record_refusal(
        source="authorize",
        reason=reason,
        subject=subject,
        # Where the gateway doesn't name the request, the invocation's id leads to the log.
        request_id=str(request.get("requestId") or getattr(context, "aws_request_id", "")),
        detail=detail,
        address=source_address(request),
    )


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)
