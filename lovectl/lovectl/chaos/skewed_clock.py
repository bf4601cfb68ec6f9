"""Runs a delegate with a wrong clock: `python -m lovectl.chaos.skewed_clock MS -m love_node …`."""

import datetime
import runpy
import sys
import time
from typing import Any


def skew(skew_ms: int) -> None:
    """Set this process' idea of the time; the monotonic clock stays, as it does on a machine."""
    true_time, true_time_ns, true_datetime = time.time, time.time_ns, datetime.datetime
    time.time = lambda: true_time() + skew_ms / 1_000
    time.time_ns = lambda: true_time_ns() + skew_ms * 1_000_000

    class Skewed(datetime.datetime):
        """The current time is wrong, everything else is as usual."""

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            """The time now, skewed."""
            return true_datetime.now(tz) + datetime.timedelta(milliseconds=skew_ms)

    datetime.datetime = Skewed  # type: ignore[misc]


def main() -> None:
    """Skew the clock, then run the module that the command line names."""
    _, skew_ms, _, module, *rest = sys.argv
    skew(int(skew_ms))
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
