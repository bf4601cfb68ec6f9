"""Runs scenarios: sends, breaks, mends, waits, brings home, and lets the judge look."""

import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import BrokenBarrierError
from typing import Any, Final

from federation.batch import TIERS
from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.chaos.evidence import Evidence
from lovectl.chaos.faults import CORRUPT, Fault, Injector, SetFault
from lovectl.chaos.history import ACCEPTED, FaultEdge, Found, History, HistoryLog, Mark, now_ms
from lovectl.chaos.judge import Judgement, Violation, judge, judge_reconciled
from lovectl.chaos.machines import Machines
from lovectl.chaos.queues import Inbox
from lovectl.chaos.reading import StoreReader, federation_of
from lovectl.chaos.scenarios import FAULT_S, Scenario
from lovectl.chaos.traces import met, unmet
from lovectl.chaos.traffic import Traffic
from lovectl.delegates import NODES
from lovectl.measures import LogEvent, function_log_events, ranks

#: Posts before, during and after the fault: with 15 transactions each, 210 are accepted. Continents take
#: turns, so that each one sends during the fault.
POSTS_BEFORE: Final = 4
POSTS_DURING: Final = len(CONTINENTS)
POSTS_AFTER: Final = 3
#: The inbox is empty long before this: a message's pauses are seconds here.
SETTLE_TIMEOUT_S: Final = 150.0
#: Of each scenario: one of every post.
RECEIPTS_ASKED: Final = 14
READS_AT_ONCE: Final = 3
RECEIPTS_TIMEOUT_S: Final = 30.0
RECONCILE_RUNS_MAX: Final = 6
#: Longer than a breaker of the local stack rests.
RECONCILE_PAUSE_S: Final = 3.2
SUCCEEDED: Final = "SUCCEEDED"
RECONCILED: Final = "reconciled"

Say = Callable[[str], None]
#: Runs reconcile until nothing is left to bring home; gives what it did.
Reconcile = Callable[[], dict[str, Any]]


class Runner:
    """Runs scenarios on one stack.

    Parameters
    ----------
    access : Access
    path : HistoryLog
        Where everything is written down.
    seed : int
    handlers : callable, optional
        See `Injector`.
    reconcile : callable, optional
        Runs after the faults are over.
    """

    def __init__(
        self,
        access: Access,
        log: HistoryLog,
        seed: int,
        say: Say,
        *,
        handlers: SetFault | None = None,
        reconcile: Reconcile | None = None,
    ) -> None:
        self._access = access
        self.log = log
        self._seed = seed
        self._say = say
        self.machines = Machines(access)
        self._injector = Injector(access, self.machines, handlers)
        self._inbox = Inbox(access)
        self._reader = StoreReader(access)
        self._federation = federation_of(access)
        self._reconcile = reconcile
        self._offset = 0

    def run(self, group: Sequence[Scenario]) -> list[dict[str, Any]]:
        """Run the scenarios of a group side by side; a report of each.

        What goes wrong with the simulation itself breaks its verdict, and no other scenario.
        """
        began_s = self.begin()
        phases = threading.Barrier(len(group))
        try:
            traffics = self._send_all(group, phases)
            return self.settle(group, [[one] for one in traffics], began_s, must_be_met=True)
        except Exception as error:  # noqa: BLE001 - is told in the report
            self._say("".join(traceback.format_exception(error)))
            seconds = time.monotonic() - began_s
            reports = [self._failed(one, error, seconds) for one in group]
            for report in reports:
                self._say(_line(report))
            return reports

    def _send_all(self, group: Sequence[Scenario], phases: threading.Barrier) -> list[Traffic]:
        with ThreadPoolExecutor(len(group)) as pool:
            sending = [pool.submit(self._send, one, phases) for one in group]
        # Who waits for another that has failed breaks off too: that other one's error counts.
        failed = [one for one in sending if one.exception() is not None]
        failed.sort(key=lambda one: isinstance(one.exception(), BrokenBarrierError))
        return [one.result() for one in failed or sending]

    def begin(self) -> float:
        """A group begins now, on the monotonic clock; its history begins at the log's end."""
        self._offset = self.log.size_bytes()
        return time.monotonic()

    def settle(
        self,
        group: Sequence[Scenario],
        traffics: Sequence[Sequence[Traffic]],
        began_s: float,
        broken_off: Sequence[Violation] = (),
        *,
        must_be_met: bool = False,
    ) -> list[dict[str, Any]]:
        """After the faults: wait until all is worked off, bring it home, judge it.

        Parameters
        ----------
        traffics : sequence of sequences of Traffic
            Of each scenario.
        began_s : float
            What `begin` gave.
        broken_off : sequence of Violation
            What went wrong with the simulation itself.
        must_be_met : bool
            A fault that no function met breaks the verdict.
        """
        settled = self._inbox.wait_until_empty(SETTLE_TIMEOUT_S)
        with ThreadPoolExecutor(READS_AT_ONCE) as pool:
            list(pool.map(self._receipts, group, traffics))
        logged = self._logged(group)
        evidence = self._brought_home(group)
        reports = []
        for scenario in group:
            found = self._judge(scenario, evidence)
            self._note(scenario, evidence)
            history = self._history(scenario)
            more = [*broken_off, *self._left_undone(history, evidence)]
            times_met = met(history, logged)
            if must_be_met:
                more += [
                    Violation("not_met", "", f"{one}: no function met it")
                    for one in unmet(scenario.faults, times_met)
                ]
            if scenario.damage is not None:
                more += self._damage(scenario, scenario.damage)
            seconds = time.monotonic() - began_s
            report = self._report(scenario, found, evidence, more, settled, seconds, times_met)
            reports.append(report)
            self._say(_line(report))
        return reports

    def _logged(self, group: Sequence[Scenario]) -> list[LogEvent]:
        """What the functions wrote since the first fault of a group began."""
        faults = self._history(*group).faults()
        return function_log_events(self._access.aws, faults[0][2]) if faults else []

    def _brought_home(self, group: Sequence[Scenario]) -> Evidence:
        """Run reconcile until nothing is left to do: one run is bounded, and breakers may rest yet."""
        if self._reconcile is None:
            return self._evidence(group)
        for _ in range(RECONCILE_RUNS_MAX):
            done = self._reconcile()
            self.log.write(*(Mark(now_ms(), one.name, RECONCILED, done) for one in group))
            evidence = self._evidence(group)
            marked = all(copy.tier == "atlas" or copy.reconciled for copy in evidence.copies)
            if marked and not any(judge_reconciled(self._history(one), evidence) for one in group):
                break
            time.sleep(RECONCILE_PAUSE_S)
        return evidence

    def _left_undone(self, history: History, evidence: Evidence) -> list[Violation]:
        """What reconcile, the faults and the API owe yet, though all faults are over."""
        violations = []
        if self._reconcile is not None:
            violations += judge_reconciled(history, evidence)
            for run in history.marks(RECONCILED)[-1:]:
                if run.detail["status"] != SUCCEEDED:
                    why = f"{run.detail['status']}: {run.detail.get('error')}"
                    violations.append(Violation("reconcile_failed", "", why))
        for mark in history.marks("receipts"):
            if missing := mark.detail["missing"]:
                violations.append(Violation("no_receipt", "", f"{missing} are not told by the API"))
        for mark in history.marks("given up"):
            why = f"{mark.detail['posts']} posts are not accepted, though the faults are over"
            violations.append(Violation("given_up", "", why))
        if not history.accepted_at_ms:
            violations.append(Violation("idle", "", "nothing was accepted"))
        return violations

    def traffic(
        self, name: str, continents: Sequence[Continent] = CONTINENTS, salt: str = ""
    ) -> Traffic:
        """A client that sends under the name of a scenario; `salt` tells several of them apart."""
        return Traffic(self._access, self.log, name, f"{salt or name}/{self._seed}", continents)

    def send_until(self, traffic: Traffic, ended: threading.Event, pause_s: float) -> None:
        """Send one post after another, then again what was refused."""
        with self._access.client() as client:
            while not ended.is_set():
                traffic.send(client, 1)
                ended.wait(pause_s)
            self._given_up(traffic.name, traffic.send_again(client))

    @contextmanager
    def breaking(self, name: str, faults: Sequence[Fault]) -> Iterator[None]:
        """These faults inside the block, written down under the name of a scenario."""
        self._edges(name, faults, "begins")
        with self._injector.broken(faults):
            yield
        self._edges(name, faults, "ends")

    def _send(self, scenario: Scenario, phases: threading.Barrier) -> Traffic:
        """All scenarios of a group break and mend at the same time, so that no fault is missed."""
        self.log.write(Mark(now_ms(), scenario.name, "begins", {"seed": self._seed}))
        traffic = self.traffic(scenario.name, scenario.continents)
        try:
            with self._access.client() as client:
                traffic.send(client, POSTS_BEFORE)
                phases.wait()
                self._inbox.wait_until_empty(SETTLE_TIMEOUT_S)
                phases.wait()
                self._aim(scenario, scenario.faults)
                with self.breaking(scenario.name, scenario.faults):
                    traffic.send(client, POSTS_DURING, FAULT_S / POSTS_DURING)
                    if scenario.rivals:
                        traffic.send_rivals(client)
                    phases.wait()
                    self._inbox.wait_until_empty(scenario.drain_s)
                traffic.send(client, POSTS_AFTER)
                given_up = traffic.send_again(client)
        except BaseException:
            phases.abort()
            raise
        self._given_up(scenario.name, given_up)
        return traffic

    def _given_up(self, name: str, posts: int) -> None:
        if posts:
            self.log.write(Mark(now_ms(), name, "given up", {"posts": posts}))

    def _edges(self, name: str, faults: Sequence[Fault], edge: Any) -> None:
        at_ms = now_ms()
        self.log.write(*(FaultEdge(at_ms, name, one.kind, one.target, edge) for one in faults))

    def _receipts(self, scenario: Scenario, traffics: Sequence[Traffic]) -> None:
        accepted = sorted(self._history(scenario).accepted_at_ms)
        chance = random.Random(self._seed)  # noqa: S311 - which ones is no secret
        asked = chance.sample(accepted, min(RECEIPTS_ASKED, len(accepted)))
        missing = 0
        with self._access.client() as client:
            for traffic in traffics:
                mine = [one for one in asked if one in traffic.accounts]
                missing += traffic.ask_for_receipts(client, mine, RECEIPTS_TIMEOUT_S)
        self.log.write(
            Mark(now_ms(), scenario.name, "receipts", {"asked": len(asked), "missing": missing})
        )

    def _history(self, *scenarios: Scenario) -> History:
        return History.read(self.log.path, self._offset).of(*(one.name for one in scenarios))

    def _evidence(self, group: Sequence[Scenario]) -> Evidence:
        history = self._history(*group)
        return self._reader.evidence(history.senders, history.sent)

    def _judge(self, scenario: Scenario, evidence: Evidence) -> Judgement:
        return judge(self._history(scenario), evidence, self._federation)

    def _note(self, scenario: Scenario, evidence: Evidence) -> None:
        senders, at_ms = self._history(scenario).senders, now_ms()
        self.log.write(
            *(
                Found(
                    at_ms,
                    scenario.name,
                    copy.transaction_id,
                    copy.tier,
                    copy.place,
                    copy.stored_at_ms,
                    copy.final,
                    copy.reconciled,
                )
                for copy in evidence.copies
                if copy.sender in senders
            )
        )

    def _aim(self, scenario: Scenario, faults: Sequence[Fault]) -> None:
        """What is to be damaged is this scenario's own: a signature in a store, an id in a vote lock."""
        for fault in faults:
            if fault.kind != CORRUPT:
                continue
            sent = self._history(scenario).sent
            needles = (
                [bytes.fromhex(one) for one in sent]
                if fault.target in NODES
                else [str(one.document["signature"]).encode() for one in sent.values()]
            )
            self.machines.look_for(fault.target, needles)

    def _damage(self, scenario: Scenario, damage: Fault) -> list[Violation]:
        """Damage one record, see that the judge tells so and that no other is touched, mend it."""
        self._aim(scenario, (damage,))
        with self.breaking(scenario.name, (damage,)):
            found = self._judge(scenario, self._evidence((scenario,)))
        told = [{"rule": one.rule, "detail": one.detail} for one in found.violations[:5]]
        self.log.write(Mark(now_ms(), scenario.name, "damage found", {"violations": told}))
        mended = self._judge(scenario, self._evidence((scenario,))).violations
        said = " ".join(f"{one.transaction_id} {one.detail}" for one in found.violations)
        named = [one for one in self._history(scenario).sent if one in said]
        if len(named) != 1:
            why = f"damage of one record in {damage.target}: {len(named)} are named"
            return [*mended, Violation("unnoticed", "", why)]
        return mended

    def _report(
        self,
        scenario: Scenario,
        found: Judgement,
        evidence: Evidence,
        more: list[Violation],
        settled: bool,
        seconds: float,
        times_met: dict[str, int],
    ) -> dict[str, Any]:
        history = self._history(scenario)
        violations = [*found.violations, *more]
        if not settled:
            violations.append(Violation("unsettled", "", "the inbox does not become empty"))
        latencies = latencies_ms(history, evidence)
        return {
            "name": scenario.name,
            "seed": self._seed,
            "verdict": "holds" if not violations else "broken",
            "accepted": found.accepted,
            "conceded": found.conceded,
            "stored": found.stored,
            "final": found.final,
            "lost": found.lost,
            "duplicated": found.duplicated,
            "reconciled": found.reconciled,
            "stored_per_tier": found.per_tier,
            "refused_posts": sum(one.status != ACCEPTED for one in history.answers),
            "receipts_checked": len(history.receipts),
            "violations": [
                {"rule": one.rule, "transaction_id": one.transaction_id, "detail": one.detail}
                for one in violations
            ],
            "latency_ms": ranks(list(latencies.values())),
            "first_batch_ms": _first_batch_ms(history, latencies),
            "faults": [f"{one.kind} {one.target}" for one in scenario.faults]
            + ([f"{scenario.damage.kind} {scenario.damage.target}"] if scenario.damage else []),
            "faults_met": times_met,
            "seconds": round(seconds, 1),
        }

    def _failed(self, scenario: Scenario, error: Exception, seconds: float) -> dict[str, Any]:
        """The report of a scenario whose simulation broke off."""
        history = self._history(scenario)
        accepted = len(history.accepted_at_ms)
        told = Violation("broken_off", "", f"{type(error).__name__}: {error}")
        found = Judgement(accepted, 0, 0, 0, 0, dict.fromkeys(TIERS, 0), 0, [told])
        return self._report(scenario, found, Evidence([]), [], True, seconds, {})


def latencies_ms(history: History, evidence: Evidence) -> dict[str, int]:
    """From the client's 202 until its first copy was begun to be written, by id.

    That is what a record's own time says, by the clock of the function that wrote it.
    """
    stored: dict[str, int] = {}
    for copy in evidence.copies:
        known = stored.get(copy.transaction_id, copy.stored_at_ms)
        stored[copy.transaction_id] = min(known, copy.stored_at_ms)
    return {
        # Another thread may have stored it before the 202 reached us.
        one: max(0, stored[one] - at_ms)
        for one, at_ms in history.accepted_at_ms.items()
        if one in stored
    }


def _first_batch_ms(history: History, latencies: dict[str, int]) -> int | None:
    """How long the first post took that was accepted under the fault."""
    spans = history.faults()
    if not spans:
        return None
    begins_ms = min(span[2] for span in spans)
    for answer in history.answers:
        if answer.at_ms - answer.took_ms >= begins_ms and answer.claimed:
            return max((latencies[one] for one in answer.claimed if one in latencies), default=None)
    return None


def _line(report: dict[str, Any]) -> str:
    tiers = ", ".join(
        f"{tier} {count}" for tier, count in report["stored_per_tier"].items() if count
    )
    return (
        f"{report['verdict']:7} {report['name']:32} accepted {report['accepted']}, lost "
        f"{report['lost']}, duplicated {report['duplicated']}, {tiers}, {report['seconds']} s"
    )
