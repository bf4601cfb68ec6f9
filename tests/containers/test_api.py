"""What the API's container runs, in a network of its own: with no store and no delegate, it still answers."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lovectl.compose_keys import make_keys

pytestmark = pytest.mark.containers


def test_the_api_deploys_answers_and_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    keys = tmp_path / "compose"
    make_keys(keys)
    program = [
        *(sys.executable, "-m", "lovectl.compose_api"),
        *("--settings", str(keys / "api"), "--directory", str(tmp_path / "api")),
    ]
    # As in a container: its 0.0.0.0 is reached by nobody else.
    isolated = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *program]
    log = tmp_path / "api.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(isolated, stdout=subprocess.PIPE, stderr=errors) as api,
    ):
        assert api.stdout is not None
        try:
            line = api.stdout.readline()
            assert line, log.read_text()
            assert json.loads(line)["ready"] is True
            ask = [f"--net=/proc/{api.pid}/ns/net", *program, "--healthy"]
            assert subprocess.run(["nsenter", *ask], check=False, timeout=60).returncode == 0
            api.send_signal(signal.SIGTERM)
            assert api.wait(30) == 0, log.read_text()
            asked = subprocess.run([*program, "--healthy"], check=False, timeout=60)
            assert asked.returncode == 1
        finally:
            api.kill()
