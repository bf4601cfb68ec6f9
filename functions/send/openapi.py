"""The OpenAPI document of the API, from the very types that requests are checked with."""

import functools
import json
from typing import Any

_PROBLEMS = {
    "400": "Not I-JSON, or a member is missing, unknown or of another type.",
    "401": "The access token is missing, expired, foreign, or bound to another certificate.",
    "403": "The certificate does not hold, or is not the sender's.",
    "413": "The body is above the limit.",
    "422": "A member breaks a rule, or the signature is wrong.",
    "503": "The inbox or a store can't be reached; see Retry-After.",
}


@functools.cache
def openapi_json() -> str:
    """OpenAPI 3.1 as JSON."""
    import msgspec

    from federation.batch import Place, Receipt
    from federation.transaction import Header, Transaction

    class Problem(msgspec.Struct):
        """RFC 9457."""

        type: str
        title: str
        status: int
        detail: str
        request_id: str
        field: str | None = None
        rule: str | None = None
        reason: str | None = None

    class Accepted(msgspec.Struct):
        """The transaction is durable in the inbox."""

        transaction_id: str
        status: str

    class AcceptedBatch(msgspec.Struct):
        transactions: list[Accepted]

    class Batch(msgspec.Struct):
        transactions: list[Transaction]

    class Stored(msgspec.Struct):
        receipt: Receipt
        header: Header
        content: dict[str, Any] | None
        place: Place | None
        rewards: list[tuple[str, int]] | None

    types = [Transaction, Batch, Accepted, AcceptedBatch, Stored, Problem]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Love Currency Federation",
            "version": "1.0.0",
            "description": "Signed transactions in, receipts out. 202 means durable.",
        },
        "paths": {
            "/api/send_transaction": {
                "post": _operation("Send one transaction", "Transaction", ("202", "Accepted"))
            },
            "/api/send_transactions": {
                "post": _operation("Send up to 100 transactions", "Batch", ("202", "AcceptedBatch"))
            },
            "/api/transaction/{transaction_id}": {
                "get": {
                    **_operation("Read a transaction you are a party of", None, ("200", "Stored")),
                    "parameters": [
                        {
                            "name": "transaction_id",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        }
                    ],
                }
            },
            "/api/health": {
                "get": {
                    "summary": "The state of each tier",
                    "security": [],
                    "responses": {"200": {"description": "The tiers, in order."}},
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT (RFC 9068)"},
                "certificate": {"type": "apiKey", "in": "header", "name": "Client-Cert"},
            },
        },
        "security": [{"token": [], "certificate": []}],
    }
    return json.dumps(document)


def swagger_html() -> str:
    """Swagger UI as Powertools brings it, with the document inside; nothing is loaded from afar."""
    from importlib.resources import files

    from aws_lambda_powertools.event_handler.openapi import swagger_ui

    source = files(swagger_ui)
    return swagger_ui.generate_swagger_html(
        spec=openapi_json().replace("</", "<\\/"),
        swagger_js=source.joinpath("swagger-ui-bundle.min.js").read_text(),
        swagger_css=source.joinpath("swagger-ui.min.css").read_text(),
        swagger_base_url="",
        oauth2_config=None,
    )


def _operation(summary: str, body: str | None, success: tuple[str, str]) -> dict[str, Any]:
    status, schema = success
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {
                "description": schema,
                "content": {"application/json": {"schema": _ref(schema)}},
            },
            **{code: {"description": why, "content": problem} for code, why in _PROBLEMS.items()},
        },
    }
    if body is not None:
        content = {"application/json": {"schema": _ref(body)}}
        operation["requestBody"] = {"required": True, "content": content}
    else:
        operation["responses"]["404"] = {"description": "No receipt (yet).", "content": problem}
    return operation


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
