"""What to do about units that systemd does not find: their files may be new, or their names mistyped."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from hkswitch.doctor.programs import CannotRun, run

FOLDERS: Final = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
    *("/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached"),
    *("/run/systemd/system", "/run/systemd/system.attached", "/run/systemd/generator"),
    *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
    "/run/systemd/generator.late",
)
"""Where unit files are (systemd.unit(5)); systemd itself tells only of those that it looks into now."""

SIMILAR: Final = 0.7
"""How alike two names must be for difflib: ngnix is like nginx (0.8), and smb is not like nmb (0.67)."""


async def hints(units: Iterable[str]) -> Mapping[str, str]:
    """What to do about each of these units, where anything is known."""
    missing = tuple(units)
    if not missing:
        return {}
    folders = await _printed("show", "--property=UnitPath", "--value")
    listed = await _printed("list-unit-files", "--no-legend", "--no-pager", "--plain")
    known = {name for line in listed.splitlines() for name in line.split()[:1]}
    paths = tuple(map(Path, dict.fromkeys((*folders.split(), *FOLDERS))))
    return {unit: hint for unit in missing if (hint := _hint(unit, paths, known))}


def file_of(unit: str, folders: Iterable[Path]) -> Path | None:
    """The file that a unit or its template has in one of the folders; a link that leads nowhere is none."""
    names = dict.fromkeys((unit, _template(unit)))
    return next((file for folder in folders for name in names if (file := folder / name).exists()), None)


def similar(unit: str, known: Iterable[str]) -> str:
    """The one of these names that may have been meant, nothing if none is like it.

    What comes after the dot is the same in so many names that it must be equal. An instance is like another
    template's.
    """
    stem, dot, kind = _template(unit).rpartition(".")
    stems = (name.removesuffix(dot + kind) for name in known if name.endswith(dot + kind))
    among = sorted(each for each in stems if each.endswith("@") is stem.endswith("@"))
    for found in get_close_matches(stem, among, n=1, cutoff=SIMILAR):
        instance = unit.partition("@")[2] or f".{kind}"
        return found + instance
    return ""


def _hint(unit: str, folders: Iterable[Path], known: Iterable[str]) -> str:
    if file := file_of(unit, folders):
        return f"systemd has not read {file} yet: `sudo systemctl daemon-reload`"
    meant = similar(unit, known)
    return f"did you mean {meant}?" if meant else ""


def _template(unit: str) -> str:
    """The template of an instance; any other unit itself."""
    stem, dot, kind = unit.rpartition(".")
    prefix, at, _ = stem.partition("@")
    return prefix + at + dot + kind


async def _printed(*arguments: str) -> str:
    """What systemctl prints; nothing if it cannot be asked."""
    try:
        return (await run("systemctl", *arguments)).output
    except CannotRun:
        return ""
