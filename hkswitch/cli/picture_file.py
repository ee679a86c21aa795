"""The file with the picture of a setup code, which belongs to the user who asked for it, with sudo too."""

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.hap.state_file import write_whole
from hkswitch.model.config_file import read_regular
from hkswitch.model.errors import Exit, Failure

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_HEAD_BYTES: Final = 128
"""Enough for the XML declaration before an <svg>."""
_NO_ID: Final = 2**32 - 1
"""To the kernel, this id means "unchanged"."""


class Owner(NamedTuple):
    """The user who ran sudo."""

    user_id: int
    group_id: int
    name: str


def write_picture(path: Path, contents: bytes) -> str:
    """Write a file that only its owner can read, whole or not at all; return who that is.

    Raises `Failure`.
    """
    caller = sudo_caller(os.environ) if os.geteuid() == 0 else None
    # TRUST: the path may lead through folders that the caller controls, or other users. So root does not
    # write the file and give it away: the kernel decides, as if the caller had written it.
    try:
        if caller is not None:
            with suppress(PermissionError):  # a place for root alone, and then so is the file
                with _rights_of(caller):
                    _write(path, contents)
                return caller.name
        _write(path, contents)
    except OSError as error:
        raise _cannot_write(path, error.strerror or str(error)) from None
    return "root" if os.geteuid() == 0 else "you"


def sudo_caller(environment: Mapping[str, str]) -> Owner | None:
    """Return the user who ran sudo; None if this is root's own shell, or if there is no such user."""
    try:
        user_id, group_id = int(environment["SUDO_UID"]), int(environment["SUDO_GID"])
        found = pwd.getpwuid(user_id)
    except (KeyError, ValueError, OverflowError):
        return None
    is_other = user_id > 0 and 0 <= group_id < _NO_ID
    return Owner(user_id, group_id, found.pw_name) if is_other else None


@contextmanager
def _rights_of(owner: Owner) -> Iterator[None]:
    """Access files as this user. The process stays root's, so the user can neither signal nor trace it."""
    groups, group_id = os.getgroups(), os.getegid()
    try:
        os.setgroups(os.getgrouplist(owner.name, owner.group_id))
        os.setegid(owner.group_id)
        os.seteuid(owner.user_id)
        yield
    finally:
        os.seteuid(0)
        os.setegid(group_id)
        os.setgroups(groups)


def _write(path: Path, contents: bytes) -> None:
    """Write the file, or replace an earlier picture. Raises `Failure` if something else is in its place."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISREG(found.st_mode):  # the rename would even replace a device
            raise _cannot_write(path, "it is not a regular file")
        if found.st_size and not _is_picture(path):
            raise _cannot_write(path, "it already exists, and is not a picture; name another file")
    write_whole(path, contents)


def _is_picture(path: Path) -> bool:
    head = read_regular(path, _HEAD_BYTES)
    return head.startswith(_PNG) or b"<svg" in head


def _cannot_write(path: Path, reason: str) -> Failure:
    remedy = "" if "; " in reason else "; use - to write it to standard output"
    return Failure(f"cannot write the picture {path}: {reason}{remedy}", Exit.CANNOT_WRITE)
