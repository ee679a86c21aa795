"""Asks systemctl which units systemd knows. It blocks, for a few seconds at most, and never fails.

Without a running systemd, nothing is known. The doctor asks by itself, beside its other checks.
"""

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from hkswitch.model.environment import CHILD_ENVIRONMENT
from hkswitch.model.unit_state import LoadState
from hkswitch.unit_names.unit_files import UNIT_FOLDERS, hint

SYSTEMCTL_WITHIN_SECONDS: Final = 5
RUNNING: Final = Path("/run/systemd/system")
"""Exists if systemd runs as the init system (sd_booted(3))."""

LOADED_UNITS: Final = ("list-units", "--all", "--no-legend", "--no-pager", "--plain")
UNIT_FILES: Final = ("list-unit-files", "--no-legend", "--no-pager", "--plain")


def load_states(units: Iterable[str]) -> Mapping[str, LoadState]:
    """Return whether systemd can load these units; empty if it does not answer."""
    asked = tuple(dict.fromkeys(units))
    if not asked or not RUNNING.exists():
        return {}
    states = printed("show", "--property=LoadState", "--value", "--", *asked).split()
    if len(states) != len(asked) or not {*states} <= {*LoadState}:
        return {}
    return dict(zip(asked, map(LoadState, states), strict=True))


def names_of(units: Sequence[str]) -> tuple[str, ...]:
    """Return these units under the names that systemd has for them: an alias is not the name of a unit.

    They are returned as they are if it does not answer.
    """
    if not units or not RUNNING.exists():
        return tuple(units)
    names = printed("show", "--property=Id", "--value", "--", *units).split()
    return tuple(names if len(names) == len(units) else units)


def missing(units: Iterable[str]) -> list[str]:
    """Return the units that do not exist, as far as systemd says so."""
    return [unit for unit, state in load_states(units).items() if state is LoadState.NOT_FOUND]


def hints(units: Sequence[str]) -> Mapping[str, str]:
    """Return a hint for each of these missing units that has one."""
    if not units:
        return {}
    names = known_names(f"{printed(*UNIT_FILES)}\n{printed(*LOADED_UNITS)}")
    return {unit: found for unit in units if (found := hint(unit, UNIT_FOLDERS, names))}


def known_names(listed: str) -> set[str]:
    """Return the names in systemctl's lists, without units that others name but that do not exist."""
    rows = (line.split() for line in listed.splitlines())
    return {row[0] for row in rows if row and row[1:2] != [LoadState.NOT_FOUND]}


def printed(*arguments: str) -> str:
    """Return the output of systemctl; empty if it fails or cannot be run in time."""
    try:
        done = subprocess.run(  # noqa: S603 -- no shell, and a unit's name cannot become an option
            ("systemctl", *arguments),  # noqa: S607 -- the environment has root's search path
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            env=CHILD_ENVIRONMENT,
            timeout=SYSTEMCTL_WITHIN_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")
