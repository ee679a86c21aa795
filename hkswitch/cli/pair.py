"""`hkswitch pair`: shows the setup code or the paired controllers, from the daemon or the state folder.

Does not import HAP-python, which is slow to import.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from hkswitch.cli.layout import say
from hkswitch.cli.options import allow_only_one, examples, json_option, picture_option, state_option
from hkswitch.cli.picture_file import write_picture
from hkswitch.cli.qr import invitation
from hkswitch.control import START_SERVICE, client, is_of_service, pairings, socket_of
from hkswitch.control.words import gone_from_home, locked
from hkswitch.hap import setup_code
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.state_file import StateInUse
from hkswitch.hap.stored_pairings import NoBridgeYet, StoredPairings
from hkswitch.model.errors import Failure
from hkswitch.protocol.control import Controllers, ControlReply, ControlRequest, Operation, SetupInfo
from hkswitch.protocol.report import PairedController

STANDARD_OUTPUT: Final = Path("-")


@click.command(
    epilog=examples("sudo hkswitch pair", "sudo hkswitch pair --svg code.svg", "hkswitch pair --list")
)
@state_option
@json_option
@click.option("--list", "listed", is_flag=True, help="List the paired controllers")
@click.option("--reset-attempts", is_flag=True, help="Allow pairing again after 100 failed attempts")
@picture_option("png")
@picture_option("svg")
def pair(  # noqa: PLR0913 -- one for each option
    state_folder: Path,
    *,
    as_json: bool,
    listed: bool,
    reset_attempts: bool,
    png: Path | None,
    svg: Path | None,
) -> None:
    """Show the setup code and QR code.

    Scan the code with a phone to pair it. Only root and members of the group hkswitch may see it; any local
    user may list the paired controllers.
    """
    actions = {"--reset-attempts": reset_attempts, "--png": png, "--svg": svg}
    allow_only_one(actions | {"--list": listed})
    allow_only_one(actions | {"--json": as_json})
    if listed:
        paired = paired_controllers(state_folder)
        if as_json:
            click.echo(list_as_json(paired))
        else:
            say(list_as_text(paired))
    elif reset_attempts:
        say(reset(state_folder))
    elif png or svg:
        _draw(png, svg, state_folder)
    else:
        _show(state_folder, as_json=as_json)


def _show(state_folder: Path, *, as_json: bool) -> None:
    """Print the setup code, and with it whether no phone can use it now."""
    setup, note = setup_info(state_folder), network_note(state_folder)
    if as_json:
        click.echo(setup_as_json(setup, note))
    else:
        say(setup_as_text(setup, state_folder))
    if note:
        say(note, err=as_json)


def reset(state_folder: Path) -> str:
    """Reset the failed attempts; return what that changed."""
    before = setup_info(state_folder)
    ask_or_do(state_folder, ControlRequest(Operation.RESET_ATTEMPTS))
    if before.pairing_refused:
        return "Failed pairing attempts were reset; pairing is allowed again."
    if before.failed_attempts:
        return "Failed pairing attempts were reset; pairing was not locked."
    return "There were no failed pairing attempts."


def ask_or_do(state_folder: Path, request: ControlRequest) -> ControlReply:
    """Ask the daemon of a state folder; if none is running, change the folder itself. Raises `Failure`."""
    path = socket_of(state_folder)
    try:
        return client.ask(path, request)
    except client.NoDaemon:
        pass
    try:
        return pairings.do(request, StoredPairings(state_folder))
    except NoBridgeYet as failure:
        if is_of_service(path):
            failure.remedy = f"{START_SERVICE} first, or pass the --state-dir of another bridge"
        raise
    except StateInUse as in_use:
        holder = f"another hkswitch (process {in_use.process}) uses it, but does not listen on {path}"
        raise Failure(f"cannot use {in_use.folder}: {holder}; try again in a moment, or stop it") from None


def setup_info(state_folder: Path) -> SetupInfo:
    """Return the data that a phone needs to pair."""
    answer = ask_or_do(state_folder, ControlRequest(Operation.SETUP))
    assert isinstance(answer, SetupInfo)  # noqa: S101 -- client.ask has checked it
    return answer


def paired_controllers(state_folder: Path) -> tuple[PairedController, ...]:
    answer = ask_or_do(state_folder, ControlRequest(Operation.CONTROLLERS))
    assert isinstance(answer, Controllers)  # noqa: S101
    return answer.controllers


def network_note(state_folder: Path) -> str:
    """Return a note if no phone can pair for lack of a daemon, a network or room on the disk; or empty."""
    try:
        bridge = client.ask_report(socket_of(state_folder)).bridge
    except client.NoDaemon as failure:
        return f"No phone can find the bridge: {failure}."
    except Failure:
        return ""
    if bridge is None:
        return ""
    if not bridge.addresses:
        return f"No phone can find the bridge yet: {bridge.network or 'it has no network'}."
    return f"No phone can pair yet: {bridge.storage}." if bridge.storage else ""


def cannot_pair_note(setup: SetupInfo, state_folder: Path) -> str:
    """Return why no controller can pair now; empty if one can."""
    if setup.paired:
        return f"Already paired. {gone_from_home(state_folder)}"
    return f"No controller can pair: {locked(state_folder)}." if setup.pairing_refused else ""


def setup_as_text(setup: SetupInfo, state_folder: Path) -> str:
    """Return the setup code and QR code, or why no controller can pair now."""
    if setup.paired:
        return (
            "Already paired. To give other people access, share the home in the Home app. "
            f"Code: {setup.code}\n{gone_from_home(state_folder)}"
        )
    if setup.pairing_refused:
        return cannot_pair_note(setup, state_folder)
    return invitation(Setup(setup.code, setup.payload[-4:]), sys.stdout, state_folder)


def setup_as_json(setup: SetupInfo, note: str) -> str:
    """Return the setup data as JSON. Programs rely on the keys: none may be renamed or removed.

    `note`: why no phone can find the bridge; empty if one can.
    """
    return json.dumps(
        {
            "paired": setup.paired,
            "device_id": setup.device_id,
            "setup_code": setup.code,
            "setup_payload": setup.payload,
            "failed_attempts": setup.failed_attempts,
            "pairing_refused": setup.pairing_refused,
            "note": note,
        }
    )


def list_as_text(paired: Sequence[PairedController]) -> str:
    """Return a line for each controller."""
    if not paired:
        return "No controller is paired."
    return "\n".join(
        f"{c.id}  {'admin' if c.admin else 'user '}  {'connected' if c.connections else 'not connected'}"
        for c in paired
    )


def list_as_json(paired: Sequence[PairedController]) -> str:
    """Return the controllers as JSON. Programs rely on the keys: none may be renamed or removed."""
    return json.dumps([{"id": c.id, "admin": c.admin, "connections": c.connections} for c in paired])


def _draw(png: Path | None, svg: Path | None, state_folder: Path) -> None:
    setup = setup_info(state_folder)
    path = png or svg
    assert path is not None  # noqa: S101 -- one of the two was given
    contents = setup_code.picture(setup.payload, "svg" if png is None else "png")
    if path == STANDARD_OUTPUT:
        click.echo(contents, nl=False)
    else:
        say(f"{path} contains the setup code; only {write_picture(path, contents)} can read it.")
    for note in (cannot_pair_note(setup, state_folder), network_note(state_folder)):
        if note:
            say(note, err=True)
