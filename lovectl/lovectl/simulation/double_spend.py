"""Conflicting transactions race each other to the delegates, while these crash, lie and lose touch."""

import asyncio
import random
import tempfile
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import federation_dag
from lovectl.delegates import EPOCH, FULL_NODES, LEVELS, LIGHT_NODES, NODES, STAKES
from lovectl.simulation.ballots import Ballot, rivals
from lovectl.simulation.collector import Collector, Voter
from lovectl.simulation.core_collector import CoreCollector
from lovectl.simulation.evidence import Pairs, Proof, confessed, core_proofs, find_proofs
from lovectl.simulation.federation import SIDES, Federation, federation
from lovectl.simulation.witnesses import ask_witnesses

PAIRS: Final = 500
#: With fewer, a Byzantine delegate may by chance never vote twice.
PAIRS_MIN: Final = 20
PAIRS_A_ROUND_MAX: Final = 10
ROUNDS_MIN: Final = 8
#: Old ones that a side asks for again in each round, as `reconcile` would.
RETRIES_A_ROUND: Final = 20
DEADLINE_MS: Final = 500
#: For a delegate that may still be starting.
SETTLING_DEADLINE_MS: Final = 5_000
SETTLING_ROUNDS: Final = 3
SETTLING_BATCH: Final = 100
#: Rounds for each crash, and how soon after a round's start it strikes.
ROUNDS_A_CRASH: Final = 3
CRASH_DELAY_MS_MAX: Final = 15.0
#: So that rounds fall before, during and after a restart.
ROUND_PAUSE_MS_MAX: Final = 200.0

#: What the Byzantine delegates do, with weights: one light and one full node, 4 of 15 of the stake.
BYZANTINE: Final[dict[str, str]] = {
    "node-santiago": "double=1",
    "node-europe": "double=12,wrong_signature=2,stale_epoch=2,garbage=2,huge=1,silent=1",
}


@dataclass(frozen=True)
class Cut:
    """A partition: for these rounds each side reaches only its own delegates."""

    starts: int
    ends: int
    hanging: bool
    unreachable: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Crash:
    """A `kill -9` of an honest delegate, so long after the round began."""

    round: int
    delegate_id: str
    delay_ms: float


@dataclass(frozen=True)
class Schedule:
    """All that happens, out of one seed."""

    pairs: Pairs
    rounds: tuple[Pairs, ...]
    crashes: tuple[Crash, ...]
    cuts: tuple[Cut, ...]

    @classmethod
    def of(cls, seed: int, count: int, honest: Sequence[str]) -> "Schedule":
        """The same for the same arguments."""
        chance = random.Random(seed)  # noqa: S311 - a simulation, which must replay
        pairs = list(rivals(count, chance))
        size = max(1, min(PAIRS_A_ROUND_MAX, count // ROUNDS_MIN))
        rounds = tuple(pairs[start : start + size] for start in range(0, count, size))
        crashes = tuple(
            Crash(number, chance.choice(honest), chance.uniform(0, CRASH_DELAY_MS_MAX))
            for number in range(1, len(rounds), ROUNDS_A_CRASH)
        )
        quarter = max(1, len(rounds) // 4)
        cuts = tuple(
            Cut(starts, starts + max(1, quarter // 2), hanging, _split(chance))
            for starts, hanging in ((quarter, False), (3 * quarter, True))
        )
        return cls(pairs, rounds, crashes, cuts)


def double_spend(
    *, pairs: int, seed: int, defective: Sequence[str] = (), directory: Path | None = None
) -> dict[str, Any]:
    """Let `pairs` of conflicting transactions race, then judge what is final, and who is accused.

    Parameters
    ----------
    defective : sequence of delegate ids
        Delegates that count as honest, but whose locks hold nothing; for the test of this judge.
    directory : Path, optional
        Keeps the delegates' files; by default a temporary one.

    Returns
    -------
    dict
        The report; `verdict` is `holds` if no pair is final twice, `federation_dag` counts the
        votes as this simulation does, and the evidence, its own and that of the honest full nodes,
        names each Byzantine delegate that voted twice, and nobody else.

    Raises
    ------
    ServerFailed
        A delegate didn't start.
    """
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="love-double-spend-") as name:
            return double_spend(pairs=pairs, seed=seed, defective=defective, directory=Path(name))
    started_s = time.monotonic()
    honest = sorted(NODES.keys() - BYZANTINE.keys())
    schedule = Schedule.of(seed, pairs, honest)
    habits = {**BYZANTINE, **dict.fromkeys(defective, "forgetful")}
    confessions = {name: directory / f"{name}.confession" for name in habits}
    doubles = {
        name: ["--seed", str(seed), "--habits", habit, "--confession", str(confessions[name])]
        for name, habit in habits.items()
    }
    with federation(directory, doubles) as running:
        voters = [
            Voter(name, b64decode(one.public("")["public_key"]), one.stake)
            for name, one in running.delegates.items()
        ]
        race = _Race(running, voters, schedule, random.Random(f"{seed} network"))  # noqa: S311
        asyncio.run(race.run())
        guilty = confessed(confessions[name] for name in BYZANTINE)
        witnesses = [name for name in FULL_NODES if name not in habits]
        testimony = ask_witnesses(
            {name: running.addresses(SIDES[0])[name] for name in witnesses},
            running.pki,
            schedule.pairs,
            [one.log for one in race.collectors.values()],
            EPOCH,
            frozenset(guilty),
        )
    judged = _judge(schedule.pairs, race, voters)
    accusations = [_accused(judged.pop("proofs"), voters)]
    accusations += [_accused(proofs, voters) for proofs in testimony.proofs.values()]
    judged["proofs_refuted"] = sum(refuted for _, refuted in accusations)
    missed = sorted({name for accused, _ in accusations for name in guilty.keys() - accused})
    wronged = sorted({name for accused, _ in accusations for name in accused - BYZANTINE.keys()})
    holds = not (
        judged["both_final"]
        or judged["tally_disagreements"]
        or judged["proofs_refuted"]
        or testimony.refused
        or missed
        or wronged
    )
    return {
        "scenario": "double-spend",
        "seed": seed,
        **judged,
        "crashes": race.crashes,
        "partitions": len(schedule.cuts),
        "byzantine": [
            {
                "delegate_id": name,
                "level": LEVELS[name],
                "stake": STAKES[name],
                "habits": habit,
                "double_votes": guilty.get(name, 0),
            }
            for name, habit in BYZANTINE.items()
        ],
        "witnesses": {
            name: sorted(_accused(proofs, voters)[0]) for name, proofs in testimony.proofs.items()
        },
        "byzantine_missed": missed,
        "honest_accused": wronged,
        "votes": {side: dict(each.log.counts) for side, each in race.collectors.items()},
        "verdict": "holds" if holds else "broken",
        "seconds": round(time.monotonic() - started_s, 1),
    }


def _split(chance: random.Random) -> dict[str, tuple[str, ...]]:
    """Two light nodes and some full ones on each side; each side doesn't reach the other's."""
    light, full = list(LIGHT_NODES), list(FULL_NODES)
    chance.shuffle(light)
    chance.shuffle(full)
    west = (*light[:2], *full[:1])
    east = tuple(sorted(NODES.keys() - set(west)))
    return dict(zip(SIDES, (west, east), strict=True))


class _Race:
    """Two collectors, each with one half of every pair."""

    def __init__(
        self,
        running: Federation,
        voters: Sequence[Voter],
        schedule: Schedule,
        chance: random.Random,
    ) -> None:
        self.crashes = 0
        self.collectors = _collectors(running, voters)
        self._running = running
        self._schedule = schedule
        self._chance = chance
        self._restarts: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Every round with its faults; then all is mended, and everybody asked once more."""
        async with AsyncExitStack() as stack:
            for collector in self.collectors.values():
                await stack.enter_async_context(collector)
            seen: list[tuple[Ballot, Ballot]] = []
            for number, pairs in enumerate(self._schedule.rounds):
                await self._cut_or_mend(number)
                again = self._chance.sample(seen, min(len(seen), RETRIES_A_ROUND))
                for crash in self._schedule.crashes:
                    if crash.round == number:
                        await self._crash_soon(crash)
                await self._ask([*pairs, *again])
                seen += pairs
                await asyncio.sleep(self._chance.uniform(0, ROUND_PAUSE_MS_MAX) / 1000)
            await asyncio.gather(*self._restarts.values())
            await asyncio.to_thread(self._running.mend)
            await self._settle()

    async def _ask(self, pairs: Pairs) -> None:
        """Both halves leave at the same instant, to different delegates first."""
        names = list(NODES)
        self._chance.shuffle(names)
        near = set(names[: len(names) // 2])
        waves = [sorted(near), sorted(NODES.keys() - near)]
        orders = dict(zip(SIDES, (waves, waves[::-1]), strict=True))
        calls = []
        for half, (side, collector) in enumerate(self.collectors.items()):
            ballots = [pair[half] for pair in pairs if not collector.is_final(pair[half])]
            if ballots:
                calls.append(collector.ask(ballots, orders[side]))
        self._chance.shuffle(calls)
        await asyncio.gather(*calls)

    async def _cut_or_mend(self, number: int) -> None:
        for cut in self._schedule.cuts:
            if cut.starts == number:
                for side, nodes in cut.unreachable.items():
                    await asyncio.to_thread(self._running.cut, side, nodes, hanging=cut.hanging)
            elif cut.ends == number:
                await asyncio.to_thread(self._running.mend)

    async def _crash_soon(self, crash: Crash) -> None:
        # One at a time: of a delegate that is still starting nothing would be killed.
        await asyncio.gather(*self._restarts.values())

        async def strike() -> None:
            await asyncio.sleep(crash.delay_ms / 1000)
            await asyncio.to_thread(self._running.crash, crash.delegate_id)
            self.crashes += 1

        self._restarts = {crash.delegate_id: asyncio.create_task(strike())}

    async def _settle(self) -> None:
        """With all delegates up and reachable: whatever could become final does."""
        # After this start locks that were only in memory would be gone.
        await asyncio.to_thread(self._running.restart_all)
        for collector in self.collectors.values():
            collector.deadline_ms = SETTLING_DEADLINE_MS
        for _ in range(SETTLING_ROUNDS):
            for start in range(0, len(self._schedule.pairs), SETTLING_BATCH):
                await self._ask(self._schedule.pairs[start : start + SETTLING_BATCH])


def _collectors(running: Federation, voters: Sequence[Voter]) -> dict[str, Collector]:
    """The one side collects in Python, the other by the federation's own collector."""
    kinds = dict(zip(SIDES, (Collector, CoreCollector), strict=True))
    return {
        side: kind(voters, running.addresses(side), running.pki, EPOCH, DEADLINE_MS)
        for side, kind in kinds.items()
    }


def _judge(pairs: Pairs, race: _Race, voters: Sequence[Voter]) -> dict[str, Any]:
    collectors = list(race.collectors.values())
    logs = [one.log for one in collectors]
    finals = [
        sum(collector.is_final(ballot) for collector, ballot in zip(collectors, pair, strict=True))
        for pair in pairs
    ]
    proofs = find_proofs(pairs, logs)
    named = {(one.delegate_id, one.ballots[0].sender, one.ballots[0].nonce) for one in proofs}
    disagreements = len(named ^ core_proofs(pairs, logs, voters, EPOCH))
    for half, collector in enumerate(collectors):
        disagreements += _disagreements([pair[half] for pair in pairs], collector, voters)
    return {
        "pairs": len(pairs),
        "both_final": finals.count(2),
        "one_final": finals.count(1),
        "none_final": finals.count(0),
        "both_final_ids": [
            [one.transaction_id.hex() for one in pair]
            for pair, count in zip(pairs, finals, strict=True)
            if count == 2
        ],
        "tally_disagreements": disagreements,
        "proofs": proofs,
        "evidence": _evidence(proofs),
    }


def _accused(proofs: Sequence[Proof], voters: Sequence[Voter]) -> tuple[set[str], int]:
    """Against whom there is a proof that holds, and how many don't."""
    keys = {one.delegate_id: one.public_key for one in voters}
    sound = [one for one in proofs if one.holds(keys[one.delegate_id], EPOCH)]
    return {one.delegate_id for one in sound}, len(proofs) - len(sound)


def _evidence(proofs: Sequence[Proof]) -> list[dict[str, Any]]:
    count = Counter(one.delegate_id for one in proofs)
    first = {one.delegate_id: one for one in reversed(proofs)}
    return [
        {
            "delegate_id": name,
            "byzantine": name in BYZANTINE,
            "double_votes": count[name],
            "proof": first[name].document(),
        }
        for name in sorted(count)
    ]


def _disagreements(ballots: Sequence[Ballot], collector: Collector, voters: Sequence[Voter]) -> int:
    """On how many transactions `federation_dag` tallies this side's votes in another way."""
    votes = [
        (name, one.transaction_id, one.sender, one.nonce, signature)
        for one in ballots
        for name, signature in collector.log.signatures.get(one.transaction_id, {}).items()
    ]
    keys = [(one.delegate_id, "Ed25519", one.public_key, one.stake) for one in voters]
    tallies = {
        tally.transaction_id: (tally.stake, tally.final)
        for tally in federation_dag.dpos_parallel_collect(votes, keys, EPOCH)
    }
    return sum(
        tallies.get(one.transaction_id, (0, False))
        != (collector.stake(one), collector.is_final(one))
        for one in ballots
    )
