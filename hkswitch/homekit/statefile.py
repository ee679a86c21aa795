"""The bridge's identity on disk: setup code, keys and pairings in one file, written whole or not at all.

A damaged file is said and left alone. It is never replaced by a new identity, which every phone would take
for another bridge.
"""

import io
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pyhap.encoder import AccessoryEncoder
from pyhap.state import State

from hkswitch.core.errors import Exit, Failure
from hkswitch.homekit.pairing import Setup

FILE_NAME: Final = "bridge.json"
VERSION: Final = 1


@dataclass(eq=False)
class StateDamaged(Failure):
    """The file is there, but it is not what was written."""

    path: Path
    why: str
    exit_code = Exit.DAMAGED

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged ({self.why}): put a backup of it in its place, "
            "or remove it and pair the bridge anew"
        )


@dataclass(eq=False)
class StateUnreadable(Failure):
    """The file cannot be read."""

    path: Path
    why: str
    exit_code = Exit.DENIED

    def __str__(self) -> str:
        return f"cannot read the bridge's state {self.path}: {self.why}; it is for root and the daemon only"


@dataclass(eq=False)
class StateUnwritable(Failure):
    """The folder or the file cannot be written."""

    path: Path
    why: str
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"cannot write the bridge's state {self.path}: {self.why}"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds. `accessory` is HAP-python's part: keys, pairings, the bridge's ID."""

    setup: Setup
    accessory: dict[str, Any]

    @property
    def device_id(self) -> str:
        """The bridge's ID as it is advertised, like `AA:BB:CC:DD:EE:FF`."""
        return str(self.accessory["mac"])

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""
        return bool(self.accessory["paired_clients"])


def read(path: Path) -> Stored | None:
    """What the file holds, or None if there is no file; raises `StateDamaged` or `StateUnreadable`."""
    try:
        contents = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise StateDamaged(path, "it is not text") from error
    except OSError as error:
        raise StateUnreadable(path, error.strerror or str(error)) from error
    return _parse(path, contents)


def load_into(path: Path, state: State) -> None:
    """Put keys and pairings from the file into HAP-python's state; raises `StateDamaged`."""
    stored = read(path)
    if stored is None:
        raise StateUnreadable(path, "it is gone")
    _load(path, stored.accessory, state)


def save(path: Path, state: State, setup: Setup) -> None:
    """Write everything, so that the file has either the old or the new contents; raises `StateUnwritable`."""
    accessory = io.StringIO()
    AccessoryEncoder.persist(accessory, state)
    contents = {
        "version": VERSION,
        "setup": {"code": setup.code, "id": setup.id},
        "accessory": json.loads(accessory.getvalue()),
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _replace(path, json.dumps(contents, indent=1).encode())
    except OSError as error:
        raise StateUnwritable(path, error.strerror or str(error)) from error


def _parse(path: Path, contents: str) -> Stored:
    try:
        match json.loads(contents):
            case {
                "version": 1,
                "setup": {"code": str(code), "id": str(setup_id)},
                "accessory": {"mac": str(), "paired_clients": dict(), "config_version": int()} as accessory,
            } if Setup(code, setup_id).is_allowed:
                return Stored(Setup(code, setup_id), accessory)
    except (ValueError, RecursionError) as error:
        raise StateDamaged(path, "it is not JSON") from error
    raise StateDamaged(path, "it does not hold what hkswitch writes")


def _load(path: Path, accessory: dict[str, Any], state: State) -> None:
    try:
        AccessoryEncoder.load_into(io.StringIO(json.dumps(accessory)), state)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise StateDamaged(path, "its keys or pairings are not what hkswitch writes") from error


def _replace(path: Path, contents: bytes) -> None:
    """Write a new file and rename it over the old one, with fsync of both file and folder."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(file, "wb") as opened:  # noqa: PTH123 -- a descriptor, not a path
            opened.write(contents)
            opened.flush()
            os.fsync(file)
        new.rename(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
