"""hkswitch as a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

HKSWITCH = Path(sys.executable).with_name("hkswitch")


def run(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """Its exit code, what it printed, and what it said on standard error."""
    ended = subprocess.run(
        [HKSWITCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={**os.environ, **environment},
    )
    return ended.returncode, ended.stdout, ended.stderr
