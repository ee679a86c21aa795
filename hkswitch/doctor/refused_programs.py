"""Finds out which users and programs of a group the helper would refuse, for the doctor and `check`.

Looks at the file system with the rights of the caller, who may see less than root.
"""

import errno
import os
from dataclasses import replace

from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from hkswitch.serviceswitch import trusted_files


def why_no_user(group: Group) -> trusted_files.Untrusted | None:
    """Return why the helper runs nothing as the group's user."""
    try:
        if group.user:
            trusted_files.is_root(group.user)
    except trusted_files.Untrusted as refusal:
        return refusal
    return None


def programs_of_root(group: Group) -> tuple[str, ...]:
    """Return the programs that root runs for the group; its user may be another name of root's."""
    if group.user and not why_no_user(group) and trusted_files.is_root(group.user):
        group = replace(group, user="")
    return group.programs


def why_no_program(path: str) -> trusted_files.Untrusted | None:
    """Return why the helper does not run a program as root."""
    try:
        trusted_files.program(path)
    except trusted_files.Untrusted as refusal:
        return refusal
    return None


def is_permission_denied(failure: Failure) -> bool:
    """Whether the only reason is that this user may not read the file."""
    return str(failure).endswith(f": {os.strerror(errno.EACCES)}")
