"""Asks sudo whether it lets the daemon start its helper, and if not, finds out why."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.backend.sudo_command import sudo_command
from hkswitch.backend.sudo_reasons import HELPER, RULE_REMEDY, SUDOERS_RULE, find_reason, hint, telling_line
from hkswitch.doctor.context import ROOT, Context
from hkswitch.doctor.finding import Check, Finding, fail, needs_root, ok, skip
from hkswitch.doctor.programs import CannotRun, NotInstalled, run
from hkswitch.model.installation import DAEMON_USER
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.report import BridgeReport

RULE_FILE: Final = Path("/etc/sudoers.d/hkswitch")
RULE_FILE_MODE: Final = 0o440
SUDOERS_FILE: Final = Path("/etc/sudoers")
NO_RULE: Final = "no rule allows it"
"""Stands in for sudo's message: it prints none about a command that no rule allows."""
INCLUDED: Final = rf"^[@#]includedir\s+{re.escape(str(RULE_FILE.parent))}/?\s*$"
"""In its older form, the line begins like a comment."""
_UNSET_SETENV: Final = (
    f"add `Defaults!{HELPER[0]} !setenv` with `sudo visudo`; SETENV: or ALL in a rule takes precedence: "
    f"the last rule must be `{SUDOERS_RULE}`"
)


@dataclass(frozen=True, slots=True)
class RuleFile:
    """The state of the file with our rule, which only root can see."""

    mode: int | None = None
    """None if the file does not exist."""
    is_roots: bool = True
    ignored_file: str = ""
    """A file with a similar name, which sudo ignores."""
    visudo_error: str = ""
    """The first error that visudo finds in any rule."""
    is_included: bool = True
    """Whether /etc/sudoers includes the folder of the file."""


async def sudoers(context: Context) -> tuple[Finding]:
    """Check that a rule allows the daemon's user to start the helper, and no more than that."""
    if context.transport is HelperTransport.SOCKET:
        return (ok(Check.SUDO, "not needed: systemd starts the helper"),)
    if context.account is None:
        return (skip(Check.SUDO, f"there is no user {DAEMON_USER}"),)
    if not context.has_daemon_rights:
        return (needs_root(Check.SUDO),)
    sudo, *_ = sudo_command()
    whose = ("-U", DAEMON_USER) if context.is_root else ()
    try:
        allowed = await run(sudo, "-n", "-l", "-u", "root", *whose, *HELPER)
    except NotInstalled:
        advice = "install it: the daemon needs it to start the helper"
        return (fail(Check.SUDO, "sudo is not installed", advice),)
    listed = await run(sudo, "-n", "-l", *whose)
    rule_file = await _rule_file() if context.is_root else None
    refusal = "" if allowed.code == 0 else telling_line(allowed.errors.splitlines()) or NO_RULE
    has_helper = isinstance(context.bridge, BridgeReport) and not context.bridge.helper
    if has_helper and _may_be_for_listing_only(refusal):
        refusal = ""
    return (in_force(refusal, listed.output, rule_file),)


def in_force(refusal: str, listed: str, rule_file: RuleFile | None) -> Finding:
    """Judge sudo's answer. `refusal`: its reason; `listed`: the user's rules; the last one applies."""
    if refusal:
        what, advice = _why(refusal, rule_file)
        return fail(Check.SUDO, what, advice)
    if asks_for_password(listed):
        what = f"a later rule makes sudo ask {DAEMON_USER} for a password"
        advice = f"`sudo -l -U {DAEMON_USER}` lists the rules; the one of {RULE_FILE} must come last"
        return fail(Check.SUDO, what, advice)
    if sets_variables(listed):
        what = f"sudo lets {DAEMON_USER} set the helper's environment variables, and so run anything as root"
        return fail(Check.SUDO, what, _UNSET_SETENV)
    if rule_file is not None and rule_file.mode not in {None, RULE_FILE_MODE}:
        what = f"{RULE_FILE} has mode {rule_file.mode:04o}"
        return fail(Check.SUDO, what, f"run `sudo chmod {RULE_FILE_MODE:04o} {RULE_FILE}`")
    return ok(Check.SUDO, f"sudo lets {DAEMON_USER} start the helper")


def asks_for_password(listed: str) -> bool:
    """Whether the last rule for the helper, in the output of `sudo -l`, demands a password."""
    rule = _last_rule(listed)
    return bool(rule) and "NOPASSWD:" not in rule


def sets_variables(listed: str) -> bool:
    """Whether that rule, or else a setting, lets the daemon's user set any variable, like LD_PRELOAD."""
    rule = _last_rule(listed)
    if "SETENV:" in rule:
        return "NOSETENV:" not in rule
    if rule.endswith(" ALL"):
        return True  # it implies SETENV
    last, is_ours = "", True
    for line in listed.partition("\nUser ")[0].split("\n"):
        scope = re.match(r"\s*Defaults(\S*)", line)  # of a command or of a target user
        is_ours = scope[1] in {f"!{HELPER[0]}", "!ALL", ">root"} if scope else is_ours
        last = next(reversed(re.findall(r"(?:^|[\s,])(!?setenv)(?=,|\s|$)", line)), last) if is_ours else last
    return last == "setenv"


def first_error(printed: str) -> str:
    """Return the first line of visudo's output that is an error."""
    lines = (line.strip() for line in printed.split("\n"))
    return next((line for line in lines if line and not line.endswith("parsed OK")), "")


def _may_be_for_listing_only(refusal: str) -> bool:
    """Whether sudo may only refuse `sudo -l`: settings for the helper's command do not apply to that."""
    reason = find_reason(refusal)
    return reason is not None and reason.remedy != RULE_REMEDY


def _last_rule(listed: str) -> str:
    rules = [line.strip() for line in listed.split("\n") if line.startswith("    (")]
    return next(
        (rule for rule in reversed(rules) if rule.endswith((" ".join(HELPER), HELPER[0], " ALL"))), ""
    )


def _why(refusal: str, file: RuleFile | None) -> tuple[str, str]:
    """Return the cause, and the remedy."""
    what = f"sudo refuses to start the helper ({refusal})"
    if (reason := find_reason(refusal)) and reason.remedy != RULE_REMEDY:
        return what, hint(refusal)
    if file is None:
        return what, f"{RULE_FILE} must contain the line: {SUDOERS_RULE}"
    if file.mode is None and file.ignored_file:
        advice = f"run `sudo mv {file.ignored_file} {RULE_FILE}`"
        return (
            f"sudo ignores files whose name contains a dot or ends with ~, like {file.ignored_file}",
            advice,
        )
    if file.mode is None:
        return f"{RULE_FILE} does not exist", f"create it with mode 0440 and this line: {SUDOERS_RULE}"
    if not file.is_roots:
        return f"{RULE_FILE} is not owned by root", f"run `sudo chown root:root {RULE_FILE}`"
    if file.mode & (stat.S_IWGRP | stat.S_IWOTH):
        advice = f"run `sudo chmod {RULE_FILE_MODE:04o} {RULE_FILE}`"
        return f"sudo ignores files that other users can write, like {RULE_FILE}", advice
    if file.visudo_error:
        return f"{what}; visudo says: {file.visudo_error}", "run `sudo visudo -c` for the details"
    if not file.is_included:
        advice = f"add the line `@includedir {RULE_FILE.parent}` to {SUDOERS_FILE}"
        return f"sudo does not read {RULE_FILE.parent}", advice
    return what, f"{RULE_FILE} must contain the line: {SUDOERS_RULE}, and no later rule may override it"


async def _rule_file() -> RuleFile:
    try:
        checked = await run("visudo", "-c")
    except CannotRun:
        error = ""
    else:
        error = "" if checked.code == 0 else first_error(f"{checked.output}\n{checked.errors}")
    try:
        found = RULE_FILE.stat()
    except OSError:
        similar = sorted(RULE_FILE.parent.glob(f"{RULE_FILE.name}[.~]*"))
        return RuleFile(None, ignored_file=next(map(str, similar), ""), visudo_error=error)
    is_included = re.search(INCLUDED, SUDOERS_FILE.read_text(errors="replace"), re.MULTILINE) is not None
    mode, is_roots = stat.S_IMODE(found.st_mode), found.st_uid == ROOT
    return RuleFile(mode, is_roots=is_roots, visudo_error=error, is_included=is_included)
