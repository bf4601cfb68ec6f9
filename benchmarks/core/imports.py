"""How long the core's three modules take to import, in a fresh interpreter."""

import subprocess
import sys
import time
from typing import Final

from rounds import Spread, spread

ROUNDS: Final = 40
BARE: Final = "pass"
MODULES: Final = "import cert_rust, federation_dag, flag_rust"


def import_times(rounds: int = ROUNDS) -> tuple[Spread, Spread]:
    """A whole interpreter that imports the modules, and a bare one, which take turns."""
    _interpreter_us(MODULES)  # byte code is written, files are in memory
    taken_us: dict[str, list[float]] = {BARE: [], MODULES: []}
    for _ in range(rounds):
        for program, values_us in taken_us.items():
            values_us.append(_interpreter_us(program))
    return spread(taken_us[MODULES]), spread(taken_us[BARE])


def _interpreter_us(program: str) -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return (time.perf_counter() - started_s) * 1e6
