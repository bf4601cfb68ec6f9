"""The thread of a node that repeats a task outlives the task's failures."""

import io
import sys
import threading

import pytest

from love_node.periodic import Periodic

TIMEOUT_S = 10.0


class Failing:
    """Fails at first, then does its work."""

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self._failures = failures
        self.done = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self._failures:
            raise BrokenPipeError("nobody reads")
        self.done.set()


@pytest.fixture
def task() -> Failing:
    """It failed twice, and was done then."""
    made = Failing(2)
    periodic = Periodic("test", made, 0.001)
    periodic.start()
    try:
        assert made.done.wait(TIMEOUT_S)
    finally:
        periodic.stop(TIMEOUT_S)
    return made


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_that_fails_is_told_and_repeated(
    capfd: pytest.CaptureFixture[str], task: Failing
) -> None:
    assert task.calls >= 3
    assert capfd.readouterr().err.count("BrokenPipeError: nobody reads") == 2


@pytest.mark.usefixtures("nobody_listens")
def test_it_goes_on_though_nobody_can_be_told(task: Failing) -> None:
    assert task.calls >= 3
