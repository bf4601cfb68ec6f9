"""Python's side of the comparison: lines `WORK INPUT TIMES` on stdin, nanoseconds on stdout.

`python worker.py DIRECTORY`; the same protocol as the Rust program `beside`. The garbage collector
rests while a work is timed, as in `timeit`.
"""

import gc
import sys
import time
from pathlib import Path

import ours
import theirs
from frames import read_frames


def main() -> None:
    """Answer until stdin ends."""
    directory = Path(sys.argv[1])
    prepared: dict[tuple[str, str], ours.Work] = {}
    works = {**ours.WORKS, **theirs.WORKS}
    for line in sys.stdin:
        name, input_name, times = line.split()
        work = prepared.get((name, input_name))
        if work is None:
            frames = list(read_frames(directory / f"{input_name}.frames"))
            work = prepared[name, input_name] = works[name](frames)
            # What is prepared stays: walking through it before each round would only cool caches.
            gc.collect()
            gc.freeze()
        sys.stdout.write(f"{_time_ns(work, int(times), name)}\n")
        sys.stdout.flush()


def _time_ns(work: ours.Work, times: int, name: str) -> int:
    gc.collect()
    gc.disable()
    started_ns = time.perf_counter_ns()
    for _ in range(times):
        if not work():
            raise AssertionError(f"{name}: a wrong answer")
    elapsed_ns = time.perf_counter_ns() - started_ns
    gc.enable()
    return elapsed_ns


if __name__ == "__main__":
    main()
