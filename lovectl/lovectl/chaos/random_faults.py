"""Random faults at random times, several at once, while money is sent without a pause."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import msgspec

from federation.regions import CLUSTERS, CONTINENTS
from lovectl.chaos.faults import FLAPPING, REFUSE, TOXICS, Fault
from lovectl.chaos.history import History, HistoryLog, Mark, now_ms
from lovectl.chaos.judge import Violation
from lovectl.chaos.queues import NotStruck
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


#: The way of a transaction, and both fallbacks.
FUNCTIONS: Final = (
    "DispatchFunction",
    "PopFunction",
    "DposFunction",
    "ShardFunction",
    "RewardFunction",
    "PersistAtlasFunction",
    "PersistDynamodbFunction",
    "PersistImmudbFunction",
)


class Planned(msgspec.Struct, frozen=True):
    """A fault to come: when it begins after the round's start, and how long it lasts."""

    fault: Fault
    begins_s: float
    lasts_s: float


def _possible() -> list[Fault]:
    """All but those that need a target of their own making: queues, damaged files, clocks, wrappers."""
    tiers = (*CLUSTERS.values(), "dynamodb", "immudb")
    faults = {
        tiers: (REFUSE, *TOXICS, FLAPPING),
        (*CLUSTERS.values(), "immudb"): ("killed", "paused", "disk_full"),
        tuple(NODES): (REFUSE, "hang", "slow", "killed", "paused"),
        ("inbox", "kms"): (REFUSE, "hang", "slow", "answer_lost"),
        FUNCTIONS: ("out_of_memory", "throttled"),
    }
    return [
        Fault(kind, target)
        for targets, kinds in faults.items()
        for target in targets
        for kind in kinds
    ]


POSSIBLE: Final = tuple(_possible())


def planned(seed: int, round_of: int, length_s: float) -> list[list[Planned]]:
    """The faults of a round, by stream; the same for the same seed.

    Two streams never break one target at the same time: a target belongs to one stream a round.
    All faults end with the round, so that no tier is away for longer than the inbox keeps.
    """
    targets = sorted({one.target for one in POSSIBLE})
    random.Random(f"{seed}/{round_of}").shuffle(targets)  # noqa: S311 - must replay
    return [
        _stream_of(f"{seed}/{round_of}/{index}", targets[index::STREAMS], length_s)
        for index in range(STREAMS)
    ]


def _stream_of(seed: str, targets: Sequence[str], length_s: float) -> list[Planned]:
    """A shorter round has the same faults as a longer one, as far as it goes."""
    chance = random.Random(seed)  # noqa: S311 - must replay
    choice = [one for one in POSSIBLE if one.target in targets]
    at_s = chance.uniform(*CALM_S)
    stream: list[Planned] = []
    while at_s + FAULT_S[0] < length_s:
        lasts_s = chance.uniform(*FAULT_S)
        stream.append(Planned(chance.choice(choice), at_s, min(lasts_s, length_s - at_s)))
        at_s += lasts_s + chance.uniform(*CALM_S)
    return stream


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
    senders = [runner.traffic(name, CONTINENTS, salt=f"{name}/{index}") for index in range(SENDERS)]
    with ThreadPoolExecutor(STREAMS + SENDERS) as pool:
        try:
            work = [pool.submit(_stream, runner, name, one, began_s, ended) for one in plan]
            work += [pool.submit(runner.send_until, one, ended, POST_PAUSE_S) for one in senders]
            ended.wait(max(0.0, began_s + length_s - time.monotonic()))
        finally:
            # Also on Ctrl-C: nothing stays broken, and nothing sends to a stack that goes down.
            ended.set()
    broken_off = [
        Violation("broken_off", "", f"{type(error).__name__}: {error}")
        for one in work
        if (error := one.exception()) is not None
    ]
    scenario = Scenario(name, faults, name)
    return runner.settle([scenario], [senders], began_s, broken_off)[0]


def _stream(
    runner: Runner,
    name: str,
    stream: Sequence[Planned],
    began_s: float,
    ended: threading.Event,
) -> None:
    for one in stream:
        ended.wait(max(0.0, began_s + one.begins_s - time.monotonic()))
        if ended.is_set():
            return
        try:
            with runner.breaking(name, (one.fault,)):
                ended.wait(one.lasts_s)
        except NotStruck as error:
            # By chance two faults had one target, or an idle one.
            runner.log.write(Mark(now_ms(), name, "not struck", {"why": str(error)}))
