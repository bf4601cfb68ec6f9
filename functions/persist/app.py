"""The handler of `persist`: one function for each tier, the same code, chosen by `TIER`."""

import functools
from typing import Any

import msgspec

from federation.audit import record_key_use
from federation.batch import Group, Tier
from federation.registry_source import read_delegates
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler, stage_logger
from persist.canary import run_canary
from persist.readers import Reader, Readers, UseNonce, delegates_of
from persist.tier import RECORD_DAMAGED, TierStore, ask, fetch, store_group, stores_down

_log = stage_logger("persist")


class Settings(msgspec.Struct, frozen=True):
    """Which tier this function writes to; where sealing keys, delegates and nonces are."""

    tier: Tier
    sealing_secret: str
    delegates_secret: str
    registry_pin: str
    requests_table: str


@stage_handler("persist")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Store a group, fetch a transaction, run the canary, or tell the tier's health."""
    settings, store = _settings(), _store()
    match event.get("action", "store"):
        case "store":
            persisted = store_group(msgspec.convert(event, Group), settings.tier, store)
            if persisted.unavailable:
                _log.warning("not stored here", extra={"why": persisted.reason})
            return msgspec.to_builtins(persisted)
        case "fetch":
            answer = _fetch(settings, store, event)
            if answer.get("reason") == RECORD_DAMAGED:
                _log.error("damaged record", extra={"transaction_id": event["transaction_id"]})
            return answer
        case "canary":
            return _canary(settings, store, event)
        case "health":
            return _health(settings.tier, store)
        case action:
            raise ValueError(f"persist knows no action {action!r}")


def _fetch(settings: Settings, store: TierStore, event: dict[str, Any]) -> dict[str, Any]:
    keys = read_secret(settings.sealing_secret)["keys"]
    readers = Readers(
        lambda: delegates_of(
            read_delegates(settings.delegates_secret, settings.registry_pin, "persist").secret
        ),
        lambda *query: _use_nonce()(*query),
    )
    transaction_id, reader = event["transaction_id"], msgspec.convert(event["reader"], Reader)

    def opening(key_id: str) -> None:
        record_key_use(
            source="persist",
            key=f"sealing/{key_id}",
            purpose=f"open content of {transaction_id}",
            subject=reader.account_id,
            request_id=reader.request_id,
        )

    share = functools.partial(readers.share, reader=reader)
    return fetch(transaction_id, event.get("continent"), store, keys, share, opening)


def _canary(settings: Settings, store: TierStore, event: dict[str, Any]) -> Any:
    def opening(key_id: str) -> None:
        record_key_use(
            source="persist", key=f"sealing/{key_id}", purpose="open the canary", subject="canary"
        )

    report = run_canary(
        msgspec.convert(event["groups"], list[Group]),
        settings.tier,
        store,
        lambda: read_secret(settings.sealing_secret)["keys"],
        opening,
    )
    if report.outcome == "failed":
        failed = {one.continent: one.reason for one in report.parts if one.outcome == "failed"}
        _log.error("the canary failed", extra={"parts": failed})
    return msgspec.to_builtins(report)


def _health(tier: Tier, store: TierStore) -> dict[str, Any]:
    """`degraded` if not every store of the tier answers; keys are shown, but not counted."""
    parts = ask(store)
    down = stores_down(parts)
    stores = sum(not one.part.startswith("kms/") for one in parts)
    state = "up" if not down else "degraded" if len(down) < stores else "down"
    reason = "; ".join(str(one.reason) for one in down) or None
    shown: list[dict[str, Any]] = msgspec.to_builtins(parts)
    return {"tier": tier, "state": state, "reason": reason, "parts": shown}


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.cache
def _use_nonce() -> UseNonce:
    from persist.nonces import connect_nonces

    return connect_nonces(_settings().requests_table).use


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
