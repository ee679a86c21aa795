"""How `hkswitch doctor` judges the facts: tables that need no root. tests/host/ has real faults."""

import asyncio
import io
import json
import os
import pwd
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from zeroconf import IPVersion, ServiceStateChange
from zeroconf.asyncio import AsyncServiceInfo

from hkswitch import __version__
from hkswitch.backend.sudo_reasons import SUDOERS_RULE
from hkswitch.cli.doctor import show_findings
from hkswitch.control import STATE_FOLDER, client
from hkswitch.doctor import (
    account,
    checks,
    clock,
    configuration,
    context,
    finding,
    former_bridge,
    mdns,
    privileges,
    programs,
    service,
    sudoers,
    units,
)
from hkswitch.doctor.finding import Check, Finding, Verdict, fail, ok, skip, todo, warn
from hkswitch.doctor.programs import Completed
from hkswitch.editing.example import is_example
from hkswitch.hap import state_file
from hkswitch.hap.setup_code import Setup
from hkswitch.hap.taken_over import TakenOver, Texts
from hkswitch.model import environment
from hkswitch.model.config import Config, parse
from hkswitch.model.config_file import ConfigReadTimedOut
from hkswitch.model.errors import BusUnavailable, ConfigError, ConfigUnreadable, Exit, Failure
from hkswitch.model.unit_state import ActiveState, HelperTransport, LoadState, UnitState
from hkswitch.network.choice import NoAddress
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.helper import CONFIG_CHANGED, SOCKET_IS_SET
from hkswitch.protocol.report import BridgeReport, PairedController
from hkswitch.serviceswitch.trusted_files import NotThere, Untrusted
from hkswitch.unit_names.similar import similar
from hkswitch.unit_names.unit_files import file_of
from tests.support.command import HKSWITCH, run

ROOT = Path(__file__).parents[2]
OK, FAIL, WARN, TODO, SKIP = Verdict
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
    assert (finding.verdict in {FAIL, WARN, TODO}) <= bool(finding.advice), "what to do?"


# The configuration


@pytest.mark.parametrize(
    ("config", "readable", "root", "verdict", "words"),
    [
        (CONFIG, True, True, OK, "/etc/hkswitch/config.yaml (2 groups)"),
        (CHECKED, None, False, OK, "1 group"),
        (CONFIG, False, True, FAIL, f"the user hkswitch cannot read {FILE}; run `sudo chmod o+r"),
        (
            NO_GROUPS,
            True,
            True,
            FAIL,
            "has 1 error, the first at line 1, column 9 (groups); `hkswitch check`",
        ),
        (POWER, True, True, WARN, "poweroff.target: starting it turns this machine off"),
        (POWER, True, True, WARN, "; unless you want that, remove it from group power, or limit"),
        (DANGERS, None, False, WARN, "(and 2 more; `hkswitch check` lists them); unless"),
        (DANGERS, False, False, FAIL, "the user hkswitch cannot read"),
        (
            ConfigUnreadable(str(FILE), os.strerror(2)),
            None,
            False,
            FAIL,
            f"{FILE} does not exist; run `sudo cp {configuration.EXAMPLE} {FILE}`",
        ),
        (ConfigUnreadable(str(FILE), os.strerror(5)), None, True, FAIL, "Input/output error; correct that"),
        (ConfigReadTimedOut(str(FILE), "reading took longer than 5 s"), None, True, FAIL, "longer than 5 s"),
        (ConfigUnreadable(str(FILE), os.strerror(13)), None, False, SKIP, "run `sudo hkswitch doctor`"),
    ],
)
def test_a_configuration_is_valid_and_the_daemon_can_read_it(
    config: Config | Failure, readable: bool | None, root: bool, verdict: Verdict, words: str
) -> None:
    found = configuration.valid(config, FILE, readable=readable, is_root=root)
    judged(found, verdict, words)


def test_a_mistake_is_named_by_its_place_and_not_by_what_was_written() -> None:
    config = mistakes("groups: {web: {check: ['--password=s3cret']}}")
    assert "s3cret" in str(config)
    found = configuration.valid(config, FILE, readable=True, is_root=True)
    judged(found, FAIL, "groups.web")
    assert "s3cret" not in str(found)


@pytest.mark.parametrize(
    ("verdict", "bridge", "same"),
    [
        (OK, BRIDGE, True),
        (OK, client.NoDaemon(Path("/none")), True),
        (OK, BRIDGE._replace(config="web: 'hunter2' has changed"), False),
        (WARN, BRIDGE._replace(config="web: 'hunter2' has changed"), False),
        (FAIL, BRIDGE._replace(config="web: 'hunter2' has changed"), True),
    ],
)
def test_a_configuration_that_is_not_in_effect_fails_and_is_not_quoted(
    verdict: Verdict, bridge: BridgeReport | Failure, same: bool
) -> None:
    found = Finding(Check.CONFIGURATION, verdict, "it is read")
    judged_now = configuration.in_effect(found, bridge)
    assert (judged_now == found) is same
    assert "hunter2" not in str(judged_now)
    assert same or judged_now.verdict is FAIL


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        (CONFIG_CHANGED, "run `sudo hkswitch reload`"),
        (f"denied: {SOCKET_IS_SET}", "run `sudo systemctl restart hkswitch.service`"),
    ],
)
def test_a_reload_is_advised_only_if_it_can_end_the_problem(why: str, remedy: str) -> None:
    found = configuration.in_effect(Finding(Check.CONFIGURATION, OK, ""), BRIDGE._replace(config=why))
    assert (found.verdict, found.advice) == (FAIL, remedy)


@pytest.mark.parametrize(
    ("config", "refused", "root", "verdict", "words"),
    [
        (CONFIG, [], True, OK, "only root can write the configuration"),
        (CHECKED, [], True, OK, "configuration and 1 program"),
        (CONFIG, [Untrusted("/etc", "its owner is uid 7")], True, FAIL, "/etc is not trusted: its owner"),
        (
            CONFIG,
            [Untrusted("/a", "x"), Untrusted("/b", "y")],
            True,
            FAIL,
            "/a is not trusted: x; /b is not trusted: y; until that is fixed, the helper denies each request",
        ),
        (CONFIG, [Untrusted("/a", "x")] * 2, True, FAIL, "/a is not trusted: x; until"),
        (
            CONFIG,
            [Untrusted(f"/{name}", "x") for name in "abcde"],
            True,
            FAIL,
            "/c is not trusted: x; and 2 more;",
        ),
        (CONFIG, [Untrusted("/etc/x", os.strerror(13))], True, FAIL, "Permission denied"),
        (CONFIG, [Untrusted("/etc/x", os.strerror(13))], False, SKIP, "run `sudo hkswitch doctor`"),
        (
            CONFIG,
            [Untrusted("/x", os.strerror(13)), Untrusted("/y", "z")],
            False,
            FAIL,
            "/y is not trusted: z;",
        ),
        (CONFIG, [NotThere("/etc/hkswitch")], True, SKIP, "no valid configuration"),
        (NO_GROUPS, [], True, SKIP, "no valid configuration"),
    ],
)
def test_only_root_can_write_the_configuration_and_its_programs(
    config: Config | Failure, refused: list[Untrusted | NotThere], root: bool, verdict: Verdict, words: str
) -> None:
    judged(configuration.trusted(config, refused, is_root=root), verdict, words)


# The user and its folder


@pytest.mark.parametrize(
    ("user", "group", "verdict", "words"),
    [
        (True, True, OK, "user and group hkswitch exist"),
        (False, True, FAIL, "there is no user hkswitch; run `sudo systemd-sysusers"),
        (True, False, FAIL, "there is no group hkswitch"),
        (False, False, FAIL, "there is no user or group hkswitch"),
    ],
)
def test_user_and_group_exist(user: bool, group: bool, verdict: Verdict, words: str) -> None:
    judged(account.exist(has_user=user, has_group=group, is_installed=True), verdict, words)


def test_without_the_file_that_creates_the_user_the_remedy_is_another() -> None:
    judged(account.exist(has_user=False, has_group=False, is_installed=False), FAIL, "; install hkswitch")


@pytest.mark.parametrize(
    ("mode", "owned", "words"),
    [
        (0o40700, True, ""),
        (0o40700, False, "is not owned by hkswitch; run `sudo chown -R"),
        (0o40755, True, "has mode 0755, but contains keys; run `sudo chmod 0700"),
        (0o40500, True, "has mode 0500"),
        (0o100700, True, "is not a folder"),
    ],
)
def test_the_state_folder_belongs_to_the_daemon_alone(mode: int, owned: bool, words: str) -> None:
    found = account.folder_fault(Path("/s"), mode, owned=owned)
    assert found is None if not words else words in str(found)


def state_in(folder: Path, taken_over: TakenOver | None = None) -> None:
    names = ("paired_clients", "client_properties", "client_uuid_to_bytes")
    keys = {"private_key": "11" * 32, "public_key": "22" * 32}
    accessory = {"mac": "AA:BB:CC:DD:EE:FF", "config_version": 1, **keys, **{name: {} for name in names}}
    stored = state_file.Stored(Setup("031-45-154", "ABCD"), accessory, taken_over=taken_over)
    state_file.write(folder, stored)


@pytest.mark.parametrize(
    ("damaged", "verdict", "words"),
    [
        ((), OK, ""),
        (("bridge.json", "bridge.json.backup"), FAIL, "is damaged (not JSON)"),
        (("bridge.json",), FAIL, "using its backup; check the disk"),
        (("bridge.json.backup",), OK, ""),
    ],
)
def test_a_damaged_state_fails_even_with_a_valid_backup(
    damaged: tuple[str, ...], verdict: Verdict, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state_in(tmp_path)
    for name in damaged:
        (tmp_path / name).write_text("?")
    judged(account.contents(tmp_path, *account.stored(tmp_path)), verdict, words)
    assert caplog.records == []


def test_a_state_of_a_newer_version_fails_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "bridge.json").write_text('{"version": 4}')
    found = account.contents(tmp_path, *account.stored(tmp_path))
    judged(found, FAIL, "install that version again")
    assert "chown" not in str(found)


def test_an_empty_state_folder_is_ok(tmp_path: Path) -> None:
    judged(account.contents(tmp_path, *account.stored(tmp_path)), OK, "the first start fills it")


MAC = "AA:BB:CC:DD:EE:FF"
MAIN = {"bridge": {"username": MAC}}
CHILD = {"platforms": [{"platform": "cmdSwitch2", "_bridge": {"username": MAC.lower()}}]}
OTHERS: dict[str, object] = {"bridge": {"username": "CC:22:3D:E3:CE:31"}, "platforms": [{"platform": "Hue"}]}
HB = ("homebridge.service",)
WOULD = f"homebridge.service is enabled or active, and would start hkswitch's bridge {MAC} again"


@pytest.mark.parametrize(
    ("is_taken_over", "units", "configs", "words"),
    [
        (True, HB, [MAIN], f"{WOULD}; run `sudo systemctl disable --now homebridge.service`"),
        (True, HB, [OTHERS, CHILD], WOULD),
        (True, HB, [], "homebridge.service is enabled or active, and may start"),
        (True, (*HB, "hb@pi.service"), [MAIN], "homebridge.service, hb@pi.service are enabled or active"),
        (True, HB, [OTHERS], ""),
        (True, HB, ["{", OTHERS], ""),
        (True, (), [MAIN], ""),
        (False, HB, [MAIN], ""),
    ],
)
async def test_a_homebridge_that_would_start_a_bridge_that_was_taken_over_is_to_be_disabled(  # noqa: PLR0917
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    is_taken_over: bool,
    units: tuple[str, ...],
    configs: list[object],
    words: str,
) -> None:
    folder = tmp_path / "state"
    state_in(folder, TakenOver(3, Texts("A", "B", "CC", "DD"), {}) if is_taken_over else None)
    homes = [tmp_path / str(number) for number in range(len(configs))]
    for home, config in zip(homes, configs, strict=True):
        (home / former_bridge.FOLDER_IN_HOME).mkdir(parents=True)
        text = config if isinstance(config, str) else json.dumps(config)
        (home / former_bridge.FOLDER_IN_HOME / "config.json").write_text(text)
    accounts = [pwd.struct_passwd(("pi", "x", 1, 1, "", str(home), "")) for home in (*homes, tmp_path)]
    monkeypatch.setattr(pwd, "getpwall", lambda: accounts)
    monkeypatch.setattr(former_bridge, "SERVICES_FOLDER", tmp_path / "none")
    monkeypatch.setattr(former_bridge, "units_that_start_homebridge", lambda: units)
    own = context.Account("hkswitch", os.geteuid(), os.getegid())
    folder.chmod(0o700)
    (found,) = await account.state(replace(CONTEXT, state_folder=folder, account=own, user_id=os.geteuid()))
    judged(found, TODO if words else OK, words)


# Root's rights

REFUSED = "sudo: a password is required"
NO_TTY = "sudo: sorry, you must have a tty to run sudo"
EXPIRED = "sudo: account validation failure, is your account locked?"
DOTTED = sudoers.RuleFile(None, ignored_file="/etc/sudoers.d/hkswitch.conf")
TO_ITS_NAME = "run `sudo mv /etc/sudoers.d/hkswitch.conf /etc/sudoers.d/hkswitch`"


@pytest.mark.parametrize(
    ("refusal", "rules", "verdict", "words"),
    [
        ("", sudoers.RuleFile(0o440), OK, "sudo lets hkswitch start the helper"),
        ("", None, OK, "sudo lets"),
        ("", sudoers.RuleFile(None), OK, "sudo lets"),  # another file has it, or a directory service
        ("", sudoers.RuleFile(0o644), FAIL, "has mode 0644; run `sudo chmod 0440"),
        (REFUSED, None, FAIL, f"must contain the line: {SUDOERS_RULE}"),
        (
            REFUSED,
            sudoers.RuleFile(None),
            FAIL,
            "/etc/sudoers.d/hkswitch does not exist; create it with",
        ),
        (REFUSED, DOTTED, FAIL, f"like /etc/sudoers.d/hkswitch.conf; {TO_ITS_NAME}"),
        (REFUSED, sudoers.RuleFile(0o440, is_roots=False), FAIL, "is not owned by root; run `sudo chown"),
        (REFUSED, sudoers.RuleFile(0o666), FAIL, "sudo ignores files that other users can write"),
        (REFUSED, sudoers.RuleFile(0o440, visudo_error="syntax error"), FAIL, "visudo says: syntax error"),
        (
            REFUSED,
            sudoers.RuleFile(0o440, is_included=False),
            FAIL,
            "add the line `@includedir /etc/sudoers.d`",
        ),
        (REFUSED, sudoers.RuleFile(0o440), FAIL, "no later rule may override it"),
        (NO_TTY, sudoers.RuleFile(0o440), FAIL, "`Defaults!/usr/sbin/serviceswitch !requiretty`"),
        (NO_TTY, None, FAIL, "`Defaults!/usr/sbin/serviceswitch !requiretty`"),
        (EXPIRED, sudoers.RuleFile(0o440), FAIL, "`sudo chage --lastday=-1"),
    ],
)
def test_the_sudo_rule_is_in_force(
    refusal: str, rules: sudoers.RuleFile | None, verdict: Verdict, words: str
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
def test_a_later_rule_that_asks_for_a_password_fails(listed: str, asks: bool) -> None:
    """`sudo -l COMMAND` says yes to it all the same, and `sudo COMMAND` asks."""
    assert sudoers.asks_for_password(listed) is asks
    judged(sudoers.in_force("", listed, None), FAIL if asks else OK, "")


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
def test_a_daemon_that_may_set_variables_of_the_helper_fails(listed: str, sets: bool) -> None:
    """By one, the linker loads what the daemon made, as root."""
    assert sudoers.sets_variables(listed) is sets
    judged(sudoers.in_force("", listed, None), FAIL if sets else OK, "!setenv" if sets else "")


def test_the_first_error_of_visudo_is_shown() -> None:
    said = "/etc/sudoers: parsed OK\n/etc/sudoers.d/a:1:39: syntax error\nhkswitch ALL=(root)\n   ^\n"
    assert sudoers.first_error(said) == "/etc/sudoers.d/a:1:39: syntax error"
    assert sudoers.first_error("/etc/sudoers: parsed OK\n") == ""


def test_the_options_that_the_unit_must_not_have_are_those_that_the_document_names() -> None:
    rows = [line for line in (ROOT / "docs/sandbox.md").read_text().splitlines() if line.startswith("| `")]
    reasons = ("imply no-new-privileges there", "`DynamicUser` implies", "root would be the user `nobody`")
    named = [row.split("|")[1] for row in rows if any(reason in row for reason in reasons)]
    assert {*re.findall(r"`(\w+)`", " ".join(named))} == privileges.IMPLYING
    assert privileges.implying((ROOT / "packaging/hkswitch.service").read_text()) == ()


def test_the_drop_in_of_the_package_does_not_count() -> None:
    drop_in = (ROOT / "packaging/hkswitch.service.d/systemd-257.conf").read_text()
    assert privileges.implying(f"# {privileges.PACKAGED_DROP_IN}\n{drop_in}") == ()
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
CLOCK = (privileges.Setting("ProtectClock", "yes", "/etc/x.conf"),)


@pytest.mark.parametrize(
    ("status", "init", "options", "verdict", "words"),
    [
        (OFF, OFF, (), OK, "NoNewPrivileges is not set"),
        (OFF, OFF, CLOCK, OK, "NoNewPrivileges is not set"),  # what runs is the truth
        (
            ON,
            OFF,
            CLOCK,
            FAIL,
            "ProtectClock=yes in /etc/x.conf; remove it, then run `sudo systemctl daem",
        ),
        (ON, OFF, (), FAIL, "a setting of its unit implies it"),
        (ON, ON, CLOCK, FAIL, "process 1 has it too; turn it off in the settings"),
        ("", OFF, (), SKIP, "cannot read /proc/7/status"),
    ],
)
def test_the_daemon_may_gain_privileges(
    status: str, init: str, options: tuple[privileges.Setting, ...], verdict: Verdict, words: str
) -> None:
    judged(privileges.of_daemon(7, status, init, options), verdict, words)


@pytest.mark.parametrize(
    ("options", "tried", "verdict", "words"),
    [
        ((), "", OK, "no unit setting enables NoNewPrivileges"),
        (CLOCK, OFF, OK, "with this version of systemd, no unit setting enables"),
        (CLOCK, ON, FAIL, "sudo could not start the helper: ProtectClock=yes in /etc/x.conf; remove it"),
        (
            CLOCK,
            "",
            SKIP,
            "may enable NoNewPrivileges: ProtectClock=yes in /etc/x.conf; run `sudo",
        ),
        ((privileges.Setting("PrivateUsers", "yes", "/x"),), OFF, FAIL, "PrivateUsers=yes in /x"),
        ((privileges.Setting("NoNewPrivileges", "1", "/x"),), "", FAIL, "NoNewPrivileges=1 in /x"),
    ],
)
def test_a_daemon_that_does_not_run_could_gain_privileges(
    options: tuple[privileges.Setting, ...], tried: str, verdict: Verdict, words: str
) -> None:
    judged(privileges.of_unit(options, tried), verdict, words)


# The daemon

RUNS = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
STOPPED = RUNS | {"ActiveState": "inactive"}
CRASHES = RUNS | {"ActiveState": "activating", "SubState": "auto-restart"}
NO_DAEMON = client.NoDaemon(Path("/run/hkswitch/control.sock"))
UNREACHABLE = client.Unreachable(Path("/run/hkswitch/control.sock"))
MUTE = client.NoAnswer(Path("/run/hkswitch/control.sock"), "it closed the connection")


@pytest.mark.parametrize(
    ("unit", "bridge", "verdict", "words"),
    [
        (RUNS, BRIDGE, OK, "hkswitch.service is running"),
        (RUNS | {"UnitFileState": "disabled"}, BRIDGE, OK, "is running, but not enabled at boot"),
        (RUNS, NO_DAEMON, FAIL, "hkswitch.service is running, but no daemon is listening"),
        (RUNS, BridgeReport("", "0.0", 0, (), 1, ()), FAIL, "version 0.0 is running, but version"),
        (RUNS | {"LoadState": "not-found"}, NO_DAEMON, FAIL, "is not installed; install hkswitch"),
        (RUNS | {"LoadState": "masked"}, NO_DAEMON, FAIL, "is masked; run `sudo systemctl unmask"),
        (RUNS | {"LoadState": "bad-setting"}, NO_DAEMON, FAIL, "systemd cannot load hkswitch.service (bad-"),
        ({}, NO_DAEMON, FAIL, "is not installed"),
        (STOPPED, NO_DAEMON, FAIL, "is not running; run `sudo systemctl enable"),
        (STOPPED | {"UnitFileState": "disabled"}, NO_DAEMON, TODO, "is not enabled; run `sudo systemctl ena"),
        (STOPPED | {"UnitFileState": "disabled"}, UNREACHABLE, TODO, "is not enabled"),
        (STOPPED, MUTE, FAIL, "is not running, but another program listens in its place (no reply"),
        (STOPPED | {"UnitFileState": "disabled"}, MUTE, FAIL, "another program listens in its place"),
        (RUNS | {"ActiveState": "failed", "Result": "exit-code"}, NO_DAEMON, FAIL, "failed (exit-code)"),
        (CRASHES, NO_DAEMON, FAIL, "keeps failing and restarting"),
        (RUNS | {"ActiveState": "deactivating"}, NO_DAEMON, FAIL, "is deactivating"),
        (programs.CannotRun("systemctl: no"), NO_DAEMON, SKIP, "systemctl: no"),
    ],
)
def test_the_daemon_runs(
    unit: Mapping[str, str] | Failure, bridge: BridgeReport | Failure, verdict: Verdict, words: str
) -> None:
    judged(service.running(unit, bridge), verdict, words)


HELLO = f'{{"type":"hello","version":"{__version__}"}}\n'


@pytest.mark.parametrize(
    ("ran", "verdict", "words"),
    [
        (Completed(0, HELLO), OK, "responding"),
        (
            Completed(0, '{"type":"hello","version":"0.0"}\n'),
            FAIL,
            "has version 0.0, but hkswitch has",
        ),
        (Completed(0, '{"type":"pong","id":1}\n'), FAIL, "an unexpected first message"),
        (Completed(1, "", f"{REFUSED}\n"), FAIL, f"the line `{SUDOERS_RULE}`"),
        (Completed(1, "", f"{EXPIRED}\n{REFUSED}\n"), FAIL, "`sudo chage --lastday=-1"),
        (Completed(1, "", 'sudo: The "no new privileges" flag is set\n'), FAIL, "implies NoNewPrivileges"),
        (Completed(69, "", ""), FAIL, "exited with status 69"),
        (Completed(0, "garbage\n", ""), FAIL, "the helper exited unexpectedly (garbage)"),
    ],
)
def test_a_helper_that_is_started_responds(ran: Completed, verdict: Verdict, words: str) -> None:
    judged(service.responding(ran), verdict, words)


def test_the_daemon_reports_its_helper() -> None:
    judged(service.reported(""), OK, "responding")
    told = f"{REFUSED}: the remedy"
    judged(service.reported(told), FAIL, f"the daemon has no helper ({told}); `sudo journalctl -u")


@pytest.mark.parametrize(
    ("active", "verdict", "words"),
    [
        ("active", OK, "serviceswitch.socket is listening"),
        ("inactive", FAIL, "is inactive; run `sudo systemctl enable --now serviceswitch.socket`"),
        ("failed", FAIL, "is failed"),
        ("", FAIL, "is not installed"),
    ],
)
def test_the_socket_of_a_helper_that_systemd_starts(active: str, verdict: Verdict, words: str) -> None:
    judged(service.listening(active), verdict, words)


@pytest.mark.parametrize(
    ("found", "first", "verdict", "words"),
    [
        (OK, "/usr/sbin/serviceswitch", OK, "responding"),
        (OK, None, OK, "responding"),
        (
            OK,
            "/usr/local/bin/serviceswitch",
            WARN,
            (
                "`sudo serviceswitch` runs /usr/local/bin/serviceswitch instead of /usr/sbin/serviceswitch; "
                "if nothing uses it any more, run `sudo rm /usr/local/bin/serviceswitch`"
            ),
        ),
        (FAIL, "/usr/local/bin/serviceswitch", FAIL, "responding"),
    ],
    ids=["ours", "none", "another", "another, and a failure"],
)
def test_another_program_of_its_name_in_front_of_the_helper_is_named(
    found: Verdict, first: str | None, verdict: Verdict, words: str
) -> None:
    judged(service.shadowed(Finding(Check.HELPER, found, "responding", "do it"), first), verdict, words)


@pytest.mark.parametrize(
    ("found", "own", "system", "verdict"),
    [
        (OK, "/usr/bin/python3.11", "/usr/bin/python3.13", WARN),
        (OK, "/usr/bin/python3.9", "/usr/bin/python3.11", WARN),
        (FAIL, "/usr/bin/python3.11", "/usr/bin/python3.13", FAIL),
        (OK, "/usr/bin/python3.11", "/usr/bin/python3.11", OK),
        (OK, "/usr/bin/python3.14", "/usr/bin/python3.13", OK),  # a newer one, which the user chose
        (OK, "/usr/local/bin/python3.11", "/usr/bin/python3.13", OK),
        (OK, "/usr/bin/python3.11", "/usr/bin/python3", OK),  # there is none
    ],
)
def test_the_python_of_a_former_release_is_named(
    found: Verdict, own: str, system: str, verdict: Verdict
) -> None:
    judged_finding = service.of_this_release(
        Finding(Check.SERVICE, found, "it is running", "do it"), own, system
    )
    words = "it is running, with Python 3." if verdict is WARN else "it is running"
    judged(judged_finding, verdict, words)
    assert (judged_finding.advice == "do it") == (verdict is not WARN)


@pytest.mark.parametrize(
    ("process", "status", "verdict", "words"),
    [
        (7, "NoNewPrivs:\t1\n", OK, "NoNewPrivileges is set for the daemon"),
        (7, "NoNewPrivs:\t0\n", FAIL, "sudo ln -s /usr/lib/hkswitch/systemd/helper-socket.conf"),
        (7, "", SKIP, "cannot read /proc/7/status"),
        (0, "", SKIP, "the daemon is not running"),
    ],
)
def test_a_daemon_that_needs_no_sudo_may_gain_no_privilege(
    process: int, status: str, verdict: Verdict, words: str
) -> None:
    judged(privileges.of_daemon_without_sudo(process, status), verdict, words)


async def test_without_sudo_its_rule_is_not_missed() -> None:
    socket = replace(CONTEXT, config=replace(CONFIG, helper=HelperTransport.SOCKET))
    (found,) = await sudoers.sudoers(socket)
    judged(found, OK, "not needed")


@pytest.mark.parametrize(
    ("failed", "advice"),
    [
        ({Check.SUDO, Check.HELPER}, "see sudo above"),
        ({Check.PRIVILEGES, Check.HELPER}, "see privileges above"),
        ({Check.SUDO, Check.PRIVILEGES, Check.HELPER}, "see sudo above"),
        ({Check.SERVICE, Check.HELPER}, "long"),
        ({Check.SUDO}, ""),
    ],
)
def test_the_cause_of_a_missing_helper_is_told_once(failed: set[Check], advice: str) -> None:
    found = tuple(
        Finding(check, FAIL if check in failed else OK, "", "long" * (check in failed)) for check in Check
    )
    told = {finding.check: finding for finding in checks.without_repetition(found)}
    assert told[Check.HELPER].advice == advice
    others = [finding for finding in found if finding.check is not Check.HELPER]
    assert [finding for finding in told.values() if finding.check is not Check.HELPER] == others
    assert list(told) == list(Check)


# systemd

UP = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
GONE = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")
MASKED = UnitState(LoadState.MASKED, ActiveState.INACTIVE, "dead")
ALL_UP = dict.fromkeys(("httpd.service", "smb.service", "nmb.service"), UP)


@pytest.mark.parametrize(
    ("config", "states", "verdict", "words"),
    [
        (CONFIG, ALL_UP, OK, "3 units known to systemd"),
        (CONFIG, ALL_UP | {"httpd.service": GONE}, FAIL, "httpd.service (group web) does not exist; install"),
        (CONFIG, ALL_UP | {"nmb.service": MASKED}, FAIL, "nmb.service (group files) is masked; run `sudo"),
        (NO_GROUPS, {}, SKIP, "no valid configuration"),
        (CONFIG, BusUnavailable("gone"), SKIP, "systemd does not answer"),
    ],
)
def test_systemd_has_every_unit(
    config: Config | Failure, states: Mapping[str, UnitState] | Failure, verdict: Verdict, words: str
) -> None:
    judged(units.loaded(config, states, {}), verdict, words)


@pytest.mark.parametrize(
    ("missing", "known", "words"),
    [
        ({"smb.service": GONE}, {"smb.service": "did you mean smbd?"}, "does not exist; did you mean smbd?"),
        (
            {"httpd.service": MASKED, "smb.service": GONE},
            {"smb.service": "did you mean smbd?"},
            (
                "; httpd.service: run `sudo systemctl unmask httpd.service`, "
                "or remove it from the configuration; smb.service: did you mean smbd?"
            ),
        ),
        (
            {"httpd.service": GONE, "smb.service": GONE},
            {"httpd.service": "reload", "smb.service": "did you mean smbd?"},
            "does not exist; httpd.service: reload; smb.service: did you mean smbd?",
        ),
        (
            {"httpd.service": GONE, "smb.service": GONE, "nmb.service": GONE},
            {"httpd.service": "did you mean smbd?"},
            "; httpd.service: did you mean smbd?; smb.service, nmb.service: install the package",
        ),
        ({"httpd.service": GONE}, {"nmb.service": "?"}, "does not exist; install the package"),
    ],
)
def test_the_hint_for_a_missing_unit_is_the_advice(
    missing: dict[str, UnitState], known: dict[str, str], words: str
) -> None:
    found = units.loaded(CONFIG, ALL_UP | missing, known)
    judged(found, FAIL, words)


def test_a_unit_in_a_command_is_quoted_for_the_shell() -> None:
    unit = r"my\x2ddisk.mount"
    config = parse(f"groups: {{disk: {{units: ['{unit}']}}}}".encode(), "c.yaml")
    judged(units.loaded(config, {unit: MASKED}, {}), FAIL, f"run `sudo systemctl unmask '{unit}'`")


@pytest.mark.parametrize("is_debian", [False, True])
def test_the_example_groups_are_to_be_replaced(is_debian: bool) -> None:
    text = (ROOT / "config.example.yaml").read_bytes()
    if is_debian:
        [change] = re.findall(r"sed -i -E '(.*)'", (ROOT / "packaging" / "deb").read_text())
        text = subprocess.run(["sed", "-E", change], input=text, capture_output=True, check=True).stdout
    config = parse(text, "")
    assert is_example({group.id: group.units for group in config.groups})
    missing = {unit: GONE for group in config.groups for unit in group.units}
    found = units.loaded(config, missing, {"smb.service": "did you mean smbd.service?"})
    assert found.advice == "these are the example groups; replace them with `sudo hkswitch add`"
    in_use = {group.units[0]: UP for group in config.groups}
    found = units.loaded(config, missing | in_use, {})
    assert found.advice == "install the package that provides it, or remove it from the configuration"


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
    assert similar(unit, KNOWN) == meant


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
    found = file_of(unit, (tmp_path / "0", first, second))
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
    assert await units.hints(["ngnix.service", "nginy.service", "other.service"]) == {
        "ngnix.service": "did you mean nginx.service?",
        "nginy.service": f"systemd has not read {unread} yet: run `sudo systemctl daemon-reload`",
    }


async def test_without_missing_units_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "run", None)
    assert await units.hints([]) == {}


async def test_without_systemctl_there_is_no_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuses(*_: str) -> Completed:
        raise programs.NotInstalled("systemctl is not installed")

    monkeypatch.setattr(units, "run", refuses)
    assert await units.hints(["no-such-unit-anywhere.service"]) == {}


def test_only_the_first_of_many_missing_units_are_named() -> None:
    names = ", ".join(f"u{number}" for number in range(9))
    config = parse(f"groups: {{a: {{units: [{names}]}}}}".encode(), "")
    found = units.loaded(config, dict.fromkeys(config.groups[0].units, GONE), {})
    judged(found, FAIL, "u2.service (group a) does not exist, and 6 more")


def test_systemd_is_on_the_bus() -> None:
    judged(units.reachable({}), OK, "systemd answers")
    judged(units.reachable(BusUnavailable("gone")), FAIL, "`sudo systemctl start dbus.socket`")


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
async def test_a_bridge_without_a_network_gets_no_mdns_query(why: str, words: str) -> None:
    bridge = NOWHERE._replace(network=why)
    (found,) = await mdns.mdns(replace(CONTEXT, bridge=bridge, endpoint=DOWN))
    judged(found, SKIP, words)


async def test_a_bridge_whose_network_is_gone_gets_no_mdns_query() -> None:
    (found,) = await mdns.mdns(replace(CONTEXT, bridge=BRIDGE, endpoint=DOWN))
    judged(found, SKIP, "the configured network is not available")


def test_the_bridge_answers_mdns() -> None:
    judged(mdns.answered(BRIDGE, "hkswitch 1A2B3C"), OK, "hkswitch 1A2B3C answers")
    judged(
        mdns.answered(BRIDGE, ""),
        FAIL,
        "the bridge did not answer mDNS on 10.77.0.1 within 3 s; allow 5353/udp",
    )


class Answers:
    """A zeroconf client in whose network these names are announced; only the last has a service."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.zeroconf = self
        self.names = names
        self.is_closed = False

    async def async_close(self) -> None:
        self.is_closed = True


class Browser:
    """A browser that finds the names at once."""

    def __init__(self, answers: Answers, service_type: str, handlers: list[Any]) -> None:
        for name in answers.names:
            handlers[0](
                zeroconf=answers,
                service_type=service_type,
                name=name,
                state_change=ServiceStateChange.Added,
            )

    async def async_cancel(self) -> None:
        pass


class ServiceInfoOfTheLast(AsyncServiceInfo):
    """The service of a name; zeroconf asks for it until time is up."""

    async def async_request(  # type: ignore[override]
        self,
        zc: Answers,
        timeout: float,  # noqa: ASYNC109 -- zeroconf's signature
    ) -> bool:
        if self.name == zc.names[-1]:
            self._set_properties({"id": "1A:2B:3C:4D:5E:6F"})
            return True
        await asyncio.sleep(timeout / 1000)
        return False


@pytest.mark.parametrize("others", [(), ("gone",), ("gone", "gone too"), ("\x01",), ("a" * 64, "gone")])
async def test_no_name_on_the_network_hides_a_bridge_or_ends_the_search(
    monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]
) -> None:
    answers = Answers(tuple(f"{name}.{mdns.HAP_SERVICE_TYPE}" for name in (*others, "Homebridge CAD8")))
    monkeypatch.setattr(mdns, "AsyncZeroconf", lambda ip_version: answers)  # noqa: ARG005
    monkeypatch.setattr(mdns, "AsyncServiceBrowser", Browser)
    monkeypatch.setattr(mdns, "AsyncServiceInfo", ServiceInfoOfTheLast)
    assert await mdns.find_device("1A:2B:3C:4D:5E:6F") == "Homebridge CAD8"
    monkeypatch.setattr(mdns, "ANSWER_TIMEOUT_SECONDS", 0.05)
    assert await mdns.find_device("00:00:00:00:00:00") == ""
    assert answers.is_closed


@pytest.mark.parametrize(
    "error", [OSError(97, "Address family not supported"), RuntimeError("No interfaces")]
)
@pytest.mark.parametrize("works", ["All", "V4Only", "V6Only", None])
async def test_a_bridge_is_asked_over_what_the_network_has(
    monkeypatch: pytest.MonkeyPatch, error: Exception, works: str | None
) -> None:
    def opened(ip_version: IPVersion) -> Answers:
        if ip_version.name != works:
            raise error
        return Answers((f"Old.{mdns.HAP_SERVICE_TYPE}",))

    monkeypatch.setattr(mdns, "AsyncZeroconf", opened)
    monkeypatch.setattr(mdns, "AsyncServiceBrowser", Browser)
    monkeypatch.setattr(mdns, "AsyncServiceInfo", ServiceInfoOfTheLast)
    assert await mdns.find_device("1A:2B:3C:4D:5E:6F") == ("Old" if works else "")


# Clock, pairing

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("now", "synchronized", "keepers", "verdict", "words"),
    [
        (NOON, True, set(), OK, "2027-03-01, synchronized"),
        (NOON, False, {"active", "inactive"}, OK, "not synchronized yet"),
        (
            NOON,
            False,
            {"inactive"},
            FAIL,
            "no time synchronization service is running; run `sudo timedate",
        ),
        (0, False, {"active"}, FAIL, "the clock says 1970-01-01; run `sudo timedatectl"),
        (0, True, set(), FAIL, "the clock says 1970"),
        (NOON, False, set(), SKIP, "the clock says 2027-03-01; no time synchronization service was found"),
    ],
)
def test_the_clock_is_sane(
    now: float, synchronized: bool, keepers: set[str], verdict: Verdict, words: str
) -> None:
    judged(clock.plausible(now, keepers, synchronized=synchronized), verdict, words)


def test_services_that_are_not_installed_do_not_count() -> None:
    shown = (
        "LoadState=loaded\nActiveState=inactive\n\nLoadState=not-found\nActiveState=inactive\n\n"
        "LoadState=loaded\nActiveState=active\n\nLoadState=masked\nActiveState=failed\n"
    )
    assert clock.active_states(shown) == {"active", "inactive"}
    assert clock.active_states("") == set()


def test_the_year_of_release_is_not_in_the_future() -> None:
    assert datetime.fromtimestamp(time.time(), UTC).year >= clock.RELEASE_YEAR


def test_a_controller_is_paired_or_there_is_a_step_left() -> None:
    judged(account.paired((PairedController("A", admin=True),), STATE_FOLDER), OK, "1 controller paired")
    judged(account.paired((), STATE_FOLDER), TODO, "not paired yet; run `sudo hkswitch pair`")
    judged(
        account.paired((), STATE_FOLDER, locked=True), FAIL, "locked after 100 wrong setup codes; run `sudo"
    )


# Programs


async def test_a_program_is_asked_in_english_and_has_nothing_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    said = await programs.run("sh", "-c", 'echo "$LC_ALL"; cat; test -p /dev/stdin && echo piped; exit 3')
    assert said == Completed(3, "C.UTF-8\npiped\n")


async def test_a_program_gets_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "1")
    monkeypatch.setenv("PATH", "/nowhere")
    said = await programs.run("env")
    assert dict(line.split("=", 1) for line in said.output.splitlines()) == environment.CHILD_ENVIRONMENT


async def test_a_program_that_prints_too_much_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "LONGEST_OUTPUT_BYTES", 10_000)
    assert (await programs.run("head", "-c", "10000", "/dev/zero")).output == "\0" * 10_000
    for stream in ("1", "2"):
        with pytest.raises(programs.CannotRun, match="sh printed more than 10000 bytes"):
            await programs.run("sh", "-c", f"yes >&{stream}")


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 1 &"], ids=["it hangs", "its child does"])
async def test_a_program_has_a_time_limit(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "PROGRAM_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(programs.CannotRun, match=r"sh did not exit within 0\.2 s"):
        await programs.run("sh", "-c", script)


async def test_a_program_that_is_not_installed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(programs.NotInstalled, match="no-such-program is not installed"):
        await programs.run("no-such-program")
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/shell\n")
    broken.chmod(0o755)
    with pytest.raises(programs.CannotRun, match="No such file or directory"):
        await programs.run(str(broken))


def test_the_last_line_is_one_with_text_on_standard_error_if_there_is_one() -> None:
    assert Completed(1, "out\n", "one\n two \n\n").last_line == "two"
    assert Completed(1, "out\n", "").last_line == "out"
    assert Completed(7, "", "\n").last_line == "exited with status 7"


async def test_a_program_that_was_given_up_says_nothing_after_the_end_of_the_loop() -> None:
    script = (
        "import asyncio; from hkswitch.doctor import programs; programs.PROGRAM_TIMEOUT_SECONDS = 0.1\n"
        "async def main():\n"
        "    try: await programs.run('sh', '-c', 'sleep 1 & sleep 1')\n"
        "    except programs.CannotRun: print('given up')\n"
        "asyncio.run(main())\n"
    )
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=pipe, stderr=pipe)
    assert await process.communicate() == (b"given up\n", b"")


# All of it

CONTEXT = context.Context(
    config_file=FILE,
    state_folder=Path("/nowhere"),
    user_id=4242,
    account=None,
    config=CONFIG,
    endpoint=HERE,
    unit=RUNS | {"MainPID": "0"},
    bridge=NO_DAEMON,
)


@pytest.mark.parametrize(
    "error", [OSError(5, "Input/output error"), ValueError("odd"), BusUnavailable("gone")]
)
async def test_a_check_that_raises_an_error_is_skipped_and_affects_no_other(error: Exception) -> None:
    async def breaks(_: context.Context) -> tuple[Finding]:
        raise error

    [found] = await checks.guarded((Check.CLOCK,), breaks, CONTEXT)
    assert found.check is Check.CLOCK
    judged(found, SKIP, str(error))


@pytest.mark.parametrize(
    "error", [KeyError("odd"), TypeError("odd"), AttributeError("odd"), RecursionError("odd")]
)
async def test_a_check_that_cannot_read_what_a_program_printed_is_skipped(error: Exception) -> None:
    async def breaks(_: context.Context) -> tuple[Finding]:
        raise error

    [found] = await checks.guarded((Check.CLOCK,), breaks, CONTEXT)
    judged(found, SKIP, f"unexpected {type(error).__name__}: {error}")


ALWAYS = [check for check in Check if check not in finding.IF_USED]
"""The checks where no other host is used."""


async def test_every_check_is_made_and_shown_in_order() -> None:
    assert [check for together in checks.CHECKS for check in together] == list(Check)
    assert [finding.check for finding in await checks.check_all(CONTEXT)] == ALWAYS


def test_text_of_others_cannot_draw_on_a_terminal() -> None:
    assert str(fail(Check.PORT, "\x1b[2Jprocess\n", "\x07stop")) == "?[2Jprocess; ?stop"


FINDINGS = (
    ok(Check.USER, "user and group hkswitch exist"),
    fail(Check.PORT, "process 7 [nc] uses 51826", "stop it"),
    skip(Check.STATE, "needs root", "run `sudo hkswitch doctor`"),
    warn(Check.CONFIGURATION, "dbus.service: stopping it", "remove it"),
    todo(Check.PAIRING, "not paired yet", "run `sudo hkswitch pair`"),
)


def test_each_finding_is_a_line() -> None:
    output = io.StringIO()
    show_findings(FINDINGS, Console(file=output, highlight=False, width=20))
    assert output.getvalue().splitlines() == finding.lines(FINDINGS)
    assert finding.lines(FINDINGS) == [
        "ok      user            user and group hkswitch exist",
        "FAIL    port            process 7 [nc] uses 51826; stop it",
        "skip    state           needs root; run `sudo hkswitch doctor`",
        "warn    configuration   dbus.service: stopping it; remove it",
        "todo    pairing         not paired yet; run `sudo hkswitch pair`",
    ]


def test_the_columns_are_aligned() -> None:
    all_of_them = (Finding(check, verdict, "text") for check in Check for verdict in Verdict)
    assert {line.index(" text") for line in finding.lines(all_of_them)} == {23}


def test_a_terminal_has_colors() -> None:
    output = io.StringIO()
    show_findings(FINDINGS, Console(file=output, force_terminal=True, color_system="standard"))
    assert "\x1b[1;31mFAIL\x1b[0m    port" in output.getvalue()
    assert finding.VERDICT_STYLES.keys() == {*Verdict}


def test_the_schema_of_version_2_stays() -> None:
    shown = json.loads(finding.as_json(FINDINGS))
    assert shown["version"] == 2
    assert shown["checks"][:3] == [
        {"check": "user", "verdict": "ok", "finding": "user and group hkswitch exist", "advice": ""},
        {"check": "port", "verdict": "fail", "finding": "process 7 [nc] uses 51826", "advice": "stop it"},
        {
            "check": "state",
            "verdict": "skip",
            "finding": "needs root",
            "advice": "run `sudo hkswitch doctor`",
        },
    ]
    assert [check["verdict"] for check in shown["checks"][3:]] == ["warn", "todo"]


@pytest.mark.parametrize("judged_as", Verdict)
def test_only_a_check_that_fails_is_69(judged_as: Verdict) -> None:
    found = [each for each in FINDINGS if each.verdict is not FAIL]
    assert finding.exit_code(found) is Exit.OK
    code = finding.exit_code([*found, Finding(Check.PORT, judged_as, "")])
    assert code == (69 if judged_as is FAIL else 0)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_without_an_installation_each_check_is_a_line_and_nothing_is_a_traceback(
    tmp_path: Path, locale: str
) -> None:
    nowhere = {"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent", "PATH": str(tmp_path)}
    options = ("--config", tmp_path / "none.yaml", "--state-dir", tmp_path / "none")
    code, output, errors = run("doctor", *options, LC_ALL=locale, **nowhere)
    assert (code, errors) == (69, "")
    assert [line.split()[1] for line in output.splitlines()] == ALWAYS
    assert {line.split()[0] for line in output.splitlines()} <= {*Verdict}
    shown = json.loads(run("doctor", "--json", *options, LC_ALL=locale, **nowhere)[1])
    assert [check["check"] for check in shown["checks"]] == ALWAYS


@pytest.mark.parametrize(("to", "code"), [(">&-", 69), (">/dev/full", 74)])
def test_a_reader_that_went_away_is_no_traceback(tmp_path: Path, to: str, code: int) -> None:
    command = f"{HKSWITCH} doctor --config {tmp_path}/none.yaml --state-dir {tmp_path}/none {to}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
