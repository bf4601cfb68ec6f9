"""Random faults at random times, several at once, while money is sent without a pause."""

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from federation.regions import CLUSTERS, CONTINENTS
from lovectl.chaos.faults import REFUSE, TOXICS, Fault
from lovectl.chaos.history import History, HistoryLog
from lovectl.chaos.run import Runner, Say
from lovectl.chaos.scenarios import Scenario
from lovectl.chaos.simulation import document_of, plain_runner
from lovectl.delegates import NODES

#: Faults that run at the same time; each of them has its own stream of them.
STREAMS: Final = 3
FAULT_S: Final = (3.0, 15.0)
CALM_S: Final = (2.0, 8.0)
#: The money is judged this often, so that a defect is told soon after it struck.
ROUND_S: Final = 60.0
#: One post a sender; this many at once.
SENDERS: Final = 2
POST_PAUSE_S: Final = 2.0


class Planned(msgspec.Struct, frozen=True):
    """A fault to come: when it begins after the round's start, and how long it lasts."""

    fault: Fault
    begins_s: float
    lasts_s: float


def _possible() -> list[Fault]:
    network = (REFUSE, *TOXICS)
    stores = [
        Fault(kind, target)
        for target in (*CLUSTERS.values(), "dynamodb", "immudb")
        for kind in network
    ]
    nodes = [Fault(kind, target) for target in NODES for kind in (REFUSE, "hang", "slow")]
    services = [Fault(kind, target) for target in ("inbox", "kms") for kind in (REFUSE, "slow")]
    machines = [
        Fault(kind, target)
        for target in (*CLUSTERS.values(), "immudb", *NODES)
        for kind in ("killed", "paused")
    ]
    functions = [
        Fault(kind, target)
        for target in ("DispatchFunction", "DposFunction", "PersistAtlasFunction")
        for kind in ("out_of_memory", "throttled")
    ]
    return [*stores, *nodes, *services, *machines, *functions]


POSSIBLE: Final = tuple(_possible())


def planned(seed: int, round_of: int, length_s: float) -> list[list[Planned]]:
    """The faults of a round, by stream; the same for the same seed.

    Two streams never break one target at the same time: a target belongs to one stream a round.
    All faults end with the round, so that no tier is away for longer than the inbox keeps.
    """
    chance = random.Random(f"{seed}/{round_of}")  # noqa: S311 - must replay
    targets = sorted({one.target for one in POSSIBLE})
    chance.shuffle(targets)
    streams = []
    for index in range(STREAMS):
        mine = set(targets[index::STREAMS])
        choice = [one for one in POSSIBLE if one.target in mine]
        at_s = chance.uniform(*CALM_S)
        stream: list[Planned] = []
        while at_s + FAULT_S[0] < length_s:
            lasts_s = min(chance.uniform(*FAULT_S), length_s - at_s)
            stream.append(Planned(chance.choice(choice), at_s, lasts_s))
            at_s += lasts_s + chance.uniform(*CALM_S)
        streams.append(stream)
    return streams


def soak(minutes: float, seed: int, path: Path, say: Say) -> tuple[dict[str, Any], History]:
    """Break at random for so many minutes; each round is judged on its own.

    Returns
    -------
    (report, history)
        The report has the shape of `simulate_all`'s; its scenarios are the rounds.
    """
    began_s = time.monotonic()
    reports: list[dict[str, Any]] = []
    say(f"seed {seed}: {minutes:g} minutes of random faults")
    with HistoryLog(path) as log, plain_runner(log, seed, say) as runner:
        end_s = time.monotonic() + 60 * minutes
        while (left_s := end_s - time.monotonic()) > FAULT_S[0] + CALM_S[1]:
            name = f"round-{len(reports) + 1}"
            length_s = min(ROUND_S, left_s)
            plan = planned(seed, len(reports) + 1, length_s)
            faults = tuple(one.fault for stream in plan for one in stream)
            reports.append(_round(runner, name, faults, plan, length_s))
    return document_of(reports, seed, path, began_s), History.read(path)


def _round(
    runner: Runner,
    name: str,
    faults: tuple[Fault, ...],
    plan: Sequence[Sequence[Planned]],
    length_s: float,
) -> dict[str, Any]:
    ended = threading.Event()
    began_s = runner.begin()
    threads = [
        threading.Thread(target=_stream, args=(runner, name, stream, began_s), name="faults")
        for stream in plan
    ]
    senders = [runner.traffic(name, CONTINENTS, salt=f"{name}/{index}") for index in range(SENDERS)]
    threads += [
        threading.Thread(target=runner.send_until, args=(one, ended, POST_PAUSE_S), name="sender")
        for one in senders
    ]
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, began_s + length_s - time.monotonic()))
    ended.set()
    for thread in threads:
        thread.join()
    scenario = Scenario(name, faults, name)
    return runner.settle([scenario], [senders], began_s)[0]


def _stream(runner: Runner, name: str, stream: Sequence[Planned], began_s: float) -> None:
    for one in stream:
        time.sleep(max(0.0, began_s + one.begins_s - time.monotonic()))
        with runner.breaking(name, (one.fault,)):
            time.sleep(one.lasts_s)
