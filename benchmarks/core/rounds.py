"""Lets works take turns, so that a disturbance of the machine meets all of them alike."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from peer import Peer

ROUNDS: Final = 25
ROUNDS_MIN: Final = 5
#: A work that is done sooner is repeated within its round until this is reached.
ROUND_S_MIN: Final = 0.02
#: A slow work gets fewer rounds than this would allow.
WORK_S_MAX: Final = 6.0


@dataclass(frozen=True)
class Entry:
    """One work of a contest: `work` of process `peer` on `input_name`, which holds `items`."""

    name: str
    peer: str
    work: str
    input_name: str
    items: int


@dataclass(frozen=True)
class Spread:
    """Microseconds an item, over all rounds."""

    min_us: float
    median_us: float
    rounds: int


def take_turns(
    peers: Mapping[str, Peer], entries: Sequence[Entry], rounds: int = ROUNDS
) -> list[Spread]:
    """The spread of each entry; the order of turns is reversed every other round."""
    plans = [_plan(peers[entry.peer], entry, rounds) for entry in entries]
    taken_us: list[list[float]] = [[] for _ in entries]
    for turn in range(rounds):
        order = range(len(entries)) if turn % 2 == 0 else reversed(range(len(entries)))
        for at in order:
            entry, plan = entries[at], plans[at]
            if turn < plan.rounds:
                taken_s = peers[entry.peer].time_s(entry.work, entry.input_name, plan.times)
                taken_us[at].append(taken_s * 1e6 / (plan.times * entry.items))
    return [spread(values) for values in taken_us]


def spread(values_us: Sequence[float]) -> Spread:
    """Minimum and median of at least one value."""
    return Spread(min(values_us), statistics.median(values_us), len(values_us))


@dataclass(frozen=True)
class _Plan:
    times: int
    rounds: int


def _plan(peer: Peer, entry: Entry, rounds: int) -> _Plan:
    peer.time_s(entry.work, entry.input_name, 1)  # prepares, and warms up
    once_s = peer.time_s(entry.work, entry.input_name, 1)
    # A very short work would be planned by the clock's and the first call's costs: ask again.
    times = max(1, round(ROUND_S_MIN / once_s))
    if times > 1:
        once_s = peer.time_s(entry.work, entry.input_name, times) / times
        times = max(1, round(ROUND_S_MIN / once_s))
    affordable = int(WORK_S_MAX / (once_s * times))
    return _Plan(times, max(min(ROUNDS_MIN, rounds), min(rounds, affordable)))
