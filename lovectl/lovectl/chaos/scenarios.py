"""The fault model: every named scenario, what breaks in it, and which ones may share their time."""

from collections.abc import Mapping
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
        Scenarios of one group run at the same time; their faults strike different parts.
    wrapped : bool
        Needs a stack whose handlers are wrapped.
    rivals : bool
        During the fault others are sent with the nonces of what was just sent.
    drain_s : float
        How long the faults last after the posts, unless the inbox is empty before.
    """

    name: str
    faults: tuple[Fault, ...]
    group: str
    continents: tuple[Continent, ...] = CONTINENTS
    damage: Fault | None = None
    wrapped: bool = False
    rivals: bool = False
    drain_s: float = DRAIN_S


def _clusters(*homes: Continent) -> tuple[Fault, ...]:
    return tuple(Fault(REFUSE, CLUSTERS[one]) for one in homes)


def _each_cluster(group: str, kinds: tuple[str, ...]) -> list[Scenario]:
    """One kind for each continent's cluster, side by side."""
    return [
        Scenario(f"atlas-{kind.replace('_', '-')}", (Fault(kind, CLUSTERS[home]),), group, (home,))
        for home, kind in zip(CONTINENTS, kinds, strict=False)
    ]


def _fallback(target: str, home: Continent, kinds: Mapping[str, str]) -> list[Scenario]:
    """A fallback store has trouble of its own while the ones before it are down; kind to group."""
    before = _clusters(home)
    if target == "immudb":
        before = (*before, Fault(REFUSE, "dynamodb"))
    return [
        Scenario(
            f"{target}-{kind.replace('_', '-')}", (*before, Fault(kind, target)), group, (home,)
        )
        for kind, group in kinds.items()
    ]


def _of(
    prefix: str, target: str, kinds: Mapping[str, str], *, wrapped: bool = False
) -> list[Scenario]:
    """Faults of one target while all continents send; kind to group, which may have no name."""
    return [
        Scenario(
            name := f"{prefix}-{kind.replace('_', '-')}",
            (Fault(kind, target),),
            group or name,
            wrapped=wrapped,
            # While nothing is taken off the inbox it does not become empty.
            drain_s=0 if kind in QUEUE_KINDS else DRAIN_S,
        )
        for kind, group in kinds.items()
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
    Scenario("atlas-corrupt", (), "light nodes", (_EUROPE,), damage=Fault(CORRUPT, "mongo-europe")),
    Scenario("atlas-down", _ALL_CLUSTERS, "atlas-down", rivals=True),
    Scenario(
        "atlas-and-dynamodb-down",
        (*_ALL_CLUSTERS, Fault(REFUSE, "dynamodb")),
        "atlas-and-dynamodb-down",
        rivals=True,
    ),
    Scenario(
        "all-down-then-back",
        (*_ALL_CLUSTERS, Fault(REFUSE, "dynamodb"), Fault(REFUSE, "immudb")),
        "all-down-then-back",
        drain_s=3,
    ),
    *_fallback(
        "dynamodb",
        Continent.ASIA,
        {
            "hang": "one node",
            "slow": "node killed",
            "reset": "node disk",
            "answer_lost": "node clock",
        },
    ),
    *_fallback(
        "immudb",
        Continent.AFRICA,
        {
            "hang": "light nodes",
            "slow": "full nodes",
            "answer_lost": "all nodes",
            "killed": "kms refuses",
            "paused": "kms-hang-cold-start",
            "disk_full": "persist is cold",
        },
    ),
    Scenario(
        "immudb-corrupt",
        (*_clusters(Continent.OCEANIA), Fault(REFUSE, "dynamodb")),
        "immudb-corrupt",
        (Continent.OCEANIA,),
        damage=Fault(CORRUPT, "immudb"),
    ),
    Scenario("node-refuse", (Fault(REFUSE, "node-tokyo"),), "one node", (Continent.OCEANIA,)),
    Scenario("node-hang", (Fault("hang", "node-asia"),), "one node", (Continent.EUROPE,)),
    Scenario("node-slow", (Fault("slow", "node-global"),), "one node", (Continent.AFRICA,)),
    Scenario("node-killed", (Fault("killed", "node-nairobi"),), "node killed", (Continent.AFRICA,)),
    Scenario("node-paused", (Fault("paused", "node-europe"),), "node killed", (Continent.EUROPE,)),
    Scenario(
        "node-disk-full", (Fault("disk_full", "node-santiago"),), "node disk", (Continent.OCEANIA,)
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
        "node-answer-lost",
        (Fault("answer_lost", "node-global"),),
        "node clock",
        (Continent.OCEANIA,),
    ),
    Scenario("node-corrupt", (Fault(CORRUPT, "node-nairobi"),), "node clock", (Continent.AFRICA,)),
    Scenario("light-nodes-down", tuple(Fault(REFUSE, one) for one in LIGHT_NODES), "light nodes"),
    Scenario("full-nodes-down", tuple(Fault(REFUSE, one) for one in FULL_NODES), "full nodes"),
    Scenario(
        "all-nodes-down", tuple(Fault(REFUSE, one) for one in NODES), "all nodes", rivals=True
    ),
    *_of("inbox", "inbox", {REFUSE: "", "hang": "", "slow": "inbox is slow", "answer_lost": ""}),
    *_of("queue", "inbox", {"duplicates": "", "late": "", "reordered": ""}),
    Scenario(
        "queue-visibility-while-working",
        (
            Fault("short_visibility", "inbox"),
            *(Fault("slow", CLUSTERS[one]) for one in CONTINENTS[:3]),
        ),
        "queue-visibility",
        CONTINENTS[:3],
    ),
    # With the data keys that it has, a warm function works on.
    *_of("kms", "kms", {REFUSE: "kms refuses"}),
    *(
        Scenario(
            f"kms-{kind}-cold-start",
            (Fault(kind, "kms"), Fault("cold_start", "PersistAtlasFunction")),
            f"kms-{kind}-cold-start",
        )
        for kind in (REFUSE, "hang")
    ),
    *_of(
        "dispatch",
        "DispatchFunction",
        {
            "out_of_memory": "dispatch ends",
            "throttled": "",
            "cold_start": "dispatch is cold",
        },
    ),
    *_of(
        "persist",
        "PersistAtlasFunction",
        {"out_of_memory": "", "throttled": "inbox is slow", "cold_start": "persist is cold"},
    ),
    *_of(
        "votes",
        "DposFunction",
        {"throttled": "dispatch is cold", "out_of_memory": "dispatch ends"},
    ),
    *_of(
        "persist",
        "persist-atlas",
        {"crash_before": "crashes", "crash_after": "", "time_out": "", "skew": ""},
        wrapped=True,
    ),
    # Written in a fallback tier, but reported as failed: the next tier gets it too, or the inbox has it yet.
    *(
        Scenario(
            f"{target}-function-{kind.replace('_', '-')}",
            (*_clusters(home), *before, Fault(kind, f"persist-{target}")),
            f"{target}-function-{kind}",
            (home,),
            wrapped=True,
        )
        for target, home, before in (
            ("dynamodb", Continent.ASIA, ()),
            ("immudb", Continent.AFRICA, (Fault(REFUSE, "dynamodb"),)),
        )
        for kind in ("crash_before", "crash_after")
    ),
    *_of("shard", "shard", {"crash_after": ""}, wrapped=True),
    *_of(
        "dispatch",
        "dispatch",
        {"crash_before": "", "crash_after": "", "skew": "crashes"},
        wrapped=True,
    ),
    # Where an earlier stage fails, a later one is called by nobody: such two don't share their time.
    *_of("place", "pop", {"crash_before": "", "time_out": ""}, wrapped=True),
    *_of("votes", "dpos", {"crash_after": "early crashes", "time_out": ""}, wrapped=True),
    *_of("reward", "reward", {"crash_after": ""}, wrapped=True),
    *_of("send", "send", {"crash_after": "early crashes"}, wrapped=True),
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
