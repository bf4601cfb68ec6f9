"""The handler of `dpos`: a batch in, a batch with votes out."""

import functools
from typing import Any

import msgspec

from dpos.delegates import Delegates
from dpos.electorate import GrpcElectorate
from dpos.voting import collect_votes
from federation.batch import Batch
from federation.registry_source import read_delegates
from federation.settings import load_settings
from federation.telemetry import stage_handler, stage_logger

_log = stage_logger("dpos")


class Settings(msgspec.Struct, frozen=True):
    """Where the delegates are, which registry is trusted, how long votes are waited for."""

    delegates_secret: str
    registry_pin: str
    vote_deadline_ms: int = 80
    vote_cold_deadline_ms: int = 1_000


@stage_handler("dpos")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Collect the votes of a batch."""
    settings = _settings()
    elected = read_delegates(settings.delegates_secret, settings.registry_pin, "dpos")
    delegates = Delegates.of_secret(elected.secret)
    electorate = _electorate(delegates, settings.vote_deadline_ms, settings.vote_cold_deadline_ms)
    return msgspec.to_builtins(collect_votes(msgspec.convert(event, Batch), delegates, electorate))


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)


@functools.lru_cache(1)
def _electorate(delegates: Delegates, deadline_ms: int, cold_deadline_ms: int) -> GrpcElectorate:
    return GrpcElectorate(delegates, deadline_ms, cold_deadline_ms, _log)
