"""The handler of `reward`: groups in, the same groups with reward entries out."""

import functools
from typing import Any

import msgspec

from federation.batch import Grouped
from federation.registry_source import read_delegates
from federation.settings import load_settings
from federation.telemetry import stage_handler
from reward.split import reward_groups


class Settings(msgspec.Struct, frozen=True):
    """Where the registry is, which one is trusted, what a final transaction pays in milli-LOVE."""

    delegates_secret: str
    registry_pin: str
    reward_per_transaction: int = 1_000


@stage_handler("reward")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Reward the delegates that voted."""
    settings = _settings()
    elected = read_delegates(settings.delegates_secret, settings.registry_pin, "reward")
    weights = elected.registry.reward_weights()
    grouped = msgspec.convert(event, Grouped)
    return msgspec.to_builtins(reward_groups(grouped, weights, settings.reward_per_transaction))


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)
