"""Whether sudo lets the daemon start its helper, and if not, why: asks sudo, as root or as that user."""

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hkswitch.backend.helper_transport import sudo_command
from hkswitch.backend.sudo_reasons import HELPER, RULE_REMEDY, SUDOERS_RULE, find_reason, hint, telling_line
from hkswitch.doctor.context import ROOT, USER, Situation
from hkswitch.doctor.finding import WITH_SUDO, Finding, Point, ok, unknown, wrong
from hkswitch.doctor.programs import CannotRun, NotInstalled, run
from hkswitch.model.unit_state import HelperTransport
from hkswitch.protocol.report import BridgeReport

FILE: Final = Path("/etc/sudoers.d/hkswitch")
MODE: Final = 0o440
SUDOERS: Final = Path("/etc/sudoers")
NO_RULE: Final = "no rule allows it"
"""sudo itself says nothing of a command that it would not allow."""
INCLUDED: Final = rf"^[@#]includedir\s+{re.escape(str(FILE.parent))}/?\s*$"
"""The older form begins like a comment."""
_NO_VARIABLES: Final = (
    f"add `Defaults!{HELPER[0]} !setenv` with `sudo visudo`; SETENV: or ALL in a rule takes precedence: "
    f"the last rule must be `{SUDOERS_RULE}`"
)


@dataclass(frozen=True, slots=True)
class Rules:
    """What there is of our rule's file, and what visudo says of all. Only root can know."""

    mode: int | None = None
    """Of the file, None if it is not there."""
    owned: bool = True
    """By root."""
    passed_over: str = ""
    """A file whose name sudo does not read."""
    complaint: str = ""
    included: bool = True
    """/etc/sudoers names the folder of the file."""


async def sudoers(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    if situation.crossing is HelperTransport.SOCKET:
        return (ok(Point.SUDOERS, "not needed: systemd starts the helper"),)
    if not situation.may_look_as_daemon:
        why = "sudo answers for the one who asks" if situation.account else f"there is no user {USER}"
        return (unknown(Point.SUDOERS, why, WITH_SUDO if situation.account else ""),)
    sudo, *_ = sudo_command()
    whose = ("-U", USER) if situation.asker == ROOT else ()
    try:
        allowed = await run(sudo, "-n", "-l", "-u", "root", *whose, *HELPER)
    except NotInstalled:
        return (wrong(Point.SUDOERS, "there is no sudo", "install it: the daemon starts its helper by it"),)
    listed = await run(sudo, "-n", "-l", *whose)
    rules = await _rules() if situation.asker == ROOT else None
    refusal = "" if allowed.code == 0 else telling_line(allowed.errors.splitlines()) or NO_RULE
    if _is_of_asking(refusal) and isinstance(situation.bridge, BridgeReport) and not situation.bridge.helper:
        refusal = ""
    return (in_force(refusal, listed.output, rules),)


def _is_of_asking(refusal: str) -> bool:
    """Whether sudo may refuse the question only: a setting for the helper's command is not for that."""
    reason = find_reason(refusal)
    return reason is not None and reason.remedy != RULE_REMEDY


def in_force(refusal: str, listed: str, rules: Rules | None) -> Finding:
    """`refusal`: why sudo does not allow it; `listed`: the user's rules, of which the last counts."""
    if refusal:
        what, advice = _why(refusal, rules)
        return wrong(Point.SUDOERS, what, advice)
    if asks_for_password(listed):
        advice = f"`sudo -l -U {USER}` lists the rules; the one of {FILE} must come after that"
        return wrong(Point.SUDOERS, f"a later rule has sudo ask {USER} for a password", advice)
    if sets_variables(listed):
        what = f"sudo lets {USER} set variables of the helper's, by which it runs anything as root"
        return wrong(Point.SUDOERS, what, _NO_VARIABLES)
    if rules is not None and rules.mode not in {None, MODE}:
        return wrong(Point.SUDOERS, f"{FILE} has mode {rules.mode:04o}", f"`sudo chmod {MODE:04o} {FILE}`")
    return ok(Point.SUDOERS, f"sudo lets {USER} start the helper")


def asks_for_password(listed: str) -> bool:
    """Whether the last rule that is for the helper, in what `sudo -l` lists, wants a password."""
    rule = _rule(listed)
    return bool(rule) and "NOPASSWD:" not in rule


def sets_variables(listed: str) -> bool:
    """Whether that rule, or else a setting, lets the daemon's user set any variable, as the linker's."""
    rule = _rule(listed)
    if "SETENV:" in rule:
        return "NOSETENV:" not in rule
    if rule.endswith(" ALL"):
        return True  # it implies that
    said, is_ours = "", True
    for line in listed.partition("\nUser ")[0].split("\n"):
        scope = re.match(r"\s*Defaults(\S*)", line)  # of a command or of a target user
        is_ours = scope[1] in {f"!{HELPER[0]}", "!ALL", ">root"} if scope else is_ours
        said = next(reversed(re.findall(r"(?:^|[\s,])(!?setenv)(?=,|\s|$)", line)), said) if is_ours else said
    return said == "setenv"


def _rule(listed: str) -> str:
    rules = [line.strip() for line in listed.split("\n") if line.startswith("    (")]
    return next(
        (rule for rule in reversed(rules) if rule.endswith((" ".join(HELPER), HELPER[0], " ALL"))), ""
    )


def first_complaint(said: str) -> str:
    """The first line of visudo's that is about something wrong."""
    lines = (line.strip() for line in said.split("\n"))
    return next((line for line in lines if line and not line.endswith("parsed OK")), "")


def _why(refusal: str, rules: Rules | None) -> tuple[str, str]:
    """What is wrong, and what to do."""
    what = f"sudo refuses the helper ({refusal})"
    if (reason := find_reason(refusal)) and reason.remedy != RULE_REMEDY:
        return what, hint(refusal)
    if rules is None:
        return what, f"{FILE} must hold the line: {SUDOERS_RULE}"
    if rules.mode is None and rules.passed_over:
        command = f"`sudo mv {rules.passed_over} {FILE}`"
        return f"sudo reads no file whose name has a dot or ends with ~, as {rules.passed_over}", command
    if rules.mode is None:
        return f"there is no {FILE}", f"write this line into it, with mode 0440: {SUDOERS_RULE}"
    if not rules.owned:
        return f"{FILE} does not belong to root", f"`sudo chown root:root {FILE}`"
    if rules.mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"sudo reads no file that others can write, as {FILE}", f"`sudo chmod {MODE:04o} {FILE}`"
    if rules.complaint:
        return f"{what}; visudo says: {rules.complaint}", "`sudo visudo -c` says more"
    if not rules.included:
        return (
            f"sudo does not read {FILE.parent}",
            f"{SUDOERS} must have the line `@includedir {FILE.parent}`",
        )
    return what, f"{FILE} must hold the line: {SUDOERS_RULE}, and no later rule may take it back"


async def _rules() -> Rules:
    try:
        checked = await run("visudo", "-c")
    except CannotRun:
        complaint = ""
    else:
        complaint = "" if checked.code == 0 else first_complaint(f"{checked.output}\n{checked.errors}")
    try:
        found = FILE.stat()
    except OSError:
        passed_over = next((str(file) for file in sorted(FILE.parent.glob(f"{FILE.name}[.~]*"))), "")
        return Rules(None, passed_over=passed_over, complaint=complaint)
    included = re.search(INCLUDED, SUDOERS.read_text(errors="replace"), re.MULTILINE) is not None
    mode, owned = stat.S_IMODE(found.st_mode), found.st_uid == ROOT
    return Rules(mode, owned=owned, complaint=complaint, included=included)
