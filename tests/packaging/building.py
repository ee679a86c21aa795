"""Builds what a release is made of by make, from two checkouts in which all that must not matter differs."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import hkswitch
from tests.host.rootfs import CHECKOUT, Release, wheels_folder
from tests.packaging.odd_locale import ODD, make_odd_locale

BIN: Final = Path(sys.executable).parent
NAME: Final = f"hkswitch-{hkswitch.__version__}"
COMMITTED: Final = 1_790_000_000
"""When the last commit of both checkouts was."""

NOT_OURS: Final = (
    ".git",
    ".venv",
    ".cache",
    ".hypothesis",
    "dist",
    "build",
    "__pycache__",
    "*.egg-info",
    ".*_cache",
)
"""What a checkout has beside its files."""


class Kind(StrEnum):
    """A target of the Makefile."""

    DIST = "dist"
    SBOM = "sbom"
    DEB = "deb"
    RPM = "rpm"


MADE: Final = {
    Kind.DIST: ("*.tar.gz", "*.whl"),
    Kind.SBOM: ("*.cdx.json",),
    Kind.DEB: ("*.deb",),
    Kind.RPM: ("*.rpm",),
}
"""What each makes in dist/."""


@dataclass(frozen=True)
class Circumstances:
    """A checkout, and what it is built in that the result must not depend on."""

    checkout: Path
    umask: int
    environment: dict[str, str]
    clock: tuple[str, ...] = ()
    """A program that gives another one a false time, and its arguments."""

    def make(self, kind: Kind) -> dict[str, Path]:
        """Run make, and return what it made by its pattern."""
        arguments = ("--assume-old=venv", "--assume-old=.venv/.dev", f"BIN={BIN}", str(kind))
        made = subprocess.run(
            (*self.clock, "make", *arguments),
            cwd=self.checkout,
            umask=self.umask,
            env=os.environ | offline() | self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert made.returncode == 0, f"{made.stdout}{made.stderr}"
        found = {}
        for pattern in MADE[kind]:
            [found[pattern]] = (self.checkout / "dist").glob(pattern)
        return found


def python_version() -> str:
    """Of the Python that packages are for, which need not be the tests'."""
    asked = ("/usr/bin/python3", "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def offline() -> dict[str, str]:
    """For pip: the wheels of the test hosts, and no others."""
    system = Release("this machine", "", python_version(), ())
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels_folder(system, print))}


def git(folder: Path, *argv: str | Path, umask: int = 0o022) -> None:
    when = f"@{COMMITTED} +0000"
    names = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Tests"), ("EMAIL", "tests@hkswitch.invalid"), ("DATE", when))
    }
    subprocess.run(["git", *argv], cwd=folder, check=True, umask=umask, env=os.environ | names)


def usual(folder: Path) -> Circumstances:
    """What is here, committed, with a short path."""
    checkout = folder / "a"
    shutil.copytree(CHECKOUT, checkout, ignore=shutil.ignore_patterns(*NOT_OURS))
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    git(checkout, "-c", "commit.gpgSign=false", "commit", "--quiet", "--message=All")
    return Circumstances(checkout, 0o022, {"LC_ALL": "C", "TZ": "UTC0", "TMPDIR": str(folder)})


def unusual(folder: Path, of: Path) -> Circumstances:
    """A clone of it somewhere else, whose files have other modes and times, on a day a hundred days later."""
    checkout = folder / "another place, whose name is longer and has spaces" / "clone"
    checkout.parent.mkdir()
    git(folder, "clone", "--quiet", of, checkout, umask=0o077)
    for number, path in enumerate(sorted(checkout.rglob("*"))):
        if ".git" not in path.parts:
            os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
    (checkout / "hkswitch" / "__pycache__").mkdir()
    (checkout / "hkswitch" / "__pycache__" / "left.cpython-311.pyc").write_bytes(b"left about")
    temporary = folder / "a-folder-for-temporary-files-whose-name-is-longer"
    temporary.mkdir()
    temporary.chmod(0o2755)  # folders that are made in it are as it is
    environment = {
        "DPKG_DEB_THREADS_MAX": "1",
        "HOME": str(folder),
        "LC_ALL": ODD,
        "LOCPATH": str(make_odd_locale(folder)),
        "LOGNAME": "another",
        "NO_FAKE_STAT": "1",  # faketime would give every file another time at each look
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(temporary),
        "TZ": "ODD-13:45",
        "USER": "another",
    }
    clock = ("faketime", "-f", "+100d") if shutil.which("faketime") else ()
    return Circumstances(checkout, 0o077, environment, clock)


class Builds:
    """What was built up to now, each at its first use."""

    def __init__(self, folder: Path) -> None:
        self.usual = usual(folder)
        self.unusual = unusual(folder, self.usual.checkout)
        self._made: dict[tuple[int, Kind], dict[str, Path]] = {}

    def of_both(self, kinds: Iterable[Kind]) -> tuple[dict[str, Path], dict[str, Path]]:
        """What each of the two makes, by its pattern."""
        wanted = tuple(kinds)
        self._make([(where, kind) for kind in wanted for where in (self.usual, self.unusual)])
        first, second = (
            {pattern: path for kind in wanted for pattern, path in self._made[id(where), kind].items()}
            for where in (self.usual, self.unusual)
        )
        return first, second

    def of_one(self, kind: Kind) -> dict[str, Path]:
        self._make([(self.usual, kind)])
        return self._made[id(self.usual), kind]

    def _make(self, wanted: Iterable[tuple[Circumstances, Kind]]) -> None:
        missing = [(where, kind) for where, kind in wanted if (id(where), kind) not in self._made]
        with ThreadPoolExecutor(2) as pool:
            made = list(pool.map(lambda each: each[0].make(each[1]), missing))
        for (where, kind), files in zip(missing, made, strict=True):
            self._made[id(where), kind] = files
