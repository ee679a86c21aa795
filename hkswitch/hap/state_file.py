"""The bridge's identity on disk: setup code, keys and pairings in one file, written whole or not at all.

Knows no HAP-python. A damaged file is said, and its backup used; without one it is left alone. It is never
replaced by a new identity, which every phone would take for another bridge. A file that a newer version wrote
is left alone too, and its backup, which may be older, is not used. Unknown keys are written back.
"""

import errno
import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hkswitch.hap.setup_code import MOST_FAILED_ATTEMPTS, Setup
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.control import SetupIs
from hkswitch.protocol.report import PairedController

FILE_NAME: Final = "bridge.json"
BACKUP_NAME: Final = "bridge.json.backup"
LOCK_NAME: Final = "lock"
VERSION: Final = 1
LARGEST_BYTES: Final = 1024 * 1024
ADMIN_BIT: Final = 1

_KEYS: Final = {
    "": frozenset({"version", "setup", "failed_attempts", "accessory"}),
    "setup": frozenset({"code", "id"}),
    "accessory": frozenset(
        {
            "mac",
            "config_version",
            "paired_clients",
            "client_properties",
            "client_uuid_to_bytes",
            "accessories_hash",
            "private_key",
            "public_key",
        }
    ),
}
"""What this version writes: at the top, and in each part."""

_DEVICE_ID = re.compile(r"([0-9A-F]{2}:){5}[0-9A-F]{2}")
_NO_LINKS = os.O_NOFOLLOW | os.O_CLOEXEC

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class StateDamaged(Failure):
    """The file is there, but it is not what was written, and neither is its backup."""

    path: Path
    why: str
    exit_code = Exit.DAMAGED

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged ({self.why}): put a copy of yours in its place, "
            f"or remove {FILE_NAME} and {BACKUP_NAME} and pair the bridge anew"
        )


@dataclass(eq=False)
class StateTooNew(Failure):
    """The file, or its backup in its place, is of a newer format."""

    path: Path
    version: int
    exit_code = Exit.DAMAGED

    def __str__(self) -> str:
        return (
            f"cannot use {self.path}: it was written by a newer version of hkswitch "
            f"(format {self.version}, this one reads {VERSION}); install that version again"
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


@dataclass(eq=False)
class StateInUse(Failure):
    """Another process holds the lock."""

    folder: Path
    process: str

    def __str__(self) -> str:
        return f"{self.folder} is in use by another hkswitch (process {self.process}): stop that one first"


@dataclass(frozen=True, slots=True)
class Stored:
    """What the file holds. `accessory` is HAP-python's part: keys, pairings, the bridge's ID.

    `others` has the keys that this version does not know, where they were; they are written back.
    """

    setup: Setup
    accessory: dict[str, Any]
    failed_attempts: int = 0
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def unknown_keys(self) -> tuple[str, ...]:
        """The paths of those keys, like `setup.flags`."""
        parts = (part for part in _KEYS if part)
        inner = (f"{part}.{key}" for part in parts for key in self.others.get(part, {}))
        return (*(key for key in self.others if key not in _KEYS), *inner)

    def warn_of_unknown_keys(self) -> None:
        """Log which keys this version does not know, if there are any."""
        if self.unknown_keys:
            names = ", ".join(map(repr, self.unknown_keys))
            _log.warning("%s has keys that this version does not know, and keeps: %s", FILE_NAME, names)

    @property
    def device_id(self) -> str:
        """The bridge's ID as it is advertised, like `AA:BB:CC:DD:EE:FF`."""
        return str(self.accessory["mac"])

    @property
    def paired(self) -> bool:
        """Whether any controller is paired."""
        return bool(self.accessory["paired_clients"])

    @property
    def controllers(self) -> tuple[PairedController, ...]:
        """Who is paired; nobody is connected to a file."""
        properties = self.accessory["client_properties"]
        return tuple(
            PairedController(uuid.upper(), bool(properties[uuid]["permissions"] & ADMIN_BIT))
            for uuid in self.accessory["paired_clients"]
        )

    @property
    def setup_is(self) -> SetupIs:
        """What is needed to pair."""
        return SetupIs(
            code=self.setup.code,
            payload=self.setup.payload,
            device_id=self.device_id,
            paired=self.paired,
            failed_attempts=self.failed_attempts,
            pairing_refused=self.failed_attempts >= MOST_FAILED_ATTEMPTS,
        )

    def without(self, controller_id: str | None) -> "Stored":
        """The same without a controller, or without any (None); none are left without an admin."""
        left = {
            controller.id.lower(): controller.admin
            for controller in self.controllers
            if controller_id is not None and controller.id != controller_id
        }
        kept = left.keys() if any(left.values()) else ()
        pairings = {
            name: {uuid: value for uuid, value in self.accessory[name].items() if uuid in kept}
            for name in ("paired_clients", "client_properties", "client_uuid_to_bytes")
        }
        return replace(self, accessory=self.accessory | pairings)


def read(folder: Path) -> Stored | None:
    """What the file holds, or else its backup; None if there is neither.

    Raises:
        StateDamaged: If neither the file nor its backup is sound.
        StateTooNew: If a newer version wrote the file, or the backup of one that is damaged or gone.
        StateUnreadable: If one of them cannot be read.
    """
    try:
        stored = _read(folder / FILE_NAME)
    except StateDamaged as damage:
        stored = _backup(folder)
        if stored is None:
            raise
        _log.warning("%s is damaged (%s): its backup is used", damage.path, damage.why)
        return stored
    if stored is None and (stored := _backup(folder)) is not None:
        _log.warning("%s is gone: its backup is used", folder / FILE_NAME)
    return stored


def write(folder: Path, stored: Stored) -> None:
    """Write file and backup, each with either the old or the new contents; raises `StateUnwritable`."""
    contents = _encode(stored)
    path = folder / FILE_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(path, contents)
    except OSError as error:
        raise StateUnwritable(path, error.strerror or str(error)) from error
    try:
        # After the file, and the same: an older one could bring back a controller that was removed.
        write_whole(folder / BACKUP_NAME, contents)
    except OSError as error:
        _log.error("%s", StateUnwritable(folder / BACKUP_NAME, error.strerror or str(error)))


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Have the folder for this process alone; raises `StateInUse` or `StateUnwritable`."""
    path = folder / LOCK_NAME
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _open_lock(path)
    except OSError as error:
        raise StateUnwritable(path, error.strerror or str(error)) from error
    with open(lock, "rb", buffering=0) as file:  # noqa: PTH123 -- a descriptor, not a path
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateInUse(folder, file.read(20).decode("ascii", "replace").strip() or "?") from None
        with suppress(OSError):  # the disk may be read-only
            _remove_unfinished(folder)
        with suppress(OSError):  # or full: others are then told of no process, or of an old one
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Root works in the daemon's folder with the daemon's rights; for others nothing changes."""
    if os.geteuid() != 0 or not folder.exists():
        yield
        return
    # TRUST: the daemon's user could put links there that lead root elsewhere; what root writes must be its.
    owner, groups = folder.stat(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _open_lock(path: Path) -> int:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _NO_LINKS, 0o600)
    except OSError as error:
        if error.errno != errno.EROFS or not path.exists():
            raise
        lock = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return lock


def _remove_unfinished(folder: Path) -> None:
    """What a process left that was killed while it wrote."""
    for unfinished in folder.glob(f".{FILE_NAME}*"):
        unfinished.unlink()


def _backup(folder: Path) -> Stored | None:
    try:
        return _read(folder / BACKUP_NAME)
    except StateDamaged:
        return None


def _read(path: Path) -> Stored | None:
    try:
        # Not blocking: a pipe in the file's place must not hold up the reader.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_LINKS)
        with open(file, "rb") as opened:  # noqa: PTH123 -- a descriptor, not a path
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise StateDamaged(path, "it is no regular file")
            contents = opened.read(LARGEST_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnreadable(path, error.strerror or str(error)) from error
    return _parse(path, contents)


def _encode(stored: Stored) -> bytes:
    others = stored.others
    contents = others | {
        "version": VERSION,
        "setup": others.get("setup", {}) | {"code": stored.setup.code, "id": stored.setup.id},
        "failed_attempts": stored.failed_attempts,
        "accessory": others.get("accessory", {}) | stored.accessory,
    }
    return json.dumps(contents | {"sha256": _digest(contents)}, indent=1).encode()


def _parse(path: Path, contents: bytes) -> Stored:
    try:
        body = json.loads(contents.decode())
    except (ValueError, RecursionError) as error:
        raise StateDamaged(path, "it is not JSON") from error
    # Before the checksum, which a newer version may make in another way.
    match body:
        case {"version": int(version)} if version > VERSION:
            raise StateTooNew(path, version)
    if not isinstance(body, dict) or body.pop("sha256", None) != _digest(body):
        raise StateDamaged(path, "its checksum is wrong")
    match body:
        case {
            "version": 1,
            "setup": {"code": str(code), "id": str(setup_id)},
            "failed_attempts": int(failed_attempts),
            "accessory": {
                "mac": str(device_id),
                "paired_clients": dict(paired),
                "client_properties": dict(properties),
                "client_uuid_to_bytes": dict(),
                "config_version": int(),
            } as accessory,
        } if (
            Setup(code, setup_id).is_allowed
            and _DEVICE_ID.fullmatch(device_id)
            and paired.keys() == properties.keys()
        ):
            known = {key: accessory[key] for key in accessory if key in _KEYS["accessory"]}
            return Stored(Setup(code, setup_id), known, failed_attempts, _others(body))
    raise StateDamaged(path, "it does not hold what this version of hkswitch writes")


def _others(body: dict[str, Any]) -> dict[str, Any]:
    """The keys that this version does not know, where they are."""
    unknown = {
        part: {key: body[part][key] for key in body[part] if key not in _KEYS[part]} for part in _KEYS if part
    }
    return {key: body[key] for key in body if key not in _KEYS[""]} | {
        part: keys for part, keys in unknown.items() if keys
    }


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def write_whole(path: Path, contents: bytes) -> None:
    """Write a new file for its owner alone and rename it over the old one, with fsync; raises `OSError`."""
    new = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}")
    try:
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINKS, 0o600)
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
