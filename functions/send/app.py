"""The handler of `send`: the API's routes; each parses, calls the logic, answers."""

import functools
import json
import os
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import boto3
import msgspec
from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.metrics import MetricUnit, single_metric
from botocore.config import Config

import cert_rust
from federation.audit import record_refusal, source_address
from federation.aws_clients import dynamodb_client
from federation.limits import (
    CONTENT_KEY_LIFETIME_S,
    CONTENT_KEY_USES_MAX,
    REQUEST_BATCH_BYTES_MAX,
    REQUEST_BODY_BYTES_MAX,
)
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import NAMESPACE, stage_handler, stage_logger
from federation.transaction import Envelope
from send.city_dag_handler import CityDAGHandler, InboxUnreachable
from send.http_headers import cors_of, finish
from send.inbox_depth import InboxDepth
from send.intake import Refused, Sender, sender_of, split_documents, take
from send.openapi import openapi_json, swagger_html, swagger_policy
from send.problems import Problem
from send.rate import Rate, SenderRate, rate_headers
from send.reads import TierReader
from send.request_form import check_form, signature_fields

_cors = cors_of(os.environ.get("CORS_ORIGINS", ""))
app = APIGatewayRestResolver(cors=_cors)
_log = stage_logger("send")


class Settings(msgspec.Struct, frozen=True):
    """Where inbox, trust, tiers and rates are, how long each is waited for, and the rate."""

    trust_secret: str
    inbox_queue_url: str
    persist_atlas_function: str
    persist_dynamodb_function: str
    persist_immudb_function: str
    requests_table: str
    rate_per_s: int = 100
    rate_burst: int = 1_000
    rate_timeout_ms: int = 50
    inbox_timeout_ms: int = 2_000
    inbox_depth_timeout_ms: int = 100
    inbox_drain_per_s: int = 500
    read_timeout_ms: int = 5_000


@stage_handler("send")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Serve one request."""
    answer = app.resolve(event, context)
    finish(answer, _cors is not None)
    return answer


def look_over(resolver: APIGatewayRestResolver, go_on: NextMiddleware) -> Response[str]:
    """Before any route: what no route takes is refused."""
    check_form(resolver.current_event.raw_event)
    answer: Response[str] = go_on(resolver)
    return answer


app.use([look_over])


@app.post("/api/send_transaction")
def send_transaction() -> Response[str]:
    """Take one transaction: 202 means that it is durable."""
    _inbox_depth().check()
    headers = _spend(1)
    body = _body(REQUEST_BODY_BYTES_MAX)
    [envelope] = _accept([body], [""])
    answer = _accepted(envelope)
    location = f"/api/transaction/{answer['transaction_id']}"
    return _json(HTTPStatus.ACCEPTED, answer, {"Location": location, **headers})


@app.post("/api/send_transactions")
def send_transactions() -> Response[str]:
    """Take up to 100 transactions of one sender, all or none."""
    _inbox_depth().check()
    try:
        documents = split_documents(_body(REQUEST_BATCH_BYTES_MAX))
    except Problem:
        _spend(1)  # to be refused is not free
        raise
    headers = _spend(len(documents))
    envelopes = _accept(documents, [f"transactions[{n}]." for n in range(len(documents))])
    answer = {"transactions": [_accepted(one) for one in envelopes]}
    return _json(HTTPStatus.ACCEPTED, answer, headers)


@app.get("/api/transaction/<transaction_id>")
def read_transaction(transaction_id: str) -> Response[str]:
    """A transaction, for its sender or its recipient; sealed, for a full node's signed query."""
    headers = _spend(1)
    reader, event = _sender(), app.current_event.raw_event
    found = _reader().read(
        transaction_id,
        {
            "account_id": reader.account_id,
            "request_id": reader.request_id,
            "signature_fields": signature_fields(event),
        },
        reader.home_continent,
    )
    return _json(HTTPStatus.OK, found, headers)


@app.get("/api/health")
def health() -> Response[str]:
    """The state of each tier, and of each store and breaker of it."""
    tiers = _reader().health()
    states = {tier["state"] for tier in tiers}
    state = states.pop() if len(states) == 1 else "degraded"
    return _json(HTTPStatus.OK, {"status": state, "tiers": tiers})


@app.get("/openapi.json")
def openapi() -> Response[str]:
    """What this API takes and gives."""
    return Response(HTTPStatus.OK, "application/json", openapi_json())


@app.get("/swagger")
def swagger() -> Response[str]:
    """The same for people."""
    headers = {"Content-Security-Policy": swagger_policy()}
    return Response(HTTPStatus.OK, "text/html; charset=utf-8", swagger_html(), headers)


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
            address=_address(),
        )
    return problem.response(request_id)


@app.not_found
def answer_not_found(error: NotFoundError) -> Response[str]:
    """A method or path that API Gateway passed on, but nobody serves."""
    del error
    problem = Problem(HTTPStatus.NOT_FOUND, "there is nothing here", reason="unknown_path")
    return problem.response(_request_id())


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


def _spend(cost: int) -> dict[str, str]:
    """Take tokens out of the sender's bucket; the headers that tell what is left."""
    rate = _settings_rate()
    spent = _rates().spend(_sender().account_id, cost)
    headers = rate_headers(rate, spent)
    if not spent.allowed:
        raise Refused(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"{cost} more would be above {rate.per_s} a second, {rate.burst} at once",
            reason="rate_limited",
            headers={**headers, "Retry-After": str(spent.retry_after_s)},
        )
    return headers


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


def _address() -> str:
    return source_address(app.current_event.raw_event["requestContext"])


def _json(
    status: HTTPStatus, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response[str]:
    return Response(
        status_code=status.value,
        content_type="application/json",
        body=json.dumps(document),
        headers=dict(headers or {}),
    )


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


def _settings_rate() -> Rate:
    return Rate(_settings().rate_per_s, _settings().rate_burst)


def _rate_uncounted(why: str) -> None:
    """An alarm of template.yaml watches the metric: an outage passes, a missing right does not."""
    _log.warning(why)
    with single_metric("rate_uncounted", MetricUnit.Count, 1, namespace=NAMESPACE) as metric:
        metric.add_dimension("service", "send")


@functools.cache
def _rates() -> SenderRate:
    timeout_ms = _settings().rate_timeout_ms
    return SenderRate(
        dynamodb_client(timeout_ms, timeout_ms, connections_max=1),
        _settings().requests_table,
        _settings_rate(),
        failed=_rate_uncounted,
    )


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
def _inbox_depth() -> InboxDepth:
    settings = _settings()
    timeout_s = settings.inbox_depth_timeout_ms / 1000
    config = Config(
        connect_timeout=timeout_s, read_timeout=timeout_s, retries={"total_max_attempts": 1}
    )
    return InboxDepth(
        boto3.client("sqs", config=config),
        settings.inbox_queue_url,
        settings.inbox_drain_per_s,
        refused=_inbox_full,
    )


def _inbox_full(depth: int) -> None:
    """Overload is no attempt at access: a metric and the log tell of it, no audit event."""
    _log.warning("the inbox is full", extra={"messages": depth})
    with single_metric("inbox_full", MetricUnit.Count, 1, namespace=NAMESPACE) as metric:
        metric.add_dimension("service", "send")


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
