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


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_task_that_fails_is_told_and_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    task = Failing(2)
    periodic = Periodic("test", task, 0.001)
    periodic.start()
    try:
        assert task.done.wait(TIMEOUT_S)
    finally:
        periodic.stop(TIMEOUT_S)
    assert capfd.readouterr().err.count("BrokenPipeError: nobody reads") == 2


def test_it_goes_on_though_nobody_can_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    task = Failing(2)
    periodic = Periodic("test", task, 0.001)
    periodic.start()
    try:
        assert task.done.wait(TIMEOUT_S)
    finally:
        periodic.stop(TIMEOUT_S)
