"""Texts about pairing, each with the command to run.

The service has the default state folder; a demo or a second bridge has another one.
"""

import sys
from pathlib import Path
from typing import Final

from hkswitch.control import STATE_FOLDER
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS

PROGRAM: Final = "hkswitch"


def command(state_folder: Path, words: str) -> str:
    """Return a command for the bridge of a state folder, as a user types it."""
    if state_folder == STATE_FOLDER:
        return f"`sudo {PROGRAM} {words}`"
    import shlex  # noqa: PLC0415 -- `hkswitch status` of the service does not wait for it

    # Absolute, since the user may type it in another folder.
    return f"`{_program()} {words} --state-dir {shlex.quote(str(state_folder.absolute()))}`"


def locked(state_folder: Path) -> str:
    """Return why pairing is locked, and the command that unlocks it."""
    again = command(state_folder, "pair --reset-attempts")
    return f"pairing is locked after {MOST_FAILED_ATTEMPTS} wrong setup codes; run {again} to unlock it"


def gone_from_home(state_folder: Path) -> str:
    """Return the remedy for a bridge that is still paired because it was off when the Home app removed it."""
    again = command(state_folder, "unpair --all")
    return f"If the bridge is no longer in the Home app, run {again} to pair again."


def _program() -> str:
    """Return the path of this program, or its name if that is enough: a demo need not be installed."""
    import shlex  # noqa: PLC0415 -- as above
    import shutil  # noqa: PLC0415

    own, found = Path(sys.argv[0]), shutil.which(PROGRAM)
    if own.name != PROGRAM or (found is not None and own.samefile(found)):
        return PROGRAM
    return shlex.quote(str(own.absolute()))
