"""What a daemon answers is completed as it is, and never run: bash expands the words that it offers."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from release import completions

BASH = completions.scripts()["hkswitch.bash"]
PHONE = "8DE3A2C0-5D7B-4E7C-9F52-3F1B7A2D9E10"

COMPLETE = """\
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_hkswitch
((${#COMPREPLY[@]} == 0)) || printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(folder: Path, said: str, *words: str) -> list[str]:
    script = folder / "hkswitch.bash"
    script.write_text(BASH)
    for name in ("hkswitch", "systemctl"):
        program = folder / name
        program.write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(said)}\n")
        program.chmod(0o755)
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", COMPLETE, "bash", script, "hkswitch", *words],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "RAN": str(folder / "ran")},
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        timeout=20,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ['$(touch${IFS}"$RAN")', '`touch${IFS}"$RAN"`', "${RAN:=x}", "~", "*", "'"])
@pytest.mark.parametrize(
    ("words", "line", "good"),
    [
        (("unpair", ""), "{}  admin  connected", PHONE),
        (("start", ""), '      "id": "{}",', "web"),
        (("status", ""), '      "id": "{}",', "web"),
        (("add", ""), "{}.service  enabled enabled", "nginx"),
        (("host", "test", ""), '      "name": "{}",', "nas"),
    ],
    ids=["unpair", "start", "status", "add", "host test"],
)
def test_a_name_that_bash_would_run_is_not_offered(
    tmp_path: Path, words: tuple[str, ...], line: str, good: str, name: str
) -> None:
    said = "\n".join(line.format(each) for each in (name, good))
    assert offered(tmp_path, said, *words) == [good]
    assert not (tmp_path / "ran").exists()
