"""What of this machine the helper does not see: its sandbox hides folders that the doctor sees."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Final

from hkswitch.doctor.context import UNIT, properties
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.model.unit_state import HelperTransport
from hkswitch.serviceswitch import trusted_files

BY_SOCKET: Final = "serviceswitch@doctor.service"
"""An instance that never runs: it has the settings of all."""

SETTINGS: Final = ("ProtectHome", "PrivateTmp", "InaccessiblePaths", "TemporaryFileSystem")
HOMES: Final = ("/home", "/root", "/run/user")
TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108 -- it writes nothing there


async def hidden_folders(crossing: HelperTransport) -> Mapping[str, str]:
    """The folders that the helper does not see, each with what hides it; none if systemd cannot be asked."""
    unit = BY_SOCKET if crossing is HelperTransport.SOCKET else UNIT
    try:
        shown = await run("systemctl", "show", f"--property={','.join(SETTINGS)}", unit)
    except CannotRun:
        return {}
    name = unit.replace("@doctor.", "@.")
    return {folder: f"{setting}= of {name}" for folder, setting in hiding(properties(shown.output))}


def hiding(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The folders that these settings hide, each with the setting. Pure."""
    if settings.get("ProtectHome") in {"yes", "tmpfs"}:
        yield from ((folder, "ProtectHome") for folder in HOMES)
    if settings.get("PrivateTmp") not in {None, "", "no"}:
        yield from ((folder, "PrivateTmp") for folder in TEMPORARY)
    for folder in settings.get("InaccessiblePaths", "").split():
        yield folder.lstrip("-+"), "InaccessiblePaths"
    for folder in settings.get("TemporaryFileSystem", "").split():
        yield folder.partition(":")[0], "TemporaryFileSystem"


def why_hidden(program: str, folders: Mapping[str, str]) -> str:
    """Why the helper does not see a trusted program or what interprets it; empty if it sees both."""
    for path in _needed(program):
        for folder, setting in folders.items():
            if PurePath(path).is_relative_to(folder):
                return f"the helper cannot see {path}: {setting} hides {folder}"
    return ""


def _needed(program: str) -> Iterator[str]:
    """The paths by which a trusted program is started, with and without links."""
    path: str | None = program
    while path is not None:
        yield path
        without_links = str(Path(path).resolve())
        yield without_links
        path = trusted_files.interpreter_of(without_links)
