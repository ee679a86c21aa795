"""Which units a configuration is warned of, and which not."""

import pwd
from pathlib import Path

import pytest

from hkswitch.model import dangerous_units
from hkswitch.model.config import parse
from hkswitch.model.config_values import unit as unit_of
from hkswitch.model.dangerous_units import warnings, why_dangerous
from hkswitch.model.unit_state import Action
from hkswitch.model.yaml_nodes import Position, Scalar
from tests.support.command import run

ROOT = Path(__file__).parents[2]
START, STOP, RESTART = {Action.START}, {Action.STOP}, {Action.RESTART}
ALL = set(Action)


@pytest.mark.parametrize(
    ("unit", "actions", "why"),
    [
        ("hkswitch.service", STOP, "hkswitch itself"),
        ("hkswitch.service", RESTART, "hkswitch itself"),
        ("serviceswitch.socket", ALL, "hkswitch itself"),
        ("var-lib-hkswitch.mount", ALL, "hkswitch itself"),
        ("serviceswitch@4-77-1000.service", ALL, "hkswitch itself"),
        ("dbus.service", RESTART, "off from systemd"),
        ("dbus.socket", ALL, "off from systemd"),
        ("dbus-broker.service", ALL, "off from systemd"),
        ("-.slice", ALL, "nearly everything"),
        ("-.mount", ALL, "nearly everything"),
        ("system.slice", ALL, "nearly everything"),
        ("poweroff.target", START, "turns this machine off"),
        ("reboot.target", ALL, "turns this machine off"),
        ("suspend.target", START, "to sleep"),
        ("rescue.target", START, "shell on the console"),
        ("NetworkManager.service", STOP, "from the network"),
        ("systemd-networkd.service", ALL, "from the network"),
        ("wpa_supplicant@wlan0.service", ALL, "from the network"),
        ("ssh.service", STOP, "lock you out"),
        ("sshd.service", ALL, "lock you out"),
        ("systemd-logind.service", STOP, "logins"),
        ("systemd-journald-dev-log.socket", ALL, "log lines"),
        ("systemd-udevd.service", ALL, "devices"),
    ],
)
def test_what_cuts_something_off_is_said(unit: str, actions: set[Action], why: str) -> None:
    assert why in why_dangerous(unit, actions)


@pytest.mark.parametrize(
    ("unit", "actions"),
    [
        ("hkswitch.service", START),
        ("dbus.service", START),
        ("poweroff.target", STOP),
        ("poweroff.target", RESTART),
        ("ssh.service", START | RESTART),
        ("NetworkManager.service", RESTART),
        ("systemd-logind.service", RESTART),
        ("poweroff.service", ALL),
        ("poweroff@x.target", ALL),
        ("dbus@x.service", ALL),
        ("serviceswitch.service", ALL),
        ("srv.mount", ALL),
        ("user-1000.slice", ALL),
        ("nginx.service", ALL),
        ("avahi-daemon.service", ALL),
        ("libvirt-guests.service", ALL),
        ("wg-quick@wg0.service", ALL),
        ("multi-user.target", ALL),
        ("hkswitch-command-lamp.service", ALL),
    ],
)
def test_of_what_cuts_nothing_off_nothing_is_said(unit: str, actions: set[Action]) -> None:
    assert why_dangerous(unit, actions) == ""


def test_each_name_in_the_list_can_be_in_a_configuration_and_stands_there_once() -> None:
    for name in dangerous_units._BY_NAME:
        instance = name.replace("@.", "@x.")
        assert unit_of(Scalar(Position(1, 1), instance, is_text=True)) == instance
        assert why_dangerous(instance, ALL), name
        assert [name in danger.names for danger in dangerous_units._DANGERS].count(True) == 1, name


def test_a_reason_is_one_sentence_in_the_style_of_mistakes() -> None:
    whys = [danger.why for danger in dangerous_units._DANGERS]
    assert [why for why in whys if not why.startswith(("starting it ", "stopping it ")) or "." in why] == []
    for danger in dangerous_units._DANGERS:
        assert (Action.START in danger.actions) is danger.why.startswith("starting")


TEXT = """\
bridge: {name: dbus}
groups:
  web:
    name: Web
    units: [nginx, dbus]
  power:
    units:
    - poweroff.target
    actions: [start]
  ssh: {units: [ssh], actions: [start]}
  lamp:
    commands: {start: [/bin/dbus], stop: [/bin/dbus], status: [/bin/dbus]}
"""

BUS = "dbus.service: stopping it cuts hkswitch and most other services off from systemd"
POWER = "poweroff.target: starting it turns this machine off or restarts it, and hkswitch with it"


def test_a_warning_has_the_place_of_its_unit() -> None:
    config = parse(TEXT.encode(), "config.yaml")
    assert [str(warning) for warning in warnings(TEXT.encode(), config)] == [
        f"5:20: groups.web.units[1]: {BUS}",
        f"8:7: groups.power.units[0]: {POWER}",
    ]


@pytest.mark.parametrize(
    ("group", "is_said"),
    [
        ("{units: [docker], containers: [web]}", True),
        ("{units: [docker.socket], compose: immich}", True),
        ("{units: [podman.socket], containers: [web], engine: podman}", True),
        ("{units: [docker], containers: [web], actions: [start]}", False),
        ("{units: [docker], containers: [web], engine: podman}", False),
        ("{units: [docker, docker.socket]}", False),
        ("{units: [cron], containers: [docker]}", False),
    ],
)
def test_a_group_of_containers_with_their_own_engine_could_not_be_turned_on_again(
    group: str, *, is_said: bool
) -> None:
    data = f"groups: {{web: {group}}}".encode()
    found = [str(problem) for problem in warnings(data, parse(data, "config.yaml"))]
    assert ["so the switch cannot start it again" in problem for problem in found] == [True] * is_said


def test_of_the_example_nothing_is_said() -> None:
    example = (ROOT / "config.example.yaml").read_bytes()
    assert list(warnings(example, parse(example, "config.example.yaml"))) == []


def test_check_prints_warnings_like_a_compiler_and_the_configuration_is_ok(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT)
    code, output, errors = run("check", "--config", file)
    assert (code, output) == (0, "configuration OK\n")
    assert errors.splitlines() == [
        f"{file}:5:20: warning: groups.web.units[1]: {BUS}",
        f"{file}:8:7: warning: groups.power.units[0]: {POWER}",
    ]


def test_check_names_users_and_directories_that_the_machine_lacks(tmp_path: Path) -> None:
    file, keys = tmp_path / "config.yaml", "commands: {start: [/opt/tv]}, momentary: true"
    file.write_text(
        f"groups:\n  a: {{{keys}, user: root, directory: /usr}}\n"
        f"  b: {{{keys}, user: no-such-user,\n      directory: {tmp_path}/none}}\n"
    )
    code, output, errors = run("check", "--config", file)
    assert (code, output) == (0, "configuration OK\n")
    assert errors.splitlines() == [
        f"{file}:3:60: warning: groups.b.user: there is no user 'no-such-user' on this machine",
        f"{file}:4:18: warning: groups.b.directory: there is no directory {tmp_path}/none on this machine",
    ]


def test_check_names_programs_that_root_does_not_trust_once_for_each_group(tmp_path: Path) -> None:
    file, program = tmp_path / "config.yaml", tmp_path / "tv"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    tmp_path.chmod(0o777)
    keys = f"commands: {{start: [{program}], stop: [{program}, x]}}, assume_state: true"
    file.write_text(
        f"groups:\n  a: {{{keys}}}\n  b: {{{keys}, user: root}}\n  c: {{{keys}, user: bin}}\n"
        f"  d: {{units: [x], check: [{program}]}}\n  e: {{units: [x], check: [{tmp_path}/none]}}\n"
        "  f: {units: [x], check: [/bin/true]}\n"
    )
    code, output, errors = run("check", "--config", file)
    assert (code, output) == (0, "configuration OK\n")
    places = [line.partition(" is not trusted: ")[0].split(" warning: ")[0] for line in errors.splitlines()]
    assert places == [f"{file}:{place}:" for place in ("2:26", "3:26", "5:27")]
    assert all(" is not trusted: " in line for line in errors.splitlines())


def test_check_names_a_user_without_a_home_unless_there_is_a_directory(tmp_path: Path) -> None:
    file, keys = tmp_path / "config.yaml", "commands: {start: [/opt/tv]}, momentary: true, user: nobody"
    file.write_text(f"groups:\n  a: {{{keys}}}\n  b: {{{keys}, directory: /usr}}\n")
    home = pwd.getpwnam("nobody").pw_dir
    assert not Path(home).exists()
    why = f"the home of 'nobody' is missing (there is no directory {home} on this machine); set 'directory'"
    errors = f"{file}:2:60: warning: groups.a.user: {why}\n"
    assert run("check", "--config", file) == (0, "configuration OK\n", errors)


def test_of_a_configuration_with_mistakes_only_these_are_said(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(TEXT + "oops: 1\n")
    code, output, errors = run("check", "--config", file)
    assert (code, output) == (78, "")
    assert errors == f"{file}:13:1: oops: unknown key 'oops'; did you mean 'groups'?\n"
