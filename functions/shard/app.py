"""The handler of `shard`: a batch in, groups by continent out."""

from typing import Any

import msgspec

from federation.batch import Batch
from federation.telemetry import stage_handler
from shard.grouping import group_by_continent


@stage_handler("shard")
def handler(event: dict[str, Any], context: Any) -> Any:
    """Group a batch by home continent."""
    return msgspec.to_builtins(group_by_continent(msgspec.convert(event, Batch)))
