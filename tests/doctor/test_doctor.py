"""What `hkswitch doctor` makes of what it sees: tables that need no root. tests/host/ breaks a real one."""

import asyncio
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from hkswitch import __version__
from hkswitch.backend.sudo import SUDOERS_RULE
from hkswitch.control import STATE_FOLDER, client
from hkswitch.doctor import (
    account,
    checks,
    clock,
    configuration,
    context,
    mdns,
    missing_units,
    page,
    paired,
    privileges,
    programs,
    service,
    sudoers,
    units,
)
from hkswitch.doctor.finding import Finding, Point, Verdict, ok, unknown, warning, wrong
from hkswitch.doctor.programs import Ran
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import Setup
from hkswitch.model import environment
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import ConfigReadTimedOut
from hkswitch.model.errors import BusUnavailable, ConfigError, ConfigUnreadable, Exit, Failure
from hkswitch.model.unit_state import ActiveState, HelperTransport, LoadState, UnitState
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.report import BridgeReport, PairedController
from hkswitch.serviceswitch.trusted_files import NotThere, Untrusted
from tests.support.command import HKSWITCH, run

ROOT = Path(__file__).parents[2]
OK, WRONG, UNKNOWN, WARNING = Verdict
FILE = Path("/etc/hkswitch/config.yaml")
CONFIG = parse(b"groups:\n  web: {units: [httpd]}\n  files: {units: [smb, nmb]}\n", "config.yaml")
CHECKED = parse(b"groups: {a: {units: [b], check: [/bin/c, d]}}", "config.yaml")
POWER = parse(b"groups: {power: {units: [poweroff.target], actions: [start]}}", "config.yaml")
DANGERS = parse(b"groups: {a: {units: [nginx, dbus]}, b: {units: [sshd, dbus]}}", "config.yaml")
BRIDGE = BridgeReport("hkswitch", __version__, 0, ("10.77.0.1",), 51826, ())
RULE = "    (root) NOPASSWD: /usr/sbin/serviceswitch serve"


def mistakes(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        parse(text.encode(), str(FILE))
    return raised.value


NO_GROUPS = mistakes("groups: {}")


def judged(finding: Finding, verdict: Verdict, words: str) -> None:
    assert (finding.verdict, words in str(finding)) == (verdict, True), str(finding)
    assert (finding.verdict in {WRONG, WARNING}) <= bool(finding.advice), "what to do?"


# The configuration


@pytest.mark.parametrize(
    ("config", "readable", "root", "verdict", "words"),
    [
        (CONFIG, True, True, OK, "/etc/hkswitch/config.yaml, 2 groups"),
        (CHECKED, None, False, OK, "1 group"),
        (CONFIG, False, True, WRONG, f"the user hkswitch cannot read {FILE}; `sudo chmod o+r"),
        (
            NO_GROUPS,
            True,
            True,
            WRONG,
            "has 1 mistake, the first in line 1, column 9 (groups); `hkswitch check`",
        ),
        (POWER, True, True, WARNING, "poweroff.target: starting it turns this machine off"),
        (POWER, True, True, WARNING, "; unless you want that, remove it from group power, or limit"),
        (DANGERS, None, False, WARNING, "(and 2 more; `hkswitch check` lists them); unless"),
        (DANGERS, False, False, WRONG, "the user hkswitch cannot read"),
        (ConfigUnreadable(str(FILE), os.strerror(2)), None, False, WRONG, "No such file"),
        (ConfigReadTimedOut(str(FILE), "reading took longer than 5 s"), None, True, WRONG, "longer than 5 s"),
        (ConfigUnreadable(str(FILE), os.strerror(13)), None, False, UNKNOWN, "run it with sudo"),
    ],
)
def test_a_configuration_is_valid_and_the_daemon_can_read_it(
    config: Config | Failure, readable: bool | None, root: bool, verdict: Verdict, words: str
) -> None:
    found = configuration.valid(config, FILE, readable=readable, asker_is_root=root)
    judged(found, verdict, words)


def test_a_mistake_is_named_by_its_place_and_not_by_what_was_written() -> None:
    config = mistakes("groups: {web: {check: ['--password=s3cret']}}")
    assert "s3cret" in str(config)
    found = configuration.valid(config, FILE, readable=True, asker_is_root=True)
    judged(found, WRONG, "groups.web")
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("verdict", "bridge", "same"),
    [
        (OK, BRIDGE, True),
        (OK, client.NoDaemon(Path("/none")), True),
        (OK, BRIDGE._replace(config="web: 'hunter2' has changed"), False),
        (WARNING, BRIDGE._replace(config="web: 'hunter2' has changed"), False),
        (WRONG, BRIDGE._replace(config="web: 'hunter2' has changed"), True),
    ],
)
def test_a_configuration_that_is_not_served_is_wrong_and_not_quoted(
    verdict: Verdict, bridge: BridgeReport | Failure, same: bool
) -> None:
    found = Finding(Point.CONFIGURATION, verdict, "it is read")
    judged_now = configuration.in_force(found, bridge)
    assert (judged_now == found) is same
    assert "hunter2" not in str(judged_now)
    assert same or judged_now.verdict is WRONG


@pytest.mark.parametrize(
    ("config", "refused", "root", "verdict", "words"),
    [
        (CONFIG, [], True, OK, "nobody but root can write the configuration"),
        (CHECKED, [], True, OK, ", and 1 program"),
        (CONFIG, [Untrusted("/etc", "its owner is uid 7")], True, WRONG, "/etc is not trusted: its owner"),
        (CONFIG, [Untrusted("/a", "x"), Untrusted("/b", "y")], True, WRONG, "(and 1 more)"),
        (CONFIG, [Untrusted("/etc/x", os.strerror(13))], True, WRONG, "Permission denied"),
        (CONFIG, [Untrusted("/etc/x", os.strerror(13))], False, UNKNOWN, "run it with sudo"),
        (CONFIG, [NotThere("/etc/hkswitch")], True, UNKNOWN, "no valid configuration"),
        (NO_GROUPS, [], True, UNKNOWN, "without a valid configuration"),
    ],
)
def test_a_configuration_and_its_programs_are_roots(
    config: Config | Failure, refused: list[Untrusted | NotThere], root: bool, verdict: Verdict, words: str
) -> None:
    judged(configuration.believed(config, refused, asker_is_root=root), verdict, words)


# The user and its folder


@pytest.mark.parametrize(
    ("user", "group", "verdict", "words"),
    [
        (True, True, OK, "user and group hkswitch"),
        (False, True, WRONG, "there is no user hkswitch; `sudo systemd-sysusers"),
        (True, False, WRONG, "there is no group hkswitch"),
        (False, False, WRONG, "there is no user and no group hkswitch"),
    ],
)
def test_user_and_group_are_there(user: bool, group: bool, verdict: Verdict, words: str) -> None:
    judged(account.there(has_user=user, has_group=group), verdict, words)


@pytest.mark.parametrize(
    ("mode", "owned", "words"),
    [
        (0o40700, True, ""),
        (0o40700, False, "does not belong to hkswitch; `sudo chown -R"),
        (0o40755, True, "has mode 0755, and holds keys; `sudo chmod 0700"),
        (0o40500, True, "has mode 0500"),
        (0o100700, True, "is no folder"),
    ],
)
def test_the_state_folder_is_for_the_daemon_alone(mode: int, owned: bool, words: str) -> None:
    found = account.folder_is(Path("/s"), mode, owned=owned)
    assert found is None if not words else words in str(found)


def state_in(folder: Path) -> None:
    names = ("paired_clients", "client_properties", "client_uuid_to_bytes")
    keys = {"private_key": "11" * 32, "public_key": "22" * 32}
    accessory = {"mac": "AA:BB:CC:DD:EE:FF", "config_version": 1, **keys, **{name: {} for name in names}}
    state_file.write(folder, state_file.Stored(Setup("031-45-154", "ABCD"), accessory))


@pytest.mark.parametrize(
    ("damaged", "verdict", "words"),
    [
        ((), OK, ""),
        (("bridge.json", "bridge.json.backup"), WRONG, "is damaged (it is not JSON)"),
        (("bridge.json",), WRONG, "its backup is used; look after the disk"),
        (("bridge.json.backup",), OK, ""),
    ],
)
def test_a_damaged_state_is_said_also_while_its_backup_is_sound(
    damaged: tuple[str, ...], verdict: Verdict, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state_in(tmp_path)
    for name in damaged:
        (tmp_path / name).write_text("?")
    judged(account.contents_are(tmp_path, *account.stored(tmp_path)), verdict, words)
    assert caplog.records == []


def test_a_state_of_a_newer_version_is_said_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "bridge.json").write_text('{"version": 3}')
    found = account.contents_are(tmp_path, *account.stored(tmp_path))
    judged(found, WRONG, "install that version again")
    assert "chown" not in str(found)


def test_an_empty_state_folder_is_well(tmp_path: Path) -> None:
    judged(account.contents_are(tmp_path, *account.stored(tmp_path)), OK, "the first start makes the bridge")


# Root's rights

REFUSED = "sudo: a password is required"
NO_TTY = "sudo: sorry, you must have a tty to run sudo"
EXPIRED = "sudo: account validation failure, is your account locked?"
DOTTED = sudoers.Rules(None, passed_over="/etc/sudoers.d/hkswitch.conf")
TO_ITS_NAME = "`sudo mv /etc/sudoers.d/hkswitch.conf /etc/sudoers.d/hkswitch`"


@pytest.mark.parametrize(
    ("refusal", "rules", "verdict", "words"),
    [
        ("", sudoers.Rules(0o440), OK, "sudo lets hkswitch start the helper"),
        ("", None, OK, "sudo lets"),
        ("", sudoers.Rules(None), OK, "sudo lets"),  # another file has it, or a directory service
        ("", sudoers.Rules(0o644), WRONG, "has mode 0644; `sudo chmod 0440"),
        (REFUSED, None, WRONG, f"must hold the line: {SUDOERS_RULE}"),
        (REFUSED, sudoers.Rules(None), WRONG, "there is no /etc/sudoers.d/hkswitch; write this line"),
        (REFUSED, DOTTED, WRONG, f"as /etc/sudoers.d/hkswitch.conf; {TO_ITS_NAME}"),
        (REFUSED, sudoers.Rules(0o440, owned=False), WRONG, "does not belong to root; `sudo chown"),
        (REFUSED, sudoers.Rules(0o666), WRONG, "sudo reads no file that others can write"),
        (REFUSED, sudoers.Rules(0o440, complaint="syntax error"), WRONG, "visudo says: syntax error"),
        (REFUSED, sudoers.Rules(0o440, included=False), WRONG, "have the line `@includedir /etc/sudoers.d`"),
        (REFUSED, sudoers.Rules(0o440), WRONG, "no later rule may take it back"),
        (NO_TTY, sudoers.Rules(0o440), WRONG, "`Defaults!/usr/sbin/serviceswitch !requiretty`"),
        (NO_TTY, None, WRONG, "`Defaults!/usr/sbin/serviceswitch !requiretty`"),
        (EXPIRED, sudoers.Rules(0o440), WRONG, "`sudo chage --lastday=-1"),
    ],
)
def test_the_sudo_rule_is_in_force(
    refusal: str, rules: sudoers.Rules | None, verdict: Verdict, words: str
) -> None:
    judged(sudoers.in_force(refusal, RULE, rules), verdict, words)


@pytest.mark.parametrize(
    ("listed", "asks"),
    [
        (RULE, False),
        (f"User hkswitch may run:\n{RULE}\n", False),
        (f"    (ALL : ALL) ALL\n{RULE}", False),
        (f"{RULE}\n    (root) /usr/bin/apt", False),
        (f"    (ALL) NOPASSWD: ALL\n{RULE}", False),
        ("", False),
        (f"{RULE}\n    (root) /usr/sbin/serviceswitch serve", True),
        (f"{RULE}\n    (root) /usr/sbin/serviceswitch", True),
        (f"{RULE}\n    (ALL : ALL) ALL", True),
        (f"{RULE}\n    (ALL) PASSWD: ALL", True),
    ],
)
def test_a_later_rule_that_asks_for_a_password_is_seen(listed: str, asks: bool) -> None:
    """`sudo -l COMMAND` says yes to it all the same, and `sudo COMMAND` asks."""
    assert sudoers.asks_for_password(listed) is asks
    judged(sudoers.in_force("", listed, None), WRONG if asks else OK, "")


SET = "Matching Defaults entries for hkswitch on host:\n    env_reset, use_pty, setenv\n"
UNSET = "Matching Defaults entries for hkswitch on host:\n    setenv, !setenv\n"
OF_THE_COMMAND = """
Runas and Command-specific defaults for hkswitch:
    Defaults!/usr/sbin/serviceswitch !requiretty, !log_input,
    !log_output, {ours}
    Defaults!/usr/bin/ls {others}
"""
RULES = "\nUser hkswitch may run the following commands on host:\n"
TAGGED = "    (root) {}: NOPASSWD: /usr/sbin/serviceswitch serve"


@pytest.mark.parametrize(
    ("listed", "sets"),
    [
        (f"{SET}{RULES}{RULE}", True),
        (f"{SET}{OF_THE_COMMAND.format(ours='noexec', others='!setenv')}{RULES}{RULE}", True),
        (f"{UNSET}{OF_THE_COMMAND.format(ours='setenv', others='noexec')}{RULES}{RULE}", True),
        (f"{RULES}{RULE}\n{TAGGED.format('SETENV')}", True),
        (f"{RULES}{RULE}\n    (ALL) NOPASSWD: ALL", True),
        (f"{RULES}{RULE}", False),
        (f"{UNSET}{RULES}{RULE}", False),
        (f"{SET}{OF_THE_COMMAND.format(ours='!setenv', others='setenv')}{RULES}{RULE}", False),
        (f"{UNSET}{OF_THE_COMMAND.format(ours='noexec', others='setenv')}{RULES}{RULE}", False),
        (f"{SET}{RULES}{TAGGED.format('NOSETENV')}", False),
        (f"{RULES}{TAGGED.format('SETENV')}\n{RULE}", False),
        (f"{RULES}{RULE}\n    (root) SETENV: NOPASSWD: /usr/bin/apt", False),
        ("Matching Defaults entries:\n    env_file=/etc/setenv, noexec_file=/x/setenv", False),
    ],
)
def test_a_daemon_that_may_set_variables_of_the_helper_is_seen(listed: str, sets: bool) -> None:
    """By one, the linker loads what the daemon made, as root."""
    assert sudoers.sets_variables(listed) is sets
    judged(sudoers.in_force("", listed, None), WRONG if sets else OK, "!setenv" if sets else "")


def test_the_first_complaint_of_visudo_is_told() -> None:
    said = "/etc/sudoers: parsed OK\n/etc/sudoers.d/a:1:39: syntax error\nhkswitch ALL=(root)\n   ^\n"
    assert sudoers.first_complaint(said) == "/etc/sudoers.d/a:1:39: syntax error"
    assert sudoers.first_complaint("/etc/sudoers: parsed OK\n") == ""


def test_the_options_that_the_unit_must_not_have_are_those_that_the_document_names() -> None:
    rows = [line for line in (ROOT / "docs/sandbox.md").read_text().splitlines() if line.startswith("| `")]
    reasons = ("imply no-new-privileges there", "a dynamic user implies it", "root would be nobody outside")
    named = [row.split("|")[1] for row in rows if any(reason in row for reason in reasons)]
    assert {*re.findall(r"`(\w+)`", " ".join(named))} == privileges.IMPLYING
    assert privileges.implying((ROOT / "packaging/hkswitch.service").read_text()) == ()


def test_the_drop_in_of_the_package_is_not_blamed() -> None:
    drop_in = (ROOT / "packaging/hkswitch.service.d/systemd-257.conf").read_text()
    assert privileges.implying(f"# {privileges.OURS}\n{drop_in}") == ()
    assert privileges.implying(f"# /etc/systemd/system/hkswitch.service.d/mine.conf\n{drop_in}") != ()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("[Service]\nUser=hkswitch\n", []),
        ("[Service]\n# ProtectClock=yes\n;ProtectClock=yes\n", []),
        ("[Service]\nProtectClock=no\nRestrictNamespaces=false\n", []),
        ("[Service]\nSystemCallFilter=@system-service\nSystemCallFilter=\n", []),
        ("# /etc/a.conf\n[Service]\nProtectClock=yes\n# /etc/b.conf\nProtectClock=no\n", []),
        ("# /etc/a.conf\n[Service]\nProtectClock=yes\n", ["ProtectClock=yes in /etc/a.conf"]),
        ("# /etc/b.conf\n  NoNewPrivileges = true\n", ["NoNewPrivileges=true in /etc/b.conf"]),
        ("# /b\nSystemCallFilter=@a \\\n @b\n", ["SystemCallFilter=@a   @b in /b"]),
    ],
)
def test_options_that_imply_no_new_privileges_are_found_with_their_file(
    text: str, options: list[str]
) -> None:
    assert [str(option) for option in privileges.implying(text)] == options


OFF, ON = "Name:\tx\nNoNewPrivs:\t0\n", "Name:\tx\nNoNewPrivs:\t1\n"
CLOCK = (privileges.Option("ProtectClock", "yes", "/etc/x.conf"),)


@pytest.mark.parametrize(
    ("status", "init", "options", "verdict", "words"),
    [
        (OFF, OFF, (), OK, "not set"),
        (OFF, OFF, CLOCK, OK, "not set"),  # what runs is the truth
        (ON, OFF, CLOCK, WRONG, "ProtectClock=yes in /etc/x.conf; remove it, `sudo systemctl daemon-reload`"),
        (ON, OFF, (), WRONG, "an option of its unit implies it"),
        (ON, ON, CLOCK, WRONG, "process 1 has it too; the container"),
        ("", OFF, (), UNKNOWN, "/proc/7/status cannot be read"),
    ],
)
def test_the_daemon_may_gain_privileges(
    status: str, init: str, options: tuple[privileges.Option, ...], verdict: Verdict, words: str
) -> None:
    judged(privileges.of_daemon(7, status, init, options), verdict, words)


@pytest.mark.parametrize(
    ("options", "tried", "verdict", "words"),
    [
        ((), "", OK, "no option of the unit implies it"),
        (CLOCK, OFF, OK, "implies it with this systemd"),
        (CLOCK, ON, WRONG, "sudo could not start the helper: ProtectClock=yes in /etc/x.conf; remove it"),
        (CLOCK, "", UNKNOWN, "this systemd may imply it: ProtectClock=yes in /etc/x.conf; run it with sudo"),
        ((privileges.Option("PrivateUsers", "yes", "/x"),), OFF, WRONG, "PrivateUsers=yes in /x"),
        ((privileges.Option("NoNewPrivileges", "1", "/x"),), "", WRONG, "NoNewPrivileges=1 in /x"),
    ],
)
def test_a_daemon_that_does_not_run_could_gain_privileges(
    options: tuple[privileges.Option, ...], tried: str, verdict: Verdict, words: str
) -> None:
    judged(privileges.of_unit(options, tried), verdict, words)


# The daemon

RUNS = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
CRASHES = RUNS | {"ActiveState": "activating", "SubState": "auto-restart"}
NO_DAEMON = client.NoDaemon(Path("/run/hkswitch/control.sock"))


@pytest.mark.parametrize(
    ("unit", "bridge", "verdict", "words"),
    [
        (RUNS, BRIDGE, OK, "hkswitch.service runs"),
        (RUNS | {"UnitFileState": "disabled"}, BRIDGE, OK, "is not started at boot"),
        (RUNS, NO_DAEMON, WRONG, "hkswitch.service runs, but no hkswitch listens"),
        (RUNS, BridgeReport("", "0.0", 0, (), 1, ()), WRONG, "version 0.0 runs"),
        (RUNS | {"LoadState": "not-found"}, NO_DAEMON, WRONG, "is not-found; `sudo make install`"),
        (RUNS | {"LoadState": "masked"}, NO_DAEMON, WRONG, "is masked"),
        (RUNS | {"ActiveState": "inactive"}, NO_DAEMON, WRONG, "does not run; `sudo systemctl enable --now"),
        (RUNS | {"ActiveState": "failed", "Result": "exit-code"}, NO_DAEMON, WRONG, "failed (exit-code)"),
        (CRASHES, NO_DAEMON, WRONG, "is started again and again"),
        (RUNS | {"ActiveState": "deactivating"}, NO_DAEMON, WRONG, "is deactivating"),
        (programs.CannotRun("systemctl", "no"), NO_DAEMON, UNKNOWN, "systemctl: no"),
    ],
)
def test_the_daemon_runs(
    unit: Mapping[str, str] | Failure, bridge: BridgeReport | Failure, verdict: Verdict, words: str
) -> None:
    judged(service.runs(unit, bridge), verdict, words)


HELLO = f'{{"type":"hello","version":"{__version__}"}}\n'


@pytest.mark.parametrize(
    ("ran", "verdict", "words"),
    [
        (Ran(0, HELLO), OK, "it answers"),
        (Ran(0, '{"type":"hello","version":"0.0"}\n'), WRONG, "has version 0.0"),
        (Ran(0, '{"type":"pong","id":1}\n'), WRONG, "does not say hello"),
        (Ran(1, "", f"{REFUSED}\n"), WRONG, f"the line `{SUDOERS_RULE}`"),
        (Ran(1, "", f"{EXPIRED}\n{REFUSED}\n"), WRONG, "`sudo chage --lastday=-1"),
        (Ran(1, "", 'sudo: The "no new privileges" flag is set\n'), WRONG, "implies NoNewPrivileges"),
        (Ran(69, "", ""), WRONG, "exited with 69"),
        (Ran(0, "garbage\n", ""), WRONG, "the helper exited unexpectedly (garbage)"),
    ],
)
def test_a_helper_that_is_started_says_hello(ran: Ran, verdict: Verdict, words: str) -> None:
    judged(service.says_hello(ran), verdict, words)


def test_the_daemon_knows_its_helper() -> None:
    judged(service.answers_daemon(""), OK, "it answers")
    told = f"{REFUSED}: the remedy"
    judged(service.answers_daemon(told), WRONG, f"the daemon has no helper ({told}); `journalctl -u")


@pytest.mark.parametrize(
    ("active", "verdict", "words"),
    [
        ("active", OK, "serviceswitch.socket listens"),
        ("inactive", WRONG, "is inactive; `sudo systemctl enable --now serviceswitch.socket`"),
        ("failed", WRONG, "is failed"),
        ("", WRONG, "is not there"),
    ],
)
def test_the_socket_of_a_helper_that_systemd_starts(active: str, verdict: Verdict, words: str) -> None:
    judged(service.listens(active), verdict, words)


@pytest.mark.parametrize(
    ("process", "status", "verdict", "words"),
    [
        (7, "NoNewPrivs:\t1\n", OK, "set for the daemon"),
        (7, "NoNewPrivs:\t0\n", WRONG, "sudo ln -s /usr/lib/hkswitch/systemd/helper-socket.conf"),
        (7, "", UNKNOWN, "/proc/7/status cannot be read"),
        (0, "", UNKNOWN, "no daemon runs"),
    ],
)
def test_a_daemon_that_needs_no_sudo_may_gain_no_privilege(
    process: int, status: str, verdict: Verdict, words: str
) -> None:
    judged(privileges.without_sudo(process, status), verdict, words)


async def test_without_sudo_its_rule_is_not_missed() -> None:
    socket = replace(SITUATION, config=replace(CONFIG, helper=HelperTransport.SOCKET))
    (found,) = await sudoers.sudoers(socket)
    judged(found, OK, "not needed")


# systemd

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
GONE = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
MASKED = UnitState(LoadState.MASKED, ActiveState.INACTIVE, "dead")
ALL_UP = dict.fromkeys(("httpd.service", "smb.service", "nmb.service"), UP)


@pytest.mark.parametrize(
    ("config", "states", "verdict", "words"),
    [
        (CONFIG, ALL_UP, OK, "3 units known to systemd"),
        (CONFIG, ALL_UP | {"httpd.service": GONE}, WRONG, "httpd.service of group web is not-found; install"),
        (CONFIG, ALL_UP | {"nmb.service": MASKED}, WRONG, "nmb.service of group files is masked; `sudo"),
        (NO_GROUPS, {}, UNKNOWN, "no valid configuration"),
        (CONFIG, BusUnavailable("gone"), UNKNOWN, "systemd does not answer"),
    ],
)
def test_systemd_has_every_unit(
    config: Config | Failure, states: Mapping[str, UnitState] | Failure, verdict: Verdict, words: str
) -> None:
    judged(units.exist(config, states, {}), verdict, words)


@pytest.mark.parametrize(
    ("missing", "known", "words"),
    [
        ({"smb.service": GONE}, {"smb.service": "did you mean smbd?"}, "is not-found; did you mean smbd?"),
        (
            {"httpd.service": MASKED, "smb.service": GONE},
            {"smb.service": "did you mean smbd?"},
            "; `sudo systemctl unmask` it, or take it out of the configuration; did you mean smbd?",
        ),
        (
            {"httpd.service": GONE, "smb.service": GONE},
            {"httpd.service": "reload", "smb.service": "did you mean smbd?"},
            "is not-found; reload; did you mean smbd?",
        ),
        ({"httpd.service": GONE}, {"nmb.service": "?"}, "is not-found; install what it belongs to"),
    ],
)
def test_what_is_known_about_a_missing_unit_is_the_advice(
    missing: dict[str, UnitState], known: dict[str, str], words: str
) -> None:
    found = units.exist(CONFIG, ALL_UP | missing, known)
    judged(found, WRONG, words)
    assert "?" not in str(found) or str(found).endswith("did you mean smbd?")


KNOWN = {
    *("nginx.service", "smbd.service", "nmbd.service", "ssh.service", "ssh.socket", "getty@.service"),
    *("wg-quick@.service", "logrotate.timer", "postgresql.service", "srv-data.mount", ".service", ""),
}


@pytest.mark.parametrize(
    ("unit", "meant"),
    [
        ("ngnix.service", "nginx.service"),
        ("smb.service", "smbd.service"),
        ("postgres.service", "postgresql.service"),
        ("logrotat.timer", "logrotate.timer"),
        ("srv-daten.mount", "srv-data.mount"),
        ("gety@tty1.service", "getty@tty1.service"),
        ("wgquick@a@b.service", "wg-quick@a@b.service"),
        ("nginx.socket", ""),
        ("ssg.timer", ""),
        ("httpd.service", ""),
        ("getty.service", ""),
        ("nginx@a.service", ""),
        ("x.service", ""),
    ],
)
def test_a_unit_of_a_similar_name_may_have_been_meant(unit: str, meant: str) -> None:
    assert missing_units.similar(unit, KNOWN) == meant


@pytest.mark.parametrize(
    ("unit", "file"),
    [
        ("a.service", "1/a.service"),
        ("alias.service", "1/alias.service"),
        ("b.service", "2/b.service"),
        ("t@x.service", "2/t@.service"),
        ("t@own.service", "1/t@own.service"),
        ("t@.service", "2/t@.service"),
        ("dangling.service", None),
        ("t.service", None),
        ("a.socket", None),
    ],
)
def test_a_unit_file_that_is_there_is_found_by_systemds_names(
    tmp_path: Path, unit: str, file: str | None
) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.mkdir()
    second.mkdir()
    for path in (first / "a.service", second / "b.service", second / "t@.service", first / "t@own.service"):
        path.touch()
    (first / "alias.service").symlink_to("a.service")
    (first / "dangling.service").symlink_to("nowhere.service")
    found = missing_units.file_of(unit, (tmp_path / "0", first, second))
    assert found == (tmp_path / file if file else None)


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that systemctl says it looks into; it lists nginx, too."""
    folder = tmp_path / "units"
    folder.mkdir()
    program = tmp_path / "systemctl"
    program.write_text(f"""#!/bin/sh
case "$*" in
    "show --property=UnitPath --value") echo {folder} /etc/systemd/system;;
    "list-unit-files --no-legend --no-pager --plain") echo 'nginx.service   disabled enabled';;
esac
""")
    program.chmod(0o755)
    monkeypatch.setattr(environment, "SEARCH_PATH", f"{tmp_path}:{environment.SEARCH_PATH}")
    return folder


async def test_a_file_that_systemd_has_not_read_comes_before_a_similar_name(systemctl: Path) -> None:
    unread = systemctl / "nginy.service"
    unread.touch()
    assert await missing_units.hints(["ngnix.service", "nginy.service", "other.service"]) == {
        "ngnix.service": "did you mean nginx.service?",
        "nginy.service": f"systemd has not read {unread} yet: `sudo systemctl daemon-reload`",
    }


async def test_without_missing_units_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(missing_units, "run", None)
    assert await missing_units.hints([]) == {}


async def test_without_systemctl_there_is_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(*_: str) -> Ran:
        raise programs.NotInstalled("systemctl", "there is no such program")

    monkeypatch.setattr(missing_units, "run", refuses)
    assert await missing_units.hints(["no-such-unit-anywhere.service"]) == {}


def test_only_the_first_of_many_missing_units_are_named() -> None:
    names = ", ".join(f"u{number}" for number in range(9))
    config = parse(f"groups: {{a: {{units: [{names}]}}}}".encode(), "")
    found = units.exist(config, dict.fromkeys(config.groups[0].units, GONE), {})
    judged(found, WRONG, "u2.service of group a is not-found, and 6 more")


def test_systemd_is_on_the_bus() -> None:
    judged(units.reachable({}), OK, "systemd answers")
    judged(units.reachable(BusUnavailable("gone")), WRONG, "`sudo systemctl start dbus.socket`")


# The network

HERE = Endpoint(("10.77.0.1", "fd00::1"), frozenset({1}))
NOWHERE = BRIDGE._replace(addresses=())
DOWN = NoAddress("the interface lan0 is down", "lan0", "bring lan0 up")


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("waiting for lan9: there is none", "the bridge has no network: waiting for lan9: there is none"),
        ("", "the bridge has no network"),
    ],
)
async def test_a_bridge_without_a_network_is_not_asked_by_mdns(why: str, words: str) -> None:
    bridge = NOWHERE._replace(network=why)
    (found,) = await mdns.mdns(replace(SITUATION, bridge=bridge, place=DOWN))
    judged(found, UNKNOWN, words)


async def test_a_bridge_whose_network_is_about_to_go_is_not_asked_by_mdns() -> None:
    (found,) = await mdns.mdns(replace(SITUATION, bridge=BRIDGE, place=DOWN))
    judged(found, UNKNOWN, "the network that the configuration chooses is not there")


def test_the_bridge_is_heard() -> None:
    judged(mdns.answered(BRIDGE, "hkswitch 1A2B3C"), OK, "hkswitch 1A2B3C answers")
    judged(mdns.answered(BRIDGE, ""), WRONG, "nobody answers for the bridge on 10.77.0.1 within 3 s; let")


# Clock, pairing

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "synchronized", "keepers", "verdict", "words"),
    [
        (NOON, True, set(), OK, "2027-03-01, synchronized"),
        (NOON, False, {"active", "inactive"}, OK, "not synchronized yet"),
        (NOON, False, {"inactive"}, WRONG, "nothing keeps it right; `sudo timedatectl set-ntp true`"),
        (0, False, {"active"}, WRONG, "it says 1970-01-01; `sudo timedatectl"),
        (0, True, set(), WRONG, "it says 1970"),
        (NOON, False, set(), UNKNOWN, "nothing here knows whether 2027-03-01 is right"),
    ],
)
def test_the_clock_is_sane(
    now: float, synchronized: bool, keepers: set[str], verdict: Verdict, words: str
) -> None:
    judged(clock.sane(now, keepers, synchronized=synchronized), verdict, words)


def test_services_that_are_not_there_keep_no_clock() -> None:
    shown = (
        "LoadState=loaded\nActiveState=inactive\n\nLoadState=not-found\nActiveState=inactive\n\n"
        "LoadState=loaded\nActiveState=active\n\nLoadState=masked\nActiveState=failed\n"
    )
    assert clock.states_of(shown) == {"active", "inactive"}
    assert clock.states_of("") == set()


def test_the_year_of_release_is_not_in_the_future() -> None:
    assert datetime.fromtimestamp(time.time(), UTC).year >= clock.RELEASED


def test_somebody_is_paired() -> None:
    judged(paired.by((PairedController("A", admin=True),), STATE_FOLDER), OK, "with 1 controller")
    judged(paired.by((), STATE_FOLDER), WRONG, "with nobody; `sudo hkswitch pair`")


# Programs


async def test_a_program_is_asked_in_english_and_has_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    said = await programs.run("sh", "-c", 'echo "$LC_ALL"; cat; test -p /dev/stdin && echo piped; exit 3')
    assert said == Ran(3, "C.UTF-8\npiped\n")


async def test_a_program_gets_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PATH", "/nowhere")
    said = await programs.run("env")
    assert dict(line.split("=", 1) for line in said.output.splitlines()) == environment.ENVIRONMENT


async def test_a_program_that_says_too_much_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LONGEST_OUTPUT_BYTES", 10_000)
    assert (await programs.run("head", "-c", "10000", "/dev/zero")).output == "\0" * 10_000
    for stream in ("1", "2"):
        with pytest.raises(programs.CannotRun, match="sh: it said more than 10000 bytes"):
            await programs.run("sh", "-c", f"yes >&{stream}")


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 1 &"], ids=["it hangs", "its child does"])
async def test_a_program_has_its_time_and_no_more(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "WITHIN_SECONDS", 0.2)
    with pytest.raises(programs.CannotRun, match=r"sh: it gave no answer within 0\.2 s"):
        await programs.run("sh", "-c", script)


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(programs.NotInstalled, match="no-such-program: there is no such program"):
        await programs.run("no-such-program")
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/shell\n")
    broken.chmod(0o755)
    with pytest.raises(programs.CannotRun, match="No such file or directory"):
        await programs.run(str(broken))


def test_a_complaint_is_the_last_line_that_says_something() -> None:
    assert Ran(1, "out\n", "one\n two \n\n").complaint == "two"
    assert Ran(1, "out\n", "").complaint == "out"
    assert Ran(7, "", "\n").complaint == "it exited with 7"


async def test_a_program_that_was_given_up_says_nothing_after_the_end_of_the_loop() -> None:
    script = (
        "import asyncio; from hkswitch.doctor import programs; programs.WITHIN_SECONDS = 0.1\n"
        "async def main():\n"
        "    try: await programs.run('sh', '-c', 'sleep 1 & sleep 1')\n"
        "    except programs.CannotRun: print('given up')\n"
        "asyncio.run(main())\n"
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=pipe, stderr=pipe)
    assert await process.communicate() == (b"given up\n", b"")


# All of it

SITUATION = context.Situation(
    config_file=FILE,
    state_folder=Path("/nowhere"),
    asker=4242,
    account=None,
    config=CONFIG,
    place=HERE,
    unit=RUNS | {"MainPID": "0"},
    bridge=NO_DAEMON,
)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), ValueError("odd"), BusUnavailable("gone")]
)
async def test_a_point_that_breaks_is_open_and_harms_no_other(error: Exception) -> None:
    async def breaks(_: context.Situation) -> tuple[Finding]:
        raise error

    [found] = await checks.guarded((Point.CLOCK,), breaks, SITUATION)
    assert found.point is Point.CLOCK
    judged(found, UNKNOWN, str(error))


async def test_every_point_is_looked_at_in_order() -> None:
    assert [point for points in checks.CHECKS for point in points] == list(Point)
    assert [finding.point for finding in await checks.examine(SITUATION)] == list(Point)


def test_text_of_others_cannot_draw_on_a_terminal() -> None:
    assert str(wrong(Point.PORT, "\x1b[2Jprocess\n", "\x07stop")) == "?[2Jprocess; ?stop"


FINDINGS = (
    ok(Point.USER, "user and group hkswitch"),
    wrong(Point.PORT, "process 7 [nc] has 51826", "stop that"),
    unknown(Point.STATE, "hidden", "run it with sudo"),
    warning(Point.CONFIGURATION, "dbus.service: stopping it", "remove it"),
)


def test_a_line_for_each_point() -> None:
    output = io.StringIO()
    page.show(FINDINGS, Console(file=output, highlight=False, width=20))
    assert output.getvalue().splitlines() == page.lines(FINDINGS)
    assert page.lines(FINDINGS) == [
        "ok    user: user and group hkswitch",
        "WRONG port: process 7 [nc] has 51826; stop that",
        "?     state: cannot tell: hidden; run it with sudo",
        "warn  configuration: dbus.service: stopping it; remove it",
    ]


def test_a_terminal_has_colours() -> None:
    output = io.StringIO()
    page.show(FINDINGS, Console(file=output, force_terminal=True, color_system="standard", highlight=False))
    assert "\x1b[1;31mWRONG\x1b[0m port" in output.getvalue()


def test_the_schema_of_version_1_stays() -> None:
    shown = json.loads(page.as_json(FINDINGS))
    assert shown["version"] == 1
    assert shown["points"][1:] == [
        {"point": "port", "verdict": "wrong", "finding": "process 7 [nc] has 51826", "advice": "stop that"},
        {
            "point": "state",
            "verdict": "unknown",
            "finding": "cannot tell: hidden",
            "advice": "run it with sudo",
        },
        {
            "point": "configuration",
            "verdict": "warning",
            "finding": "dbus.service: stopping it",
            "advice": "remove it",
        },
    ]


def test_only_what_is_wrong_is_69() -> None:
    assert page.exit_code(FINDINGS) == 69
    assert page.exit_code([finding for finding in FINDINGS if finding.verdict is not WRONG]) is Exit.OK


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_without_an_installation_each_point_is_a_line_and_nothing_is_a_traceback(
    tmp_path: Path, locale: str
) -> None:
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent", "PATH": str(tmp_path)}
    options = ("--config", tmp_path / "none.yaml", "--state-dir", tmp_path / "none")
    code, output, errors = run("doctor", *options, LC_ALL=locale, **nowhere)
    assert (code, errors) == (69, "")
    assert [line[6:].partition(":")[0] for line in output.splitlines()] == list(Point)
    assert {line[:6] for line in output.splitlines()} <= {"ok    ", "WRONG ", "?     "}
    shown = json.loads(run("doctor", "--json", *options, LC_ALL=locale, **nowhere)[1])
    assert [point["point"] for point in shown["points"]] == list(Point)


@pytest.mark.parametrize(("to", "code"), [(">&-", 69), (">/dev/full", 74)])
def test_a_reader_that_went_away_is_no_traceback(tmp_path: Path, to: str, code: int) -> None:
    command = f"{HKSWITCH} doctor --config {tmp_path}/none.yaml --state-dir {tmp_path}/none {to}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
