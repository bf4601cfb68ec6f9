"""Answers that say what went wrong: problem+json (RFC 9457)."""

import json
from collections.abc import Mapping
from http import HTTPStatus

from aws_lambda_powertools.event_handler import Response

from federation.errors import InvalidField

RETRY_AFTER_S = 2

#: Beginnings of msgspec's rules that speak of form, not of meaning.
_FORM_RULES = (
    "is required",
    "is not a known field",
    "JSON is malformed",
    "Input data was truncated",
)


class Problem(Exception):
    """An answer other than success.

    Attributes
    ----------
    field : str or None
        Dotted path of the member that breaks a rule.
    headers : mapping
        Added to the answer's.
    """

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        *,
        field: str | None = None,
        rule: str | None = None,
        reason: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.field = field
        self.rule = rule
        self.reason = reason
        self.headers = headers or {}

    @classmethod
    def of_field(cls, error: InvalidField, prefix: str = "") -> "Problem":
        """A field's fault: 400 when the form is wrong, 422 when the meaning is."""
        field = f"{prefix}{error.field}" if error.field else prefix.rstrip(".")
        formal = (
            error.reason == "not_i_json"
            or error.rule.startswith(_FORM_RULES)
            or ", got `" in error.rule
        )
        return cls(
            HTTPStatus.BAD_REQUEST if formal else HTTPStatus.UNPROCESSABLE_ENTITY,
            f"{field}: {error.rule}" if field else error.rule,
            field=field,
            rule=error.rule,
            reason=error.reason,
        )

    def response(self, request_id: str) -> Response[str]:
        """The HTTP answer."""
        body = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "field": self.field,
            "rule": self.rule,
            "reason": self.reason,
            "request_id": request_id,
        }
        headers = dict(self.headers)
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.setdefault("Retry-After", str(RETRY_AFTER_S))
        return Response(
            status_code=self.status.value,
            content_type="application/problem+json",
            body=json.dumps({name: value for name, value in body.items() if value is not None}),
            headers=headers,
        )
