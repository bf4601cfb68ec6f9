"""The OpenAPI document of the API, from the very types that requests are checked with."""

import functools
import json
import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

_PROBLEMS = {
    "400": "Not I-JSON, or a member is missing, unknown or of another type.",
    "401": "The access token is missing, expired, foreign, or bound to another certificate.",
    "403": "The certificate does not hold, is not the sender's, or may not read this.",
    "414": "The path is too long.",
    "429": "Above the sender's rate; see Retry-After.",
    "431": "The header fields are too many or too long.",
    "503": "The inbox is full, or it, a store or the token issuer can't be reached; see Retry-After.",
}
_BODY_PROBLEMS = {
    "413": "The body is above the limit.",
    "415": "The content is not application/json, or is compressed.",
    "422": "A member breaks a rule, or the signature is wrong.",
}
_RATE_HEADERS = {
    "RateLimit-Policy": "The sender's quota and its window in seconds.",
    "RateLimit": "What is left of it, and the seconds until it is whole again.",
}
_SIGNATURE_HEADERS = {
    "Signature-Input": 'RFC 9421, covering exactly "@method", "@path" (below the base URL) and '
    '"content-digest", with created, keyid (the delegate), nonce and alg (ed25519 or ml-dsa-65).',
    "Signature": "RFC 9421.",
    "Content-Digest": "RFC 9530, of the empty content.",
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

    class SealedContent(msgspec.Struct):
        """The content under its content key, and that key wrapped; all base64 but the name."""

        key_id: str
        wrapped_key: str
        ciphertext: str

    class Stored(msgspec.Struct, omit_defaults=True):
        """`content` for sender and recipient; what follows `rewards`, for a full node."""

        receipt: Receipt
        header: Header
        place: Place | None
        rewards: list[tuple[str, int]] | None
        content: dict[str, Any] | None = None
        votes: list[tuple[str, str]] = []
        algorithm: str = ""
        public_key: str = ""
        signature: str = ""
        sealed: SealedContent | None = None

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
                    **_operation(
                        "Read a transaction you are a party of, or sealed, as a full node",
                        None,
                        ("200", "Stored"),
                    ),
                    "security": [
                        {"token": [], "certificate": []},
                        {"token": [], "certificate": [], "signature": []},
                    ],
                    "parameters": [
                        *(
                            {
                                "name": name,
                                "in": "header",
                                "description": why,
                                "schema": {"type": "string"},
                            }
                            for name, why in _SIGNATURE_HEADERS.items()
                        ),
                        {
                            "name": "transaction_id",
                            "in": "path",
                            "required": True,
                            "schema": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                        },
                    ],
                }
            },
            "/api/health": {
                "get": {
                    "summary": "The state of each tier, of its stores and of their breakers",
                    "security": [],
                    "responses": {
                        "200": {
                            "description": "The tiers, in order, each with its parts (a continent's "
                            "cluster, a table, a key): state, reason, and its breaker since when."
                        }
                    },
                }
            },
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT (RFC 9068)"},
                "certificate": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Client-Cert",
                    "description": "The account's certificate (RFC 9440).",
                },
                "signature": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Signature",
                    "description": "A full node's signature over the request (RFC 9421).",
                },
            },
        },
        "security": [{"token": [], "certificate": []}],
    }
    return json.dumps(document)


@functools.cache
def swagger_policy() -> str:
    """The Content-Security-Policy of the page: its own two scripts, by their hashes, and no other."""
    hashes = [
        b64encode(sha256(script.encode()).digest()).decode()
        for script in re.findall(r"<script>(.*?)</script>", swagger_html(), re.DOTALL)
    ]
    sources = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@functools.cache
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
    problems = _PROBLEMS if body is None else {**_PROBLEMS, **_BODY_PROBLEMS}
    operation: dict[str, Any] = {
        "summary": summary,
        "responses": {
            status: {
                "description": schema,
                "headers": {
                    name: {"description": why, "schema": {"type": "string"}}
                    for name, why in _RATE_HEADERS.items()
                },
                "content": {"application/json": {"schema": _ref(schema)}},
            },
            **{code: {"description": why, "content": problem} for code, why in problems.items()},
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
