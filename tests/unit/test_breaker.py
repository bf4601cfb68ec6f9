"""When a breaker opens, who may try an open one, and what it says of itself."""

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.breaker import Breaker, BreakerState, Caller, StoreBreakers, caller_now, calling_as
from federation.limits import BREAKER_FAILURES_MAX, BREAKER_READ_REST_S, BREAKER_TRY_S

PATIENCE_S = 90.0


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class Guarded:
    """A breaker with its clock, and what it told of its changes."""

    def __init__(self, slow_s: float = float("inf")) -> None:
        self.clock = Clock()
        self.told: list[BreakerState] = []
        self.breaker = Breaker(
            "dynamodb",
            PATIENCE_S,
            slow_s,
            self.told.append,
            self.clock,
            lambda: 1_000.0 + self.clock.now_s,
        )

    def open(self) -> "Guarded":
        for _ in range(BREAKER_FAILURES_MAX):
            self.breaker.failed("time-out")
        return self

    def allows(self, caller: Caller = "payment") -> bool:
        with calling_as(caller):
            return self.breaker.allows()

    @property
    def state(self) -> str:
        return self.breaker.state().state


def test_failures_in_a_row_open_it_and_one_success_between_them_does_not() -> None:
    guarded = Guarded()
    for _ in range(5):
        guarded.breaker.failed("refused")
        assert guarded.allows()
        guarded.breaker.succeeded()
    guarded.open()
    assert not guarded.allows()


def test_a_success_that_took_too_long_counts_as_a_failure() -> None:
    guarded = Guarded(slow_s=0.1)
    guarded.breaker.succeeded(0.099)
    for _ in range(BREAKER_FAILURES_MAX):
        guarded.breaker.succeeded(0.101)
    assert (guarded.state, guarded.allows()) == ("open", False)
    assert "slow: 101 ms" in guarded.breaker.resting()


def test_the_canary_tries_an_open_breaker_and_no_payment_does() -> None:
    guarded = Guarded().open()
    guarded.clock.now_s = PATIENCE_S - 1
    assert not guarded.allows("payment")
    assert guarded.allows("canary")
    guarded.breaker.succeeded()
    assert guarded.allows("payment")


def test_a_canary_that_fails_keeps_payments_waiting_for_the_next_one() -> None:
    guarded = Guarded().open()
    for minute in range(1, 10):
        guarded.clock.now_s = 60.0 * minute
        assert not guarded.allows("payment")
        assert guarded.allows("canary")
        guarded.breaker.failed("time-out")


def test_without_a_canary_one_payment_tries_after_the_patience_and_only_one() -> None:
    guarded = Guarded().open()
    guarded.clock.now_s = PATIENCE_S
    assert [guarded.allows(), guarded.allows()] == [True, False]
    guarded.breaker.failed("refused")
    guarded.clock.now_s += PATIENCE_S - 1
    assert not guarded.allows()
    guarded.clock.now_s += 1
    assert guarded.allows()


def test_nobody_joins_a_try_that_is_under_way_until_that_will_tell_nothing_any_more() -> None:
    guarded = Guarded().open()
    assert guarded.allows("canary")
    assert guarded.state == "half_open"
    assert not guarded.allows("canary")
    guarded.clock.now_s = BREAKER_TRY_S
    assert guarded.allows("canary")


def test_a_try_that_learnt_nothing_of_the_store_leaves_it_open() -> None:
    guarded = Guarded().open()
    assert guarded.allows("canary")
    guarded.breaker.abandoned()
    assert guarded.state == "open"
    assert guarded.allows("canary")


def test_to_ask_whether_it_refuses_claims_no_try() -> None:
    guarded = Guarded().open()
    guarded.clock.now_s = PATIENCE_S
    assert not guarded.breaker.refuses()
    assert guarded.allows()
    assert guarded.breaker.refuses()


def test_it_tells_since_when_it_is_open_or_closed_and_why_it_opened() -> None:
    guarded = Guarded()
    assert guarded.breaker.state() == BreakerState("dynamodb", "closed", 1_000_000, "")
    guarded.clock.now_s = 5.0
    guarded.open()
    guarded.clock.now_s = 9.0
    guarded.breaker.failed("refused")
    assert guarded.breaker.state() == BreakerState("dynamodb", "open", 1_005_000, "refused")
    guarded.breaker.succeeded()
    assert guarded.breaker.state() == BreakerState("dynamodb", "closed", 1_009_000, "")
    assert [(one.state, one.since_ms) for one in guarded.told] == [
        ("open", 1_005_000),
        ("closed", 1_009_000),
    ]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["failed", "succeeded", "abandoned", "allows"]),
            st.sampled_from(["payment", "read", "canary"]),
            st.sampled_from([0.0, 0.5, 7.0, 89.0]),
        )
    )
)
def test_it_never_stays_open_for_ever_whatever_happened(
    events: list[tuple[str, Caller, float]],
) -> None:
    guarded = Guarded()
    for event, caller, passed_s in events:
        guarded.clock.now_s += passed_s
        with calling_as(caller):
            act: Any = getattr(guarded.breaker, event)
            act("time-out") if event == "failed" else act()
    guarded.clock.now_s += PATIENCE_S
    assert guarded.allows("payment")
    guarded.breaker.succeeded()
    assert guarded.allows("payment")


def test_what_reads_learn_opens_and_closes_nothing_for_payments() -> None:
    pair = StoreBreakers("immudb", PATIENCE_S)
    with calling_as("read"):
        for _ in range(BREAKER_FAILURES_MAX):
            pair.current.failed("time-out")
        assert not pair.current.allows()
    assert pair.current.allows()
    for _ in range(BREAKER_FAILURES_MAX):
        pair.current.failed("disk full")
    with calling_as("read"):
        pair.current.succeeded()
        assert pair.current.allows()
    assert not pair.current.allows()


def test_a_read_waits_no_longer_than_its_short_rest() -> None:
    clock = Clock()
    breaker = Breaker("atlas/Asia (reads)", BREAKER_READ_REST_S, clock=clock)
    for _ in range(BREAKER_FAILURES_MAX):
        breaker.failed("time-out")
    clock.now_s = BREAKER_READ_REST_S
    with calling_as("read"):
        assert breaker.allows()


def test_tasks_on_another_thread_s_loop_know_who_calls() -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def ask() -> Caller:
        return caller_now()

    with calling_as("canary"):
        heard = asyncio.run_coroutine_threadsafe(ask(), loop).result(5)
    later = asyncio.run_coroutine_threadsafe(ask(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    assert (heard, later) == ("canary", "payment")


@pytest.mark.parametrize("threads", [8])
def test_of_many_threads_one_gets_the_try(threads: int) -> None:
    guarded = Guarded().open()
    guarded.clock.now_s = PATIENCE_S
    start, allowed = threading.Barrier(threads), []

    def ask() -> None:
        start.wait()
        allowed.append(guarded.breaker.allows())

    asking = [threading.Thread(target=ask) for _ in range(threads)]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    assert sum(allowed) == 1
