"""Prometheus' own tool takes its configuration, and the alerts fire when they should."""

import os
import subprocess
from pathlib import Path

import pytest

from lovectl.paths import REPOSITORY

pytestmark = pytest.mark.containers

HOME = REPOSITORY / "infrastructure" / "prometheus"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    tool = Path(os.environ["LOVE_ENGINE"]) / "root" / "usr" / "bin" / "promtool"
    return subprocess.run(
        [str(tool), *arguments], cwd=HOME, capture_output=True, text=True, timeout=60, check=False
    )


def test_prometheus_takes_its_configuration_and_rules() -> None:
    checked = promtool("check", "config", "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "rules found" in checked.stdout


def test_the_alerts_of_a_quorum_fire_when_it_is_at_risk_and_when_it_is_lost() -> None:
    tested = promtool("test", "rules", "rules-test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_the_check_finds_an_alert_that_fires_at_another_quorum(tmp_path: Path) -> None:
    rules = (HOME / "rules.yml").read_text()
    assert "< 10" in rules
    (tmp_path / "rules.yml").write_text(rules.replace("< 10", "< 1"))
    (tmp_path / "rules-test.yml").write_text((HOME / "rules-test.yml").read_text())
    assert promtool("test", "rules", str(tmp_path / "rules-test.yml")).returncode != 0
