"""Whether the configuration is valid, the daemon can read it, and root's helper will believe it."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from hkswitch.doctor.context import ROOT, USER, Account, Situation
from hkswitch.doctor.finding import (
    NO_CONFIG,
    WITH_SUDO,
    Finding,
    Point,
    Verdict,
    counted,
    ok,
    unknown,
    warning,
    wrong,
)
from hkswitch.doctor.hidden import hidden_folders, why_hidden
from hkswitch.hap.state_file import with_rights
from hkswitch.model.config import Config
from hkswitch.model.config_file import ConfigReadTimedOut
from hkswitch.model.dangerous_units import dangerous_units
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Failure
from hkswitch.protocol.report import BridgeReport
from hkswitch.serviceswitch import trusted_files


async def configuration(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    readable = None
    config = situation.config
    is_there = not isinstance(config, ConfigUnreadable) or file_is_hidden(config)
    if situation.account is not None and situation.may_look_as_daemon and is_there:
        readable = _readable_by(situation.account, situation.config_file)
    asker_is_root = situation.asker == ROOT
    found = valid(config, situation.config_file, readable=readable, asker_is_root=asker_is_root)
    return (in_force(found, situation.bridge),)


async def trust(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if isinstance(situation.config, ConfigReadTimedOut):
        return (unknown(Point.TRUST, NO_CONFIG),)
    refused = list(_untrusted(situation))
    found = believed(situation.config, refused, asker_is_root=situation.asker == ROOT)
    if found.verdict is Verdict.OK and (programs := _programs(situation.config)):
        found = seen(found, programs, await hidden_folders(situation.crossing))
    return (found,)


def in_force(found: Finding, bridge: BridgeReport | Failure) -> Finding:
    """Whether the daemon serves a file that is good by itself; why it does not may quote the file."""
    if found.verdict in {Verdict.OK, Verdict.WARNING} and isinstance(bridge, BridgeReport) and bridge.config:
        what = "the daemon does not serve the file as it is now (`hkswitch status` says why)"
        return wrong(Point.CONFIGURATION, what, "`sudo hkswitch reload`")
    return found


def valid(config: Config | Failure, file: Path, *, readable: bool | None, asker_is_root: bool) -> Finding:
    """Says no more of a mistake than its place: what was written may be a secret.

    `readable`: whether the daemon can read it, None for not known.
    """
    if readable is False:
        advice = f"`sudo chmod o+r {file}`, and o+x for the folders above it"
        return wrong(Point.CONFIGURATION, f"the user {USER} cannot read {file}", advice)
    if isinstance(config, ConfigError):
        first = config.problems[0]
        where = f"line {first.line}, column {first.column}" + (f" ({first.path})" if first.path else "")
        mistakes = counted(len(config.problems), "mistake")
        what = f"{file} has {mistakes}, the first in {where}"
        return wrong(Point.CONFIGURATION, what, "`hkswitch check` lists them")
    if isinstance(config, Failure):
        if not asker_is_root and file_is_hidden(config):
            return unknown(Point.CONFIGURATION, str(config), WITH_SUDO)
        return wrong(Point.CONFIGURATION, str(config), "config.example.yaml shows what belongs there")
    if dangers := tuple(dangerous_units(config)):
        danger, *others = dangers
        more = f" (and {len(others)} more; `hkswitch check` lists them)" if others else ""
        advice = (
            f"unless you want that, remove it from group {danger.group_id}, or limit the group's `actions`"
        )
        return warning(Point.CONFIGURATION, f"{danger}{more}", advice)
    return ok(Point.CONFIGURATION, f"{file}, {counted(len(config.groups), 'group')}")


def believed(
    config: Config | Failure,
    refused: list[trusted_files.Untrusted | trusted_files.NotThere],
    *,
    asker_is_root: bool,
) -> Finding:
    """`refused`: what the helper would say to the file, and to each program that is in it."""
    if refused:
        first, *others = refused
        if isinstance(first, trusted_files.NotThere):
            return unknown(Point.TRUST, NO_CONFIG)
        if not asker_is_root and file_is_hidden(first):
            return unknown(Point.TRUST, str(first), WITH_SUDO)
        more = f" (and {len(others)} more)" if others else ""
        advice = "root's helper does nothing with it until nobody but root can write it or a folder above it"
        return wrong(Point.TRUST, f"{first}{more}", advice)
    if isinstance(config, Failure):
        return unknown(Point.TRUST, "the programs are not known without a valid configuration")
    programs = len(_programs(config))
    also = f", and {counted(programs, 'program')}" if programs else ""
    return ok(Point.TRUST, f"nobody but root can write the configuration{also}")


def seen(found: Finding, programs: Iterable[str], folders: Mapping[str, str]) -> Finding:
    """Whether the helper sees the programs, which are trusted. `folders`: those that it does not see."""
    hidden = [why for path in programs if (why := why_hidden(path, folders))]
    if not hidden:
        return found
    more = f" (and {len(hidden) - 1} more)" if len(hidden) > 1 else ""
    advice = "move it to /usr/local/bin, and change the configuration"
    return wrong(Point.TRUST, f"{hidden[0]}{more}", advice)


def file_is_hidden(failure: Failure) -> bool:
    """Whether it says no more than that this user may not look."""
    return str(failure).endswith(f": {os.strerror(errno.EACCES)}")


def _untrusted(situation: Situation) -> Iterator[trusted_files.Untrusted | trusted_files.NotThere]:
    try:
        trusted_files.read(str(situation.config_file))
    except (trusted_files.Untrusted, trusted_files.NotThere) as failure:
        yield failure
    for path in _programs(situation.config):
        try:
            trusted_files.program(path)
        except trusted_files.Untrusted as failure:
            yield failure


def _programs(config: Config | Failure) -> tuple[str, ...]:
    groups = () if isinstance(config, Failure) else config.groups
    return tuple(dict.fromkeys(path for group in groups for path in group.programs))


def _readable_by(account: Account, file: Path) -> bool:
    """Whether the account can read a file; of itself, or of any as root."""
    if os.geteuid() != ROOT:
        return os.access(file, os.R_OK)
    with with_rights(account.user_id, account.group_id, os.getgrouplist(account.name, account.group_id)):
        return os.access(file, os.R_OK, effective_ids=True)
