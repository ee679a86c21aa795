"""The bridge is where the config and the network want it, and nowhere else: with real cables that change."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.network_scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wrong() -> dict[str, str]:
    """What went wrong in each scenario, played on a machine of its own with a phone."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2")
    command = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.support.network_scenarios"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("scenario", [getattr(scenario, "__name__", "") for scenario in SCENARIOS])
def test_when_the_network_changes(wrong: dict[str, str], scenario: str) -> None:
    assert not wrong[scenario], wrong[scenario]
