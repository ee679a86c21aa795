"""The format of a backup: files by name, to bytes and back. Pure: no I/O.

The first line has the format's version and a SHA-256 checksum of all the rest, which is JSON. The checksum
finds damage and truncation; it does not authenticate, so the reader must trust the file's owner.
A later version may add files, which this one leaves out. It must raise the format's version if a backup is of
no use without them.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from hkswitch.model.errors import Exit, Failure

BACKUP_FORMAT_VERSION: Final = 1

MOST_BACKUP_BYTES: Final = 16 * 1024 * 1024
"""Several times as much as the largest config and the largest state."""

MOST_NAME: Final = 100

_FIRST_LINE: Final = re.compile(rb"hkswitch backup ([1-9][0-9]{0,8}) sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_VERSION: Final = re.compile(r"[A-Za-z0-9.+~-]{1,50}")
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"


class BackupDamaged(Failure):
    """A file that is no backup, or a damaged one."""

    exit_code = Exit.DAMAGED

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"cannot restore {file}: {why}; use another copy of it, or another backup")


class BackupTooNew(Failure):
    """A backup that only a newer version of hkswitch can restore."""

    exit_code = Exit.DAMAGED

    def __init__(self, file: str, what: str) -> None:
        super().__init__(
            f"cannot restore {file}: a newer version of hkswitch made it ({what}); "
            "install that version or a newer one, and try again"
        )


class SavedFile(NamedTuple):
    """A file in a backup; of its mode, only the permissions."""

    contents: bytes
    mode: int = 0o600


class Backup(NamedTuple):
    """The contents of a backup, the time when it was made (UTC, in seconds), and the version that made it."""

    files: Mapping[str, SavedFile]
    made_at: datetime
    made_by: str


def encode_backup(backup: Backup) -> bytes:
    """Return the contents of the file."""
    files = {
        name: {"mode": each.mode, "base64": base64.b64encode(each.contents).decode()}
        for name, each in backup.files.items()
    }
    made_at = backup.made_at.astimezone(UTC).strftime(_TIME)
    body = {"made_at": made_at, "made_by": backup.made_by, "files": files}
    encoded = json.dumps(body, indent=1).encode() + b"\n"
    return b"hkswitch backup %d sha256:%b\n" % (BACKUP_FORMAT_VERSION, _checksum(encoded)) + encoded


def parse_backup(contents: bytes, file: str) -> Backup:
    """Parse the contents of `file`; raises `BackupDamaged` or `BackupTooNew`."""
    first, _, body = contents.partition(b"\n")
    found = _FIRST_LINE.fullmatch(first)
    if found is None:
        raise BackupDamaged(file, "it is not a backup of hkswitch, or its beginning is damaged")
    if int(found[1]) > BACKUP_FORMAT_VERSION:
        raise BackupTooNew(file, f"format {int(found[1])}, this one reads {BACKUP_FORMAT_VERSION}")
    if len(contents) > MOST_BACKUP_BYTES:
        raise BackupDamaged(file, f"it is larger than {MOST_BACKUP_BYTES} bytes")
    if found[2] != _checksum(body):
        raise BackupDamaged(file, "it is damaged or incomplete (wrong checksum)")
    try:
        return _parse(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise BackupDamaged(file, "unexpected contents") from error


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


def _parse(body: object) -> Backup:
    match body:
        case {"made_at": str(made_at), "made_by": str(made_by), "files": dict(files)} if _VERSION.fullmatch(
            made_by
        ):
            time = datetime.strptime(made_at, _TIME).replace(tzinfo=UTC)
            return Backup({_name(name): _file(each) for name, each in files.items()}, time, made_by)
    raise ValueError("not an object with files")


def _name(name: str) -> str:
    if len(name) > MOST_NAME or not _NAME.fullmatch(name):
        raise ValueError("invalid name")
    return name


def _file(body: Any) -> SavedFile:  # noqa: ANN401 -- JSON
    match body:
        case {"mode": int(mode), "base64": str(encoded)} if type(mode) is int and 0 <= mode <= 0o777:
            return SavedFile(base64.b64decode(encoded, validate=True), mode)
    raise ValueError("not a file")
