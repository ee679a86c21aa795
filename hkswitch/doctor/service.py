"""Checks that the daemon is running, and that its helper responds."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Final

from hkswitch import __version__
from hkswitch.backend.helper_transport import SOCKET_UNIT
from hkswitch.backend.sudo_command import sudo_command
from hkswitch.backend.sudo_reasons import HELPER, explain, telling_line
from hkswitch.control import client
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import Check, Finding, Verdict, fail, needs_root, ok, skip, todo, warn
from hkswitch.doctor.programs import Completed, path_of, run
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.helper import Hello
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.protocol.report import BridgeReport

_NOT_RUNNING: Final = (client.NoDaemon, client.Unreachable)
"""The failures of a client if no daemon is running, or if this user may not ask it."""

_START_DAEMON: Final = f"run `sudo systemctl enable --now {DAEMON_UNIT}`"
_READ_LOG: Final = f"`sudo journalctl -u {DAEMON_UNIT}` gives the reason"
_RESTART_DAEMON: Final = f"run `sudo systemctl restart {DAEMON_UNIT}`"
_REINSTALL: Final = "reinstall hkswitch"


async def service(context: Context) -> tuple[Finding]:
    """Check that systemd runs the daemon, in the installed version, and with the Python of this release."""
    return (of_this_release(running(context.unit, context.bridge), *_pythons()),)


async def helper(context: Context) -> tuple[Finding]:
    """Check that there is a helper, and that `sudo serviceswitch` in a shell means this one."""
    return (shadowed(await _helper(context), path_of(PurePath(HELPER[0]).name)),)


async def _helper(context: Context) -> Finding:
    """Check the helper. Without a daemon to ask, this starts a helper, which exits at once.

    The daemon's user starts it as the daemon would. Root starts it directly: another check covers whether
    sudo lets the daemon do so.
    """
    bridge = context.bridge
    if isinstance(bridge, BridgeReport):
        return reported(bridge.helper)
    if not isinstance(bridge, client.NoDaemon):
        return skip(Check.HELPER, f"the daemon did not answer ({bridge})")
    if context.transport is HelperTransport.SOCKET:
        return listening((await run("systemctl", "is-active", SOCKET_UNIT)).output.strip())
    if context.account is None:
        return skip(Check.HELPER, "the daemon is not running")
    if not context.has_daemon_rights:
        return needs_root(Check.HELPER)
    return responding(await run(*(HELPER if context.is_root else sudo_command())))


def shadowed(found: Finding, first: str | None) -> Finding:
    """Judge which program root's shell finds first; `found` stays if it is the helper."""
    if found.verdict is not Verdict.OK or first in {None, HELPER[0]}:
        return found
    what = f"`sudo serviceswitch` runs {first} instead of {HELPER[0]}"
    return warn(Check.HELPER, what, f"if nothing uses it any more, run `sudo rm {first}`")


def running(unit: Mapping[str, str] | Failure, bridge: BridgeReport | Failure) -> Finding:
    """Judge the service. `unit`: the daemon's properties in systemd."""
    if isinstance(unit, Failure):
        return skip(Check.SERVICE, str(unit))
    match unit.get("LoadState", "not-found"):
        case "loaded":
            return _loaded(unit, bridge)
        case "masked":
            what = f"{DAEMON_UNIT} is masked"
            return fail(Check.SERVICE, what, f"run `sudo systemctl unmask {DAEMON_UNIT}`")
        case "not-found":
            return fail(Check.SERVICE, f"{DAEMON_UNIT} is not installed", "install hkswitch")
        case state:
            what = f"systemd cannot load {DAEMON_UNIT} ({state})"
            return fail(Check.SERVICE, what, f"`systemctl status {DAEMON_UNIT}` gives the reason")


def of_this_release(found: Finding, own: str, system: str) -> Finding:
    """Judge the Python that runs hkswitch; `found` stays unless it is one of an older release of the system.

    A package keeps its Python when the distribution is upgraded. `own`, `system`: paths.
    """
    minors = [re.fullmatch(r"/usr/bin/python3\.(\d+)", path) for path in (own, system)]
    used, usual = (int(minor[1]) if minor else 0 for minor in minors)
    if found.verdict is not Verdict.OK or not 0 < used < usual:
        return found
    what = f"{found.what}, with Python 3.{used}, but this system has 3.{usual}"
    return warn(Check.SERVICE, what, "if you upgraded the distribution, build and install hkswitch again")


def _pythons() -> tuple[str, str]:
    """Return the paths of the Python that runs this and of the system's."""
    return str(Path(sys.executable).resolve()), str(Path("/usr/bin/python3").resolve())


def reported(why_gone: str) -> Finding:
    """Judge the daemon's report. `why_gone`: why it has no helper, and the remedy; empty if it has one."""
    if why_gone:
        return fail(Check.HELPER, f"the daemon has no helper ({why_gone})", _READ_LOG)
    return ok(Check.HELPER, "responding")


def listening(active: str) -> Finding:
    """Judge the helper's socket by its state."""
    if active == "active":
        return ok(Check.HELPER, f"{SOCKET_UNIT} is listening")
    what = f"{SOCKET_UNIT} is {active or 'not installed'}"
    return fail(Check.HELPER, what, f"run `sudo systemctl enable --now {SOCKET_UNIT}`")


def responding(completed: Completed) -> Finding:
    """Judge the output of a helper that was started without a request."""
    first, _, _ = completed.output.partition("\n")
    try:
        reply = parse_reply(first.encode())
    except MalformedMessage:
        why = telling_line(completed.errors.splitlines()) or completed.last_line
        return fail(Check.HELPER, explain(why), "until that is fixed, every switch shows No Response")
    if not isinstance(reply, Hello):
        return fail(Check.HELPER, "the helper sent an unexpected first message", _REINSTALL)
    if reply.version != __version__:
        what = f"the helper has version {reply.version}, but hkswitch has version {__version__}"
        return fail(Check.HELPER, what, _REINSTALL)
    return ok(Check.HELPER, "responding")


def _loaded(unit: Mapping[str, str], bridge: BridgeReport | Failure) -> Finding:
    match unit.get("ActiveState"), unit.get("SubState"):
        case "active" | "reloading", _:
            return _active(unit, bridge)
        case "activating", "auto-restart":
            return fail(Check.SERVICE, f"{DAEMON_UNIT} keeps failing and restarting", _READ_LOG)
        case "failed", _:
            what = f"{DAEMON_UNIT} failed ({unit.get('Result')})"
            return fail(Check.SERVICE, what, f"{_READ_LOG}; then {_RESTART_DAEMON}")
        case "inactive", _ if isinstance(bridge, Failure) and not isinstance(bridge, _NOT_RUNNING):
            what = f"{DAEMON_UNIT} is not running, but another program listens in its place ({bridge})"
            return fail(Check.SERVICE, what, _START_DAEMON)
        case "inactive", _ if unit.get("UnitFileState") == "disabled":
            return todo(Check.SERVICE, f"{DAEMON_UNIT} is not enabled", _START_DAEMON)
        case "inactive", _:
            return fail(Check.SERVICE, f"{DAEMON_UNIT} is not running", _START_DAEMON)
        case active, _:
            return fail(Check.SERVICE, f"{DAEMON_UNIT} is {active}", "run the doctor again in a moment")


def _active(unit: Mapping[str, str], bridge: BridgeReport | Failure) -> Finding:
    if isinstance(bridge, Failure):
        return fail(Check.SERVICE, f"{DAEMON_UNIT} is running, but {bridge}", _RESTART_DAEMON)
    if bridge.version != __version__:
        what = f"version {bridge.version} is running, but version {__version__} is installed"
        return fail(Check.SERVICE, what, _RESTART_DAEMON)
    boot = "" if unit.get("UnitFileState") == "enabled" else ", but not enabled at boot"
    return ok(Check.SERVICE, f"{DAEMON_UNIT} is running{boot}")
