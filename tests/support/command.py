"""hkswitch as a separate process."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HKSWITCH = Path(sys.executable).with_name("hkswitch")


def run(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """Run hkswitch; return its exit code, standard output and standard error."""
    ended = subprocess.run(
        [HKSWITCH, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
        env={**os.environ, **environment},
    )
    return ended.returncode, ended.stdout, ended.stderr


def typed(words: str, state_folder: Path) -> str:
    """Return the command that such a process suggests for the bridge of a state folder."""
    found = shutil.which("hkswitch")
    is_found = found is not None and HKSWITCH.samefile(found)
    program = "hkswitch" if is_found else shlex.quote(str(HKSWITCH))
    return f"`{program} {words} --state-dir {shlex.quote(str(state_folder))}`"
