"""What a request must look like before anybody reads it: sizes, query, content type."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from federation.limits import (
    REQUEST_HEADERS_BYTES_MAX,
    REQUEST_HEADERS_MAX,
    REQUEST_PATH_CHARACTERS_MAX,
)
from send.problems import Problem

CONTENT_TYPE: Final = "application/json"
#: Where a signed query keeps its signature (RFC 9421, RFC 9530).
SIGNATURE_FIELDS: Final = ("signature-input", "signature", "content-digest")


def check_form(event: Mapping[str, Any]) -> None:
    """Refuse what no route takes.

    Raises
    ------
    Problem
        414 for a long path, 431 for too many or too long header fields, 400 for a query or for a
        body where none belongs, 415 for a body that is not plain JSON.
    """
    path = str(event.get("path") or "")
    if len(path) > REQUEST_PATH_CHARACTERS_MAX:
        raise Problem(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"the path has {len(path)} characters, at most {REQUEST_PATH_CHARACTERS_MAX} are taken",
            rule=f"is at most {REQUEST_PATH_CHARACTERS_MAX} characters",
        )
    fields = header_lines(event)
    count = sum(len(lines) for lines in fields.values())
    size_bytes = sum(
        len(name) + sum(len(line.encode("utf-8", "surrogatepass")) for line in lines)
        for name, lines in fields.items()
    )
    if count > REQUEST_HEADERS_MAX or size_bytes > REQUEST_HEADERS_BYTES_MAX:
        rule = f"are at most {REQUEST_HEADERS_MAX} fields of {REQUEST_HEADERS_BYTES_MAX} bytes"
        raise Problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"the header fields: {rule}", rule=rule
        )
    unknown = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters")
    if unknown:
        name = min(unknown)[:64]
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            f"query.{name}: is not a known parameter",
            field=f"query.{name}",
            rule="is not a known parameter",
        )
    if event.get("httpMethod") == "POST":
        _check_content(fields)
    elif event.get("body"):
        raise Problem(HTTPStatus.BAD_REQUEST, "this method takes no body", rule="has no body")


def header_lines(event: Mapping[str, Any]) -> dict[str, list[str]]:
    """The header fields by lower-case name, each with all its lines."""
    several = event.get("multiValueHeaders")
    single = {name: [value] for name, value in (event.get("headers") or {}).items()}
    found: dict[str, list[str]] = {}
    for name, lines in (several or single).items():
        found.setdefault(name.lower(), []).extend(lines)
    return found


def signature_fields(event: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a signed query, lines joined as RFC 9110 section 5.3 has it."""
    fields = header_lines(event)
    return {name: ", ".join(fields[name]) for name in SIGNATURE_FIELDS if name in fields}


def _check_content(fields: Mapping[str, list[str]]) -> None:
    kinds = fields.get("content-type", [])
    media_type, _, parameter = (kinds[0] if len(kinds) == 1 else "").partition(";")
    charset = parameter.strip().lower().replace('"', "")
    if media_type.strip().lower() != CONTENT_TYPE or charset not in ("", "charset=utf-8"):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type is {CONTENT_TYPE}, in UTF-8",
            field="Content-Type",
            rule=f"is {CONTENT_TYPE}",
            headers={"Accept-Post": CONTENT_TYPE},
        )
    if fields.get("content-encoding", ["identity"]) != ["identity"]:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "Content-Encoding: a body is taken as it is, not compressed",
            field="Content-Encoding",
            rule="is absent",
            headers={"Accept-Encoding": "identity"},
        )
