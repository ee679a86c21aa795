"""The state folder while a command of root's replaces its contents: its owner, its lock, and refusals.

`doing` names the command's work in a refusal: `cannot restore the backup: REASON`.
"""

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from hkswitch.control import STATE_FOLDER
from hkswitch.hap import state_file
from hkswitch.model.config_file import DEFAULT
from hkswitch.model.errors import Exit, Failure
from hkswitch.model.installation import DAEMON_USER

REPLACED: Final = "replaced-"
"""The names of the folders with the files that restores have replaced, beside the config, begin so."""


def refused(doing: str, why: str, exit_code: Exit = Exit.CONFIG) -> Failure:
    """Return the failure of a command that changes nothing."""
    return Failure(f"cannot {doing}: {why}", exit_code)


def refuse_paired(folder: Path, doing: str) -> Failure:
    """Return the failure for a folder whose bridge phones would lose."""
    remedy = "run `sudo hkswitch unpair --all` first if they are not needed"
    return refused(doing, f"the bridge in {folder} has paired controllers already; {remedy}")


def only_root(doing: str, *paths: Path) -> None:
    """Raise `Failure` for other users if one of these is the service's state folder or its config."""
    named = {os.path.abspath(path) for path in paths}  # noqa: PTH100 -- absolute() keeps `..`
    if os.geteuid() != 0 and {str(STATE_FOLDER), str(DEFAULT)} & named:
        raise refused(doing, "only root may; use sudo", Exit.DENIED)


def give_to_daemon(folder: Path, doing: str) -> None:
    """Create the service's state folder, and make it the daemon's, as systemd does at the first start."""
    if os.geteuid() != 0:
        raise Failure(f"cannot write {folder}: only root may; use sudo", Exit.DENIED)
    try:
        account = pwd.getpwnam(DAEMON_USER)
    except KeyError:
        raise refused(doing, f"there is no user {DAEMON_USER}; install hkswitch first") from None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (owner := folder.stat().st_uid) == 0:
            os.chown(folder, account.pw_uid, account.pw_gid)
        elif owner != account.pw_uid:  # such as an earlier account, whose number may be another user's now
            remedy = f"run `sudo chown -R {DAEMON_USER}:{DAEMON_USER} {folder}`"
            raise refused(
                doing, f"{folder} belongs to uid {owner}, not to {DAEMON_USER}; {remedy}", Exit.DENIED
            )
    except OSError as error:
        raise state_file.StateUnwritable(folder, error.strerror or str(error)) from error


@contextmanager
def held(folder: Path, doing: str) -> Iterator[None]:
    """Keep daemons out of the folder within the block. Raises `Failure` if one uses it.

    The lock belongs to the folder's owner, but the block has the rights of this process.
    """
    with ExitStack() as stack:
        try:
            with state_file.as_owner(folder):
                stack.enter_context(state_file.locked(folder))
        except state_file.StateInUse as in_use:
            remedy = "run `sudo systemctl stop hkswitch`" if folder == STATE_FOLDER else "stop it"
            why = f"process {in_use.process} uses {in_use.folder}; {remedy}"
            raise refused(doing, why, in_use.exit_code) from None
        yield
