"""A fault of the simulation strikes, is over when it ends, and what fails in it breaks the verdict."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from lovectl.chaos import random_faults
from lovectl.chaos.evidence import Evidence
from lovectl.chaos.faults import FLAPPING, Fault, Injector
from lovectl.chaos.history import Answered, FaultEdge, History, Mark
from lovectl.chaos.judge import Violation
from lovectl.chaos.queues import Inbox, NotStruck
from lovectl.chaos.random_faults import Planned
from lovectl.chaos.run import RECONCILED, Runner
from lovectl.chaos.traces import LATE_MS, met, unmet
from lovectl.delegates import FULL_NODES
from lovectl.measures import LogEvent
from lovectl.toxiproxy import Toxiproxy

FUNCTION = "DposFunction"


class Proxies(Toxiproxy):
    """Remembers what was done to a proxy."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def down(self, name: str) -> None:
        self.done.append("down")

    def up(self, name: str) -> None:
        self.done.append("up")


class TooManyRequests(Exception):
    pass


class Lambda:
    """One function; as MiniStack, it throttles nothing that is called by a version's alias."""

    exceptions = SimpleNamespace(TooManyRequestsException=TooManyRequests)

    def __init__(self, throttles: bool = True) -> None:
        self.throttles = throttles
        self.version = "7"
        self.reserved: int | None = 50
        self.asked_while_throttled = 0

    def get_alias(self, **_: str) -> Any:
        return {"FunctionVersion": self.version}

    def update_alias(self, **given: str) -> None:
        self.version = given["FunctionVersion"]

    def get_function_concurrency(self, **_: str) -> Any:
        return {} if self.reserved is None else {"ReservedConcurrentExecutions": self.reserved}

    def put_function_concurrency(self, **given: Any) -> None:
        self.reserved = given["ReservedConcurrentExecutions"]

    def delete_function_concurrency(self, **_: str) -> None:
        self.reserved = None

    def invoke(self, **_: Any) -> None:
        if self.throttles and self.reserved == 0 and self.version == "$LATEST":
            self.asked_while_throttled += 1
            raise TooManyRequests


class Machines:
    """Processes of functions: so many of each as are said."""

    def __init__(self, processes: int) -> None:
        self.processes = processes

    def functions(self) -> dict[str, str]:
        return {FUNCTION: "love-dpos"}

    def kill_handlers(self, function: str) -> int:
        return self.processes

    def disk_full(self, name: str) -> None:
        raise AssertionError(name)


def injector(
    proxies: Proxies | None = None, client: Lambda | None = None, processes: int = 1
) -> Injector:
    services = {"lambda": client or Lambda(), "sqs": None}
    access: Any = SimpleNamespace(
        proxies=proxies or Proxies(),
        aws=services.__getitem__,
        outputs={"InboxQueueUrl": "https://sqs/inbox", "DeadLettersQueueUrl": "https://sqs/dead"},
    )
    machines: Any = Machines(processes)
    return Injector(access, machines)


def test_a_flapping_proxy_goes_down_and_is_up_when_its_fault_ends() -> None:
    for _ in range(50):  # it began before its end was known, now and then
        proxies = Proxies()
        with injector(proxies).broken([Fault(FLAPPING, "mongo-sa")]):
            pass
        assert proxies.done[-1] == "up"
    seen = threading.Event()

    class Seen(Proxies):
        def down(self, name: str) -> None:
            super().down(name)
            seen.set()

    with injector(Seen()).broken([Fault(FLAPPING, "mongo-sa")]):
        assert seen.wait(30)


def test_a_throttled_function_is_throttled_by_its_alias_and_has_its_reserve_again() -> None:
    client = Lambda()
    with injector(client=client).broken([Fault("throttled", FUNCTION)]):
        assert client.asked_while_throttled == 1
    assert (client.version, client.reserved) == ("7", 50)


def test_a_function_that_runs_though_throttled_was_not_struck() -> None:
    client = Lambda(throttles=False)
    with (
        pytest.raises(NotStruck, match="answers"),
        injector(client=client).broken([Fault("throttled", FUNCTION)]),
    ):
        pass
    assert (client.version, client.reserved) == ("7", 50)


@pytest.mark.parametrize("kind", ["out_of_memory", "cold_start"])
def test_a_function_without_a_process_was_not_struck(kind: str) -> None:
    with (
        pytest.raises(NotStruck, match=FUNCTION),
        injector(processes=0).broken([Fault(kind, FUNCTION)]),
    ):
        pass
    with injector(processes=1).broken([Fault(kind, FUNCTION)]):
        pass


@pytest.mark.parametrize("messages", [0, 1])
def test_a_queue_with_less_than_two_messages_has_no_order_to_disturb(messages: int) -> None:
    inbox = Inbox.__new__(Inbox)
    found = [{"MessageId": str(n), "Body": "b", "ReceiptHandle": "r"} for n in range(messages)]
    inbox._all = lambda: found  # type: ignore[method-assign]
    with pytest.raises(NotStruck, match=f"only {messages}"):
        inbox._copy("reordered")


class Rounds:
    """A runner whose senders fail, or whose faults strike nothing."""

    def __init__(self, sender_fails: bool) -> None:
        self.sender_fails = sender_fails
        self.struck_nothing: list[Any] = []
        self.broken_off: list[Violation] = []
        self.log = SimpleNamespace(write=self.struck_nothing.append)

    def begin(self) -> float:
        return time.monotonic()

    def traffic(self, *_: Any, **__: Any) -> None:
        return None

    def send_until(self, _: Any, ended: threading.Event, __: float) -> None:
        if self.sender_fails:
            raise ConnectionError("the stack is gone")
        ended.wait(30)

    @contextmanager
    def breaking(self, name: str, faults: Sequence[Fault]) -> Iterator[None]:
        raise NotStruck("idle")
        yield

    def settle(self, _: Any, __: Any, ___: float, broken_off: Any) -> list[dict[str, Any]]:
        self.broken_off = broken_off
        return [{}]


@pytest.mark.parametrize("sender_fails", [True, False])
def test_a_sender_that_dies_breaks_the_round_and_a_fault_that_strikes_nothing_is_noted(
    sender_fails: bool,
) -> None:
    runner: Any = Rounds(sender_fails)
    plan = [[Planned(Fault("throttled", FUNCTION), 0.0, 0.01)]]
    random_faults._round(runner, "round-1", (), plan, 0.2)
    rules = [(one.rule, one.detail) for one in runner.broken_off]
    wanted = ("broken_off", "ConnectionError: the stack is gone")
    assert rules == [wanted] * (random_faults.SENDERS if sender_fails else 0)
    [mark] = runner.struck_nothing
    assert (mark.what, mark.detail) == ("not struck", {"why": "idle"})


def left_undone(*events: Any) -> list[str]:
    runner = Runner.__new__(Runner)
    runner._reconcile = dict
    history = History([Answered(1, "one", 202, [], ["ab" * 32]), *events])
    return [one.rule for one in runner._left_undone(history, Evidence([]))]


def test_what_the_faults_left_behind_breaks_the_verdict() -> None:
    assert left_undone() == []
    assert left_undone(Mark(2, "one", RECONCILED, {"status": "SUCCEEDED"})) == []
    assert left_undone(Mark(2, "one", RECONCILED, {"status": "FAILED"})) == ["reconcile_failed"]
    assert left_undone(Mark(2, "one", "receipts", {"asked": 14, "missing": 1})) == ["no_receipt"]
    assert left_undone(Mark(2, "one", "given up", {"posts": 1})) == ["given_up"]


def test_a_run_in_which_nothing_was_accepted_proves_nothing() -> None:
    runner = Runner.__new__(Runner)
    runner._reconcile = None
    edge = FaultEdge(1, "one", "refuse", "mongo-asia", "begins")
    [found] = runner._left_undone(History([edge]), Evidence([]))
    assert found.rule == "idle"


@pytest.mark.parametrize("struck", [0, 3])
def test_a_handler_that_nobody_called_was_not_struck(struck: int) -> None:
    told: list[str | None] = []

    def set_fault(stage: str, kind: str | None) -> int:
        told.append(kind)
        return struck if kind is None else 0

    injector = Injector.__new__(Injector)
    injector._handlers = set_fault
    outcome = nullcontext() if struck else pytest.raises(NotStruck, match="crash_before pop")
    with outcome, injector.broken([Fault("crash_before", "pop")]):
        pass
    assert told == ["crash_before", None]


BEGIN_MS, END_MS = 1_000, 2_000


def faulty(*faults: Fault, answers: Sequence[Answered] = ()) -> History:
    edges = [
        FaultEdge(at_ms, "one", one.kind, one.target, edge)
        for one in faults
        for at_ms, edge in ((BEGIN_MS, "begins"), (END_MS, "ends"))
    ]
    return History([*edges, *answers])


def logged(at_ms: int = 1_500, level: str = "WARNING", **said: Any) -> LogEvent:
    return LogEvent(at_ms, json.dumps({"level": level, "message": "not stored here", **said}))


@pytest.mark.parametrize(
    ("target", "event"),
    [
        ("mongo-asia", logged(why="Atlas Asia: NetworkTimeout")),
        ("mongo-asia", logged(breaker="atlas/Asia", why="TimeoutError")),
        ("mongo-asia", logged(why="Atlas Asia: resting; DynamoDB: resting")),
        ("mongo-asia", logged(END_MS + LATE_MS, why="Atlas Asia: TimeoutError")),
        ("dynamodb", logged(why="Atlas Asia: resting; DynamoDB: resting")),
        ("dynamodb", logged(breaker="dynamodb")),
        ("immudb", logged(level="ERROR", why="immuDB: UNAVAILABLE")),
        ("kms", logged(why="KMS of Asia: EndpointConnectionError")),
        ("node-tokyo", logged(delegates={"node-tokyo": "unreachable"})),
        (
            "node-asia",
            LogEvent(1_500, '{"level":"WARNING","message":"no full node has the batch yet"}'),
        ),
    ],
)
def test_a_warning_that_names_the_target_shows_that_a_fault_was_met(
    target: str, event: LogEvent
) -> None:
    fault = Fault("refuse", target)
    cold = Fault("cold_start", "PersistAtlasFunction")
    found = met(faulty(fault), [event])
    assert found == {f"refuse {target}": 1}
    assert unmet((fault, cold), found) == []


@pytest.mark.parametrize(
    "event",
    [
        logged(why="Atlas Europe: NetworkTimeout"),
        logged(level="INFO", breaker="atlas/Asia"),
        logged(BEGIN_MS - 1, why="Atlas Asia: NetworkTimeout"),
        logged(END_MS + LATE_MS + 1, why="Atlas Asia: NetworkTimeout"),
        LogEvent(1_500, '[WARNING] Atlas Asia: "WARNING", and no document'),
        LogEvent(1_500, '{"level":"WARNING","content":"Atlas Asia: elsewhere"}'),
    ],
)
def test_other_lines_and_other_times_show_nothing(event: LogEvent) -> None:
    fault = Fault("hang", "mongo-asia")
    found = met(faulty(fault), [event])
    assert unmet((fault,), found) == ["hang mongo-asia"]


def test_a_fault_that_never_began_was_not_met_either() -> None:
    fault = Fault("hang", "mongo-asia")
    assert unmet((fault,), met(faulty(), [logged(why="Atlas Asia: NetworkTimeout")])) == [
        "hang mongo-asia"
    ]


def test_posts_that_were_not_accepted_show_that_the_inbox_was_away() -> None:
    fault = Fault("refuse", "inbox")
    accepted, late = Answered(1_500, "one", 202, []), Answered(9_000, "one", 503, [])
    assert unmet((fault,), met(faulty(fault, answers=[accepted, late]), [])) == ["refuse inbox"]
    refused = Answered(1_500, "one", 503, [])
    assert unmet((fault,), met(faulty(fault, answers=[refused]), [])) == []


def test_one_full_node_may_be_away_unnoticed_but_not_all_three() -> None:
    faults = [Fault("hang", node) for node in FULL_NODES]
    assert unmet(faults[:2], met(faulty(*faults[:2]), [])) == []
    assert len(unmet(faults, met(faulty(*faults), []))) == len(FULL_NODES)


def test_what_a_call_may_pass_unharmed_need_not_be_met() -> None:
    faults = (
        Fault("slow", "mongo-asia"),
        Fault("flapping", "mongo-asia"),
        Fault("throttled", "DposFunction"),
        Fault("late", "inbox"),
        # A warm function works on with the data keys that it has.
        Fault("refuse", "kms"),
    )
    assert unmet(faults, met(faulty(*faults), [])) == []
    cold = Fault("cold_start", "PersistAtlasFunction")
    assert unmet((*faults, cold), met(faulty(*faults), [])) == ["refuse kms"]
