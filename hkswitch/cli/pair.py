"""What `hkswitch pair` and `hkswitch unpair` do: asking the daemon or the state folder, and saying it.

Knows no HAP-python: the command line would wait for it.
"""

import json
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hkswitch.control import client, is_of_service, pairings, socket_of
from hkswitch.control.words import command, gone_from_home, locked
from hkswitch.hap import setup_code
from hkswitch.hap.setup_code import Setup, UnknownController, some
from hkswitch.hap.state_file import StateInUse, write_whole
from hkswitch.hap.stored_pairings import NoBridgeYet, StoredPairings
from hkswitch.model.errors import Exit, Failure
from hkswitch.protocol.control import Controllers, ControlReply, ControlRequest, Operation, SetupInfo
from hkswitch.protocol.report import PairedController


@dataclass(eq=False)
class DaemonSilent(Failure):
    """Somebody has the state folder, but does not listen."""

    path: Path
    in_use: StateInUse

    def __str__(self) -> str:
        holder = f"another hkswitch (process {self.in_use.process}) that does not listen on {self.path}"
        return f"{self.in_use.folder} is in use by {holder}: try again in a moment, or stop it first"


@dataclass(eq=False)
class NotOne(Failure):
    """What was named is not one controller; `typed` is None if nothing was."""

    typed: str | None
    among: tuple[PairedController, ...]
    exit_code = Exit.USAGE

    def __str__(self) -> str:
        ids = some([controller.id for controller in self.among])
        if self.typed is None:
            return f"there are several controllers: name one of {ids}, or --all"
        return f"{len(self.among)} controllers begin with {self.typed!r}: {ids}; type more of one ID"


@dataclass(eq=False)
class PictureUnwritable(Failure):
    """The file of a picture cannot be written."""

    path: Path
    why: str
    exit_code = Exit.CANNOT_WRITE

    def __str__(self) -> str:
        return f"cannot write the picture {self.path}: {self.why}; - writes it to standard output"


def ask_or_do(state_folder: Path, question: ControlRequest) -> ControlReply:
    """Ask the daemon of a state folder; without one, do it there. Raises `Failure`."""
    path = socket_of(state_folder)
    try:
        return client.ask(path, question)
    except client.NoDaemon:
        pass
    try:
        return pairings.do(question, StoredPairings(state_folder))
    except NoBridgeYet as failure:
        if is_of_service(path):
            failure.remedy = "start hkswitch.service first, or name the --state-dir of another bridge"
        raise
    except StateInUse as in_use:
        raise DaemonSilent(path, in_use) from None


def setup_info(state_folder: Path) -> SetupInfo:
    """What is needed to pair."""
    said = ask_or_do(state_folder, ControlRequest(Operation.SETUP))
    assert isinstance(said, SetupInfo)  # noqa: S101 -- client.ask checked
    return said


def controllers(state_folder: Path) -> tuple[PairedController, ...]:
    """Who is paired."""
    said = ask_or_do(state_folder, ControlRequest(Operation.CONTROLLERS))
    assert isinstance(said, Controllers)  # noqa: S101
    return said.controllers


def reset_attempts(state_folder: Path) -> str:
    """Forget the failed attempts to pair; returns what was done."""
    ask_or_do(state_folder, ControlRequest(Operation.RESET_ATTEMPTS))
    return "The failed attempts to pair are forgotten."


def picture(setup: SetupInfo, kind: Literal["png", "svg"]) -> bytes:
    """The QR code as the contents of a file."""
    return setup_code.picture(setup.payload, kind)


def of_no_use(setup: SetupInfo, state_folder: Path) -> str:
    """Why a controller cannot pair by this code now; empty if it can."""
    if setup.paired:
        return f"Already paired. {gone_from_home(state_folder)}"
    return f"No controller can pair: {locked(state_folder)}." if setup.pairing_refused else ""


def chosen(among: Sequence[PairedController], typed: str | None) -> PairedController:
    """The controller whose ID was typed, or its beginning; the only one if nothing was. Raises `Failure`."""
    if typed is None:
        found = tuple(among)
    else:
        wanted = typed.upper()
        exact = tuple(controller for controller in among if controller.id == wanted)
        found = exact or tuple(c for c in among if wanted and c.id.startswith(wanted))
        if not found:
            raise UnknownController(typed, [controller.id for controller in among])
    if len(found) != 1:
        raise NotOne(typed, found)
    return found[0]


def shown(setup: SetupInfo, state_folder: Path) -> str:
    """What a person needs to pair, or why that is not possible now."""
    if setup.paired:
        return (
            f"Already paired. To let others in, share the home in the Home app. Code: {setup.code}\n"
            f"{gone_from_home(state_folder)}"
        )
    if setup.pairing_refused:
        return of_no_use(setup, state_folder)
    return setup_code.invitation(Setup(setup.code, setup.payload[-4:]))


def setup_as_json(setup: SetupInfo) -> str:
    """For programs: the keys that are there stay there."""
    return json.dumps(
        {
            "paired": setup.paired,
            "device_id": setup.device_id,
            "setup_code": setup.code,
            "setup_payload": setup.payload,
            "failed_attempts": setup.failed_attempts,
            "pairing_refused": setup.pairing_refused,
        }
    )


def listed(paired: Sequence[PairedController]) -> str:
    """The paired controllers, one a line."""
    if not paired:
        return "No controller is paired."
    return "\n".join(
        f"{c.id}  {'admin' if c.admin else 'user '}  {'connected' if c.connections else 'not connected'}"
        for c in paired
    )


def listed_as_json(paired: Sequence[PairedController]) -> str:
    """For programs: the keys that are there stay there."""
    return json.dumps([{"id": c.id, "admin": c.admin, "connections": c.connections} for c in paired])


def unpair(state_folder: Path, typed: str | None, *, everybody: bool) -> str:
    """Remove a controller or all; returns what was done. Raises `Failure`."""
    before = controllers(state_folder)
    if not before and typed is None:
        return "No controller is paired."
    one = None if everybody else chosen(before, typed)
    ask_or_do(state_folder, ControlRequest(Operation.UNPAIR, None if one is None else one.id))
    return unpaired(one, before, controllers(state_folder), command(state_folder, "pair"))


def unpaired(
    one: PairedController | None,
    before: Sequence[PairedController],
    after: Sequence[PairedController],
    again: str,
) -> str:
    """What the removal of one controller, or of all (None), has done; `again` is how to pair."""
    left = {controller.id for controller in after}
    gone = [c.id for c in before if c.id not in left]
    others = ", ".join(controller_id for controller_id in gone if one is None or controller_id != one.id)
    if one is None:
        words = f"Removed all controllers: {others}."
    elif others:
        words = f"Removed {one.id}, the last admin, and with it all others: {others}."
    else:
        words = f"Removed {one.id}."
    return words if left else f"{words} No controller is paired now: {again} shows the setup code again."


def write_picture(path: Path, contents: bytes) -> None:
    """Write a file for its owner alone, whole or not at all; raises `PictureUnwritable`."""
    try:
        if not _is_free(path):
            raise PictureUnwritable(path, "something else than a file is there")
        write_whole(path, contents)
    except OSError as error:
        raise PictureUnwritable(path, error.strerror or str(error)) from error


def _is_free(path: Path) -> bool:
    """Whether a file may come here: a rename would replace a device, too."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except FileNotFoundError:
        return True
