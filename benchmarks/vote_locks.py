"""Vote locks: nonces promised in a second, by one writer and by several, one fsync a batch or fewer."""

import argparse
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Final

from love_node.locks import VoteLocks

BATCHES: Final = 100
SENDER: Final = b"s" * 32


def measure(directory: Path, writers: int, batch: int) -> dict[str, float | int]:
    """Time `writers` threads that lock BATCHES batches each; latencies in ms, fsyncs counted."""
    commits_s: list[float] = []
    locks = VoteLocks(directory / f"votes-{writers}-{batch}.sqlite3", commits_s.append)
    waits_ms: list[float] = []

    def write(writer: int) -> None:
        for n in range(BATCHES):
            first = (writer * BATCHES + n) * batch
            wanted = [(SENDER, nonce, b"t" * 32) for nonce in range(first, first + batch)]
            began_s = time.perf_counter()
            locks.lock(wanted)
            waits_ms.append((time.perf_counter() - began_s) * 1000)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began_s
    locks.close()
    percentiles = statistics.quantiles(waits_ms, n=100)
    return {
        "writers": writers,
        "batch": batch,
        "batches_per_s": round(writers * BATCHES / took_s),
        "p50_ms": round(percentiles[49], 2),
        "p99_ms": round(percentiles[98], 2),
        "fsyncs": len(commits_s),
        "batches": writers * BATCHES,
    }


def main() -> None:
    """Print one JSON line a shape."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--directory", type=Path, help="where the disk is; else the temporary one")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        for writers in (1, 2, 4):
            for batch in (1, 100):
                print(json.dumps(measure(Path(directory), writers, batch)))


if __name__ == "__main__":
    main()
