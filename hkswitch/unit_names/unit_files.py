"""Looks for unit files in systemd's folders, without asking systemd."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from hkswitch.unit_names.similar import other_kind, similar, template_of, without_misspelt_suffix

UNIT_FOLDERS: Final = tuple(
    map(
        Path,
        (
            *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
            *("/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached"),
            *("/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator"),
            *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
            "/run/systemd/generator.late",
        ),
    )
)
"""The folders of unit files (systemd.unit(5)); systemd lists only those that existed at its last reload."""


def file_of(unit: str, folders: Iterable[Path]) -> Path | None:
    """Return the file of a unit, or of its template, in one of the folders; not a dangling link."""
    names = dict.fromkeys((unit, template_of(unit)))
    # Path.exists raises for a name that is too long, and for a folder that this user cannot read.
    files = (folder / name for folder in folders for name in names)
    return next((file for file in files if os.path.exists(file)), None)  # noqa: PTH110


def installed(folders: Iterable[Path]) -> set[str]:
    """Return the names of the unit files, and of the folders beside them; takes a few milliseconds."""
    names: set[str] = set()
    for folder in folders:
        try:
            names.update(os.listdir(folder))  # noqa: PTH208 -- names are wanted, not paths
        except OSError:  # most machines have only some of them
            continue
    return names


def hint(unit: str, folders: Iterable[Path], known: Iterable[str]) -> str:
    """Return why a unit may be missing: a file that systemd has not read, or a misspelt name; or empty."""
    if file := file_of(unit, folders):
        return f"systemd has not read {file} yet: run `sudo systemctl daemon-reload`"
    names = frozenset(known)
    meant = without_misspelt_suffix(unit, names) or similar(unit, names) or other_kind(unit, names)
    return f"did you mean {meant}?" if meant else ""
