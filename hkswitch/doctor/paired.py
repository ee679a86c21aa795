"""Whether a phone has been paired."""

from hkswitch.doctor.account import stored
from hkswitch.doctor.context import Situation
from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, counted, ok, unknown, wrong
from hkswitch.hap.state_file import Stored
from hkswitch.model.errors import Failure
from hkswitch.protocol.report import BridgeReport, PairedController


async def paired(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.bridge, BridgeReport):
        return (by(situation.bridge.controllers),)
    if not situation.may_look_as_daemon:
        why = "there is no daemon to ask"
        return (unknown(Point.PAIRED, why, WITH_SUDO if situation.account else ""),)
    found, _ = stored(situation.state_folder)
    if isinstance(found, Failure):
        return (unknown(Point.PAIRED, "the state cannot be read"),)
    return (by(found.controllers if isinstance(found, Stored) else ()),)


def by(controllers: tuple[PairedController, ...]) -> Finding:
    """`controllers`: those that are paired."""
    if controllers:
        return ok(Point.PAIRED, f"with {counted(len(controllers), 'controller')}")
    return wrong(Point.PAIRED, "with nobody", "`sudo hkswitch pair` shows the code to scan")
