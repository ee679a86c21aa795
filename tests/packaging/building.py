"""Builds a release by make, in two checkouts that differ in everything that must not affect the result."""

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

from tests.host.rootfs import CHECKOUT, Release, wheels_folder
from tests.packaging.odd_locale import ODD, make_odd_locale

BIN: Final = Path(sys.executable).parent
COMMITTED: Final = 1_790_000_000
"""The time of the last commit in both checkouts."""

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
"""Generated files in a checkout."""


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
"""The files that each target creates in dist/."""


@dataclass(frozen=True)
class Circumstances:
    """A checkout with a build environment, on which the result must not depend."""

    checkout: Path
    umask: int
    environment: dict[str, str]
    clock: tuple[str, ...] = ()
    """A command that runs another one with a false time."""

    def make(self, kind: Kind) -> dict[str, Path]:
        """Run make, and return the created files by pattern."""
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


def version_of(checkout: Path, form: str = "pep440") -> str:
    """Return the version of a checkout; tests/packaging/test_version.py tests this program."""
    asked = (str(checkout / "packaging" / "version"), form)
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def python_version() -> str:
    """Return the version of the system's Python, for which packages are built."""
    asked = ("/usr/bin/python3", "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])")
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def offline() -> dict[str, str]:
    """Return environment variables that make pip use only the wheels of the test hosts."""
    system = Release("this machine", "", python_version(), ())
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels_folder(system, print))}


def without_git() -> dict[str, str]:
    """Return this environment without the variables by which a hook would have git change this checkout."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def git(folder: Path, *argv: str | Path, umask: int = 0o022) -> None:
    when = f"@{COMMITTED} +0000"
    names = {
        f"GIT_{role}_{key}": value
        for role in ("AUTHOR", "COMMITTER")
        for key, value in (("NAME", "Tests"), ("EMAIL", "tests@hkswitch.invalid"), ("DATE", when))
    }
    subprocess.run(["git", *argv], cwd=folder, check=True, umask=umask, env=without_git() | names)


def usual(folder: Path) -> Circumstances:
    """Copy and commit this checkout, to a short path, with one commit since the version was set."""
    checkout = folder / "a"
    shutil.copytree(CHECKOUT, checkout, ignore=shutil.ignore_patterns(*NOT_OURS))
    git(checkout, "init", "--quiet")
    git(checkout, "add", "--all")
    for message in ("All", "One more"):
        git(
            checkout,
            *("-c", "commit.gpgSign=false"),
            *("commit", "--quiet", "--allow-empty", f"--message={message}"),
        )
    return Circumstances(checkout, 0o022, {"LC_ALL": "C", "TZ": "UTC0", "TMPDIR": str(folder)})


def unusual(folder: Path, of: Path) -> Circumstances:
    """Clone a checkout to another path, with other modes and times, and a clock 100 days ahead."""
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
    temporary.chmod(0o2755)  # new folders in it inherit its group and setgid bit
    environment = {
        "DPKG_DEB_THREADS_MAX": "1",
        "HOME": str(folder),
        "LC_ALL": ODD,
        "LOCPATH": str(make_odd_locale(folder)),
        "LOGNAME": "another",
        "NO_FAKE_STAT": "1",  # otherwise faketime changes the times of files at each stat
        "PYTHONHASHSEED": "7",
        "TMPDIR": str(temporary),
        "TZ": "ODD-13:45",
        "USER": "another",
    }
    clock = ("faketime", "-f", "+100d") if shutil.which("faketime") else ()
    return Circumstances(checkout, 0o077, environment, clock)


class Builds:
    """The builds, each made at its first use."""

    def __init__(self, folder: Path) -> None:
        self.usual = usual(folder)
        self.version = version_of(self.usual.checkout)
        """One of a checkout, with a plus sign."""
        self.native_version = version_of(self.usual.checkout, "native")
        self.unusual = unusual(folder, self.usual.checkout)
        self._made: dict[tuple[int, Kind], dict[str, Path]] = {}

    def of_both(self, kinds: Iterable[Kind]) -> tuple[dict[str, Path], dict[str, Path]]:
        """Return the files of both checkouts, by pattern."""
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
