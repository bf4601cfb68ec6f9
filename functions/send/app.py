"""The handler of `send`: the API's routes; each parses, calls the logic, answers."""

import functools
import json
import time
from base64 import b64decode
from binascii import Error as Base64Error
from http import HTTPStatus
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from botocore.config import Config

import cert_rust
from federation.audit import record_refusal, source_address
from federation.limits import (
    CONTENT_KEY_LIFETIME_S,
    CONTENT_KEY_USES_MAX,
    REQUEST_BATCH_BYTES_MAX,
    REQUEST_BODY_BYTES_MAX,
)
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler
from federation.transaction import Envelope
from send.city_dag_handler import CityDAGHandler, InboxUnreachable
from send.intake import Refused, Sender, sender_of, split_documents, take
from send.openapi import openapi_json, swagger_html
from send.problems import SECURITY_HEADERS, Problem
from send.reads import TierReader

app = APIGatewayRestResolver()


class Settings(msgspec.Struct, frozen=True):
    """Where the inbox, the trust and the tiers are, and how long each is waited for."""

    trust_secret: str
    inbox_queue_url: str
    persist_atlas_function: str
    persist_dynamodb_function: str
    persist_immudb_function: str
    inbox_timeout_ms: int = 2_000
    read_timeout_ms: int = 5_000


@stage_handler("send")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Serve one request."""
    return app.resolve(event, context)


@app.post("/api/send_transaction")
def send_transaction() -> Response[str]:
    """Take one transaction: 202 means that it is durable."""
    body = _body(REQUEST_BODY_BYTES_MAX)
    [envelope] = _accept([body], [""])
    answer = _accepted(envelope)
    location = f"/api/transaction/{answer['transaction_id']}"
    return _json(HTTPStatus.ACCEPTED, answer, {"Location": location})


@app.post("/api/send_transactions")
def send_transactions() -> Response[str]:
    """Take up to 100 transactions of one sender, all or none."""
    documents = split_documents(_body(REQUEST_BATCH_BYTES_MAX))
    envelopes = _accept(documents, [f"transactions[{n}]." for n in range(len(documents))])
    return _json(HTTPStatus.ACCEPTED, {"transactions": [_accepted(one) for one in envelopes]})


@app.get("/api/transaction/<transaction_id>")
def read_transaction(transaction_id: str) -> Response[str]:
    """A transaction, for its sender or its recipient."""
    reader = _sender()
    found = _reader().read(transaction_id, reader.account_id, reader.home_continent, _request_id())
    return _json(HTTPStatus.OK, found)


@app.get("/api/health")
def health() -> Response[str]:
    """The state of each tier."""
    tiers = _reader().health()
    up = sum(tier["state"] == "up" for tier in tiers)
    state = "up" if up == len(tiers) else "degraded" if up else "down"
    return _json(HTTPStatus.OK, {"status": state, "tiers": tiers})


@app.get("/openapi.json")
def openapi() -> Response[str]:
    """What this API takes and gives."""
    return Response(HTTPStatus.OK, "application/json", openapi_json())


@app.get("/swagger")
def swagger() -> Response[str]:
    """The same for people."""
    return Response(HTTPStatus.OK, "text/html", swagger_html())


@app.exception_handler(Problem)  # type: ignore[untyped-decorator]
def answer_problem(problem: Problem) -> Response[str]:
    """Every problem is answered in one form; those about access are written down."""
    request_id = _request_id()
    if isinstance(problem, Refused):
        record_refusal(
            source="send",
            reason=str(problem.reason),
            subject=_sender().account_id,
            request_id=request_id,
            detail=problem.detail,
            address=source_address(app.current_event.raw_event["requestContext"]),
        )
    return problem.response(request_id)


@app.exception_handler(InboxUnreachable)  # type: ignore[untyped-decorator]
def answer_inbox(error: InboxUnreachable) -> Response[str]:
    """Nothing is claimed: the client sends the same again."""
    problem = Problem(HTTPStatus.SERVICE_UNAVAILABLE, error.detail, reason=error.reason)
    return problem.response(_request_id())


def _accept(documents: list[bytes], prefixes: list[str]) -> list[Envelope]:
    sealing = read_secret(_settings().trust_secret)["sealing"]
    sealer = _sealer(sealing["public_key"], sealing["key_id"])
    now_ms = time.time_ns() // 1_000_000
    envelopes = take(documents, prefixes, _sender(), sealer, sealing["key_id"], now_ms)
    _inbox().enqueue(envelopes)
    return envelopes


def _accepted(envelope: Envelope) -> dict[str, str]:
    return {"transaction_id": envelope.header.transaction_id, "status": "accepted"}


def _body(bytes_max: int) -> bytes:
    event = app.current_event
    text = event.body or ""
    try:
        body = b64decode(text, validate=True) if event.is_base64_encoded else text.encode()
    except (Base64Error, ValueError, UnicodeEncodeError):
        raise Problem(HTTPStatus.BAD_REQUEST, "the body can't be read") from None
    if len(body) > bytes_max:
        raise Problem(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body is {len(body)} bytes, at most {bytes_max} are taken",
            rule=f"is at most {bytes_max} bytes",
        )
    return body


def _sender() -> Sender:
    context = app.current_event.raw_event["requestContext"]
    return sender_of(context.get("authorizer") or {}, context.get("requestId", ""))


def _request_id() -> str:
    return str(app.current_event.raw_event["requestContext"].get("requestId", ""))


def _json(
    status: HTTPStatus, document: dict[str, Any], headers: dict[str, str] | None = None
) -> Response[str]:
    return Response(
        status_code=status.value,
        content_type="application/json",
        body=json.dumps(document),
        headers={**SECURITY_HEADERS, **(headers or {})},
    )


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.lru_cache(2)
def _sealer(public_key: str, key_id: str) -> cert_rust.ContentSealer:
    return cert_rust.ContentSealer(
        b64decode(public_key), key_id, CONTENT_KEY_USES_MAX, CONTENT_KEY_LIFETIME_S
    )


@functools.cache
def _inbox() -> CityDAGHandler:
    timeout_s = _settings().inbox_timeout_ms / 1000
    config = Config(
        connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 2}
    )
    return CityDAGHandler(boto3.client("sqs", config=config), _settings().inbox_queue_url)


@functools.cache
def _reader() -> TierReader:
    settings = _settings()
    timeout_s = settings.read_timeout_ms / 1000
    config = Config(connect_timeout=1, read_timeout=timeout_s, retries={"total_max_attempts": 1})
    return TierReader(
        boto3.client("lambda", config=config),
        {
            "atlas": settings.persist_atlas_function,
            "dynamodb": settings.persist_dynamodb_function,
            "immudb": settings.persist_immudb_function,
        },
    )
