"""packaging/check-python: a machine that hkswitch does not support is refused before anything is built."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]

FAKE: Final = """#!/bin/sh
exec /usr/bin/env python3 -I -c "import platform, sys
platform.machine = lambda: '{machine}'
sys.maxsize = {bits} and 2**({bits} - 1) - 1
$3"
"""
"""A Python of another machine."""


@pytest.mark.parametrize(
    ("program", "machine", "bits", "fits"),
    [
        *(("packaging/check-python", "x86_64", 64, True), ("packaging/check-python", "aarch64", 64, True)),
        *(("packaging/stage", "armv7l", 32, False), ("packaging/stage", "riscv64", 64, False)),
        ("packaging/stage", "aarch64", 32, False),  # a 32-bit system on a 64-bit kernel
        *(("make", "armv6l", 32, False), ("make", "i686", 32, False)),
    ],
)
def test_a_machine_without_wheels_is_refused_in_one_sentence_before_anything_is_built(
    tmp_path: Path, program: str, machine: str, bits: int, fits: bool
) -> None:
    python = tmp_path / "python"
    python.write_text(FAKE.format(machine=machine, bits=bits))
    python.chmod(0o755)
    variables = {"PYTHON": str(python), "DESTDIR": str(tmp_path / "staged"), "SYSTEMD": "252"}
    if program == "make":
        shutil.copytree(ROOT / "packaging", tmp_path / "packaging")
        shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(ROOT / name, tmp_path)
        command = ["make", "--silent", "demo", f"PYTHON={python}"]
    else:
        command = [str(ROOT / program), str(python)]
    others = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        command, cwd=tmp_path, env=others | variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == fits
    expected = (
        f"hkswitch: cannot use {bits}-bit Python on {machine}: hkswitch needs a 64-bit system on Intel, AMD "
        "or ARM (x86_64 or aarch64)"
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert said == ([] if fits else [expected])
    assert not (tmp_path / "staged").exists()
    assert not (tmp_path / ".venv").exists()
