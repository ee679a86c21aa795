"""Each reason why sudo may not start the helper, on a real host, with each implementation of sudo.

The daemon's log and `hkswitch status` show the reason's remedy; once it is applied literally, the switch
works again. Cases refer to the text in backticks in a remedy: `{0}` is the first.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from hkswitch.backend.sudo_reasons import NEW, OLD, REASONS, RS, Reason
from tests.host.conftest import only_sudo_rs
from tests.host.installation import is_hello
from tests.host.machine import Host, eventually
from tests.host.matrix import SUDO_RS
from tests.host.rootfs import CHECKOUT
from tests.host.test_install import SERVE, SUDOS

CONFIG_FILE: Final = "/etc/hkswitch/config.yaml"
DAEMON: Final = "hkswitch.service"
DROP_INS: Final = f"/etc/systemd/system/{DAEMON}.d"
RULE: Final = "/etc/sudoers.d/hkswitch"
SET: Final = "/etc/sudoers.d/00-set"
EXEMPTION: Final = "/etc/sudoers.d/00-exemption"
"""sudo reads this file before the one with the setting that it overrides."""
LATER: Final = "/etc/sudoers.d/zz-later"
IO_LOG: Final = "/var/log/sudo-io"

DOCUMENT: Final = (CHECKOUT / "docs" / "sudo.md").read_text()

VERSIONS: Final = {("bookworm", "sudo"): OLD, ("trixie", "sudo"): NEW, ("trixie", "sudo-rs"): RS}

SAVE: Final = "mkdir -m 700 /root/saved; cp -a /etc/sudoers /etc/sudoers.d /etc/shadow /root/saved"
RESTORE: Final = """
cp -a /root/saved/sudoers /root/saved/shadow /etc
rm -r /etc/sudoers.d; cp -a /root/saved/sudoers.d /etc
"""
NO_DROP_INS: Final = f"rmdir {DROP_INS} 2>/dev/null || {{ rm -r {DROP_INS}; systemctl daemon-reload; }}"
"""Reloads only if a test has left one, as nearly all do not have any."""
RESTART: Final = "systemctl reset-failed hkswitch || true; systemctl restart hkswitch"
WORKS: Final = """
systemctl stop httpd
hkswitch start web
systemctl is-active httpd
hkswitch stop web
test "$(systemctl is-active httpd)" = inactive
"""


class Case(NamedTuple):
    """A reason: what makes sudo refuse, each sudo's message, how to apply the remedy, and how to clean up."""

    make: str
    says: Mapping[str, str]
    remedy: str
    undo: str = "true"


def rules(path: str, *lines: str) -> str:
    """Return commands that write a sudoers file; its lines must not contain quotation marks."""
    quoted = " ".join(f"'{line}'" for line in lines)
    return f"printf '%s\\n' {quoted} >{path}; chmod 0440 {path}"


def a_rule(options: str) -> str:
    return rules(RULE, f"hkswitch ALL=(root) {options} NOPASSWD: {' '.join(SERVE)}")


def drop_in(*lines: str) -> str:
    return f"printf '%s\\n' '[Service]' {' '.join(lines)} >{DROP_INS}/case.conf; systemctl daemon-reload"


AGAIN: Final = "mv /root/away/* /usr/bin || true"
UNDROP: Final = f"rm -f {DROP_INS}/case.conf; systemctl daemon-reload"
SETTING: Final = rules(EXEMPTION, "{0}")
AS_IT_WAS: Final = rules(RULE, "{2}")
NO_PROGRAM: Final = f"mv /root/{Path(SERVE[0]).name} {SERVE[0]} || true"
NO_RULE: Final = {"sudo": "password is required", "sudo-rs": "I'm afraid I can't do that"}

CASES: Final[Mapping[str, Case]] = {
    "no-new-privileges": Case(
        drop_in("NoNewPrivileges=yes"),
        {"sudo": "no new privileges", "sudo-rs": "sudo must be owned by uid 0 and have the setuid bit"},
        UNDROP,
        UNDROP,
    ),
    "not setuid": Case(
        "chmod 0755 /usr/bin/sudo",
        {"sudo": "/sudo must be owned by uid 0 and have the setuid bit"},
        "{0}; {1}",
        "chmod 4755 /usr/bin/sudo",
    ),
    "nosuid": Case(
        "mount --bind /usr/bin/sudo /usr/bin/sudo; mount -o remount,bind,nosuid /usr/bin/sudo",
        {"sudo": "effective uid is not 0"},
        "mount -o remount,bind,{0} /usr/bin/sudo",
        "systemctl stop hkswitch; umount --lazy /usr/bin/sudo",
    ),
    "too few capabilities": Case(
        drop_in("CapabilityBoundingSet=", "CapabilityBoundingSet=CAP_AUDIT_WRITE"),
        {
            "sudo": "unable to change to root gid",
            "sudo-rs": f"cannot execute '{SERVE[0]}': Operation not permitted",
        },
        UNDROP,
        UNDROP,
    ),
    "other users": Case(
        drop_in("PrivateUsers=yes"),
        {
            "sudo": "PERM_SUDOERS: setresuid",
            "sudo-rs": f"cannot execute '{SERVE[0]}': Operation not permitted",
        },
        UNDROP,
        UNDROP,
    ),
    "no /etc/sudoers": Case(
        "rm /etc/sudoers",
        {
            "sudo": "unable to open /etc/sudoers: No such file",
            "sudo-rs": "invalid configuration: No such file",
        },
        rules("/etc/sudoers", "{0}"),
    ),
    "others can write": Case(
        "chmod 0666 /etc/sudoers",
        {"sudo": "is world writable", "sudo-rs": "cannot be world-writable"},
        "{0}; {1}",
    ),
    "not root's": Case(
        f"chown nobody {RULE}",
        {"sudo": "is owned by uid", "sudo-rs": "must be owned by root"},
        "{0}; {1}",
    ),
    "a group's": Case(
        f"chgrp sudo {RULE}; chmod 0460 {RULE}",
        {"sudo": "is owned by gid", "sudo-rs": "cannot be group-writable"},
        "{0}; {1}",
    ),
    "requiretty": Case(rules(SET, "Defaults requiretty"), {"sudo": "must have a tty"}, SETTING),
    "I/O logging": Case(
        rules(SET, "Defaults log_input, log_output"), {"sudo": "unable to mkdir"}, SETTING, f"rm -rf {IO_LOG}"
    ),
    "iolog_dir": Case(
        f"install -d -m 0700 {IO_LOG}; " + rules(SET, f"Defaults log_output, iolog_dir={IO_LOG}/%{{user}}"),
        {"sudo": "unable to mkdir"},
        SETTING,
        f"rm -rf {IO_LOG}",
    ),
    "iolog_dir with folders that are missing": Case(
        rules(SET, f"Defaults log_output, iolog_dir={IO_LOG}/%{{user}}"),
        {"sudo": "exited with status 1 and printed nothing"},
        SETTING,
    ),
    "I/O logging into a folder that is there": Case(
        f"install -d -m 0700 {IO_LOG}; " + rules(SET, "Defaults log_stdin, log_stdout"),
        {"sudo": "exited with status 1 and printed nothing"},
        SETTING,
        f"rm -rf {IO_LOG}",
    ),
    "a read-only /var/log": Case(
        rules(SET, "Defaults logfile=/var/log/sudo.log, !ignore_logfile_errors"),
        {"sudo": "unable to log accept event"},
        SETTING,
    ),
    "noexec": Case(
        rules(SET, "Defaults noexec"), {"sudo": "exec: /usr/bin/setpriv: Permission denied"}, SETTING
    ),
    "intercept": Case(
        rules(SET, "Defaults intercept"), {"sudo": "enable_intercept: no intercept fd"}, SETTING
    ),
    "NOEXEC:": Case(a_rule("NOEXEC:"), {"sudo": "exec: /usr/bin/setpriv: Permission denied"}, AS_IT_WAS),
    "INTERCEPT:": Case(
        a_rule("INTERCEPT:"), {"sudo": "exec: /usr/bin/setpriv: Permission denied"}, AS_IT_WAS
    ),
    "LOG_OUTPUT:": Case(a_rule("LOG_OUTPUT:"), {"sudo": "unable to mkdir"}, AS_IT_WAS),
    "stay_setuid": Case(
        rules(SET, "Defaults stay_setuid"),
        {"sudo": "serviceswitch: permission denied: only root may do this"},
        SETTING,
    ),
    "runcwd": Case(
        rules(SET, "Defaults runcwd=/nonexistent"), {"sudo": "unable to change directory to /"}, SETTING
    ),
    "CWD=": Case(
        a_rule("CWD=/nonexistent"), dict.fromkeys(NO_RULE, "unable to change directory to /"), AS_IT_WAS
    ),
    "runchroot": Case(
        rules(SET, "Defaults runchroot=/srv"), {"sudo": "command not found"}, rules(LATER, "{0}")
    ),
    "CHROOT=": Case(a_rule("CHROOT=/srv"), {"sudo": "unable to change root to /"}, AS_IT_WAS),
    "no helper": Case(
        f"mv {SERVE[0]} /root", dict.fromkeys(NO_RULE, "command not found"), NO_PROGRAM, NO_PROGRAM
    ),
    "rlimit_as": Case(rules(SET, "Defaults rlimit_as=10000000"), {"sudo": "failed to map segment"}, SETTING),
    "rlimit_nofile": Case(rules(SET, "Defaults rlimit_nofile=3"), {"sudo": "Error 24"}, SETTING),
    "rlimit_data": Case(rules(SET, "Defaults rlimit_data=1000000"), {"sudo": "killed by signal 11"}, SETTING),
    "rlimit_stack": Case(rules(SET, "Defaults rlimit_stack=8192"), {"sudo": "killed by signal 11"}, SETTING),
    "pam_access": Case(
        "cp -a /etc/pam.d/sudo /etc/security/access.conf /root/saved;"
        "sed -i '1a account required pam_access.so' /etc/pam.d/sudo;"
        "echo '-:ALL EXCEPT root:ALL' >>/etc/security/access.conf",
        {"sudo": "PAM account management error", "sudo-rs": "PAM error: Permission denied"},
        "sed -i '1i {0}' /etc/security/access.conf",
        "mv /root/saved/sudo /etc/pam.d; mv /root/saved/access.conf /etc/security",
    ),
    "an expired account": Case(
        "chage --expiredate=0 hkswitch", dict.fromkeys(NO_RULE, "ccount validation failure"), "{0}"
    ),
    "a locked account": Case(
        "usermod --lock --expiredate=1 hkswitch", dict.fromkeys(NO_RULE, "ccount validation failure"), "{0}"
    ),
    "an old password": Case(
        "chage --lastday=0 hkswitch", {"sudo-rs": "Authentication token manipulation error"}, "{0}"
    ),
    "a mistake": Case(
        rules(RULE, "hkswitch ALL=(root"),
        dict.fromkeys(NO_RULE, "/etc/sudoers.d/hkswitch:"),
        rules(RULE, "{0}") + "; {1}",
    ),
    "no @includedir": Case("sed -i 's/^@includedir/# &/' /etc/sudoers", NO_RULE, "echo '{1}' >>/etc/sudoers"),
    "no rule": Case(f"rm {RULE}", NO_RULE, rules(RULE, "{0}")),
    "a later rule": Case(
        rules(f"{RULE}-later", "hkswitch ALL=(ALL) ALL"),
        {"sudo": "password is required", "sudo-rs": "interactive authentication is required"},
        f"rm {RULE}-later",
    ),
    "no rule and no password": Case(
        f"rm {RULE}; " + rules(SET, "Defaults:hkswitch !authenticate"),
        {**NO_RULE, "sudo": "is not in the sudoers file"},
        rules(RULE, "{0}"),
    ),
    "another rule and no password": Case(
        f"rm {RULE}; " + rules(SET, "Defaults:hkswitch !authenticate", "hkswitch ALL=(root) /usr/bin/id"),
        {**NO_RULE, "sudo": "is not allowed to execute"},
        rules(RULE, "{0}"),
    ),
    "a sudo for a group": Case(
        "chmod 4750 /usr/bin/sudo; test ! -e /usr/bin/sudo-rs || chmod 4750 /usr/bin/sudo-rs",
        dict.fromkeys(NO_RULE, "sudo: Permission denied"),
        f"sed -i 's/^helper: .*/{{0}}/' {CONFIG_FILE};"
        f"ln -s /usr/lib/hkswitch/systemd/helper-socket.conf {DROP_INS};"
        "systemctl daemon-reload; systemctl start serviceswitch.socket",
        "systemctl stop hkswitch serviceswitch.socket;"
        f"sed -i 's/^helper: .*/helper: sudo/' {CONFIG_FILE}; rm -f {DROP_INS}/helper-socket.conf;"
        "systemctl daemon-reload;"
        "chmod 4755 /usr/bin/sudo; test ! -e /usr/bin/sudo-rs || chmod 4755 /usr/bin/sudo-rs",
    ),
    "no sudo": Case(
        "mkdir /root/away; for name in sudo sudo-rs; do mv /usr/bin/$name /root/away || true; done",
        dict.fromkeys(NO_RULE, "sudo: No such file"),
        AGAIN,
        f"{AGAIN}; rmdir /root/away",
    ),
}

TIMED: Final = "exited with status 143 and printed nothing"
"""The only reason for which a working helper exits."""


@pytest.fixture(scope="module")
def config() -> str:
    return "bridge: {address: 10.77.0.1}\ngroups:\n  web: {units: [httpd]}\n"


@pytest.fixture(autouse=True)
def as_before(daemon: Host) -> Iterator[None]:
    """Restores sudo's rules and the account."""
    daemon.run("sh", "-ec", f"{SAVE}; mkdir -p {DROP_INS}")
    yield
    daemon.run("sh", "-ec", f"{RESTORE} rm -r /root/saved; {NO_DROP_INS}")


def only(host: Host, sudo: str) -> AbstractContextManager[None]:
    """Have the daemon find only this implementation of sudo, which comes first under both names."""
    return only_sudo_rs(host) if sudo == SUDO_RS else nullcontext()


@contextmanager
def made(host: Host, case: Case) -> Iterator[None]:
    with ExitStack() as put_back:
        put_back.callback(host.run, "sh", "-ec", case.undo)
        host.run("sh", "-ec", case.make)
        yield


def reason(words: str) -> Reason:
    (found,) = (each for each in REASONS if each.words == words)
    return found


def logged(host: Host) -> list[str]:
    """Return the daemon's log since its last start."""
    invocation = host.show(DAEMON, "InvocationID")
    return host.journalctl("--output=cat", f"_SYSTEMD_INVOCATION_ID={invocation}").splitlines()


def is_logged(host: Host, *words: str) -> bool:
    """Return whether a log line contains all of these words."""
    return any(all(each in line for each in words) for line in logged(host))


def helper_of(host: Host) -> str:
    """Return the PID of the running helper, or nothing."""
    return host.run("pgrep", "--exact", "serviceswitch", check=False).stdout.strip()


def is_another(host: Host, helper: str) -> bool:
    return helper_of(host) not in {"", helper}


def restarted(host: Host, after: str = "true") -> None:
    host.run("sh", "-ec", f"{after}\n{RESTART}")


def works(host: Host) -> None:
    """Check that the helper starts and stops a unit."""
    eventually(lambda: host.run("sh", "-ec", WORKS, check=False).returncode == 0)


def in_words(remedy: str, applied: str) -> str:
    """Return the commands that apply a remedy, with its backticks filled in; root needs no sudo for them."""
    parts = [part.removeprefix("sudo ") for part in re.findall("`(.*?)`", remedy)]
    return re.sub(r"\{(\d)\}", lambda found: parts[int(found[1])], applied)


def alike(name: str) -> list[str]:
    """Return the cases with the same message and remedy, including this one, in the table's order."""
    case = CASES[name]
    return [each for each, other in CASES.items() if (other.says, other.remedy) == (case.says, case.remedy)]


@pytest.mark.parametrize("name", [name for name in CASES if alike(name)[0] == name])
def test_the_log_and_the_status_show_the_remedy_and_it_makes_the_switch_work(
    daemon: Host, name: str, exhaustive: bool
) -> None:
    case = CASES[name]
    tried = [sudo for sudo in SUDOS[daemon.release] if sudo in case.says]
    cases = [CASES[each] for each in alike(name)]
    for sudo, made_by in product(tried, cases) if exhaustive else product(tried[:1], cases[:1]):
        with only(daemon, sudo), made(daemon, made_by):
            restarted(daemon)
            expected = reason(case.says[sudo])
            assert VERSIONS[daemon.release, sudo] in expected.said_by
            told = f"{expected.cause}; {expected.remedy}"
            eventually(partial(is_logged, daemon, expected.words, told))
            assert " ".join(told.split()) in " ".join(daemon.run("hkswitch", "status").stdout.split())
            assert sum(told in line for line in logged(daemon)) == 1
            restarted(daemon, in_words(expected.remedy, case.remedy))
            works(daemon)
        daemon.run("sh", "-ec", RESTORE)


def test_the_versions_of_sudo_are_those_of_the_table(daemon: Host) -> None:
    for sudo in SUDOS[daemon.release]:
        shown = daemon.run("sh", "-c", f"{sudo} -V 2>&1 | head -n 1").stdout.replace("Sudo version", "sudo")
        assert shown.startswith(VERSIONS[daemon.release, sudo])


def test_the_helper_is_back_by_itself_once_the_remedy_was_applied(daemon: Host) -> None:
    case = CASES["no rule"]
    with made(daemon, case):
        restarted(daemon)
        eventually(lambda: is_logged(daemon, "password is required"))
        daemon.run("sh", "-ec", in_words(reason("password is required").remedy, case.remedy))
        works(daemon)


@pytest.mark.parametrize(
    ("name", "check", "says"),
    [
        ("requiretty", "sudo", "`requiretty` is set; add `Defaults!/usr/sbin/serviceswitch !requiretty`"),
        ("requiretty", "helper", "the daemon cannot start its helper; see sudo above"),
        ("no @includedir", "sudo", "add the line `@includedir /etc/sudoers.d` to /etc/sudoers"),
        ("an expired account", "helper", "has expired or is locked; run `sudo chage --lastday=-1"),
    ],
)
def test_the_doctor_has_the_remedy(daemon: Host, name: str, check: str, says: str) -> None:
    with made(daemon, CASES[name]):
        restarted(daemon)
        eventually(lambda: "helper: unavailable" in daemon.run("hkswitch", "status").stdout)
        lines = daemon.run("hkswitch", "doctor", check=False).stdout.splitlines()
    (line,) = (line for line in lines if line.split()[:2] == ["FAIL", check])
    assert says in line


def lives_for_seconds(host: Host) -> int:
    """Return how long the helper has been running."""
    return int(host.run("ps", "-o", "etimes=", "-C", "serviceswitch", check=False).stdout or 0)


def test_a_helper_whose_time_sudo_limits_is_replaced_and_the_log_has_the_remedy(daemon: Host) -> None:
    expected = reason(TIMED)
    daemon.run("sh", "-ec", rules(SET, "Defaults command_timeout=2"))
    restarted(daemon)
    eventually(lambda: is_logged(daemon, expected.words, expected.remedy))
    eventually(lambda: daemon.run("hkswitch", "start", "web", check=False).returncode == 0)
    daemon.run("sh", "-ec", in_words(expected.remedy, SETTING))
    eventually(lambda: lives_for_seconds(daemon) > 4)
    works(daemon)


# The document


def block(heading: str) -> str:
    """Return the first code block below a heading."""
    return DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n```\n")[2].partition("```")[0]


def test_with_the_documents_lines_a_hardened_sudo_works(daemon: Host) -> None:
    hard = (
        "Defaults requiretty, log_input, log_output, command_timeout=2, noexec, stay_setuid",
        "Defaults runcwd=/nonexistent, rlimit_cpu=0, rlimit_as=10000000, rlimit_data=1000000",
        "Defaults rlimit_nofile=3, rlimit_stack=8192",
        "Defaults !ignore_logfile_errors",
    )
    daemon.run("sh", "-ec", rules(SET, *hard, "Defaults logfile=/var/log/sudo.log"))
    restarted(daemon)
    eventually(lambda: is_logged(daemon, "must have a tty"))
    for sudo in SUDOS[daemon.release]:
        if sudo == SUDO_RS:  # it supports none of these options
            with only_sudo_rs(daemon):
                restarted(daemon)
                works(daemon)
            restarted(daemon)
    daemon.write(EXEMPTION, block("A hardened sudoers"), 0o440)
    daemon.run("visudo", "-c")
    restarted(daemon)
    eventually(lambda: lives_for_seconds(daemon) > 4)
    works(daemon)


PASSING: Final = {
    "a setting": (rules(SET, "Defaults setenv"), {"sudo": False}),
    "a tag": (a_rule("SETENV:"), {"sudo": True, "sudo-rs": True}),
    "all commands": (rules(LATER, "hkswitch ALL=(root) NOPASSWD: ALL"), {"sudo": True, "sudo-rs": True}),
}
"""Causes for sudo to pass variables; whether it still does with the document's line, which rules override."""


@pytest.mark.parametrize("passing", PASSING)
def test_where_sudo_passes_variables_the_linker_obeys_them_until_the_documents_line_is_set(
    daemon: Host, passing: str
) -> None:
    def obeys(sudo: str) -> bool:
        asked = daemon.run(sudo, "-n", "LD_DEBUG=help", *SERVE, user="hkswitch", check=False)
        return "LD_DEBUG_OUTPUT" in asked.stdout + asked.stderr

    make, still = PASSING[passing]
    sudos = {*SUDOS[daemon.release]}
    assert not any(map(obeys, sudos))
    daemon.run("sh", "-ec", make)
    assert {sudo for sudo in sudos if obeys(sudo)} == sudos & still.keys()
    doctor = daemon.run("hkswitch", "doctor", check=False).stdout
    assert "FAIL    sudo            sudo lets hkswitch set the helper's environment variables" in doctor
    daemon.write("/etc/sudoers.d/mended", block("Settings that give the daemon root"), 0o440)
    assert {sudo for sudo in sudos if obeys(sudo)} == {sudo for sudo in sudos & still.keys() if still[sudo]}


DIRECT: Final = "Defaults!/usr/sbin/serviceswitch"

STAYS: Final = {
    "only our settings": ((), False),
    "settings for all commands": (("Defaults use_pty, pam_session, pam_setcred",), False),
    "the document's line": ((), True),
    "use_pty": ((f"{DIRECT} use_pty",), True),
    "pam_setcred": ((f"{DIRECT} pam_setcred",), True),
    "command_timeout": (("Defaults command_timeout=600",), True),
}
"""Settings of the administrator, and whether sudo then stays as the parent of the helper."""


@pytest.mark.parametrize("name", STAYS)
def test_sudo_stays_only_where_the_administrators_settings_need_it(daemon: Host, name: str) -> None:
    settings, stays = STAYS[name]
    if name == "the document's line":
        settings = (block("A PAM session for the helper").strip(),)
        assert settings == (f"{DIRECT} pam_session",)
    daemon.run("sh", "-ec", rules(LATER, *settings))
    daemon.run("visudo", "-c")
    restarted(daemon)
    works(daemon)
    assert has_sudo(daemon) is stays


def has_sudo(host: Host) -> bool:
    """Return whether a process of sudo runs."""
    return host.run("pgrep", "--exact", "sudo", check=False).returncode == 0


def test_settings_documented_as_harmless_are_harmless(daemon: Host) -> None:
    settings = block("Settings that need no exemption").splitlines()
    assert "Defaults use_pty" in settings
    daemon.run("sh", "-ec", rules(SET, *settings))
    for sudo in SUDOS[daemon.release]:
        with only(daemon, sudo):
            restarted(daemon)
            works(daemon)
    doctor = daemon.run("hkswitch", "doctor", check=False).stdout.splitlines()
    assert "ok      sudo            sudo lets hkswitch start the helper" in doctor


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("NOEXEC:", "NOEXEC and INTERCEPT are not supported by sudo-rs"),
        ("INTERCEPT:", "NOEXEC and INTERCEPT are not supported by sudo-rs"),
        ("TIMEOUT=2s", "TIMEOUT is not supported by sudo-rs"),
        ("CHROOT=/srv", "CHROOT is not supported by sudo-rs"),
        ("LOG_OUTPUT:", "LOG_OUTPUT tags are ignored by sudo-rs"),
    ],
)
def test_sudo_rs_refuses_a_rule_with_unsupported_options(daemon: Host, options: str, says: str) -> None:
    for sudo in {SUDO_RS} & set(SUDOS[daemon.release]):
        daemon.run("sh", "-ec", a_rule(options))
        asked = daemon.run(sudo, "-n", "-u", "root", *SERVE, user="hkswitch", check=False)
        assert says in asked.stderr
        assert is_hello(asked.stdout) is ("ignored" in says)


def test_messages_of_sudo_are_logged_once(daemon: Host) -> None:
    """All lines are logged, but not again for each helper started within ten seconds."""
    complaint = "sudo: unable to open log file /var/log/sudo.log: Read-only file system"
    daemon.run("sh", "-ec", rules(SET, "Defaults logfile=/var/log/sudo.log", "Defaults nonsense"))
    restarted(daemon)
    for _ in range(2):
        helper = eventually(partial(helper_of, daemon))
        daemon.run("kill", "-KILL", helper)
        eventually(partial(is_another, daemon, helper))
    works(daemon)
    lines = [line.strip() for line in logged(daemon)]
    assert lines.count(complaint) == 1
    assert sum("nonsense" in line for line in lines) >= 1


def test_io_logging_into_a_folder_that_the_sandbox_opens_works_and_records_what_passes(daemon: Host) -> None:
    daemon.run("sh", "-ec", f"install -d -m 0700 {IO_LOG}; {rules(SET, 'Defaults log_input, log_output')}")
    try:
        daemon.run("sh", "-ec", drop_in(f"ReadWritePaths={IO_LOG}"))
        restarted(daemon)
        works(daemon)
        assert has_sudo(daemon)  # it records what passes
        daemon.run("systemctl", "stop", DAEMON)
        recorded = daemon.run("sh", "-ec", f"zcat $(find {IO_LOG} -name stdin)").stdout
        assert '"action":"start","group":"web"' in recorded
    finally:
        daemon.run("sh", "-ec", f"{UNDROP}; rm -r {IO_LOG}")
