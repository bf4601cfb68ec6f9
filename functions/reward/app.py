"""The handler of `reward`: groups in, the same groups with reward entries out."""

import functools
from typing import Any

import msgspec

from federation.batch import Grouped
from federation.secrets import read_secret
from federation.settings import load_settings
from federation.telemetry import stage_handler
from reward.split import reward_groups


class Settings(msgspec.Struct, frozen=True):
    """Where stakes are kept, and how much one final transaction pays in milli-LOVE."""

    delegates_secret: str
    reward_per_transaction: int = 1_000


@stage_handler("reward")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Reward the delegates that voted."""
    settings = _settings()
    delegates = read_secret(settings.delegates_secret)["delegates"]
    stakes = {one["delegate_id"]: one["stake"] for one in delegates}
    grouped = msgspec.convert(event, Grouped)
    return msgspec.to_builtins(reward_groups(grouped, stakes, settings.reward_per_transaction))


@functools.cache
def _settings() -> Settings:
    return load_settings(Settings)
