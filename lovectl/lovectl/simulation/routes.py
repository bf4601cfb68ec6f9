"""The backup routes: which phase shuts what, and by which route a transaction was kept."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from federation.batch import Tier
from federation.regions import CLUSTERS
from lovectl.delegates import FULL_NODES, LIGHT_NODES, NODES, STAKES

#: In the order in which they are taken. A transaction's route is the first that kept it.
Route = Literal["light_nodes", "full_nodes", "atlas", "dynamodb", "immudb", "none"]
ROUTES: Final[tuple[Route, ...]] = get_args(Route)
#: Of a phase; a machine that stands still for a moment sends a batch by a later route.
LATER_SHARE_MAX: Final = 0.1


@dataclass(frozen=True)
class Phase:
    """What is down while transactions are sent, and the route that is left."""

    name: str
    down: tuple[str, ...]
    designed: Route


_ATLAS: Final = tuple(CLUSTERS.values())

PHASES: Final = (
    Phase("all up", (), "light_nodes"),
    Phase("light nodes down", tuple(LIGHT_NODES), "full_nodes"),
    Phase("all nodes down", tuple(NODES), "atlas"),
    Phase("nodes and MongoDB down", (*NODES, *_ATLAS), "dynamodb"),
    Phase("all down but immuDB", (*NODES, *_ATLAS, "dynamodb"), "immudb"),
)


@dataclass(frozen=True)
class Kept:
    """What was found of one transaction while the phase lasted.

    Attributes
    ----------
    tier : str or None
        The store in which its record lies, read directly.
    voters : frozenset of delegate ids
        Whose valid votes lie in the record.
    keepers : frozenset of delegate ids
        Full nodes that gave it, signed.
    """

    tier: Tier | None
    voters: frozenset[str]
    keepers: frozenset[str]

    @property
    def route(self) -> Route:
        """The first route that kept it.

        The light nodes alone have made it final; or full nodes keep it; or it lies in a store.
        """
        light = sum(STAKES[name] for name in self.voters & LIGHT_NODES.keys())
        if self.tier is not None and 3 * light >= 2 * sum(STAKES.values()):
            return "light_nodes"
        if self.keepers & FULL_NODES.keys():
            return "full_nodes"
        return self.tier or "none"


@dataclass(frozen=True)
class Taken:
    """How many transactions took each route, against the one that was designed."""

    routes: dict[Route, int]
    designed: Route

    @classmethod
    def by(cls, kept: Iterable[Kept], designed: Route) -> "Taken":
        """Count."""
        counts = Counter(one.route for one in kept)
        return cls({route: counts[route] for route in ROUTES}, designed)

    @property
    def main(self) -> Route:
        """The route of most."""
        return max(ROUTES, key=lambda route: self.routes[route])

    @property
    def earlier(self) -> int:
        """How many took a route that should have been shut."""
        return sum(self.routes[route] for route in ROUTES[: ROUTES.index(self.designed)])

    @property
    def later(self) -> int:
        """How many a busy machine sent on to a later route; none of them is lost by that."""
        return sum(self.routes[route] for route in ROUTES[ROUTES.index(self.designed) + 1 :])

    @property
    def as_designed(self) -> bool:
        """Most by the designed route, none by a shut one, none nowhere, few by a later one."""
        return (
            self.main == self.designed
            and not self.earlier
            and not self.routes["none"]
            and self.later <= LATER_SHARE_MAX * sum(self.routes.values())
        )
