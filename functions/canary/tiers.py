"""Sends one canary to each tier's function, and tells how it fared there."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import TIERS, Group, Tier


class Part(msgspec.Struct, frozen=True):
    """How one continent's canary fared in a tier."""

    continent: str
    outcome: Literal["ok", "failed"]
    reason: str | None = None


class Report(msgspec.Struct, frozen=True):
    """What a tier's function answered; `reason` says why if it did not answer.

    Attributes
    ----------
    breakers : list
        How its breakers are afterwards: `name`, `state`, `since_ms`, `why`.
    """

    tier: Tier
    outcome: Literal["ok", "failed"]
    took_ms: float = 0.0
    parts: list[Part] = []
    breakers: list[dict[str, Any]] = []
    reason: str | None = None


def send_to_tiers(
    client: Any, functions: Mapping[Tier, str], groups: Sequence[Group]
) -> list[Report]:
    """Invoke every tier's function at once; a tier that doesn't answer has failed.

    Parameters
    ----------
    client : boto3 Lambda client
        Its read time-out is what a tier is waited for.
    functions : mapping of tier to function name
    """
    payload = json.dumps({"action": "canary", "groups": msgspec.to_builtins(groups)}).encode()
    with ThreadPoolExecutor(len(TIERS)) as pool:
        return list(pool.map(lambda tier: _send(client, tier, functions[tier], payload), TIERS))


def _send(client: Any, tier: Tier, function: str, payload: bytes) -> Report:
    try:
        answer = client.invoke(FunctionName=function, Payload=payload)
        said = answer["Payload"].read()
    except (BotoCoreError, ClientError) as error:
        return Report(tier, "failed", reason=type(error).__name__)
    if answer.get("FunctionError"):
        return Report(tier, "failed", reason="function_failed")
    try:
        return msgspec.json.decode(said, type=Report)
    except msgspec.MsgspecError as error:
        return Report(tier, "failed", reason=f"not understood: {error}")
