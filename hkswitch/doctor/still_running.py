"""Finds out whether a Homebridge bridge still runs, or would be started again. Changes nothing.

Two bridges with one identity confuse phones, so neither may run after a take-over. Containers, cron jobs and
other machines cannot be looked at: for those, mDNS is all that there is.
"""

import asyncio
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from hkswitch.doctor.mdns import find_device
from hkswitch.model.config_file import read_regular
from hkswitch.network import listeners
from hkswitch.unit_names.unit_files import UNIT_FOLDERS

_UNIT_FOLDERS: Final = tuple(folder.relative_to("/") for folder in UNIT_FOLDERS)
"""Below another root, for tests."""

_DEV_NULL: Final = Path("/dev/null")
_NAME: Final = re.compile(r"(homebridge|hb-service)([@-].*)?\.service")
_STARTS_HOMEBRIDGE: Final = re.compile(
    rb"^\s*(Exec\w+|User|WorkingDirectory|Environment|EnvironmentFile|SyslogIdentifier)\s*="
    rb".*(homebridge|hb-service)",
    re.MULTILINE | re.IGNORECASE,
)
"""A script may start it, and other units may name it for their order, so only some settings are searched."""

_UNIT: Final = re.compile(rb"^\s*(?:Unit|Service)\s*=\s*(\S+)", re.MULTILINE)

_CONTROL_GROUPS: Final = ("sys/fs/cgroup", "sys/fs/cgroup/systemd")
"""Where each active unit has a folder: with version 2, and with version 1."""

_MOST_UNIT_BYTES: Final = 1 << 16


def still_answers(device_id: str, port: int) -> str:
    """Return how a bridge answers, for a sentence; empty if it does not. `port` is 0 if it is not known."""
    if port and (process := listeners.holder(port)):
        return f"{process} listens on its port {port}"
    name = asyncio.run(find_device(device_id))
    return f"{name} answers mDNS with its identity" if name else ""


def units_that_start_homebridge(root: Path = Path("/")) -> tuple[str, ...]:
    """Return the enabled and active units that run Homebridge. `root` is another root, for tests."""
    names = {*_enabled(root), *_active(root)}
    return tuple(sorted(name for name in names if _starts_homebridge(root, name)))


def _enabled(root: Path) -> Iterator[str]:
    """Yield the units that others want or require."""
    for folder in _UNIT_FOLDERS:
        for pattern in ("*.wants/*", "*.requires/*", "*.upholds/*"):
            with suppress(OSError):
                for link in (root / folder).glob(pattern):
                    yield link.name
                    yield from _started_by(root, link.name)


def _started_by(root: Path, name: str) -> Iterator[str]:
    """Yield the service that a timer, a socket or a path starts."""
    stem, _, kind = name.rpartition(".")
    if kind in {"timer", "socket", "path"}:
        files = (root / folder / name for folder in _UNIT_FOLDERS)
        settings = [each for text in _texts(files) for each in _UNIT.findall(text)]
        yield from (each.decode(errors="replace") for each in settings or [f"{stem}.service".encode()])


def _active(root: Path) -> Iterator[str]:
    """Yield the system's active services."""
    for folder in _CONTROL_GROUPS:
        for pattern in ("system.slice/*.service", "system.slice/*.slice/*.service"):
            with suppress(OSError):
                yield from (group.name for group in (root / folder).glob(pattern))


def _starts_homebridge(root: Path, name: str) -> bool:
    for candidate in _names(name):
        for folder in _UNIT_FOLDERS:
            file = root / folder / candidate
            if file.is_symlink() and file.readlink() == _DEV_NULL:
                return False  # masked
            if file.exists():
                if _NAME.fullmatch(name):
                    return True
                drop_ins = (root / each / f"{candidate}.d" for each in _UNIT_FOLDERS)
                parts = [file, *(part for each in drop_ins for part in each.glob("*.conf"))]
                return any(_STARTS_HOMEBRIDGE.search(text) for text in _texts(parts))
    return False


def _names(name: str) -> tuple[str, ...]:
    """Return the names of the files that may define a unit: an instance has its template's."""
    prefix, at, rest = name.partition("@")
    return (name, f"{prefix}@.{rest.rpartition('.')[2]}") if at else (name,)


def _texts(files: Iterable[Path]) -> Iterator[bytes]:
    for file in files:
        with suppress(OSError):
            yield read_regular(file, _MOST_UNIT_BYTES).replace(b"\\\n", b" ")
