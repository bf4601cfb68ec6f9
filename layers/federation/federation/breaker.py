"""Circuit breakers: a dead store costs microseconds, and no payment pays to learn that it is back.

After Nygard, "Release It!" (2nd edition, chapter 5). The canary tries an open breaker whenever it
comes; a payment only when nobody has tried for so long that there seems to be no canary. Reads have a
breaker of their own: that a store can be read doesn't prove that it takes writes.
`benchmarks/breakers.py` compares this with kept libraries, none of which tells callers apart.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Literal

import msgspec

from federation.limits import (
    BREAKER_FAILURES_MAX,
    BREAKER_PATIENCE_S,
    BREAKER_READ_REST_S,
    BREAKER_TRY_S,
)

Caller = Literal["payment", "read", "canary"]
State = Literal["closed", "open", "half_open"]

SLOW: Final = "slow"

# A context variable also reaches the tasks that a call starts on another thread's event loop.
_caller: ContextVar[Caller] = ContextVar("caller", default="payment")


@contextmanager
def calling_as(caller: Caller) -> Iterator[None]:
    """Whatever asks a breaker inside the block asks as this caller; a payment, if nobody says."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


def caller_now() -> Caller:
    """On whose behalf the current call is made."""
    return _caller.get()


class BreakerState(msgspec.Struct, frozen=True):
    """What a breaker says of itself.

    Attributes
    ----------
    name : str
        Such as `atlas/Europe`, `dynamodb` or `kms/eu-central-1`.
    state : str
        `half_open` while somebody tries.
    since_ms : int
        Unix time at which it was opened, or closed; that of its making if it never was.
    why : str
        The last failure; empty if closed.
    """

    name: str
    state: State
    since_ms: int
    why: str = ""


class Breaker:
    """Opens after two failures in a row; one success closes it.

    One caller at a time tries an open breaker; if it never tells what came of it, the next one may
    after its own rest. Any thread may use it.

    Parameters
    ----------
    name : str
    patience_s : float
        After the last try, whoever is not the canary may try an open breaker.
    slow_s : float
        A success that took longer counts as a failure.
    changed : callable, optional
        Told the new state after each opening and closing.
    clock, unix_s : callable
        Seconds that never go back, and those since 1970.

    Examples
    --------
    >>> breaker = Breaker("dynamodb")
    >>> breaker.failed("time-out"); breaker.failed("time-out")
    >>> breaker.allows()
    False
    >>> with calling_as("canary"):
    ...     breaker.allows()
    True
    >>> breaker.succeeded(); breaker.allows()
    True
    """

    def __init__(
        self,
        name: str,
        patience_s: float = BREAKER_PATIENCE_S,
        slow_s: float = float("inf"),
        changed: Callable[[BreakerState], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        unix_s: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._patience_s = patience_s
        self._slow_s = slow_s
        self._changed = changed
        self._clock = clock
        self._unix_s = unix_s
        self._lock = threading.Lock()
        self._failures = 0
        self._tried_s = 0.0
        self._trying = False
        self._since_ms = self._now_ms()
        self._why = ""

    def is_trusted(self) -> bool:
        """Whether the last thing that was asked of the store was done."""
        return not self._failures

    def refuses(self) -> bool:
        """Whether the current caller would not be allowed now; to ask claims nothing."""
        with self._lock:
            return self._refuses()

    def allows(self) -> bool:
        """Whether the current caller is to try at all; at an open breaker it claims the one try."""
        if self._failures < BREAKER_FAILURES_MAX:
            return True
        with self._lock:
            if self._refuses():
                return False
            if self._is_open():
                self._tried_s, self._trying = self._clock(), True
            return True

    def succeeded(self, took_s: float = 0.0) -> None:
        """The store did what was asked, in so many seconds."""
        if took_s > self._slow_s:
            self.failed(f"{SLOW}: {took_s * 1000:.0f} ms")
            return
        if not self._failures:
            return
        with self._lock:
            was_open = self._is_open()
            self._failures, self._trying, self._why = 0, False, ""
            if was_open:
                self._since_ms = self._now_ms()
        if was_open:
            self._tell()

    def failed(self, why: str) -> None:
        """The store did not do what was asked, or too slowly."""
        with self._lock:
            was_open = self._is_open()
            self._failures += 1
            self._tried_s, self._trying, self._why = self._clock(), False, why
            opened = self._is_open() and not was_open
            if opened:
                self._since_ms = self._now_ms()
        if opened:
            self._tell()

    def abandoned(self) -> None:
        """Nothing was learnt of the store: something else failed before it was asked."""
        with self._lock:
            self._trying = False

    def state(self) -> BreakerState:
        """How it is now; to ask changes nothing."""
        with self._lock:
            state: State = "closed"
            if self._is_open():
                state = "half_open" if self._trying else "open"
            return BreakerState(self._name, state, self._since_ms, self._why)

    def resting(self) -> str:
        """What to answer whoever is not allowed to try."""
        return f"resting after failures ({self._why})"

    def _refuses(self) -> bool:
        if not self._is_open():
            return False
        rest_s = 0.0 if caller_now() == "canary" else self._patience_s
        if self._trying:
            # Not even the canary joins a try that is under way, unless that never ended.
            rest_s = max(rest_s, BREAKER_TRY_S)
        return self._clock() - self._tried_s < rest_s

    def _is_open(self) -> bool:
        return self._failures >= BREAKER_FAILURES_MAX

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed(self.state())

    def _now_ms(self) -> int:
        return int(self._unix_s() * 1000)


class StoreBreakers:
    """The two breakers of one store.

    Attributes
    ----------
    writes : Breaker
        Of payments and the canary; this is the one that is shown.
    reads : Breaker
        After a short rest anybody may try: what a read looks for may lie nowhere else.
    """

    def __init__(
        self,
        name: str,
        patience_s: float = BREAKER_PATIENCE_S,
        slow_s: float = float("inf"),
        changed: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self.writes = Breaker(name, patience_s, slow_s, changed)
        self.reads = Breaker(f"{name} (reads)", BREAKER_READ_REST_S)

    @property
    def current(self) -> Breaker:
        """The one that the current caller has to ask."""
        return self.reads if caller_now() == "read" else self.writes
