"""A copy of the deployed tree whose handlers can be told to fail; the tree itself knows nothing of it.

Only the local stack is deployed from such a copy (`lovectl.stack.running(source=…)`): what runs in
the cloud has no switch for faults.
"""

import json
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lovectl.paths import REPOSITORY, private_directory

FAULTS_FILE: Final = "faults.json"
#: Beside it: a line for each call that was made to fail, with its stage.
STRIKES_SUFFIX: Final = ".struck"
#: Of every package in `functions/` that may be told to fail.
STAGES: Final = ("send", "dispatch", "pop", "dpos", "shard", "reward", "persist")
#: Every how many calls a fault strikes: between its strikes some work gets done.
EVERY: Final = 2
#: Longer than any state of the pipeline waits for a function.
HANG_S: Final = 14
SKEW_S: Final = 3600
#: Everything stands in one function: a handler's module has names of its own.
_HOOK: Final = '''

def _fault_hook(sound):
    """Put here by lovectl.chaos.wrapped, in this copy only."""
    import functools
    import itertools
    import json
    import os
    import pathlib
    import time

    faults_file = pathlib.Path({faults_file!r})
    strikes_file = faults_file.with_suffix({strikes_suffix!r})
    stage = "-".join(filter(None, ({stage!r}, os.environ.get("TIER", ""))))
    calls = itertools.count(1)
    clocks = time.time, time.time_ns

    @functools.wraps(sound)
    def faulty(event, context):
        kind = json.loads(faults_file.read_text()).get(stage)
        skew_s = {skew_s} if kind == "skew" else 0
        time.time = lambda: clocks[0]() + skew_s
        time.time_ns = lambda: clocks[1]() + skew_s * 1_000_000_000
        strikes = kind is not None and next(calls) % {every} == 1 % {every}
        if strikes:
            with strikes_file.open("a") as file:
                print(stage, file=file)
        if strikes and kind == "crash_before":
            raise RuntimeError("made to crash before its work")
        if strikes and kind == "time_out":
            time.sleep({hang_s})
        answer = sound(event, context)
        if strikes and kind == "crash_after":
            raise RuntimeError("made to crash after its work")
        return answer

    return faulty


handler = _fault_hook(handler)
'''


class WrappedTree:
    """The copy, and the switch of its faults.

    Parameters
    ----------
    directory : Path
        Is made; nothing may be there.
    more : mapping of package to source, optional
        Appended to that package's `app.py` after the hook: a test's own defect.
    """

    def __init__(self, directory: Path, more: Mapping[str, str] | None = None) -> None:
        self.source = private_directory(directory)
        self.faults_file = directory / FAULTS_FILE
        self._faults: dict[str, str] = {}
        self._counted: dict[str, int] = {}
        self._lock = threading.Lock()
        self._write()
        shutil.copyfile(REPOSITORY / "template.yaml", directory / "template.yaml")
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".*")
        for name in ("functions", "statemachine"):
            shutil.copytree(REPOSITORY / name, directory / name, ignore=ignored)
        for stage in STAGES:
            with (directory / "functions" / stage / "app.py").open("a") as file:
                file.write(hook(stage, self.faults_file) + (more or {}).get(stage, ""))

    def set_fault(self, stage: str, kind: str | None) -> int:
        """Let a stage fail from its next call on; None heals it. Gives how often it failed until now.

        Parameters
        ----------
        stage : str
            A package's name; `persist` by tier: `persist-atlas`.
        """
        # Scenarios that share their time set their faults at the same moment.
        with self._lock:
            if kind is None:
                self._faults.pop(stage, None)
            else:
                self._faults[stage] = kind
            self._write()
            so_far = self._strikes(stage)
            struck = so_far - self._counted.get(stage, 0)
            self._counted[stage] = so_far
            return struck

    def _strikes(self, stage: str) -> int:
        file = self.faults_file.with_suffix(STRIKES_SUFFIX)
        return file.read_text().split().count(stage) if file.exists() else 0

    def _write(self) -> None:
        staging = self.faults_file.with_suffix(".new")
        staging.write_text(json.dumps(self._faults))
        staging.replace(self.faults_file)


def hook(stage: str, faults_file: Path, hang_s: float = HANG_S) -> str:
    """Source that wraps the `handler` before it; it asks `faults_file` at every call."""
    return _HOOK.format(
        faults_file=str(faults_file),
        strikes_suffix=STRIKES_SUFFIX,
        stage=stage,
        every=EVERY,
        hang_s=hang_s,
        skew_s=SKEW_S,
    )
