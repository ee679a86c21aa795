"""The reasons why ssh does not reach another host's helper, and the remedy for each. Pure: no I/O.

The words are those of ssh here, and of the shell, of sudo and of the helper there.

tests/host/test_host_setup.py reproduces most of them between two Debian hosts, and tests/remote the others.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

from hkswitch.backend.ssh_command import SSH, SSH_CONFIG
from hkswitch.model.installation import REMOTE_USER


class SshProblem(Enum):
    """What a connection suffers from, as far as the daemon acts on it."""

    AWAY = auto()
    """It may be gone at the next attempt."""
    CLOSED = auto()
    """The host takes the connection, and ends it before there is a session."""
    REFUSED_KEY = auto()
    """That host refuses our key; more attempts could make it block this machine."""
    CHANGED_HOST_KEY = auto()
    """It has another key than the one that root accepted."""
    SETTING = auto()
    """Root has to change something, here or there."""


class SshReason(NamedTuple):
    """A reason that a line with these `words` gives. NAME stands for the host's name in the config."""

    words: str
    cause: str
    remedy: str
    problem: SshProblem = SshProblem.SETTING


_TEST: Final = "run `sudo hkswitch host test NAME`"
_ADD_AGAIN: Final = "run `sudo hkswitch host add NAME DESTINATION` again"
_ALLOW: Final = "there, run the command that `sudo hkswitch host list` prints"
_NETWORK: Final = "check that it is on, and the network between the two"
_INSTALL: Final = "install it there, in the same version as here"
INSTALL_SSH: Final = "install openssh-client (Debian) or openssh-clients (Fedora)"
_READABLE: Final = f"run `sudo chmod 0644 {SSH_CONFIG}`"
_CONFIG: Final = f"fix {SSH_CONFIG}; `ssh -G -F {SSH_CONFIG} NAME` checks it"
_KNOW_JUMP_HOST: Final = f"add it to the UserKnownHostsFile of the jump host in {SSH_CONFIG}"
_SHELL: Final = "there, run `sudo usermod --shell /bin/sh --home /nonexistent hkswitch-remote`"
_ACCOUNT: Final = "there, run `sudo chage --expiredate=-1 --inactive=-1 --maxdays=-1 hkswitch-remote`"
_CHANGED: Final = (
    f"if that host was reinstalled, {_ADD_AGAIN}, which shows both fingerprints; if not, another machine "
    "answers in its place"
)
_CLOSED: Final = (
    "its journal has the reason: `sudo journalctl -u ssh` (Debian) or `-u sshd` (Fedora); an account that "
    "has expired, or that PAM rejects, is one"
)
_LIMITED: Final = (
    "it may limit or block connections (MaxStartups, PerSourcePenalties, fail2ban); its journal has the "
    "reason"
)

SSH_REASONS: Final = (
    SshReason(f"{SSH}: No such file", "ssh is not installed here", INSTALL_SSH),
    SshReason(f"Can't open user config file {SSH_CONFIG}", f"ssh cannot read {SSH_CONFIG}", _READABLE),
    SshReason(f"{SSH_CONFIG} line", f"ssh rejects {SSH_CONFIG}", _CONFIG),
    SshReason(f"{SSH_CONFIG}: ", f"ssh rejects {SSH_CONFIG}", _CONFIG),
    SshReason(
        "Could not resolve hostname",
        "the name of the host does not resolve",
        "correct the destination (`ssh` in the configuration), or its entry in DNS or /etc/hosts",
        SshProblem.AWAY,
    ),
    SshReason(
        "Connection refused",
        "no SSH server listens there",
        "start it there: `sudo systemctl enable --now ssh` (Debian) or `sshd` (Fedora); if it has another "
        "port than 22, the destination is ssh://HOST:PORT",
        SshProblem.AWAY,
    ),
    SshReason("No route to host", "the host does not respond", _NETWORK, SshProblem.AWAY),
    SshReason("Network is unreachable", "this machine has no way to the host", _NETWORK, SshProblem.AWAY),
    SshReason(
        "timed out during banner exchange",
        "the SSH server there accepts connections and does not respond",
        "restart it there",
        SshProblem.AWAY,
    ),
    SshReason("timed out", "the host does not respond", _NETWORK, SshProblem.AWAY),
    SshReason("not responding", "the host stopped responding", _NETWORK, SshProblem.AWAY),
    SshReason(
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host has another key than the one that you accepted",
        _CHANGED,
        SshProblem.CHANGED_HOST_KEY,
    ),
    SshReason(
        "has changed and you have requested strict checking",
        "the host has another key than the one that you accepted",
        _CHANGED,
        SshProblem.CHANGED_HOST_KEY,
    ),
    SshReason("host key is known for", "the key of the host was never accepted", _ADD_AGAIN),
    # Of the host itself, ssh says more, above.
    SshReason("Host key verification failed", "the key of a jump host is not known", _KNOW_JUMP_HOST),
    SshReason(
        "Unable to negotiate with",
        "the two versions of OpenSSH have nothing in common",
        f"upgrade one of them, or allow more in {SSH_CONFIG}",
    ),
    SshReason(
        "Load key ",
        "ssh cannot read the key that it shows to that host",
        f"if it is damaged, remove it, and {_ADD_AGAIN}; it must belong to the user hkswitch, with mode 0400",
    ),
    SshReason("no such identity", "there is no key for that host", _ADD_AGAIN),
    SshReason(
        f"{REMOTE_USER}@",
        "that host refuses the key of this bridge",
        _ALLOW,
        SshProblem.REFUSED_KEY,
    ),
    SshReason(
        "Permission denied (",
        f"the key was refused for another account than {REMOTE_USER}",
        f"for a jump host, check its IdentityFile in {SSH_CONFIG}; otherwise leave out the user in the "
        f"destination: `hkswitch host allow` sets up {REMOTE_USER} alone",
        SshProblem.REFUSED_KEY,
    ),
    SshReason("serviceswitch: command not found", "hkswitch is not installed there", _INSTALL),
    SshReason("unable to execute /usr/sbin/serviceswitch", "hkswitch is damaged there", "reinstall it there"),
    SshReason("sudo: not found", "sudo is not installed there", "install it there"),
    SshReason("sudo: command not found", "sudo is not installed there", "install it there"),
    SshReason(
        "password is required",
        "sudo there has no rule that lets this bridge start the helper",
        f"{_ALLOW}; /etc/sudoers there needs the line `@includedir /etc/sudoers.d`",
    ),
    SshReason(
        "must have a tty",
        "`requiretty` is set in sudo's rules there",
        "there, add `Defaults!/usr/sbin/serviceswitch !requiretty` with `sudo visudo`",
    ),
    SshReason(
        "serviceswitch: invalid arguments",
        "hkswitch there is too old to serve other hosts",
        "upgrade it there; it must be newer than 0.2.0",
    ),
    SshReason("account is currently not available", "the account there has no shell", _SHELL),
    SshReason("account has expired", "the account there has expired", _ACCOUNT),
    SshReason("password has expired", "the account there has expired", _ACCOUNT),
    SshReason(
        "kex_exchange_identification",
        "the SSH server there ends connections at once",
        _LIMITED,
        SshProblem.CLOSED,
    ),
    SshReason("Connection closed by", "that host closed the connection", _CLOSED, SshProblem.CLOSED),
    SshReason("closed by remote host", "that host closed the connection", _CLOSED, SshProblem.CLOSED),
    SshReason("Connection reset by", "that host closed the connection", _CLOSED, SshProblem.CLOSED),
    SshReason("Broken pipe", "the connection broke", _NETWORK, SshProblem.CLOSED),
)
"""The first reason that matches wins: ssh often adds a less specific line."""

NOISE: Final = ("Could not chdir to home directory /nonexistent", "Warning: Permanently added")
"""Parts of lines that say nothing: sshd prints the first one whenever an account has no home directory."""


def is_noise(line: str) -> bool:
    """Return whether a line of ssh's standard error is no news, and need not be logged."""
    return any(words in line for words in NOISE)


def find_ssh_reason(text: str) -> SshReason | None:
    """Return the reason whose words are in a text; None if there is none."""
    return next((reason for reason in SSH_REASONS if reason.words in text), None)


def telling_line(lines: Sequence[str]) -> str:
    """Return the line that gives the reason, or else the last one; empty if there are no lines.

    It is without the frame and the full stop that some lines have, as it becomes part of a sentence.
    """
    telling = (line for reason in SSH_REASONS for line in lines if reason.words in line)
    others = [line for line in lines if not is_noise(line)]
    return next(telling, others[-1] if others else "").strip("@ ").removesuffix(".")


def hint(why: str, name: str = "NAME") -> str:
    """Return the cause and the remedy; empty if they are unknown. `name`: of the host in the config."""
    reason = find_ssh_reason(why)
    return f"{reason.cause}; {reason.remedy.replace('NAME', name)}" if reason else ""


def explain(why: str, name: str = "NAME") -> str:
    """Return one sentence for the log: why the connection is gone, and what to do."""
    if known := hint(why, name):
        return f"no connection: {known} ({why})"
    command = _TEST.replace("NAME", name)
    return f"the connection ended ({why}); {command} if it does not come back"


def problem_of(why: str) -> SshProblem:
    """Return what a connection suffers from; what is not known may be gone at the next attempt."""
    reason = find_ssh_reason(why)
    return SshProblem.AWAY if reason is None else reason.problem


def is_slow_handshake(why: str) -> bool:
    """Return whether that host took the connection, and did not answer in time."""
    return "timed out" in why and "connect to host" not in why
