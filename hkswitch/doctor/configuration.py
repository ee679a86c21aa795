"""Checks that the configuration is valid, that the daemon can read it, and that the helper trusts it.

The helper must also see the programs in it, and its sandbox hides folders that the doctor sees. The
directories in which commands run must exist.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Final

from hkswitch.doctor.context import ROOT, Account, Context, parse_properties
from hkswitch.doctor.finding import (
    NO_CONFIG,
    WITH_SUDO,
    Check,
    Finding,
    Verdict,
    counted,
    fail,
    ok,
    several,
    skip,
    warn,
)
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.doctor.refused_programs import (
    is_permission_denied,
    programs_of_root,
    why_no_program,
    why_no_user,
)
from hkswitch.hap.state_file import with_rights
from hkswitch.model.config import Config
from hkswitch.model.config_file import ConfigReadTimedOut
from hkswitch.model.dangerous_units import dangerous_units
from hkswitch.model.errors import ConfigError, ConfigUnreadable, Failure
from hkswitch.model.group import Group
from hkswitch.model.installation import DAEMON_UNIT, DAEMON_USER
from hkswitch.model.machine import why_no_working_directory
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.helper import SOCKET_IS_SET
from hkswitch.protocol.report import BridgeReport
from hkswitch.serviceswitch import trusted_files

EXAMPLE: Final = "/usr/share/doc/hkswitch/config.example.yaml"
HELPER_INSTANCE: Final = "serviceswitch@doctor.service"
"""An instance that never runs: it has the settings of all instances."""

SANDBOX_SETTINGS: Final = ("ProtectHome", "PrivateTmp", "InaccessiblePaths", "TemporaryFileSystem")
HOME_FOLDERS: Final = ("/home", "/root", "/run/user")
TEMPORARY_FOLDERS: Final = ("/tmp", "/var/tmp")  # noqa: S108 -- it writes nothing there

Refusal = trusted_files.Untrusted | trusted_files.NotThere


async def configuration(context: Context) -> tuple[Finding]:
    """Check that the configuration is valid, readable for the daemon, and in effect."""
    readable = None
    config = context.config
    exists = not isinstance(config, ConfigUnreadable) or is_permission_denied(config)
    if context.account is not None and context.has_daemon_rights and exists:
        readable = _readable_by(context.account, context.config_file)
    found = valid(config, context.config_file, readable=readable, is_root=context.is_root)
    return (in_effect(found, context.bridge),)


async def trust(context: Context) -> tuple[Finding]:
    """Check that the helper trusts the configuration, and trusts and sees the programs in it."""
    if isinstance(context.config, ConfigReadTimedOut):
        return (skip(Check.TRUST, NO_CONFIG),)
    found = trusted(context.config, list(_refusals(context)), is_root=context.is_root)
    if found.verdict is Verdict.OK and (programs := _programs(context.config)):
        found = visible(found, programs, await hidden_folders(context.transport))
    if found.verdict is Verdict.OK and not isinstance(context.config, Failure):
        found = with_directories(found, context.config)
    return (found,)


def in_effect(found: Finding, bridge: BridgeReport | Failure) -> Finding:
    """Judge whether the daemon uses a valid file. The reason why not is left out: it may quote the file."""
    is_valid = found.verdict in {Verdict.OK, Verdict.WARN}
    if is_valid and isinstance(bridge, BridgeReport) and bridge.config:
        if SOCKET_IS_SET in bridge.config:
            what = "the daemon still uses sudo, but the current file has `helper: socket`"
            return fail(Check.CONFIGURATION, what, f"run `sudo systemctl restart {DAEMON_UNIT}`")
        what = "the daemon does not use the current file (`hkswitch status` gives the reason)"
        return fail(Check.CONFIGURATION, what, "run `sudo hkswitch reload`")
    return found


def valid(config: Config | Failure, file: Path, *, readable: bool | None, is_root: bool) -> Finding:
    """Judge the file. Of an error, only the place is named: the text there may be a secret.

    `readable`: whether the daemon can read the file, None if that is not known.
    """
    if readable is False:
        advice = f"run `sudo chmod o+r {file}`, and `sudo chmod o+x` on the folders above it"
        return fail(Check.CONFIGURATION, f"the user {DAEMON_USER} cannot read {file}", advice)
    if isinstance(config, ConfigError):
        first = config.problems[0]
        where = f"line {first.line}, column {first.column}" + (f" ({first.path})" if first.path else "")
        errors = counted(len(config.problems), "error")
        what = f"{file} has {errors}, the first at {where}"
        return fail(Check.CONFIGURATION, what, "`hkswitch check` lists them")
    if isinstance(config, Failure):
        if not is_root and is_permission_denied(config):
            return skip(Check.CONFIGURATION, str(config), WITH_SUDO)
        if str(config).endswith(f": {os.strerror(errno.ENOENT)}"):
            return fail(Check.CONFIGURATION, f"{file} does not exist", f"run `sudo cp {EXAMPLE} {file}`")
        return fail(Check.CONFIGURATION, str(config), "correct that, and run the doctor again")
    if dangers := tuple(dangerous_units(config)):
        danger, *others = dangers
        more = f" (and {len(others)} more; `hkswitch check` lists them)" if others else ""
        advice = (
            f"unless you want that, remove it from group {danger.group_id}, or limit the group's `actions`"
        )
        return warn(Check.CONFIGURATION, f"{danger}{more}", advice)
    return ok(Check.CONFIGURATION, f"{file} ({counted(len(config.groups), 'group')})")


def trusted(config: Config | Failure, refusals: list[Refusal], *, is_root: bool) -> Finding:
    """Judge by the helper's reasons to refuse the file, or a program in it."""
    if any(isinstance(refusal, trusted_files.NotThere) for refusal in refusals):
        return skip(Check.TRUST, NO_CONFIG)
    certain = [str(refusal) for refusal in refusals if is_root or not is_permission_denied(refusal)]
    if certain:
        what = several(tuple(dict.fromkeys(certain)), "; ")
        return fail(Check.TRUST, what, "until that is fixed, the helper denies each request that needs it")
    if refusals:
        return skip(Check.TRUST, str(refusals[0]), WITH_SUDO)
    if isinstance(config, Failure):
        return skip(Check.TRUST, NO_CONFIG)
    programs = len(_programs(config))
    also = f" and {counted(programs, 'program')}" if programs else ""
    return ok(Check.TRUST, f"only root can write the configuration{also}")


def visible(found: Finding, programs: Iterable[str], folders: Mapping[str, str]) -> Finding:
    """Judge whether the helper sees the programs, which it trusts. `folders`: those hidden from it."""
    hidden = [why for path in programs if (why := why_hidden(path, folders))]
    if not hidden:
        return found
    it = "it" if len(hidden) == 1 else "them"
    advice = f"move {it} to /usr/local/bin, and change the configuration"
    return fail(Check.TRUST, several(hidden), advice)


def with_directories(found: Finding, config: Config) -> Finding:
    """Judge whether the directories exist in which commands run."""
    missing = dict.fromkeys(why for group in config.groups if (why := why_no_working_directory(group)))
    if missing:
        return fail(
            Check.TRUST, several([*missing]), "create the directory, or change `directory` of the group"
        )
    return found


async def hidden_folders(transport: HelperTransport) -> Mapping[str, str]:
    """Return the folders that the helper cannot see, each with the setting; none without systemd."""
    unit = HELPER_INSTANCE if transport is HelperTransport.SOCKET else DAEMON_UNIT
    try:
        shown = await run("systemctl", "show", f"--property={','.join(SANDBOX_SETTINGS)}", unit)
    except CannotRun:
        return {}
    name = unit.replace("@doctor.", "@.")
    settings = parse_properties(shown.output)
    return {folder: f"{setting}= of {name}" for folder, setting in folders_hidden_by(settings)}


def folders_hidden_by(settings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the folders that these settings of a unit hide, each with the setting. Pure."""
    if settings.get("ProtectHome") in {"yes", "tmpfs"}:
        yield from ((folder, "ProtectHome") for folder in HOME_FOLDERS)
    if settings.get("PrivateTmp") not in {None, "", "no"}:
        yield from ((folder, "PrivateTmp") for folder in TEMPORARY_FOLDERS)
    for folder in settings.get("InaccessiblePaths", "").split():
        yield folder.lstrip("-+"), "InaccessiblePaths"
    for folder in settings.get("TemporaryFileSystem", "").split():
        yield folder.partition(":")[0], "TemporaryFileSystem"


def why_hidden(program: str, folders: Mapping[str, str]) -> str:
    """Return why the helper cannot see a program or its interpreter; empty if it can."""
    for path in _paths_to_start(program):
        for folder, setting in folders.items():
            if PurePath(path).is_relative_to(folder):
                return f"the helper cannot see {path}: {setting} hides {folder}"
    return ""


def _paths_to_start(program: str) -> Iterator[str]:
    """Yield the paths of a program and of its interpreters, before and after following links."""
    path: str | None = program
    while path is not None:
        yield path
        without_links = str(Path(path).resolve())
        yield without_links
        path = trusted_files.interpreter_of(without_links)


def _refusals(context: Context) -> Iterator[Refusal]:
    try:
        trusted_files.read(str(context.config_file))
    except (trusted_files.Untrusted, trusted_files.NotThere) as failure:
        yield failure
    yield from filter(None, map(why_no_user, _groups(context.config)))
    yield from filter(None, map(why_no_program, _programs(context.config)))


def _programs(config: Config | Failure) -> tuple[str, ...]:
    return tuple(dict.fromkeys(path for group in _groups(config) for path in programs_of_root(group)))


def _groups(config: Config | Failure) -> tuple[Group, ...]:
    return () if isinstance(config, Failure) else config.groups


def _readable_by(account: Account, file: Path) -> bool:
    """Whether the account can read a file; only root can ask about an account other than its own."""
    if os.geteuid() != ROOT:
        return os.access(file, os.R_OK)
    with with_rights(account.user_id, account.group_id, os.getgrouplist(account.name, account.group_id)):
        return os.access(file, os.R_OK, effective_ids=True)
