"""A task that a thread repeats, with jitter, so that nodes that start together don't go in step."""

import contextlib
import random
import threading
import traceback
from collections.abc import Callable
from typing import Final

JITTER: Final = 0.2


class Periodic:
    """Repeats a task until it is stopped; one that fails says why on standard error, and is repeated.

    Parameters
    ----------
    task : callable
        Ends soon once `stopped` says so.
    interval_s : float
        Between the end of one and the begin of the next, give or take a fifth.
    """

    def __init__(self, name: str, task: Callable[[], None], interval_s: float) -> None:
        self._task = task
        self._interval_s = interval_s
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin, with the task at once."""
        self._thread.start()

    def wake(self) -> None:
        """Do the task now, not at its time."""
        self._wake.set()

    def pause(self, seconds: float) -> bool:
        """For the task: rest a little; True if it is to end."""
        return self._stopped.wait(seconds)

    def stop(self, timeout_s: float) -> None:
        """End it, and wait so long for the task under way."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._wake.clear()
            try:
                self._task()
            except Exception:  # noqa: BLE001 - a thread that ends would never do its task again
                # Nor may it end because nobody reads what we say.
                with contextlib.suppress(OSError, ValueError):
                    traceback.print_exc()
            if self._stopped.is_set():
                return
            self._wake.wait(self._interval_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311
