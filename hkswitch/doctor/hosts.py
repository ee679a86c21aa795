"""Checks the other hosts of this bridge: connects to each as the daemon does, and asks the daemon about it.

Only root and the daemon's user can use the daemon's keys; for others, the daemon's report counts.
"""

import asyncio
import os
import pwd
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.backend import ssh_reasons
from hkswitch.backend.ssh_command import SETTINGS, SSH, key_file, known_hosts_file
from hkswitch.doctor.context import ROOT, Context
from hkswitch.doctor.finding import (
    WITH_SUDO,
    Check,
    Finding,
    counted,
    fail,
    needs_root,
    ok,
    rights,
    several,
    todo,
    warn,
)
from hkswitch.model.config import Config
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.errors import Failure
from hkswitch.model.installation import DAEMON_UNIT, DAEMON_USER
from hkswitch.protocol.host_report import HostReport
from hkswitch.remote import limits
from hkswitch.remote.host_folder import FOLDER_MODE, KEY_MODE, PUBLIC_MODE, read_host
from hkswitch.remote.trial import NOT_RESTARTED, TrialResult, allow_restart, try_host

MOST_AT_ONCE: Final = 32
"""Trials at the same time, each of which is an ssh process."""

MOST_CLOCK_SECONDS: Final = 30
"""A larger difference confuses who compares the logs and audits of two hosts."""

_MIB: Final = 2**20


class Known(NamedTuple):
    """What is known of a host: its groups there, by their ids here, and what the daemon reports."""

    host: RemoteHost
    groups: Mapping[str, str]
    report: HostReport | None = None
    """None if there is no daemon to ask."""
    restarted: Collection[str] = ()
    """The ids here of those with a restart switch or a rule."""


async def hosts(context: Context) -> tuple[Finding, ...]:
    """Check each host of the configuration, and whether the daemon's limits are enough for all of them."""
    config = context.config
    if isinstance(config, Failure) or not config.hosts:
        return ()
    if not os.access(SSH, os.X_OK):
        return (fail(Check.HOSTS, f"{SSH} does not exist", ssh_reasons.INSTALL_SSH),)
    reports = {report.name: report for report in context.hosts}
    places = {group.id: group.elsewhere for group in config.groups if group.elsewhere is not None}
    restarted = [group.id for group in config.groups if group.restart or group.restart_when is not None]
    known = [
        Known(
            host,
            {each: at.group for each, at in places.items() if at.host == host},
            reports.get(host.name),
            restarted,
        )
        for host in config.hosts
    ]
    turns = asyncio.Semaphore(MOST_AT_ONCE)
    found = await asyncio.gather(*(_examined(context, each, turns) for each in known))
    unit = {} if isinstance(context.unit, Failure) else context.unit
    limited = limits_fault(unit, config)
    return (*found, *((limited,) if limited else ()))


async def _examined(context: Context, known: Known, turns: asyncio.Semaphore) -> Finding:
    if not context.has_daemon_rights:
        return reported(known)
    if context.is_root and (fault := files_fault(known.host)):
        return fault
    async with turns:
        try:
            return connected(known, await try_host(known.host.name, known.host.ssh))
        except Failure as failure:
            return unreachable(known, str(failure))


def reported(known: Known) -> Finding:
    """Judge a host by the daemon's report alone."""
    name, report = known.host.name, known.report
    if report is None:
        return needs_root(Check.HOSTS)
    if not known.groups:
        return _unused(name)
    if report.problem:
        return fail(Check.HOSTS, f"{name}: {report.problem}", WITH_SUDO)
    return ok(Check.HOSTS, f"{name}: connected, hkswitch {report.version} there")


def unreachable(known: Known, why: str) -> Finding:
    """Judge why a test connection failed. Nothing is broken here if no group is on the host."""
    name = known.host.name
    make = fail if known.groups else warn
    said = why.removeprefix(f"cannot connect to {name}: ")
    if said == why:  # it has a remedy of its own
        what, _, remedy = why.rpartition("; ")
        return make(Check.HOSTS, f"{name}: {what or remedy}", remedy)
    if (reason := ssh_reasons.find_ssh_reason(said)) is None:
        return make(Check.HOSTS, f"{name}: {said}", f"run `sudo hkswitch host test {name}` again")
    raw = said.removesuffix(f"; {ssh_reasons.hint(said, name)}")
    remedy = reason.remedy.replace("NAME", name).replace("DESTINATION", known.host.ssh)
    return make(Check.HOSTS, f"{name}: {reason.cause} ({raw})", remedy)


def connected(known: Known, result: TrialResult) -> Finding:
    """Judge the answers of a host's helper, and whether the daemon is connected to it, too."""
    name = known.host.name
    if result.config_problem:
        what = f"{name}: its helper rejects the configuration there ({result.config_problem})"
        return fail(Check.HOSTS, what, "there, run `hkswitch check`")
    missing = [f"{there} ({here} here)" for here, there in known.groups.items() if there not in result.groups]
    if missing:
        have = f"its groups are {several(sorted(result.groups))}" if result.groups else "it has no groups"
        advice = f"add it there, or correct `group` here with `sudo hkswitch edit`; {have}"
        return fail(Check.HOSTS, f"{name}: the configuration there has no group {several(missing)}", advice)
    if known.groups and known.report is not None and not known.report.connected_since_unix_seconds:
        what = f"{name}: a test connection works, but the daemon is not connected ({known.report.problem})"
        return fail(Check.HOSTS, what, "run `sudo hkswitch reload`: the daemon then connects at once")
    for here in known.restarted:
        if (there := known.groups.get(here)) in result.not_restarted:
            return warn(Check.HOSTS, f"{name}: {here}: {NOT_RESTARTED}", allow_restart(there))
    if result.missing:
        what = f"{name}: hkswitch {result.version} there is another version: {result.missing}"
        return warn(Check.HOSTS, what, "install the same version there")
    if result.clock_seconds is not None and abs(result.clock_seconds) > MOST_CLOCK_SECONDS:
        order = "ahead of" if result.clock_seconds > 0 else "behind"
        what = f"{name}: its clock is {abs(result.clock_seconds)} s {order} the one here"
        return warn(Check.HOSTS, what, "run `sudo timedatectl set-ntp true` where the time is wrong")
    if not known.groups:
        return _unused(name)
    what = f"hkswitch {result.version}, round trip {result.round_trip_ms:.1f} ms"
    return ok(Check.HOSTS, f"{name}: {what}, {counted(len(known.groups), 'group')}")


def limits_fault(unit: Mapping[str, str], config: Config) -> Finding | None:
    """Return the finding if the daemon's limits are too low for the hosts; `unit`: its properties."""
    number = len(config.hosts)
    needed = {
        "MemoryMax": (limits.MEMORY_MIB + number * limits.MEMORY_MIB_A_HOST) * _MIB,
        "TasksMax": limits.TASKS + number * limits.TASKS_A_HOST,
        "LimitNOFILE": limits.FILES + number * limits.FILES_A_HOST,
    }
    low = [
        name for name, least in needed.items() if unit.get(name, "").isdecimal() and int(unit[name]) < least
    ]
    if not low:
        return None
    what = f"{', '.join(low)} of {DAEMON_UNIT} {'is' if len(low) == 1 else 'are'} too low"
    first = config.hosts[0]
    advice = (
        f"run `sudo hkswitch host add {first.name} {first.ssh}` again: it sets the limits in {limits.DROP_IN}"
    )
    return warn(Check.HOSTS, f"{what} for {counted(number, 'host')}", advice)


def key_fault(name: str, modes: Mapping[str, tuple[int, int]], daemon_id: int) -> Finding | None:
    """Return the finding about a file of a host that others can read or write; None if there is none.

    `modes`: owners and permissions of the private key and of known_hosts, by path. `daemon_id`: the daemon's
    user, who may own the key.
    """
    for path, (owner, mode) in modes.items():
        is_key = path.endswith(key_file(name).name)
        allowed = KEY_MODE | stat.S_IWUSR if is_key else PUBLIC_MODE
        owners = {ROOT, daemon_id} if is_key else {ROOT}
        if owner not in owners or mode & ~allowed:
            what = f"{name}: other users than root can change {path}"
            if owner in owners and not mode & (stat.S_IWGRP | stat.S_IWOTH):
                what = f"{name}: other users can read {path}"
            return fail(Check.HOSTS, what, rights(path, *(_OF_KEY if is_key else _OF_OTHERS)))
    return None


def files_fault(host: RemoteHost, settings: Path = SETTINGS) -> Finding | None:
    """Return the finding about the files of a host's connection here, if any. Raises `Failure`."""
    name = host.name
    add = f"run `sudo hkswitch host add {name} {host.ssh}`"
    files = read_host(name, settings)
    if files is None:
        return fail(Check.HOSTS, f"{name}: this bridge has no usable key for it", add)
    if files.host_key is None:
        return fail(Check.HOSTS, f"{name}: the key of the host was never accepted, or is damaged", add)
    key, known = key_file(name, settings), known_hosts_file(name, settings)
    folder_status, key_status, known_status = key.parent.stat(), key.stat(), known.stat()
    modes = {
        str(path): (found.st_uid, stat.S_IMODE(found.st_mode))
        for path, found in ((key, key_status), (known, known_status))
    }
    try:
        daemon = pwd.getpwnam(DAEMON_USER)
    except KeyError:  # another check reports that there is no such user
        return None
    return key_fault(name, modes, daemon.pw_uid) or closed_fault(
        name, {str(key.parent): folder_status, str(key): key_status}, (daemon.pw_uid, daemon.pw_gid)
    )


def closed_fault(name: str, found: Mapping[str, os.stat_result], daemon: tuple[int, int]) -> Finding | None:
    """Return the finding if the daemon, a user and a group, cannot enter a host's folder or read its key."""
    for path, status in found.items():
        is_folder = stat.S_ISDIR(status.st_mode)
        needed = stat.S_IRGRP | stat.S_IXGRP if is_folder else stat.S_IRUSR
        is_daemons = (status.st_gid == daemon[1]) if is_folder else (status.st_uid == daemon[0])
        if not is_daemons or status.st_mode & needed != needed:
            advice = rights(path, *(_OF_FOLDER if is_folder else _OF_KEY))
            return fail(Check.HOSTS, f"{name}: the daemon cannot read {path}", advice)
    return None


_OF_FOLDER: Final = f"root:{DAEMON_USER}", FOLDER_MODE
_OF_KEY: Final = f"{DAEMON_USER}:root", KEY_MODE
_OF_OTHERS: Final = "root:root", PUBLIC_MODE


def _unused(name: str) -> Finding:
    return todo(Check.HOSTS, f"{name}: no group is on it", f"run `sudo hkswitch add ID --host {name}`")
