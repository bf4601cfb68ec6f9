"""Work in a process beside ours: what it gives, how it fails, and that nothing outlives us."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lovectl.chaos.beside import beside
from lovectl.errors import StackError

TIMEOUT_S = 20.0
#: A module that the other process can import too.
WORK = """
import os, signal, time

def pair(first, second):
    return first, second, os.getpid()

def failing():
    raise ValueError("a reason of its own")

def dying():
    os.kill(os.getpid(), signal.SIGKILL)

def working(directory):
    (directory / "began").touch()
    try:
        time.sleep(60)
    finally:
        (directory / "ended").touch()
"""
PARENT = """
import signal
from pathlib import Path
from lovectl.chaos.beside import beside
from work_beside import working

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with beside(working, Path(__file__).parent) as answer:
        answer()
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "work_beside.py").write_text(WORK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "work_beside", raising=False)
    return importlib.import_module("work_beside")


def appears(path: Path) -> bool:
    end_s = time.monotonic() + TIMEOUT_S
    while not path.exists() and time.monotonic() < end_s:
        time.sleep(0.02)
    return path.exists()


def test_it_runs_in_another_process_and_gives_its_answer(work: ModuleType) -> None:
    with beside(work.pair, 1, 2) as answer:
        first, second, process = answer()
    assert (first, second) == (1, 2)
    assert process != os.getpid()


def test_its_failure_is_told_with_its_traceback(work: ModuleType) -> None:
    with (
        pytest.raises(StackError, match=r"in failing[^$]*a reason of its own"),
        beside(work.failing) as answer,
    ):
        answer()


def test_its_death_is_told(work: ModuleType) -> None:
    with pytest.raises(StackError, match="ended with code -9"), beside(work.dying) as answer:
        answer()


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_what_the_block_leaves_unfinished_is_interrupted(
    work: ModuleType, tmp_path: Path, handler: Any
) -> None:
    """Also when we are a shell's background job, and ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        with beside(work.working, tmp_path):
            assert appears(tmp_path / "began")
        assert (tmp_path / "ended").exists()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_its_parent_whatever_ends_that(
    work: ModuleType, tmp_path: Path, number: signal.Signals
) -> None:
    assert work.working
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, script])
    try:
        assert appears(tmp_path / "began")
        assert not (tmp_path / "ended").exists()
        parent.send_signal(number)
        parent.wait(TIMEOUT_S)
    finally:
        parent.kill()
        parent.wait()
    assert appears(tmp_path / "ended")
