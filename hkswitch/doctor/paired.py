"""Whether a phone has been paired."""

from pathlib import Path

from hkswitch.control.words import command
from hkswitch.doctor.account import stored
from hkswitch.doctor.context import Situation
from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, counted, ok, unknown, wrong
from hkswitch.hap.state_file import Stored
from hkswitch.model.errors import Failure
from hkswitch.protocol.control import MOST_FAILED_ATTEMPTS
from hkswitch.protocol.report import BridgeReport, PairedController


async def paired(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.bridge, BridgeReport):
        bridge = situation.bridge
        return (by(bridge.controllers, situation.state_folder, locked=bridge.pairing_refused),)
    if not situation.may_look_as_daemon:
        why = "there is no daemon to ask"
        return (unknown(Point.PAIRED, why, WITH_SUDO if situation.account else ""),)
    found, _ = stored(situation.state_folder)
    if isinstance(found, Failure):
        return (unknown(Point.PAIRED, "the state cannot be read"),)
    if not isinstance(found, Stored):
        return (by((), situation.state_folder),)
    return (by(found.controllers, situation.state_folder, locked=found.setup_info.pairing_refused),)


def by(controllers: tuple[PairedController, ...], state_folder: Path, *, locked: bool = False) -> Finding:
    """`controllers`: those that are paired. `locked`: another cannot pair."""
    if controllers:
        return ok(Point.PAIRED, f"with {counted(len(controllers), 'controller')}")
    if locked:
        why = f"with nobody, and pairing is locked after {MOST_FAILED_ATTEMPTS} wrong setup codes"
        return wrong(Point.PAIRED, why, f"{command(state_folder, 'pair --reset-attempts')} unlocks it")
    return wrong(Point.PAIRED, "with nobody", f"{command(state_folder, 'pair')} shows the code to scan")
