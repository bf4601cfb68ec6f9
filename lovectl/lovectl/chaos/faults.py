"""What can be broken, and how each fault begins and ends at a running stack."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import msgspec

from lovectl.access import Access
from lovectl.chaos.files import corrupted_byte, restored_byte
from lovectl.chaos.machines import Machines
from lovectl.chaos.queues import Inbox, NotStruck
from lovectl.toxiproxy import Toxiproxy
from lovectl.warm import ALIAS

#: Kind to its toxics: (type, stream, attributes). `upstream` is from the client to the store.
TOXICS: Final[dict[str, list[tuple[str, str, dict[str, int]]]]] = {
    # Accepts, passes nothing on in either direction.
    "hang": [("timeout", "upstream", {"timeout": 0}), ("timeout", "downstream", {"timeout": 0})],
    # Around what a local write may take (1.5 s; 1.2 s count as slow): in time, too slow, too late.
    "slow": [("latency", "downstream", {"latency": 1_300, "jitter": 500})],
    "reset": [("reset_peer", "downstream", {"timeout": 0})],
    # Closed in the middle of the first answer, which is a TLS handshake's or a reply's: no whole one of
    # any store is that short.
    "cut_answer": [("limit_data", "downstream", {"bytes": 60})],
    # The other side has gone without a word: what we send arrives nowhere.
    "half_open": [("timeout", "upstream", {"timeout": 0})],
    "bandwidth": [
        ("bandwidth", "upstream", {"rate": 40}),
        ("bandwidth", "downstream", {"rate": 40}),
    ],
    "sliced": [
        ("slicer", "upstream", {"average_size": 200, "size_variation": 100, "delay": 500}),
        ("slicer", "downstream", {"average_size": 200, "size_variation": 100, "delay": 500}),
    ],
    # The hardest: written, but reported as failed.
    "answer_lost": [("timeout", "downstream", {"timeout": 0})],
}
REFUSE: Final = "refuse"
CORRUPT: Final = "corrupt"
#: Faults of a server's process, by signals and limits.
PROCESS_KINDS: Final = ("killed", "paused", "disk_full", CORRUPT, "clock_ahead", "clock_behind")
#: Faults of a deployed function, named by its logical id in template.yaml.
FUNCTION_KINDS: Final = ("out_of_memory", "cold_start", "throttled")
QUEUE_KINDS: Final = ("duplicates", "late", "reordered", "short_visibility")
FLAPPING: Final = "flapping"
#: Faults inside a handler; only a stack with wrapped handlers has them, see `wrapped.py`.
HANDLER_KINDS: Final = ("crash_before", "crash_after", "time_out", "skew")
KINDS: Final = (
    REFUSE,
    *TOXICS,
    FLAPPING,
    *PROCESS_KINDS,
    *FUNCTION_KINDS,
    *QUEUE_KINDS,
    *HANDLER_KINDS,
)

RESERVED: Final = "ReservedConcurrentExecutions"
FLAP_S: Final = 0.7
#: A handler that is killed this often gets some work done in between.
KILL_PAUSE_S: Final = 1.5
#: Within what a delegate tolerates (`clock_tolerance_s`): it votes on. One that has voted farther in
#: the future would not start again before that time has come.
CLOCK_AHEAD_MS: Final = 45_000
#: Far beyond it: the delegate refuses to start.
CLOCK_BEHIND_MS: Final = 3_600_000


#: Sets the fault of a handler, or with None heals it; gives how often the one before has struck.
SetFault = Callable[[str, str | None], int]


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault at one target.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    target : str
        A proxy's or server's name, a function's logical id, or a stage, as the kind wants.
    """

    kind: str
    target: str

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"fault: there is no kind {self.kind!r}")


class Injector:
    """Begins and ends faults at a running stack.

    Parameters
    ----------
    access : Access
    machines : Machines
    handlers : callable, optional
        Sets the fault of a wrapped handler; None takes it away, and tells how often it struck.
    """

    def __init__(
        self,
        access: Access,
        machines: Machines,
        handlers: SetFault | None = None,
    ) -> None:
        assert isinstance(access.proxies, Toxiproxy)
        self._proxies = access.proxies
        self._machines = machines
        self._lambda = access.aws("lambda")
        self._functions = machines.functions()
        self._inbox = Inbox(access)
        self._handlers = handlers

    @contextmanager
    def broken(self, faults: Sequence[Fault]) -> Iterator[None]:
        """All of these faults inside the block; all is well again after it, come what may."""
        with ExitStack() as stack:
            for fault in faults:
                stack.enter_context(self._one(fault))
            yield

    def _one(self, fault: Fault) -> Any:
        if fault.kind == REFUSE:
            return self._refused(fault.target)
        if fault.kind in TOXICS:
            return self._poisoned(fault)
        if fault.kind in QUEUE_KINDS:
            return self._inbox.disturbed(fault.kind)
        if fault.kind in HANDLER_KINDS:
            return self._handler(fault)
        ways: dict[str, Callable[[str], Any]] = {
            FLAPPING: self._flapping,
            "killed": self._killed,
            "paused": self._paused,
            "disk_full": self._machines.disk_full,
            CORRUPT: self._corrupt,
            "clock_ahead": lambda name: self._machines.skewed(name, CLOCK_AHEAD_MS),
            "clock_behind": lambda name: self._machines.skewed(name, -CLOCK_BEHIND_MS),
            "out_of_memory": self._out_of_memory,
            "cold_start": self._cold_start,
            "throttled": self._throttled,
        }
        return ways[fault.kind](fault.target)

    @contextmanager
    def _refused(self, name: str) -> Iterator[None]:
        self._proxies.down(name)
        try:
            yield
        finally:
            self._proxies.up(name)

    @contextmanager
    def _poisoned(self, fault: Fault) -> Iterator[None]:
        try:
            for kind, stream, attributes in TOXICS[fault.kind]:
                self._proxies.toxic(fault.target, kind, stream=stream, **attributes)
            yield
        finally:
            self._proxies.cure(fault.target)

    @contextmanager
    def _flapping(self, name: str) -> Iterator[None]:
        def flap(ended: threading.Event) -> None:
            self._proxies.down(name)
            ended.wait(FLAP_S)
            self._proxies.up(name)

        try:
            with _again_and_again(flap, FLAP_S):
                yield
        finally:
            self._proxies.up(name)

    @contextmanager
    def _killed(self, name: str) -> Iterator[None]:
        self._machines.kill(name)
        try:
            yield
        finally:
            self._machines.start(name)

    @contextmanager
    def _paused(self, name: str) -> Iterator[None]:
        self._machines.signal(name, signal.SIGSTOP)
        try:
            yield
        finally:
            self._machines.signal(name, signal.SIGCONT)

    @contextmanager
    def _corrupt(self, name: str) -> Iterator[None]:
        self._machines.stop(name)
        damage = None
        try:
            damage = corrupted_byte(self._machines.data(name), self._machines.needles(name))
            self._machines.start(name, must_serve=False)
            yield
        finally:
            self._machines.stop(name)
            if damage is not None:
                restored_byte(damage)
            self._machines.start(name)

    @contextmanager
    def _out_of_memory(self, function: str) -> Iterator[None]:
        killed: list[int] = []
        with _again_and_again(
            lambda _: killed.append(self._machines.kill_handlers(function)), KILL_PAUSE_S
        ):
            yield
        if not sum(killed):
            raise NotStruck(f"{function} had no process that could have been out of memory")

    @contextmanager
    def _cold_start(self, function: str) -> Iterator[None]:
        if not self._machines.kill_handlers(function):
            raise NotStruck(f"{function} has no warm process that could be taken away")
        yield

    @contextmanager
    def _throttled(self, function: str) -> Iterator[None]:
        name = self._functions[function]
        version = self._lambda.get_alias(FunctionName=name, Name=ALIAS)["FunctionVersion"]
        reserved = self._lambda.get_function_concurrency(FunctionName=name).get(RESERVED)
        self._lambda.put_function_concurrency(FunctionName=name, **{RESERVED: 0})
        try:
            # MiniStack throttles the function itself only; on AWS its versions share what is reserved.
            self._lambda.update_alias(FunctionName=name, Name=ALIAS, FunctionVersion="$LATEST")
            self._must_be_throttled(name)
            yield
        finally:
            self._lambda.update_alias(FunctionName=name, Name=ALIAS, FunctionVersion=version)
            self._lambda.delete_function_concurrency(FunctionName=name)
            if reserved is not None:
                self._lambda.put_function_concurrency(FunctionName=name, **{RESERVED: reserved})

    def _must_be_throttled(self, name: str) -> None:
        try:
            self._lambda.invoke(FunctionName=name, Qualifier=ALIAS, Payload=b"{}")
        except self._lambda.exceptions.TooManyRequestsException:
            return
        raise NotStruck(f"{name} answers, though it may not run")

    @contextmanager
    def _handler(self, fault: Fault) -> Iterator[None]:
        if self._handlers is None:
            raise RuntimeError(f"{fault.kind}: this stack's handlers are not wrapped")
        self._handlers(fault.target, fault.kind)
        try:
            yield
        finally:
            struck = self._handlers(fault.target, None)
        if not struck:
            raise NotStruck(f"{fault.kind} {fault.target}: nobody called it")


@contextmanager
def _again_and_again(work: Callable[[threading.Event], Any], pause_s: float) -> Iterator[None]:
    """Do `work` now and after each pause, beside the block; what it raises is raised at its end.

    It is given the event that ends it.
    """
    ended = threading.Event()
    failures: list[Exception] = []

    def loop() -> None:
        try:
            while not ended.is_set():
                work(ended)
                ended.wait(pause_s)
        except Exception as error:  # noqa: BLE001 - is raised again below
            failures.append(error)

    thread = threading.Thread(target=loop, name="fault")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]
