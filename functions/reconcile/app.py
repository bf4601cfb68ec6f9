"""The handler of `reconcile`: one action a state of its state machine."""

import functools
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import boto3
import msgspec
from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from federation.aws_clients import dynamodb_client
from federation.batch import Grouped
from federation.breaker import calling_as
from federation.errors import FederationError
from federation.limits import (
    COPIES_READ_S,
    COPIES_ROUND_S,
    COPIES_RUN_S,
    REDRIVE_LOOKS_MAX,
)
from federation.registry import RegistryError
from federation.registry_source import read_delegates
from federation.settings import load_settings
from federation.telemetry import NAMESPACE, stage_handler, stage_logger
from persist.atlas import AtlasTier, connect_atlas
from persist.dynamodb import DynamodbTier, connect_dynamodb
from persist.immudb_tier import ImmudbTier, connect_immudb
from persist.tier import TierStore, TierUnavailable, ask
from reconcile.atlas_home import AtlasHome
from reconcile.atlas_pending import AtlasPending
from reconcile.copies import CopySource, move
from reconcile.dead_letters import Lot, QueueUnreachable, redrive
from reconcile.dynamodb_copies import DynamodbCopies
from reconcile.electorate import Electorate
from reconcile.immudb_copies import ImmudbCopies
from reconcile.lots import DynamodbLot, ImmudbLot
from reconcile.pending import Gathered, finish, gather

_log = stage_logger("reconcile")


class Settings(msgspec.Struct, frozen=True):
    """Where queues, delegates and fallback copies are, which registry is trusted, how long stores take."""

    delegates_secret: str
    registry_pin: str
    transactions_table: str
    inbox_queue_url: str
    dead_letters_url: str
    reconcile_timeout_ms: int = 3_000


class GatherRequest(msgspec.Struct, frozen=True):
    """Which continent's pending records, from which work entry on."""

    continent: str
    after: str = ""
    all_due: bool = False


class MoveRequest(msgspec.Struct, frozen=True):
    """Which tier's copies, from where on; DynamoDB's of one continent, immuDB's of all.

    Attributes
    ----------
    rounds_left : int
        How often the run asks for this tier's copies, this time counted.
    run_started_at : datetime, optional
        When the execution began.
    """

    tier: Literal["dynamodb", "immudb"]
    continent: str | None = None
    after: str = ""
    rounds_left: int = 1
    run_started_at: datetime | None = None

    def is_last(self, now: datetime) -> bool:
        """Whether the run has no time or no round for another look."""
        began = self.run_started_at or now
        return self.rounds_left <= 1 or (now - began).total_seconds() > COPIES_RUN_S


class FinishRequest(msgspec.Struct, frozen=True):
    """What the stages made of a batch, and the work entries that it came from."""

    continent: str
    entries: list[str]
    grouped: Grouped


@stage_handler("reconcile")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Empty the dead letters, move copies home, gather pending records, or settle them."""
    # No payment waits for it: it tries a store that rests, as the canary does.
    with calling_as("canary"):
        match event["action"]:
            case "redrive":
                return _redrive()
            case "move":
                return _move(msgspec.convert(event, MoveRequest))
            case "gather":
                return _gather(msgspec.convert(event, GatherRequest))
            case "finish":
                return _finish(msgspec.convert(event, FinishRequest))
            case action:
                raise ValueError(f"reconcile knows no action {action!r}")


def _redrive() -> Any:
    settings, ends_s = _settings(), time.monotonic() + COPIES_ROUND_S
    lots = (
        lambda: DynamodbLot(_table_client(), settings.transactions_table),
        _immudb_lot,
    )
    redriven, left, parked = 0, 0, dict[str, str]()
    # Asked once a run: a store that hangs costs its time-out.
    a_store_answers = functools.cache(_a_store_answers)
    try:
        for _ in range(REDRIVE_LOOKS_MAX):
            looked = redrive(
                _sqs(),
                settings.dead_letters_url,
                settings.inbox_queue_url,
                lots,
                time.time_ns() // 1_000_000,
                a_store_answers,
            )
            redriven, left = redriven + looked.redriven, left + looked.left
            parked.update(looked.parked)
            if not looked.more or time.monotonic() > ends_s:
                break
    except QueueUnreachable as error:
        _log.warning("dead letters can't be reached", extra={"why": error.detail})
        return {"outcome": "unavailable", "reason": error.detail}
    finally:
        if parked:
            # Bodies may hold anything: they are in the lot, not in the log.
            _log.error("parked messages", extra={"reasons": parked})
        _count(dead_letters_redriven=redriven, dead_letters_left=left, parked=len(parked))
    return {"outcome": "redriven", "redriven": redriven, "left": left, "parked": len(parked)}


def _a_store_answers() -> bool:
    """Whether any store of any tier does; the quickest are asked first."""
    tiers: tuple[Callable[[], TierStore], ...] = (_dynamodb, _immudb, _atlas)
    for tier in tiers:
        try:
            parts = ask(tier())
        except FederationError as error:
            _log.warning("a tier can't be asked", extra={"why": error.detail})
            continue
        if any(one.state == "up" for one in parts if not one.part.startswith("kms/")):
            return True
    return False


def _move(request: MoveRequest) -> Any:
    began_s = time.monotonic()
    home = AtlasHome(_atlas(), _settings().reconcile_timeout_ms)
    copies = _copies(request.tier, request.continent)
    try:
        moved = move(
            copies,
            home,
            time.time_ns() // 1_000_000,
            request.after,
            # Asked once a look: a registry that hangs costs its time-out.
            electorate=functools.cache(_electorate_if_readable),
            goes_on=lambda: time.monotonic() < began_s + COPIES_ROUND_S,
            reads_on=lambda: time.monotonic() < began_s + COPIES_READ_S,
        )
        if moved.parked:
            _log.error("parked copies", extra={"reasons": moved.parked})
        if moved.unproved:
            # They count as left, so the alarm tells of those that stay.
            _log.error("unproved copies", extra={"transaction_ids": moved.unproved})
        _count(copies_moved=moved.moved, copies_left=moved.left, parked=len(moved.parked))
        # While its home is away, nothing of this continent's can go there.
        more = moved.more and not (request.continent is not None and moved.homes_away)
        if more and request.is_last(datetime.now(UTC)):
            copies.pause(moved.after)
            more = False
    except TierUnavailable as error:
        _log.warning("copies can't be reached", extra={"why": error.detail})
        # How many wait there nobody knows; the alarm is told that some may.
        _count(copies_left=1)
        return {"outcome": "unavailable", "reason": error.detail}
    return {"outcome": "moved", **msgspec.to_builtins(moved), "more": more}


def _gather(request: GatherRequest) -> Any:
    now_ms = time.time_ns() // 1_000_000
    try:
        gathered = gather(
            _pending(request.continent),
            str(uuid.uuid4()),
            now_ms,
            request.after,
            all_due=request.all_due,
        )
    except TierUnavailable as error:
        _log.warning("cluster is away", extra={"why": error.detail})
        return {"outcome": "unavailable", "reason": error.detail}
    if gathered.damaged:
        _log.error("damaged records", extra={"transaction_ids": gathered.damaged})
    _measure(gathered, now_ms)
    return {"outcome": "gathered", **msgspec.to_builtins(gathered)}


def _finish(request: FinishRequest) -> Any:
    electorate = _electorate()
    try:
        finished = finish(
            _pending(request.continent),
            request.grouped.groups,
            request.entries,
            electorate,
            time.time_ns() // 1_000_000,
        )
    except TierUnavailable as error:
        _log.warning("cluster is away", extra={"why": error.detail})
        return {"outcome": "unavailable", "reason": error.detail}
    return {"outcome": "finished", **msgspec.to_builtins(finished)}


def _electorate() -> Electorate:
    settings = _settings()
    elected = read_delegates(settings.delegates_secret, settings.registry_pin, "reconcile")
    return Electorate(elected.registry.epoch, elected.registry.voting_keys())


def _electorate_if_readable() -> Electorate | None:
    """The delegates for copies; None holds up only those whose votes are to be verified."""
    try:
        return _electorate()
    except (RegistryError, BotoCoreError, ClientError, ValueError) as error:
        _log.warning("delegates can't be read", extra={"why": str(error)})
        return None


def _count(**values: int) -> None:
    metrics = Metrics(namespace=NAMESPACE, service="reconcile")
    for name, value in values.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.flush_metrics()


def _measure(gathered: Gathered, now_ms: int) -> None:
    """Only a run's first round knows the oldest; nothing pending is an age of 0."""
    metrics = Metrics(namespace=NAMESPACE, service="reconcile")
    age_ms = 0 if gathered.oldest_ms is None else max(0, now_ms - gathered.oldest_ms)
    metrics.add_metric(name="pending_age_ms", unit=MetricUnit.Milliseconds, value=age_ms)
    metrics.add_metric(name="damaged_records", unit=MetricUnit.Count, value=len(gathered.damaged))
    metrics.flush_metrics()


def _pending(continent: str) -> AtlasPending:
    return AtlasPending(_atlas(), continent, _settings().reconcile_timeout_ms)


def _copies(tier: str, continent: str | None) -> CopySource:
    if tier == "immudb":
        return _immudb_copies()
    if continent is None:
        raise ValueError("copies in DynamoDB are moved for one continent at a time")
    table = _settings().transactions_table
    return DynamodbCopies(_table_client(), table, _dynamodb(), continent)


@functools.cache
def _immudb_copies() -> CopySource:
    return ImmudbCopies(_immudb())


def _immudb_lot() -> Lot:
    return ImmudbLot(_immudb())


@functools.cache
def _immudb() -> ImmudbTier:
    return connect_immudb()


@functools.cache
def _dynamodb() -> DynamodbTier:
    return connect_dynamodb()


@functools.cache
def _table_client() -> Any:
    timeout_ms = _settings().reconcile_timeout_ms
    return dynamodb_client(timeout_ms, timeout_ms)


@functools.cache
def _sqs() -> Any:
    config = Config(connect_timeout=1, read_timeout=2, retries={"total_max_attempts": 2})
    return boto3.client("sqs", config=config)


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _atlas() -> AtlasTier:
    return connect_atlas()
