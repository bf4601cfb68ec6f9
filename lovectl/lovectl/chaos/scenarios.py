"""The fault model: every named scenario, what breaks in it, and which ones may share their time."""

from typing import Final

import msgspec

from federation.regions import CLUSTERS, CONTINENTS, Continent
from lovectl.chaos.faults import CORRUPT, FLAPPING, QUEUE_KINDS, REFUSE, Fault
from lovectl.delegates import FULL_NODES, LIGHT_NODES, NODES

#: Over how long the posts during a fault are spread.
FAULT_S: Final = 4.0
#: How long it lasts on, at most, until what was sent under it is worked off.
DRAIN_S: Final = 12.0


class Scenario(msgspec.Struct, frozen=True):
    """Faults while money is sent.

    Attributes
    ----------
    faults : tuple of Fault
        Begin after the first posts, end before the last ones.
    damage : Fault or None
        Begins once all is stored: the checker has to tell, and nothing else may be lost.
    continents : tuple of Continent
        Homes of the senders.
    group : str
        Scenarios of one group run at the same time; their faults don't meet.
    wrapped : bool
        Needs a stack whose handlers are wrapped.
    drain_s : float
        How long the faults last after the posts, unless the inbox is empty before.
    """

    name: str
    faults: tuple[Fault, ...]
    group: str
    continents: tuple[Continent, ...] = CONTINENTS
    damage: Fault | None = None
    wrapped: bool = False
    drain_s: float = DRAIN_S


def _clusters(*homes: Continent) -> tuple[Fault, ...]:
    return tuple(Fault(REFUSE, CLUSTERS[one]) for one in homes)


def _each_cluster(group: str, kinds: tuple[str, ...]) -> list[Scenario]:
    """One kind for each continent's cluster, side by side."""
    return [
        Scenario(f"atlas-{kind.replace('_', '-')}", (Fault(kind, CLUSTERS[home]),), group, (home,))
        for home, kind in zip(CONTINENTS, kinds, strict=False)
    ]


def _fallback(kinds: tuple[str, ...], target: str, home: Continent) -> list[Scenario]:
    """A fallback store has trouble of its own while the ones before it are down."""
    before = _clusters(home)
    if target == "immudb":
        before = (*before, Fault(REFUSE, "dynamodb"))
    return [
        Scenario(
            name := f"{target}-{kind.replace('_', '-')}",
            (*before, Fault(kind, target)),
            name,
            (home,),
        )
        for kind in kinds
    ]


def _alone(
    prefix: str, kinds: tuple[str, ...], target: str, *, wrapped: bool = False
) -> list[Scenario]:
    return [
        Scenario(
            name := f"{prefix}-{kind.replace('_', '-')}",
            (Fault(kind, target),),
            name,
            wrapped=wrapped,
            # While nothing is taken off the inbox it does not become empty.
            drain_s=0 if kind in QUEUE_KINDS else DRAIN_S,
        )
        for kind in kinds
    ]


_EUROPE: Final = Continent.EUROPE
_ALL_CLUSTERS: Final = _clusters(*CONTINENTS)

_SCENARIOS: Final[tuple[Scenario, ...]] = (
    *_each_cluster(
        "atlas by network",
        ("refuse", "hang", "slow", "reset", "cut_answer", "half_open", "answer_lost"),
    ),
    *_each_cluster(
        "atlas by machine", ("bandwidth", "sliced", "killed", "paused", "disk_full", FLAPPING)
    ),
    Scenario(
        "atlas-corrupt", (), "atlas-corrupt", (_EUROPE,), damage=Fault(CORRUPT, "mongo-europe")
    ),
    Scenario("atlas-down", _ALL_CLUSTERS, "atlas-down"),
    Scenario(
        "atlas-and-dynamodb-down",
        (*_ALL_CLUSTERS, Fault(REFUSE, "dynamodb")),
        "atlas-and-dynamodb-down",
    ),
    Scenario(
        "all-down-then-back",
        (*_ALL_CLUSTERS, Fault(REFUSE, "dynamodb"), Fault(REFUSE, "immudb")),
        "all-down-then-back",
        drain_s=3,
    ),
    *_fallback(("hang", "slow", "reset", "answer_lost"), "dynamodb", Continent.ASIA),
    *_fallback(
        ("hang", "slow", "answer_lost", "killed", "paused", "disk_full"),
        "immudb",
        Continent.AFRICA,
    ),
    Scenario(
        "immudb-corrupt",
        (*_clusters(Continent.OCEANIA), Fault(REFUSE, "dynamodb")),
        "immudb-corrupt",
        (Continent.OCEANIA,),
        damage=Fault(CORRUPT, "immudb"),
    ),
    Scenario("node-refuse", (Fault(REFUSE, "node-tokyo"),), "one node", (Continent.ASIA,)),
    Scenario("node-hang", (Fault("hang", "node-asia"),), "one node", (Continent.EUROPE,)),
    Scenario("node-slow", (Fault("slow", "node-global"),), "one node", (Continent.AFRICA,)),
    Scenario("node-killed", (Fault("killed", "node-nairobi"),), "node killed", (Continent.AFRICA,)),
    Scenario("node-paused", (Fault("paused", "node-europe"),), "node killed", (Continent.EUROPE,)),
    Scenario(
        "node-disk-full", (Fault("disk_full", "node-santiago"),), "node disk", (Continent.ASIA,)
    ),
    Scenario(
        "node-clock-ahead", (Fault("clock_ahead", "node-asia"),), "node disk", (Continent.EUROPE,)
    ),
    Scenario(
        "node-clock-behind",
        (Fault("clock_behind", "node-frankfurt"),),
        "node clock",
        (Continent.EUROPE,),
    ),
    Scenario(
        "node-answer-lost", (Fault("answer_lost", "node-global"),), "node clock", (Continent.ASIA,)
    ),
    Scenario("node-corrupt", (Fault(CORRUPT, "node-nairobi"),), "node clock", (Continent.AFRICA,)),
    Scenario(
        "light-nodes-down", tuple(Fault(REFUSE, one) for one in LIGHT_NODES), "light-nodes-down"
    ),
    Scenario("full-nodes-down", tuple(Fault(REFUSE, one) for one in FULL_NODES), "full-nodes-down"),
    Scenario("all-nodes-down", tuple(Fault(REFUSE, one) for one in NODES), "all-nodes-down"),
    *_alone("inbox", (REFUSE, "hang", "slow", "answer_lost"), "inbox"),
    *_alone("queue", ("duplicates", "late", "reordered"), "inbox"),
    Scenario(
        "queue-visibility-while-working",
        (
            Fault("short_visibility", "inbox"),
            *(Fault("slow", CLUSTERS[one]) for one in CONTINENTS[:3]),
        ),
        "queue-visibility",
        CONTINENTS[:3],
    ),
    *_alone("kms", (REFUSE, "hang"), "kms"),
    Scenario(
        "kms-down-cold-start",
        (Fault(REFUSE, "kms"), Fault("cold_start", "PersistAtlasFunction")),
        "kms-cold",
    ),
    *_alone("dispatch", ("out_of_memory", "throttled", "cold_start"), "DispatchFunction"),
    *_alone("persist", ("out_of_memory", "throttled", "cold_start"), "PersistAtlasFunction"),
    *_alone("votes", ("out_of_memory", "throttled"), "DposFunction"),
    *_alone(
        "persist",
        ("crash_before", "crash_after", "time_out", "skew"),
        "persist-atlas",
        wrapped=True,
    ),
    *_alone("dispatch", ("crash_before", "crash_after", "skew"), "dispatch", wrapped=True),
    *_alone("place", ("crash_before", "time_out"), "pop", wrapped=True),
    *_alone("votes", ("crash_after", "time_out"), "dpos", wrapped=True),
    *_alone("reward", ("crash_after",), "reward", wrapped=True),
    *_alone("send", ("crash_after",), "send", wrapped=True),
)

#: All scenarios by name, in the order in which they run.
SCENARIOS: Final[dict[str, Scenario]] = {one.name: one for one in _SCENARIOS}
assert len(SCENARIOS) == len(_SCENARIOS), "two scenarios have one name"


def chosen(names: list[str]) -> list[list[Scenario]]:
    """The groups in which these scenarios run; those on the plain stack first.

    Raises
    ------
    KeyError
        There is no scenario of a name.
    """
    groups: dict[tuple[bool, str], list[Scenario]] = {}
    for name in names:
        scenario = SCENARIOS[name]
        groups.setdefault((scenario.wrapped, scenario.group), []).append(scenario)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]
