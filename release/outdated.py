"""`make outdated`: lists the pins of the locks that are older than the newest release, and demands a reason.

It asks the registries that uv and npm are configured for. uv is asked about each name in the locks by itself:
whether a pin is old must not depend on what other packages require. Of npm's locks, what their package.json
names counts: the rest follows from that. It changes nothing: `make lock` does, and npm.
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
NPM_LOCKS: Final = tuple(ROOT / folder / "package-lock.json" for folder in ("tests/peer/npm", "bench/peer"))
NPM: Final = "npm:"
"""Before npm's names, which others may have, too."""
NPM_COMMAND: Final = ("npm", "outdated", "--json")
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


def npm_pins(*texts: str) -> Versions:
    """The same of npm's locks."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text in texts:
        packages = json.loads(text)["packages"]
        for kind in ("dependencies", "devDependencies", "optionalDependencies"):
            for name in packages[""].get(kind, ()):
                found[NPM + name].add(packages[f"node_modules/{name}"]["version"])
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
            yield f"{name} {version} is older than {latest}: {_remedy(name)}, or say why in {REASONS.name}"
    held = {(name, version) for name, version, _ in outdated(pinned, newest)}
    for name, reason in reasons.items():
        if (name, reason.held) not in held:
            yield f"{name} is not held at {reason.held} any more: remove its reason from {REASONS.name}"


def _remedy(name: str) -> str:
    if name.startswith(NPM):
        return "change package.json and run `npm install --package-lock-only` beside it"
    return "run `make lock`"


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


def ask_npm(names: Sequence[str]) -> Versions:
    """The newest release of each of npm's packages."""
    wanted = {"dependencies": dict.fromkeys((name.removeprefix(NPM) for name in names), "*")}
    with tempfile.TemporaryDirectory() as folder:  # where nothing is installed, all of them are outdated
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
    """Print what is old; 1 if something lacks its reason, 2 if that is not known."""
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
        print(f"cannot compare the locks with the registry: {error}", file=sys.stderr)
        return 2
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
