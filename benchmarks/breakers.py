"""Compares our circuit breaker with kept libraries: what each costs and what each can do.

Run it by `make bench-breakers`. Each library is a small adapter below; what it can do is tried, not
read from its manual. Writes `benchmarks/results/breakers.json` and prints a table.
"""

import argparse
import asyncio
import contextlib
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from lovectl import show

RESULTS: Final = Path(__file__).parent / "results" / "breakers.json"
FUNCTIONS: Final = Path(__file__).parent.parent / "functions"
CALLS: Final = 20_000
ROUNDS: Final = 7
IMPORTS: Final = 9
FAILURES_MAX: Final = 2
REST_S: Final = 0.05
AT_ONCE: Final = 10
#: `asyncio` is there anyway: the AWS Encryption SDK and PyMongo import it.
IMPORT: Final = (
    "import asyncio, sys, time; sys.path.insert(0, {path!r}); start = time.perf_counter(); "
    "import {module}; print((time.perf_counter() - start) * 1000)"
)
#: As PyPI had them on the day of the measurement; `kept` is our reading of repository and releases.
KNOWN: Final = {
    "ours": ("federation.breaker", "MIT", "this repository", "—"),
    "purgatory": ("purgatory", "MIT", "2024-11-02", "no release for two years"),
    "pybreaker": (
        "pybreaker",
        "BSD-3-Clause",
        "2025-09-21",
        "holds its lock during the call (issues 3 and 55)",
    ),
    "circuitbreaker": ("circuitbreaker", "BSD-3-Clause", "2025-03-31", "pull requests of 2026"),
    "fluxgate": ("fluxgate", "MIT", "2026-06-02", "beta, one author; sync half not thread-safe"),
}

Work = Callable[[], Any]
Call = Callable[[Work], Any]
AsyncCall = Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]


class StoreDown(Exception):
    """What a call of a dead store raises."""


class Resting(Exception):
    """What each adapter raises when its breaker refuses."""


def ours() -> tuple[Call, AsyncCall | None]:
    """`federation.breaker`, used as the tiers use it."""
    from federation.breaker import Breaker

    breaker = Breaker("bench", REST_S)

    def call(work: Work) -> Any:
        if not breaker.allows():
            raise Resting
        started_s = time.perf_counter()
        try:
            answer = work()
        except StoreDown as error:
            breaker.failed(str(error))
            raise
        breaker.succeeded(time.perf_counter() - started_s)
        return answer

    async def call_async(work: Callable[[], Awaitable[Any]]) -> Any:
        if not breaker.allows():
            raise Resting
        started_s = time.perf_counter()
        try:
            answer = await work()
        except StoreDown as error:
            breaker.failed(str(error))
            raise
        breaker.succeeded(time.perf_counter() - started_s)
        return answer

    return call, call_async


def purgatory() -> tuple[Call, AsyncCall | None]:
    """Its factories; each breaker is a context manager."""
    from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory
    from purgatory.domain.model import OpenedState

    factory = SyncCircuitBreakerFactory(default_threshold=FAILURES_MAX, default_ttl=REST_S)
    async_factory = AsyncCircuitBreakerFactory(default_threshold=FAILURES_MAX, default_ttl=REST_S)

    def call(work: Work) -> Any:
        try:
            with factory.get_breaker("bench"):
                return work()
        except OpenedState:
            raise Resting from None

    async def call_async(work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with await async_factory.get_breaker("bench"):
                return await work()
        except OpenedState:
            raise Resting from None

    return call, call_async


def pybreaker() -> tuple[Call, AsyncCall | None]:
    """Its `call`; there is nothing for asyncio."""
    import pybreaker as library

    breaker = library.CircuitBreaker(
        fail_max=FAILURES_MAX, reset_timeout=REST_S, throw_new_error_on_trip=False
    )

    def call(work: Work) -> Any:
        try:
            return breaker.call(work)
        except library.CircuitBreakerError:
            raise Resting from None

    return call, None


def circuitbreaker() -> tuple[Call, AsyncCall | None]:
    """Its `opened`, and its context manager."""
    from circuitbreaker import CircuitBreaker

    breaker = CircuitBreaker(failure_threshold=FAILURES_MAX, recovery_timeout=REST_S)

    def call(work: Work) -> Any:
        if breaker.opened:
            raise Resting
        with breaker:
            return work()

    async def call_async(work: Callable[[], Awaitable[Any]]) -> Any:
        if breaker.opened:
            raise Resting
        with breaker:
            return await work()

    return call, call_async


def fluxgate() -> tuple[Call, AsyncCall | None]:
    """Its sync and its async class, tripped by a streak; a failed try opens it again."""
    from fluxgate import AsyncCircuitBreaker, CircuitBreaker
    from fluxgate.errors import CallNotPermittedError
    from fluxgate.permits import Random
    from fluxgate.retries import Cooldown
    from fluxgate.trippers import Closed, FailureStreak, HalfOpened

    rules: dict[str, Any] = {
        "tripper": (Closed() & FailureStreak(FAILURES_MAX)) | (HalfOpened() & FailureStreak(1)),
        "retry": Cooldown(REST_S),
        "permit": Random(1.0),
    }
    breaker, async_breaker = CircuitBreaker(**rules), AsyncCircuitBreaker(**rules)

    def call(work: Work) -> Any:
        try:
            return breaker.call(work)
        except CallNotPermittedError:
            raise Resting from None

    async def call_async(work: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await async_breaker.call(work)
        except CallNotPermittedError:
            raise Resting from None

    return call, call_async


ADAPTERS: Final = (ours, purgatory, pybreaker, circuitbreaker, fluxgate)


def main() -> int:
    """Measure all; the exit code is 0 unless an adapter doesn't behave as a breaker."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--json", action="store_true", help="the result document on stdout")
    arguments = options.parse_args()
    found = {adapter.__name__: measure(adapter) for adapter in ADAPTERS}
    result = {"python": platform.python_version(), "breakers": found}
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    if arguments.json:
        show.print_json(result)
    else:
        show.tables.print(_table(found))
    return 0 if all(one["opens"] and one["closes"] for one in found.values()) else 1


def measure(adapter: Callable[[], tuple[Call, AsyncCall | None]]) -> dict[str, Any]:
    """What one breaker costs, in microseconds a call, and how it behaves."""
    module, licence, released, kept = KNOWN[adapter.__name__]
    call, call_async = adapter()
    return {
        "version": _version(adapter.__name__),
        "released": released,
        "licence": licence,
        "kept": kept,
        "import_ms": round(_import_ms(module), 1),
        "closed_us": round(_sync_us(call, lambda: None), 2),
        "closed_async_us": None if call_async is None else round(_async_us(call_async), 2),
        "open_us": round(_open_us(adapter()[0]), 2),
        **_behaviour(adapter()[0]),
    }


def _sync_us(call: Call, work: Work) -> float:
    """The quickest of several rounds, less what the work alone takes."""
    best_s = float("inf")
    for _ in range(ROUNDS):
        started_s = time.perf_counter()
        for _ in range(CALLS):
            call(work)
        best_s = min(best_s, time.perf_counter() - started_s)
    return best_s / CALLS * 1e6


def _async_us(call: AsyncCall) -> float:
    async def work() -> None:
        return None

    async def rounds() -> float:
        best_s = float("inf")
        for _ in range(ROUNDS):
            started_s = time.perf_counter()
            for _ in range(CALLS):
                await call(work)
            best_s = min(best_s, time.perf_counter() - started_s)
        return best_s

    return asyncio.run(rounds()) / CALLS * 1e6


def _open_us(call: Call) -> float:
    def refused(work: Work) -> None:
        with contextlib.suppress(Resting, StoreDown):
            call(work)

    best_us = float("inf")
    for _ in range(ROUNDS * 10):
        _open(call)
        started_s, calls = time.perf_counter(), 0
        while time.perf_counter() - started_s < REST_S / 2:
            refused(_dead)
            calls += 1
        best_us = min(best_us, (time.perf_counter() - started_s) / calls * 1e6)
        time.sleep(REST_S)
    return best_us


def _behaviour(call: Call) -> dict[str, Any]:
    """Does it open, how many calls of several threads does it let through after its rest, does it close."""
    from concurrent.futures import ThreadPoolExecutor

    def at_once(work: Work) -> int:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return sum(pool.map(lambda _: _passed(call, work), range(AT_ONCE)))

    def slow() -> None:
        time.sleep(REST_S)

    started_s = time.perf_counter()
    at_once(slow)
    together_s = time.perf_counter() - started_s
    _open(call)
    opens = not _passed(call, lambda: None)
    time.sleep(2 * REST_S)
    tried = at_once(slow)
    closes = _passed(call, lambda: None)
    return {
        "opens": opens,
        "closes": closes,
        "tries_after_rest_of_10": tried,
        "serialises_calls": together_s > AT_ONCE / 2 * REST_S,
    }


def _passed(call: Call, work: Work) -> bool:
    try:
        call(work)
    except Resting:
        return False
    return True


def _dead() -> None:
    raise StoreDown


def _open(call: Call) -> None:
    for _ in range(FAILURES_MAX):
        with contextlib.suppress(StoreDown, Resting):
            call(_dead)


def _import_ms(module: str) -> float:
    code = IMPORT.format(path=str(FUNCTIONS), module=module)
    runs = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(IMPORTS)
    ]
    return statistics.median(runs)


def _version(name: str) -> str:
    return "" if name == "ours" else importlib.metadata.version(name)


def _table(found: dict[str, dict[str, Any]]) -> Table:
    table = Table(title="circuit breakers")
    names = list(next(iter(found.values())))
    table.add_column("breaker")
    for name in names:
        table.add_column(name, justify="right")
    for breaker, values in found.items():
        table.add_row(breaker, *(str(values[name]) for name in names))
    return table


if __name__ == "__main__":
    sys.path.insert(0, str(FUNCTIONS))
    sys.exit(main())
