"""Tells which users and directories of a group this machine lacks, for `hkswitch check` and the doctor."""

import errno
import pwd
import stat
from pathlib import Path

from hkswitch.model.group import Group


def why_no_user(name: str) -> str:
    """Return why commands cannot run as this user; empty if they can."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return f"there is no user {name!r} on this machine"
    return ""


def why_no_directory(path: str) -> str:
    """Return why commands cannot run in this directory; empty if they can, or if only root can tell."""
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        is_missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        return f"there is no directory {path} on this machine" if is_missing else ""
    return "" if stat.S_ISDIR(mode) else f"{path} is not a directory"


def why_no_working_directory(group: Group) -> str:
    """Return why a group's commands have no directory to run in; empty if they have one."""
    if group.directory or not group.user:
        return why_no_directory(group.directory) if group.directory else ""
    try:
        home = pwd.getpwnam(group.user).pw_dir
    except KeyError:
        return ""
    why = why_no_directory(home)
    return f"the home of {group.user!r} is missing ({why}); set 'directory'" if why else ""
