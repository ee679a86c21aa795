"""The reasons why sudo does not start the helper, in sudo's own words, and the remedy for each. Pure: no I/O.

tests/host/test_sudo_reasons.py reproduces each of them on a Debian host, and then applies the remedy.
docs/sudo.md has the same table.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

HELPER_PROGRAM: Final = "/usr/sbin/serviceswitch"
HELPER: Final = (HELPER_PROGRAM, "serve")
SUDOERS_RULE: Final = f"hkswitch ALL=(root) NOPASSWD: {' '.join(HELPER)}"

OLD: Final = "sudo 1.9.13"
NEW: Final = "sudo 1.9.16"
RS: Final = "sudo-rs 0.2.5"
SUDO: Final = (OLD, NEW)
EVERY: Final = (OLD, NEW, RS)


class Reason(NamedTuple):
    """A reason that sudo gives. `words` are part of a line that each version in `said_by` prints."""

    words: str
    said_by: tuple[str, ...]
    cause: str
    remedy: str


def _for_the_helper(*settings: str, in_the_rule: str = "") -> str:
    """Return the remedy for a setting that breaks a service; a tag or option of the rule may set it, too."""
    negated = ", ".join(f"!{setting}" for setting in settings)
    remedy = f"add `Defaults!{HELPER_PROGRAM} {negated}` with `sudo visudo`"
    return f"{remedy}; {in_the_rule} {_TAKES_PRECEDENCE}" if in_the_rule else remedy


_TAKES_PRECEDENCE: Final = f"in the rule takes precedence: the rule must be `{SUDOERS_RULE}`"


_REMOVE_OPTION: Final = (
    "remove that option from the drop-ins of hkswitch.service; `sudo hkswitch doctor` names it"
)
_CAPABILITIES: Final = (
    "remove `PrivateUsers=` and `CapabilityBoundingSet=` from the drop-ins of hkswitch.service; "
    "`systemctl cat hkswitch` shows them"
)
_SETUID: Final = "as root, run `chown root:root /usr/bin/sudo` and `chmod 4755 /usr/bin/sudo`"
_OWNER: Final = (
    "as root, check what other users may have written there, and then run "
    "`chown root:root /etc/sudoers /etc/sudoers.d/hkswitch` and "
    "`chmod 0440 /etc/sudoers /etc/sudoers.d/hkswitch`"
)
_SUDOERS: Final = "as root, create /etc/sudoers with the line `@includedir /etc/sudoers.d` and mode 0440"
_ACCOUNT: Final = (
    "run `sudo chage --lastday=-1 --expiredate=-1 --inactive=-1 --maxdays=-1 hkswitch`; if that changes "
    "nothing, an `account` line in /etc/pam.d/sudo denies access"
)
_PAM: Final = (
    "allow the user hkswitch in PAM; for pam_access, `+:hkswitch:ALL` must be the first line of "
    "/etc/security/access.conf"
)
RULE_REMEDY: Final = (
    f"/etc/sudoers.d/hkswitch must contain the line `{SUDOERS_RULE}`, which no later rule may override, and "
    "/etc/sudoers the line `@includedir /etc/sudoers.d`; `sudo hkswitch doctor` looks for the mistake"
)
_CHROOT: Final = (
    f"add `Defaults:hkswitch !runchroot` with `sudo visudo`, below the line that sets it; CHROOT= "
    f"{_TAKES_PRECEDENCE}"
)
_LOGGING: Final = _for_the_helper("log_input", "log_output", in_the_rule="LOG_INPUT: or LOG_OUTPUT:")
_LIMITS: Final = _for_the_helper("rlimit_as", "rlimit_cpu", "rlimit_data", "rlimit_nofile", "rlimit_stack")
_SOCKET: Final = "use `helper: socket`, which needs no sudo (`man hkswitch.yaml` has the commands)"

_NOT_ROOT: Final = "the sandbox of hkswitch.service keeps sudo from becoming root"
_NO_RULE: Final = "sudo has no rule that lets hkswitch start the helper without a password"
_WRITABLE: Final = "sudo ignores rules that users other than root could have written"

REASONS: Final = (
    Reason(
        "no new privileges",
        SUDO,
        "an option of hkswitch.service implies NoNewPrivileges",
        _REMOVE_OPTION,
    ),
    Reason(
        "/sudo must be owned by uid 0 and have the setuid bit",
        SUDO,
        "/usr/bin/sudo is not setuid root",
        _SETUID,
    ),
    Reason(
        "sudo must be owned by uid 0 and have the setuid bit",
        (RS,),
        "an option of hkswitch.service implies NoNewPrivileges, or sudo-rs is not setuid root",
        f"{_REMOVE_OPTION}; if there is none, run `chmod 4755` on sudo-rs as root",
    ),
    Reason(
        "effective uid is not 0",
        SUDO,
        "sudo is on a file system that is mounted with `nosuid`",
        "as root, mount that file system with `suid`",
    ),
    Reason("unable to change to root gid", SUDO, _NOT_ROOT, _CAPABILITIES),
    Reason("PERM_SUDOERS: setresuid", SUDO, _NOT_ROOT, _CAPABILITIES),
    Reason(f"cannot execute '{HELPER_PROGRAM}': Operation not permitted", (RS,), _NOT_ROOT, _CAPABILITIES),
    Reason("unable to open /etc/sudoers: No such file", SUDO, "there is no /etc/sudoers", _SUDOERS),
    Reason("invalid configuration: No such file", (RS,), "there is no /etc/sudoers", _SUDOERS),
    Reason("is world writable", SUDO, _WRITABLE, _OWNER),
    Reason("is owned by uid", SUDO, _WRITABLE, _OWNER),
    Reason("is owned by gid", SUDO, _WRITABLE, _OWNER),
    Reason("cannot be world-writable", (RS,), _WRITABLE, _OWNER),
    Reason("cannot be group-writable", (RS,), _WRITABLE, _OWNER),
    Reason("must be owned by root", (RS,), _WRITABLE, _OWNER),
    Reason("must have a tty", SUDO, "`requiretty` is set", _for_the_helper("requiretty")),
    Reason(
        "unable to log accept event",
        SUDO,
        "`logfile` is set with `!ignore_logfile_errors`, and sudo cannot write it from the sandbox",
        _for_the_helper("logfile"),
    ),
    Reason(
        "exec: /usr/bin/setpriv: Permission denied",
        SUDO,
        "`noexec` or `intercept` keeps the helper's script from executing the helper",
        _for_the_helper("noexec", "intercept", in_the_rule="NOEXEC: or INTERCEPT:"),
    ),
    Reason(
        "enable_intercept: no intercept fd",
        SUDO,
        "sudo cannot use `intercept` for a program that it executes itself, like the helper",
        _for_the_helper("intercept", in_the_rule="INTERCEPT:"),
    ),
    Reason(
        "serviceswitch: permission denied: only root may do this",
        SUDO,
        "`stay_setuid` keeps the helper from becoming root",
        _for_the_helper("stay_setuid"),
    ),
    Reason(
        "unable to change directory to /",
        EVERY,
        "`runcwd`, or CWD= in the rule, names a folder that does not exist in the sandbox",
        _for_the_helper("runcwd", in_the_rule="CWD="),
    ),
    Reason(
        "unable to change root to /",
        SUDO,
        "`runchroot` is set, or the rule has CHROOT=, and the sandbox forbids that",
        _CHROOT,
    ),
    Reason(
        "command not found",
        EVERY,
        "the helper is not installed, or `runchroot` is set",
        f"reinstall hkswitch; if {HELPER_PROGRAM} exists, {_CHROOT}",
    ),
    Reason("failed to map segment", SUDO, "`rlimit_as` is too low for the helper", _LIMITS),
    Reason("Error 24", SUDO, "`rlimit_nofile` is too low for the helper", _LIMITS),
    Reason(
        "killed by signal 11",
        SUDO,
        "the helper crashed, or `rlimit_data` or `rlimit_stack` is too low for it",
        _LIMITS,
    ),
    Reason("PAM account management error", SUDO, "a PAM module rejects the user hkswitch", _PAM),
    Reason("PAM error: Permission denied", (RS,), "a PAM module rejects the user hkswitch", _PAM),
    Reason("ccount validation failure", EVERY, "the account hkswitch has expired or is locked", _ACCOUNT),
    Reason(
        "Authentication token manipulation error",
        (RS,),
        "the password of the user hkswitch has expired",
        _ACCOUNT,
    ),
    Reason(
        "/etc/sudoers.d/hkswitch:",
        EVERY,
        "there is a mistake in /etc/sudoers.d/hkswitch",
        f"it must contain the line `{SUDOERS_RULE}`, and `sudo visudo -c` must accept it",
    ),
    Reason("interactive authentication is required", (RS,), _NO_RULE, RULE_REMEDY),
    Reason("password is required", SUDO, _NO_RULE, RULE_REMEDY),
    Reason("I'm afraid I can't do that", (RS,), _NO_RULE, RULE_REMEDY),
    Reason("is not in the sudoers file", SUDO, _NO_RULE, RULE_REMEDY),
    Reason("is not allowed to execute", SUDO, _NO_RULE, RULE_REMEDY),
    Reason("sudo: Permission denied", EVERY, "only members of a certain group may run sudo", _SOCKET),
    Reason("sudo: No such file", EVERY, "sudo is not installed", f"install it, or {_SOCKET}"),
    # After the rules: sudo also prints this about /run/sudo, before it reports that a password is required.
    Reason(
        "unable to mkdir",
        SUDO,
        "I/O logging is on, and sudo cannot create its log folder in the sandbox",
        _LOGGING,
    ),
    Reason(
        "exited with status 143 and printed nothing",
        SUDO,
        "the helper was terminated, or `command_timeout` is set",
        f"if this persists, {_for_the_helper('command_timeout', in_the_rule='TIMEOUT=')}",
    ),
    Reason(
        "exited with status 1 and printed nothing",
        SUDO,
        "sudo failed without a message, as it does when it cannot write to its I/O log folder",
        _LOGGING,
    ),
)
"""The first reason that matches wins: sudo often adds a less specific line."""


def find_reason(text: str) -> Reason | None:
    """Return the reason whose words are in a text; None if there is none."""
    return next((reason for reason in REASONS if reason.words in text), None)


def telling_line(lines: Sequence[str]) -> str:
    """Return the line that gives the reason, or else the last one; empty if there are no lines."""
    telling = (line for reason in REASONS for line in lines if reason.words in line)
    return next(telling, lines[-1] if lines else "")


def hint(why: str) -> str:
    """Return the cause and the remedy; empty if they are unknown."""
    reason = find_reason(why)
    return f"{reason.cause}; {reason.remedy}" if reason else ""


def explain(why: str) -> str:
    """Return one sentence for the log: why the helper is gone, and what to do."""
    if known := hint(why):
        return f"the helper cannot run: {known} ({why})"
    return f"the helper exited unexpectedly ({why}); switches do not respond until it is back"
