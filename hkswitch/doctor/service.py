"""Whether the daemon runs, and its helper answers."""

from collections.abc import Mapping
from typing import Final

from hkswitch import __version__
from hkswitch.backend.helper_transport import SOCKET_UNIT, sudo_command
from hkswitch.backend.sudo_reasons import HELPER, explain, telling_line
from hkswitch.control import client
from hkswitch.doctor.context import ROOT, UNIT, Situation
from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, ok, unknown, wrong
from hkswitch.doctor.programs import Ran, run
from hkswitch.model.errors import Failure
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.helper import Hello
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import BridgeReport

_START: Final = f"`sudo systemctl enable --now {UNIT}`"
_LOOK: Final = f"`journalctl -u {UNIT}` says why"
_RESTART: Final = f"`sudo systemctl restart {UNIT}`"
_INSTALL: Final = "`sudo make install` puts it right"


async def service(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    return (runs(situation.unit, situation.bridge),)


async def helper(situation: Situation) -> tuple[Finding]:
    """The point of this name. Without a daemon to ask, starts one, which ends at once.

    The daemon's user starts it as the daemon would. Root starts it itself: whether sudo lets the daemon do it
    is another point.
    """
    bridge = situation.bridge
    if isinstance(bridge, BridgeReport):
        return (answers_daemon(bridge.helper),)
    if not isinstance(bridge, client.NoDaemon):
        return (unknown(Point.HELPER, f"the daemon gave no answer ({bridge})"),)
    if situation.crossing is HelperTransport.SOCKET:
        return (listens((await run("systemctl", "is-active", SOCKET_UNIT)).output.strip()),)
    if not situation.may_look_as_daemon:
        return (unknown(Point.HELPER, "there is no daemon to ask", WITH_SUDO if situation.account else ""),)
    return (says_hello(await run(*(HELPER if situation.asker == ROOT else sudo_command()))),)


def runs(unit: Mapping[str, str] | Failure, bridge: BridgeReport | Failure) -> Finding:
    """`unit`: what systemd says of the daemon."""
    if isinstance(unit, Failure):
        return unknown(Point.SERVICE, str(unit))
    if unit.get("LoadState") != "loaded":
        advice = f"`sudo make install`, or `sudo systemctl unmask {UNIT}`"
        return wrong(Point.SERVICE, f"{UNIT} is {unit.get('LoadState') or 'not there'}", advice)
    match unit.get("ActiveState"), unit.get("SubState"):
        case "active" | "reloading", _:
            return _active(unit, bridge)
        case "activating", "auto-restart":
            return wrong(Point.SERVICE, f"{UNIT} fails, and is started again and again", _LOOK)
        case "failed", _:
            return wrong(Point.SERVICE, f"{UNIT} failed ({unit.get('Result')})", f"{_LOOK}; then {_RESTART}")
        case "inactive", _:
            return wrong(Point.SERVICE, f"{UNIT} does not run", _START)
        case active, _:
            return wrong(Point.SERVICE, f"{UNIT} is {active}", "look again in a moment")


def answers_daemon(why_gone: str) -> Finding:
    """`why_gone`: the daemon's reason and remedy, nothing if there is a helper."""
    if why_gone:
        return wrong(Point.HELPER, f"the daemon has no helper ({why_gone})", _LOOK)
    return ok(Point.HELPER, "it answers")


def listens(active: str) -> Finding:
    """`active`: the state of the helper's socket."""
    if active == "active":
        return ok(Point.HELPER, f"{SOCKET_UNIT} listens")
    what = f"{SOCKET_UNIT} is {active or 'not there'}"
    return wrong(Point.HELPER, what, f"`sudo systemctl enable --now {SOCKET_UNIT}`")


def says_hello(ran: Ran) -> Finding:
    """What came of a helper that was started with nothing to do."""
    first, _, _ = ran.output.partition("\n")
    try:
        said = parse_reply(first.encode())
    except MalformedMessage:
        why = telling_line(ran.errors.splitlines()) or ran.complaint
        return wrong(Point.HELPER, explain(why), "hkswitch knows no states until that is fixed")
    if not isinstance(said, Hello):
        return wrong(Point.HELPER, "the helper does not say hello", _INSTALL)
    if said.version != __version__:
        return wrong(
            Point.HELPER, f"the helper has version {said.version}, and this is {__version__}", _INSTALL
        )
    return ok(Point.HELPER, "it answers")


def _active(unit: Mapping[str, str], bridge: BridgeReport | Failure) -> Finding:
    if isinstance(bridge, Failure):
        return wrong(Point.SERVICE, f"{UNIT} runs, but {bridge}", _RESTART)
    if bridge.version != __version__:
        return wrong(Point.SERVICE, f"version {bridge.version} runs, {__version__} is installed", _RESTART)
    boot = "" if unit.get("UnitFileState") == "enabled" else ", and is not started at boot"
    return ok(Point.SERVICE, f"{UNIT} runs{boot}")
