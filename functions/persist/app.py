"""The handler of `persist`: one function for each tier, the same code, chosen by `TIER`."""

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from federation.audit import record_key_use
from federation.batch import Group, Tier
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler, stage_logger
from persist.tier import RECORD_DAMAGED, TierStore, TierUnavailable, fetch, store_group

_log = stage_logger("persist")


class Settings(msgspec.Struct, frozen=True):
    """Which tier this function writes to, and where the sealing keys are."""

    tier: Tier
    sealing_secret: str


@stage_handler("persist")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Store a group, fetch a transaction, or tell the tier's health."""
    settings, store = _settings(), _store()
    match event.get("action", "store"):
        case "store":
            persisted = store_group(msgspec.convert(event, Group), settings.tier, store)
            if persisted.unavailable:
                _log.warning("not stored here", extra={"why": persisted.reason})
            return msgspec.to_builtins(persisted)
        case "fetch":
            keys = read_secret(settings.sealing_secret)["keys"]
            answer = fetch(
                event["transaction_id"], event.get("continent"), store, keys, _opening(event)
            )
            if answer.get("reason") == RECORD_DAMAGED:
                _log.error("damaged record", extra={"transaction_id": event["transaction_id"]})
            return answer
        case "health":
            return _health(settings.tier, store)
        case action:
            raise ValueError(f"persist knows no action {action!r}")


def _opening(event: dict[str, Any]) -> Callable[[str], object]:
    """Writes down that a sealing key opens this request's transaction, and for whom."""
    return lambda key_id: record_key_use(
        source="persist",
        key=f"sealing/{key_id}",
        purpose=f"open content of {event['transaction_id']}",
        subject=event.get("reader") or "unknown",
        request_id=event.get("request_id") or "",
    )


def _health(tier: Tier, store: TierStore) -> dict[str, Any]:
    try:
        store.ping()
    except TierUnavailable as error:
        return {"tier": tier, "state": "down", "reason": error.detail}
    return {"tier": tier, "state": "up", "reason": None}


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _store() -> TierStore:
    """Only the chosen tier's libraries are imported: they are what a cold start costs."""
    match _settings().tier:
        case "atlas":
            from persist.atlas import connect_atlas

            return connect_atlas()
        case "dynamodb":
            from persist.dynamodb import connect_dynamodb

            return connect_dynamodb()
        case "immudb":
            from persist.immudb_tier import connect_immudb

            return connect_immudb()
