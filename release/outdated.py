"""`make outdated`: lists the pins of the locks that are older than the newest release, and demands a reason.

It asks the registry that uv is configured for, about each name in the locks by itself: whether a pin is old
must not depend on what other packages require. It changes nothing: `make lock` does.
"""

import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from packaging.version import Version

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = tuple(ROOT / "requirements" / f"{name}.lock" for name in ("runtime", "build", "dev"))
REASONS: Final = ROOT / "requirements" / "held.toml"

PIN: Final = re.compile(r"^([a-z0-9-]+)==([^\s;\\]+)", re.MULTILINE)

# As in `make lock`, but that nothing is required of anything.
NEWEST: Final = ("pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--no-deps")

Versions = Mapping[str, frozenset[str]]
"""The versions of each package. There are several where they depend on the version of Python."""


class Reason(NamedTuple):
    """Why a package stays at a version."""

    held: str
    why: str


class ReasonsError(Exception):
    """The file of reasons is not one."""


class RegistryError(Exception):
    """The registry could not be asked, or did not know a package."""


def pins(*texts: str) -> Versions:
    """The pins of locks, or of anything that names packages as they do."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        for name, version in PIN.findall(text):
            found[name].add(version)
    return {name: frozenset(versions) for name, versions in found.items()}


def read_reasons(text: str) -> Mapping[str, Reason]:
    """The reasons, by package."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ReasonsError(str(error)) from error
    found = {}
    for name, table in tables.items():
        match table:
            case {"held": str(held), "why": str(why), **others} if held and why.strip() and not others:
                found[name] = Reason(held, why.strip())
            case _:
                raise ReasonsError(f"{name} needs `held` and `why`, and nothing else")
    return found


def problems(pinned: Versions, newest: Versions, reasons: Mapping[str, Reason]) -> Iterator[str]:
    """One line for each pin that is old without a reason, and for each reason without such a pin."""
    for name, version, latest in outdated(pinned, newest):
        if name not in reasons or reasons[name].held != version:
            yield f"{name} {version} is older than {latest}: run `make lock`, or say why in {REASONS.name}"
    held = {(name, version) for name, version, _ in outdated(pinned, newest)}
    for name, reason in reasons.items():
        if (name, reason.held) not in held:
            yield f"{name} is not held at {reason.held} any more: remove its reason from {REASONS.name}"


def kept(pinned: Versions, newest: Versions, reasons: Mapping[str, Reason]) -> Iterator[str]:
    """One line for each old pin that has its reason."""
    for name, version, latest in outdated(pinned, newest):
        if name in reasons and reasons[name].held == version:
            yield f"{name} {version} is older than {latest}: {reasons[name].why}"


def outdated(pinned: Versions, newest: Versions) -> Iterator[tuple[str, str, str]]:
    """Package, version and newest release of each pin that is older."""
    for name in sorted(pinned):
        if name not in newest:
            raise RegistryError(f"the registry did not say which release of {name} is the newest")
        latest = max(newest[name], key=Version)
        for version in sorted(pinned[name] - newest[name], key=Version):
            if Version(version) < Version(latest):
                yield name, version, latest


def ask_registry(names: Sequence[str]) -> Versions:
    """The newest release of each package for the versions of Python that we support."""
    uv = Path(sys.executable).with_name("uv")
    asked = subprocess.run(
        (uv, *NEWEST, "-"), cwd=ROOT, input="\n".join(names), capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        raise RegistryError(asked.stderr.strip() or f"uv exited with {asked.returncode}")
    return pins(asked.stdout)


def main() -> int:
    """Print what is old; 1 if something lacks its reason, 2 if that is not known."""
    try:
        pinned = pins(*(lock.read_text() for lock in LOCKS))
        reasons = read_reasons(REASONS.read_text())
        newest = ask_registry(sorted(pinned))
        found = list(problems(pinned, newest, reasons))
        for line in (*kept(pinned, newest, reasons), *found):
            print(line)
    except (ReasonsError, RegistryError) as error:
        print(f"cannot compare the locks with the registry: {error}", file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
