"""`make outdated`: lists pins in the locks that are older than the newest release, and demands a reason.

It asks the registries that uv and npm are configured for. uv resolves each name without dependencies, as the
requirements of other packages must not hide an outdated pin. For npm, only the packages in package.json
count, as the rest follows from them. This program changes nothing: use `make lock` or npm for that.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from packaging.version import InvalidVersion, Version

ROOT: Final = Path(__file__).parents[1]
LOCKS: Final = (
    *(ROOT / "requirements" / f"{name}.lock" for name in ("runtime", "build", "dev")),
    ROOT / "tests" / "peer" / "homekit.lock",
)
NPM_LOCKS: Final = tuple(
    ROOT / folder / "package-lock.json" for folder in ("tests/peer/npm", "bench/peer", "bench/homebridge2")
)
NPM: Final = "npm:"
"""The prefix of npm packages, whose names may be the same as on PyPI."""
NPM_COMMAND: Final = ("npm", "outdated", "--json")
REASONS: Final = ROOT / "requirements" / "held.toml"

PIN: Final = re.compile(r"^([a-z0-9-]+)==([^\s;\\]+)", re.MULTILINE)

# As in `make lock`, but without dependencies.
NEWEST: Final = ("pip", "compile", "--quiet", "--universal", "--python-version=3.11", "--no-deps")

Versions = Mapping[str, frozenset[str]]
"""The versions of each package; several, if they depend on the version of Python."""


class Reason(NamedTuple):
    """The reason why a package stays at a version."""

    held: str
    why: str


class ReasonsError(Exception):
    """The file of reasons is invalid."""


class RegistryError(Exception):
    """A registry could not be reached, or does not know a package."""


def pins(*texts: str) -> Versions:
    """Return the pins of lock files, or of other texts in that format."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        for name, version in PIN.findall(text):
            found[name].add(version)
    return {name: frozenset(versions) for name, versions in found.items()}


def npm_pins(*texts: str) -> Versions:
    """Return the pins of npm's lock files."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        packages = json.loads(text)["packages"]
        for kind in ("dependencies", "devDependencies", "optionalDependencies"):
            for name in packages[""].get(kind, ()):
                found[NPM + name].add(packages[f"node_modules/{name}"]["version"])
    return {name: frozenset(versions) for name, versions in found.items()}


def read_reasons(text: str) -> Mapping[str, Reason]:
    """Parse the file of reasons, by package."""
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
                raise ReasonsError(f"{name} must have `held` and `why`, and no other key")
    return found


def problems(pinned: Versions, newest: Versions, reasons: Mapping[str, Reason]) -> Iterator[str]:
    """Yield a line for each outdated pin without a reason, and for each reason without an outdated pin."""
    for name, version, latest in outdated(pinned, newest):
        if name not in reasons or reasons[name].held != version:
            remedy = f"{_remedy(name)}, or add a reason to {REASONS.name}"
            yield f"{name} {version} is older than {latest}: {remedy}"
    held = {(name, version) for name, version, _ in outdated(pinned, newest)}
    for name, reason in reasons.items():
        if (name, reason.held) not in held:
            yield f"{name} is no longer held at {reason.held}: remove its reason from {REASONS.name}"


def _remedy(name: str) -> str:
    if name.startswith(NPM):
        return "change package.json and run `npm install --package-lock-only` beside it"
    return "run `make lock`"


def kept(pinned: Versions, newest: Versions, reasons: Mapping[str, Reason]) -> Iterator[str]:
    """Yield a line for each outdated pin with a reason."""
    for name, version, latest in outdated(pinned, newest):
        if name in reasons and reasons[name].held == version:
            yield f"{name} {version} is older than {latest}: {reasons[name].why}"


def outdated(pinned: Versions, newest: Versions) -> Iterator[tuple[str, str, str]]:
    """Yield package, version and newest release of each outdated pin."""
    for name in sorted(pinned):
        if name not in newest:
            raise RegistryError(f"the registry did not return the newest release of {name}")
        latest = max(newest[name], key=Version)
        for version in sorted(pinned[name] - newest[name], key=Version):
            if Version(version) < Version(latest):
                yield name, version, latest


def ask_registry(names: Sequence[str]) -> Versions:
    """Return the newest release of each package for the supported versions of Python."""
    uv = Path(sys.executable).with_name("uv")
    asked = subprocess.run(
        (uv, *NEWEST, "-"), cwd=ROOT, input="\n".join(names), capture_output=True, text=True, check=False
    )
    if asked.returncode != 0:
        raise RegistryError(asked.stderr.strip() or f"uv exited with {asked.returncode}")
    return pins(asked.stdout)


def ask_npm(names: Sequence[str]) -> Versions:
    """Return the newest release of each npm package."""
    wanted = {"dependencies": dict.fromkeys((name.removeprefix(NPM) for name in names), "*")}
    with tempfile.TemporaryDirectory() as folder:  # in an empty folder, npm lists all packages as outdated
        Path(folder, "package.json").write_text(json.dumps(wanted))
        try:
            asked = subprocess.run(NPM_COMMAND, cwd=folder, capture_output=True, text=True, check=False)
        except OSError as error:
            raise RegistryError(f"npm: {error.strerror}") from error
    try:
        said = json.loads(asked.stdout)
        return {NPM + name: frozenset({str(Version(each["latest"]))}) for name, each in said.items()}
    except (ValueError, AttributeError, TypeError, KeyError, InvalidVersion) as error:
        raise RegistryError(f"npm: {asked.stderr.strip() or asked.stdout.strip()}") from error


def main() -> int:
    """Print outdated pins. Return 1 if one lacks its reason, and 2 if the check failed."""
    try:
        pinned = pins(*(lock.read_text() for lock in LOCKS))
        npm_pinned = npm_pins(*(lock.read_text() for lock in NPM_LOCKS))
        reasons = read_reasons(REASONS.read_text())
        newest = {**ask_registry(sorted(pinned)), **ask_npm(sorted(npm_pinned))}
        pinned = {**pinned, **npm_pinned}
        found = list(problems(pinned, newest, reasons))
        for line in (*kept(pinned, newest, reasons), *found):
            print(line)
    except (ReasonsError, RegistryError) as error:
        print(f"cannot compare the lock files with the registry: {error}", file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
