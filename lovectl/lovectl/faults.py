"""The outages that a simulation makes, each as the proxies it takes down."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from federation.regions import CLUSTERS


class Scenario(StrEnum):
    """An outage by name."""

    ATLAS_DOWN = "atlas-down"
    ATLAS_AND_DYNAMODB_DOWN = "atlas-and-dynamodb-down"
    ALL_DOWN_THEN_BACK = "all-down-then-back"
    #: These two are of `lovectl.simulation`, with faults of their own.
    DOUBLE_SPEND = "double-spend"
    BACKUP_ROUTES = "backup-routes"


@dataclass(frozen=True)
class Outage:
    """Proxies that are down while transactions are sent.

    Attributes
    ----------
    back_before_receipts : bool
        Nothing can be stored meanwhile, so the stores come back before anybody waits for receipts.
    """

    proxies: tuple[str, ...]
    back_before_receipts: bool


_ATLAS: Final = tuple(CLUSTERS.values())

OUTAGES: Final[dict[Scenario, Outage]] = {
    Scenario.ATLAS_DOWN: Outage(_ATLAS, back_before_receipts=False),
    Scenario.ATLAS_AND_DYNAMODB_DOWN: Outage((*_ATLAS, "dynamodb"), back_before_receipts=False),
    Scenario.ALL_DOWN_THEN_BACK: Outage((*_ATLAS, "dynamodb", "immudb"), back_before_receipts=True),
}


class Proxies(Protocol):
    """Toxiproxy's switches, by proxy name."""

    def down(self, name: str) -> None: ...
    def up(self, name: str) -> None: ...


@contextmanager
def taken_down(proxies: Proxies, names: tuple[str, ...]) -> Iterator[None]:
    """The named proxies refuse connections inside the block, and are back after it, come what may."""
    try:
        for name in names:
            proxies.down(name)
        yield
    finally:
        for name in names:
            proxies.up(name)
