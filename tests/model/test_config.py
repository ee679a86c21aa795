import re
from pathlib import Path

import pytest
import yaml

from hkswitch.model.config import (
    BridgeConfig,
    Config,
    parse,
)
from hkswitch.model.errors import ConfigError
from hkswitch.model.group import MOST_ACCESSORIES, AccessoryType, Commands, Group, RestartWhen, aid_of
from hkswitch.model.unit_state import Action

EXAMPLE = (Path(__file__).parents[2] / "config.example.yaml").read_text()
COMMENTED_KEY = re.compile(r"^( {2,4})# (([a-z_]+): \S.*)$", re.MULTILINE)
COMMENTED_GROUP = re.compile(r"^  # gaming-vm:\n(  # .*\n)+", re.MULTILINE)

ID_RULE = "use at most 64 of a-z, 0-9 and '-', without '-' at the start"
NAME_RULE = (
    "at most 64 letters, digits, spaces and apostrophes (') are allowed, with a letter or digit at each end"
)
UNIT_RULE = r"at most 255 letters, digits and :_.\@- are allowed, with a name before '@' and the suffix"
PATH_RULE = "`systemd-escape -p` prints a path's name"
SLICE_RULE = "a slice has no '@', no '-' at the start or end, and no two '-' in a row"
TYPES = ".service, .socket, .target, .timer, .mount, .automount, .swap, .path, .slice"
ADDRESS_RULE = "write an IPv4 or IPv6 address, like 192.168.1.10 or fe80::1%eth0"
INTERFACE_RULE = "at most 15 characters without slashes and spaces are allowed"
PORT_RULE = "must be a number from 1024 to 65535, in plain digits without quotes"
TRUE_RULE = "must be true or false; write true, in lower case and without quotes"
PLAIN_YAML = "write the value without anchors, aliases and tags"


def config(text: str) -> Config:
    return parse(text.encode(), "config.yaml")


def problems(text: str | bytes) -> str:
    """All problems, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        parse(text if isinstance(text, bytes) else text.encode(), "config.yaml")
    lines = str(caught.value).splitlines()
    assert all(line.startswith("config.yaml:") for line in lines)
    return "\n".join(line.removeprefix("config.yaml:") for line in lines)


def bridge(line: str) -> str:
    return f"bridge:\n  {line}\ngroups: {{web: {{units: [httpd]}}}}\n"


def group(line: str) -> str:
    return f"groups:\n  web:\n    units: [httpd]\n    {line}\n"


COMMANDS = """\
groups:
  lamp:
    commands:
      start: [/opt/lamp, start]
      stop: [/opt/lamp, stop]
      status: [/opt/lamp, status]
"""


def commands(old: str, new: str) -> str:
    """A group of commands with something wrong."""
    assert COMMANDS.count(old) == 1
    return COMMANDS.replace(old, new)


def units(item: str) -> str:
    return f"groups:\n  web:\n    units:\n    - {item}\n"


# What is allowed


def test_a_group_needs_only_units() -> None:
    assert config("groups: {vm-guests: {units: [libvirt-guests]}}") == Config(
        BridgeConfig(name="hkswitch", interfaces=(), addresses=(), port=51826),
        (
            Group(
                id="vm-guests",
                name="Vm Guests",
                units=("libvirt-guests.service",),
                type=AccessoryType.SWITCH,
                actions=frozenset({Action.START, Action.STOP}),
                restart=False,
            ),
        ),
    )


CHECKED = "'units' or 'containers' or 'compose'; a group of commands has 'status' for that"
OTHERS = "or 'containers' or 'compose' or 'commands' or 'host' in its place"


def test_every_key_is_read() -> None:
    text = """
bridge:
  name: Heim's Brücke 2
  interface: [eth0, br-lan]
  port: 1024
groups:
  web:
    name: Web Server
    units: [httpd.socket, httpd]
    type: fan
    actions: [stop, restart]
    restart: true
"""
    assert config(text) == Config(
        BridgeConfig("Heim's Brücke 2", interfaces=("eth0", "br-lan"), port=1024),
        (
            Group(
                "web",
                "Web Server",
                ("httpd.socket", "httpd.service"),
                AccessoryType.FAN,
                frozenset({Action.STOP, Action.RESTART}),
                restart=True,
            ),
        ),
    )


def test_groups_stay_in_the_order_of_the_file_and_are_found_by_id() -> None:
    both = config("groups: {web: {units: [httpd]}, db: {units: [postgresql]}}")
    assert [each.id for each in both.groups] == ["web", "db"]
    assert both.group("db") == both.groups[1]
    assert both.group("Web") is None


@pytest.mark.parametrize(
    ("line", "actions"),
    [
        pytest.param("", {"start", "stop"}, id="start and stop"),
        pytest.param("restart: true", {"start", "stop", "restart"}, id="restart too where it has a switch"),
        pytest.param("actions: [restart]", {"restart"}, id="restart without a switch"),
        pytest.param("actions: [start]", {"start"}, id="only start"),
    ],
)
def test_root_allows_what_actions_lists(line: str, actions: set[str]) -> None:
    assert config(group(line)).groups[0].actions == {Action(word) for word in actions}


@pytest.mark.parametrize(
    ("group_id", "name"),
    [
        pytest.param("vm-guests", "Vm Guests", id="words"),
        pytest.param("a--b-", "A B", id="no empty words"),
        pytest.param("9p", "9p", id="a digit first"),
        pytest.param('"42"', "42", id="digits in quotes"),
        pytest.param("x" * 64, "X" + "x" * 63, id="64 characters"),
    ],
)
def test_a_name_is_made_from_the_id(group_id: str, name: str) -> None:
    assert config(f"groups: {{{group_id}: {{units: [a]}}}}").groups[0].name == name


@pytest.mark.parametrize(
    ("item", "unit"),
    [
        pytest.param("smb", "smb.service", id="no suffix"),
        pytest.param("smb.socket", "smb.socket", id="a known suffix"),
        pytest.param("foo.bar", "foo.bar.service", id="an unknown suffix is part of the name"),
        pytest.param("service", "service.service", id="a suffix without dot is a name"),
        pytest.param("getty@tty1", "getty@tty1.service", id="an instance"),
        pytest.param("a@b@c.timer", "a@b@c.timer", id="an instance with an at sign"),
        pytest.param(r"dev-disk\x2d1.swap", r"dev-disk\x2d1.swap", id="escaped"),
        pytest.param("-.mount", "-.mount", id="the root mount"),
        pytest.param('"42"', "42.service", id="a number in quotes"),
        pytest.param("u" * 247, "u" * 247 + ".service", id="255 characters"),
        pytest.param("srv-data.mount", "srv-data.mount", id="a mount"),
        pytest.param(r"srv-a\x2db-.c.automount", r"srv-a\x2db-.c.automount", id="an escaped automount"),
        pytest.param(r"\x2ecache.mount", r"\x2ecache.mount", id="a dot first, escaped"),
        pytest.param("a...mount", "a...mount", id="dots at the end of a path"),
        pytest.param("-.swap", "-.swap", id="the root as a swap"),
        pytest.param("user-1000.slice", "user-1000.slice", id="a slice in a slice"),
        pytest.param("-.slice", "-.slice", id="the root slice"),
        pytest.param("-a--b-.service", "-a--b-.service", id="a service with any dashes"),
        pytest.param(".a.target", ".a.target", id="a target with a dot first"),
        pytest.param("a@b-c.path", "a@b-c.path", id="an instance of a path unit"),
        pytest.param("a@b.socket", "a@b.socket", id="an instance of a socket"),
        pytest.param("a@b.target", "a@b.target", id="an instance of a target"),
    ],
)
def test_a_unit_is_read_as_systemd_reads_it(item: str, unit: str) -> None:
    assert config(units(item)).groups[0].units == (unit,)


@pytest.mark.parametrize(
    ("line", "interfaces", "addresses"),
    [
        pytest.param("interface: eth0", ("eth0",), (), id="one interface"),
        pytest.param("interface: [eth0.2, 'eth0:1']", ("eth0.2", "eth0:1"), (), id="interfaces"),
        pytest.param("address: 192.168.1.10", (), ("192.168.1.10",), id="IPv4"),
        pytest.param("address: [127.0.0.1, 2001:DB8::1]", (), ("127.0.0.1", "2001:db8::1"), id="IPv6"),
        pytest.param("address: fe80::1%eth0", (), ("fe80::1%eth0",), id="a scope id"),
        pytest.param("address: 169.254.1.2", (), ("169.254.1.2",), id="IPv4 of one link, which has no scope"),
        pytest.param("", (), (), id="an empty bridge"),
    ],
)
def test_the_bridge_listens_where_it_is_told(
    line: str, interfaces: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    assert config(bridge(line)).bridge == BridgeConfig(interfaces=interfaces, addresses=addresses)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("---\ngroups: {web: {units: [httpd]}}\n...\n", id="document markers"),
        pytest.param("groups:\r\n  web:\r\n    units: [httpd]\r\n", id="line ends of Windows"),
        pytest.param('"groups": {"web": {"units": ["httpd"]}}', id="JSON"),
        pytest.param("groups: {web: {units: [httpd]}}  # café ☕", id="any printable comment"),
    ],
)
def test_plain_yaml_in_any_style_is_the_same(text: str) -> None:
    assert config(text) == config("groups: {web: {units: [httpd]}}")


# What is refused: one mistake at a time


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("nam: x", "2:3: bridge.nam: unknown key 'nam'; did you mean 'name'?", id="a typo"),
        pytest.param(
            "'\\e': x".replace("'", '"'),
            r"2:3: bridge.\x1b: unknown key '\x1b'; allowed keys: name, interface, address, port",
            id="a key that would reach the terminal",
        ),
        pytest.param(
            "name: 42", '2:9: bridge.name: must be text; put it in quotes: "42"', id="a number as text"
        ),
        pytest.param(
            "name: no", '2:9: bridge.name: must be text; put it in quotes: "no"', id="a boolean as text"
        ),
        pytest.param(
            "name: 2026-01-01",
            '2:9: bridge.name: must be text; put it in quotes: "2026-01-01"',
            id="a date as text",
        ),
        pytest.param("name: ~", '2:9: bridge.name: must be text; put it in quotes: "~"', id="null as text"),
        pytest.param("name:", "2:8: bridge.name: must not be empty", id="nothing as text"),
        pytest.param(
            "name: [a]",
            "2:9: bridge.name: must be a single value, not a list or a mapping",
            id="a list as text",
        ),
        pytest.param(
            "name: _a",
            f"2:9: bridge.name: '_a' is not a name, because of '_' (U+005F); {NAME_RULE}",
            id="an underscore",
        ),
        pytest.param("name: ''", f"2:9: bridge.name: '' is not a name; {NAME_RULE}", id="an empty name"),
        pytest.param("name: A'", f'2:9: bridge.name: "A\'" is not a name; {NAME_RULE}', id="ends oddly"),
        pytest.param(
            "name: A\u2019s",
            f"2:9: bridge.name: 'A\u2019s' is not a name, because of '\u2019' (U+2019); {NAME_RULE}",
            id="curly",
        ),
        pytest.param(
            "name: " + "n" * 65,
            f"2:9: bridge.name: '{'n' * 63}…' is not a name; {NAME_RULE}",
            id="65 characters",
        ),
        pytest.param("port: 80", f"2:9: bridge.port: {PORT_RULE}", id="a privileged port"),
        pytest.param("port: 65536", f"2:9: bridge.port: {PORT_RULE}", id="a port that is none"),
        pytest.param('port: "51826"', f"2:9: bridge.port: {PORT_RULE}", id="a port in quotes"),
        pytest.param("port: 0xCA72", f"2:9: bridge.port: {PORT_RULE}", id="hexadecimal"),
        pytest.param("port: 0145162", f"2:9: bridge.port: {PORT_RULE}", id="octal"),
        pytest.param("port: 51_826", f"2:9: bridge.port: {PORT_RULE}", id="an underscore in a number"),
        pytest.param("port: 14:23:46", f"2:9: bridge.port: {PORT_RULE}", id="sexagesimal"),
        pytest.param("port: " + "9" * 9999, f"2:9: bridge.port: {PORT_RULE}", id="a number without end"),
        pytest.param("port: ٥١٨٢٦", f"2:9: bridge.port: {PORT_RULE}", id="other digits"),
        pytest.param("port:", f"2:8: bridge.port: {PORT_RULE}", id="no port"),
        pytest.param(
            "interface: a/b",
            f"2:14: bridge.interface: 'a/b' is not an interface; {INTERFACE_RULE}",
            id="a slash in an interface",
        ),
        pytest.param(
            "interface: [eth0, ..]",
            f"2:21: bridge.interface[1]: '..' is not an interface; {INTERFACE_RULE}",
            id="a directory as interface",
        ),
        pytest.param(
            "interface: sixteen-letters0",
            f"2:14: bridge.interface: 'sixteen-letters0' is not an interface; {INTERFACE_RULE}",
            id="16 characters in an interface",
        ),
        pytest.param(
            "interface: [eth0, eth0]",
            "2:21: bridge.interface[1]: 'eth0' is already listed; list it once",
            id="an interface twice",
        ),
        pytest.param(
            "interface: []",
            "2:14: bridge.interface: must not be empty; list at least one",
            id="an empty list of interfaces",
        ),
        pytest.param(
            "interface: {eth0: }",
            "2:14: bridge.interface: must be a list, like [one, two]",
            id="a mapping of interfaces",
        ),
        pytest.param(
            "address: localhost",
            f"2:12: bridge.address: 'localhost' is not an address; {ADDRESS_RULE}",
            id="a host's name",
        ),
        pytest.param(
            "address: 192.168.1.0/24",
            f"2:12: bridge.address: '192.168.1.0/24' is not an address; {ADDRESS_RULE}",
            id="a network",
        ),
        pytest.param(
            'address: "::"',
            "2:12: bridge.address: '::' is not a host address",
            id="any address",
        ),
        pytest.param(
            "address: 224.0.0.251",
            "2:12: bridge.address: '224.0.0.251' is not a host address",
            id="multicast",
        ),
        pytest.param(
            "address: 255.255.255.255",
            "2:12: bridge.address: '255.255.255.255' is not a host address",
            id="broadcast",
        ),
        pytest.param(
            "address: fe80::1%a b",
            f"2:12: bridge.address: 'fe80::1%a b' is not an address; {ADDRESS_RULE}",
            id="a scope id that is no interface",
        ),
        pytest.param(
            "address: FE80::1",
            "2:12: bridge.address: 'FE80::1' is a link-local address; "
            "write it with its interface, like 'fe80::1%eth0'",
            id="a link-local address without a scope id",
        ),
        pytest.param(
            "address: [10.0.0.1, fd00::1%eth0]",
            "2:23: bridge.address[1]: 'fd00::1%eth0' needs no interface; write 'fd00::1'",
            id="a scope id of an address that is not link-local",
        ),
        pytest.param(
            'address: "::1%lo"',
            "2:12: bridge.address: '::1%lo' needs no interface; write '::1'",
            id="a scope id of a loopback address",
        ),
        pytest.param(
            "address: [2001:DB8::1, 2001:db8:0::1]",
            "2:26: bridge.address[1]: '2001:db8::1' is already listed; list it once",
            id="an address twice, written in two ways",
        ),
        pytest.param(
            "{address: 10.0.0.1, interface: eth0}",
            "2:13: bridge.address: cannot be combined with 'interface'; keep one of the two",
            id="an interface and an address",
        ),
    ],
)
def test_a_mistake_in_the_bridge_is_refused(line: str, message: str) -> None:
    assert problems(bridge(line)) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            "pin: 1",
            (
                "4:5: groups.web.pin: unknown key 'pin'; allowed keys: name, units, containers, "
                "compose, engine, commands, host, group, check, type, "
                "actions, restart, alert, restart_when, interval_seconds, timeout_seconds, user, "
                "directory, detach, "
                "assume_state, momentary"
            ),
            id="an unknown key",
        ),
        pytest.param(
            "units: [nginx]",
            "4:5: groups.web.units: duplicate key 'units'; the first one is on line 3",
            id="a key twice",
        ),
        pytest.param(
            "42: x", '4:5: groups.web.42: a key must be text; put it in quotes: "42"', id="a number as key"
        ),
        pytest.param(
            "? [name]\n    : x",
            "4:7: groups.web.?: a key must be text, not a list or a mapping",
            id="a list as key",
        ),
        pytest.param(
            "type: lihgt", "4:11: groups.web.type: unknown value 'lihgt'; did you mean 'light'?", id="a typo"
        ),
        pytest.param(
            "alert: true",
            "4:12: groups.web.alert: unknown value 'true'; allowed values: contact, occupancy, leak",
            id="a boolean as a choice",
        ),
        pytest.param("alert:", "4:11: groups.web.alert: must not be empty", id="no choice"),
        pytest.param(
            "type: Valve",
            "4:11: groups.web.type: unknown value 'Valve'; allowed values: switch, outlet, light, fan",
            id="an unknown type",
        ),
        pytest.param(
            "actions: start", "4:14: groups.web.actions: must be a list, like [one, two]", id="no list"
        ),
        pytest.param(
            "actions: []",
            "4:14: groups.web.actions: must not be empty; list at least one",
            id="no actions at all",
        ),
        pytest.param(
            "actions: [start, reload]",
            "4:22: groups.web.actions[1]: unknown value 'reload'; allowed values: start, stop, restart",
            id="an unknown action",
        ),
        pytest.param(
            "actions: [start, start]",
            "4:22: groups.web.actions[1]: 'start' is already listed; list it once",
            id="an action twice",
        ),
        pytest.param(
            "restart: true\n    actions: [start]",
            "5:14: groups.web.actions: must list 'restart' too, because of 'restart: true'",
            id="a restart switch without the action",
        ),
        pytest.param(
            "restart: yes",
            f"4:14: groups.web.restart: {TRUE_RULE}",
            id="yes",
        ),
        pytest.param(
            "restart: Off",
            "4:14: groups.web.restart: must be true or false; write false, in lower case and without quotes",
            id="off",
        ),
        pytest.param(
            'restart: "true"',
            f"4:14: groups.web.restart: {TRUE_RULE}",
            id="true in quotes",
        ),
        pytest.param("restart: 1", "4:14: groups.web.restart: must be true or false", id="1"),
        pytest.param(
            "restart_when: {for_seconds: 180}",
            "4:19: groups.web.restart_when: the key 'cpu_percent' or 'memory_mib' is missing; "
            "a rule needs a limit",
            id="a rule without a limit",
        ),
        pytest.param(
            "restart_when: {cpu_percent: 65, for_seconds: 10}",
            "4:50: groups.web.restart_when.for_seconds: must be a number of seconds from 15 to 86400, "
            "in plain digits without quotes",
            id="less time than between two samples",
        ),
        pytest.param(
            "restart_when: {cpu_percent: 65}\n    actions: [start, stop]",
            "5:14: groups.web.actions: must list 'restart' too, because of 'restart_when'",
            id="a rule without the action",
        ),
    ],
)
def test_a_mistake_in_a_group_is_refused(line: str, message: str) -> None:
    assert problems(group(line)) == message


@pytest.mark.parametrize("units", ["a.timer", "a.mount, b.socket"])
def test_a_rule_is_refused_if_none_of_the_groups_units_can_be_measured(units: str) -> None:
    assert problems(f"groups:\n  a:\n    units: [{units}]\n    restart_when: {{cpu_percent: 65}}\n") == (
        "4:19: groups.a.restart_when: only services, slices and containers can be measured; "
        "add one to this group or remove this key"
    )


@pytest.mark.parametrize(
    "more", ["units: [a.timer, a]", "units: [a.slice]", "units: [a.timer]\n    compose: a"]
)
def test_a_rule_needs_one_member_that_can_be_measured(more: str) -> None:
    [found] = config(f"groups:\n  a:\n    restart_when: {{cpu_percent: 65}}\n    {more}\n").groups
    assert found.restart_when == RestartWhen(cpu_percent=65)


PROGRAM_RULE = (
    "is not the path of a program; write its absolute path, like /usr/bin/docker, without '//', '.' and '..'"
)
ARGV_RULE = "must be a list: a program and its arguments, like [/usr/bin/docker, start, web]"
UNLESS_EXCLUDED = "it is required unless actions or momentary excludes it"
UNLESS_ASSUMED = "it is required unless assume_state or momentary is set"
NO_COMMANDS = "applies only with 'check' or 'commands'; add that or remove this key"
SECONDS_RULE = "must be a number of seconds from 1 to {}, in plain digits without quotes"


@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("start", "start"),
        ("--all", "--all"),
        ("$HOME", "$HOME"),
        ('"1"', "1"),
        ("''", ""),
        ("'*; rm -rf / | cat'", "*; rm -rf / | cat"),
        ("größer", "größer"),
        ('"yes"', "yes"),
        (r'"if true\n\tthen true\nfi"', "if true\n\tthen true\nfi"),
    ],
)
def test_an_argument_is_text_that_nobody_interprets(argument: str, text: str) -> None:
    found = config(commands("/opt/lamp, start", f"/opt/lamp, {argument}, {argument}")).groups[0].commands
    assert found is not None
    assert found.start == ("/opt/lamp", text, text)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "      start: [/opt/lamp, start]\n",
            "",
            f"4:7: groups.lamp.commands: the key 'start' is missing; {UNLESS_EXCLUDED}",
        ),
        (
            "      stop: [/opt/lamp, stop]\n",
            "",
            f"4:7: groups.lamp.commands: the key 'stop' is missing; {UNLESS_EXCLUDED}",
        ),
        (
            "      status: [/opt/lamp, status]\n",
            "",
            f"4:7: groups.lamp.commands: the key 'status' is missing; {UNLESS_ASSUMED}",
        ),
        (
            "status:",
            "statuss:",
            "6:7: groups.lamp.commands.statuss: unknown key 'statuss'; did you mean 'status'?",
        ),
        (
            "status:",
            "dim:",
            (
                f"4:7: groups.lamp.commands: the key 'status' is missing; {UNLESS_ASSUMED}\n"
                "6:7: groups.lamp.commands.dim: unknown key 'dim'; allowed keys: start, stop, status, restart"
            ),
        ),
        ("[/opt/lamp, start]", "/opt/lamp start", f"4:14: groups.lamp.commands.start: {ARGV_RULE}"),
        ("[/opt/lamp, start]", "[]", f"4:14: groups.lamp.commands.start: {ARGV_RULE}"),
        ("[/opt/lamp, start]", "", f"4:13: groups.lamp.commands.start: {ARGV_RULE}"),
        ("[/opt/lamp, start]", "{program: /opt/lamp}", f"4:14: groups.lamp.commands.start: {ARGV_RULE}"),
        (
            "/opt/lamp, start",
            "lamp",
            f"4:15: groups.lamp.commands.start[0]: 'lamp' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "./lamp",
            f"4:15: groups.lamp.commands.start[0]: './lamp' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "/opt/../tmp/lamp",
            f"4:15: groups.lamp.commands.start[0]: '/opt/../tmp/lamp' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "/opt/./lamp",
            f"4:15: groups.lamp.commands.start[0]: '/opt/./lamp' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "/opt//lamp",
            f"4:15: groups.lamp.commands.start[0]: '/opt//lamp' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "/opt/lamp/",
            f"4:15: groups.lamp.commands.start[0]: '/opt/lamp/' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "/",
            f"4:15: groups.lamp.commands.start[0]: '/' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "''",
            f"4:15: groups.lamp.commands.start[0]: '' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            "lamp start",
            (
                f"4:15: groups.lamp.commands.start[0]: 'lamp start' {PROGRAM_RULE}; "
                "a command is a list of words, without a shell"
            ),
        ),
        (
            "/opt/lamp, start",
            "/opt/lamp, 1",
            '4:26: groups.lamp.commands.start[1]: must be text; put it in quotes: "1"',
        ),
        (
            "/opt/lamp, start",
            "/opt/lamp, yes",
            '4:26: groups.lamp.commands.start[1]: must be text; put it in quotes: "yes"',
        ),
        (
            "/opt/lamp, start",
            "/opt/lamp, [start]",
            "4:26: groups.lamp.commands.start[1]: must be a single value, not a list or a mapping",
        ),
        (
            "/opt/lamp, start",
            r'/opt/lamp, "a\0b"',
            r"4:26: groups.lamp.commands.start[1]: 'a\x00b' has an invisible character; remove it",
        ),
        (
            "/opt/lamp, start",
            r'/opt/lamp, "a\rb"',
            r"4:26: groups.lamp.commands.start[1]: 'a\rb' has an invisible character; remove it",
        ),
        (
            "/opt/lamp, start",
            r'"/opt/la\nmp"',
            f"4:15: groups.lamp.commands.start[0]: '/opt/la\\nmp' {PROGRAM_RULE}",
        ),
        (
            "/opt/lamp, start",
            f"/opt/lamp, {'x' * 4097}",
            "4:26: groups.lamp.commands.start[1]: is too long; at most 4096 characters are allowed",
        ),
        (
            "[/opt/lamp, start]",
            f"[/opt/lamp{', x' * 128}]",
            "4:14: groups.lamp.commands.start: has 129 items; at most 128 are allowed",
        ),
        (
            "lamp:",
            "lamp:\n    units: [lamp]",
            "5:7: groups.lamp.commands: cannot be combined with 'units'; keep one of the two",
        ),
        (
            "lamp:",
            "lamp:\n    check: [/opt/lamp]",
            f"3:12: groups.lamp.check: applies only with {CHECKED}",
        ),
        (
            "lamp:",
            "lamp:\n    restart: true",
            "3:14: groups.lamp.restart: needs a command; add 'restart' to 'commands'",
        ),
        (
            "lamp:",
            "lamp:\n    actions: [start, restart]",
            (
                "3:14: groups.lamp.actions: lists 'restart', which needs a command; "
                "add 'restart' to 'commands'"
            ),
        ),
        (
            "lamp:",
            "lamp:\n    interval_seconds: 0",
            f"3:23: groups.lamp.interval_seconds: {SECONDS_RULE.format(86400)}",
        ),
        (
            "lamp:",
            "lamp:\n    interval_seconds: 86401",
            f"3:23: groups.lamp.interval_seconds: {SECONDS_RULE.format(86400)}",
        ),
        (
            "lamp:",
            "lamp:\n    interval_seconds: 1.5",
            f"3:23: groups.lamp.interval_seconds: {SECONDS_RULE.format(86400)}",
        ),
        (
            "lamp:",
            'lamp:\n    interval_seconds: "5"',
            f"3:23: groups.lamp.interval_seconds: {SECONDS_RULE.format(86400)}",
        ),
        (
            "lamp:",
            "lamp:\n    timeout_seconds: 3601",
            f"3:22: groups.lamp.timeout_seconds: {SECONDS_RULE.format(3600)}",
        ),
        (
            "lamp:",
            "lamp:\n    timeout_seconds: 10s",
            f"3:22: groups.lamp.timeout_seconds: {SECONDS_RULE.format(3600)}",
        ),
    ],
)
def test_a_mistake_in_commands_is_refused(old: str, new: str, message: str) -> None:
    assert problems(commands(old, new)) == message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("check: /bin/true", f"4:12: groups.web.check: {ARGV_RULE}"),
        ("check: [true]", '4:13: groups.web.check[0]: must be text; put it in quotes: "true"'),
        (
            "interval_seconds: 5",
            f"4:23: groups.web.interval_seconds: {NO_COMMANDS}",
        ),
        (
            "timeout_seconds: 5",
            f"4:22: groups.web.timeout_seconds: {NO_COMMANDS}",
        ),
    ],
)
def test_a_mistake_in_a_check_is_refused(line: str, message: str) -> None:
    assert problems(group(line)) == message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        pytest.param("42", 'must be text; put it in quotes: "42"', id="a number"),
        pytest.param("true", 'must be text; put it in quotes: "true"', id="a boolean"),
        pytest.param("", "must not be empty", id="nothing"),
        pytest.param("[smb]", "must be a single value, not a list or a mapping", id="a list"),
        pytest.param("smb: nmb", "must be a single value, not a list or a mapping", id="a mapping"),
        pytest.param("''", f"'' is not a unit; {UNIT_RULE}", id="an empty name"),
        pytest.param("a/b", f"'a/b' is not a unit; {UNIT_RULE}", id="a slash"),
        pytest.param("a b", f"'a b' is not a unit; {UNIT_RULE}", id="a space"),
        pytest.param("a*", f"'a*' is not a unit; {UNIT_RULE}", id="a glob"),
        pytest.param("ä", f"'ä' is not a unit; {UNIT_RULE}", id="a letter that is not ASCII"),
        pytest.param('"a\\n"', rf"'a\n' is not a unit; {UNIT_RULE}", id="a line end"),
        pytest.param(".service", f"'.service' is not a unit; {UNIT_RULE}", id="only a suffix"),
        pytest.param("'@a.service'", f"'@a.service' is not a unit; {UNIT_RULE}", id="only an instance"),
        pytest.param("u" * 248, f"'{'u' * 63}…' is not a unit; {UNIT_RULE}", id="256 characters"),
        pytest.param("sda.device", f"'sda.device' cannot be started; allowed types: {TYPES}", id="device"),
        pytest.param("a.scope", f"'a.scope' cannot be started; allowed types: {TYPES}", id="scope"),
        pytest.param(
            "foo@.timer",
            "'foo@.timer' is a template; name an instance, like 'foo@one.timer'",
            id="a template",
        ),
        pytest.param(
            "foo@",
            "'foo@' is a template; name an instance, like 'foo@one.service'",
            id="a template without suffix",
        ),
        pytest.param("a.device.scope", f"'a.device.scope' cannot be started; allowed types: {TYPES}"),
        *(
            pytest.param(name, f"'{name}' is not a {name.rpartition('.')[2]} unit; {PATH_RULE}", id=name)
            for name in (
                *("srv@data.mount", "srv@.mount", "a@b.automount", "a@b.swap"),
                *("-a.mount", "a-.automount", "a--b.swap", "--.mount", "-.automount"),
                *("..mount", "...mount", ".a.mount", "a-..mount", "a-...mount", "a-.-b.swap", "a-..-b.mount"),
            )
        ),
        pytest.param(r"a\b.mount", rf"'a\\b.mount' is not a mount unit; {PATH_RULE}", id="half an escape"),
        pytest.param(r"a\x2Db.swap", rf"'a\\x2Db.swap' is not a swap unit; {PATH_RULE}", id="capital hex"),
        *(
            pytest.param(name, f"'{name}' is not a slice unit; {SLICE_RULE}", id=name)
            for name in ("a@b.slice", "a@.slice", "-a.slice", "a-.slice", "a--b.slice", "--.slice")
        ),
    ],
)
def test_what_is_no_startable_unit_is_refused(item: str, message: str) -> None:
    place, _, rest = problems(units(item)).partition(": groups.web.units[0]: ")
    assert place in {"4:6", "4:7"}  # where there is nothing, it is after the dash
    assert rest == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "1:1: the key 'groups' is missing; it is required", id="an empty file"),
        pytest.param(
            "# all of it\n", "1:1: the key 'groups' is missing; it is required", id="only a comment"
        ),
        pytest.param("bridge:\n", "1:1: the key 'groups' is missing; it is required", id="no groups"),
        pytest.param("group:\n", "1:1: group: unknown key 'group'; did you mean 'groups'?", id="meant well"),
        pytest.param(
            "[groups]", "1:1: must be a mapping, lines like 'key: value', with the space", id="a list"
        ),
        pytest.param(
            "groups", "1:1: must be a mapping, lines like 'key: value', with the space", id="a word"
        ),
        pytest.param(
            "groups:\n",
            "1:8: groups: must have at least one group, indented below it",
            id="nothing in groups",
        ),
        pytest.param(
            "groups: {}", "1:9: groups: must have at least one group, indented below it", id="no group"
        ),
        pytest.param(
            "groups: [web]",
            "1:9: groups: must be a mapping, lines like 'key: value', with the space",
            id="a list of groups",
        ),
        pytest.param(
            "groups:\n  web:\n    name: Web\n",
            f"3:5: groups.web: the key 'units' is missing; it is required, {OTHERS}",
            id="no units",
        ),
        pytest.param(
            "groups:\n  web:\n",
            f"2:7: groups.web: the key 'units' is missing; it is required, {OTHERS}",
            id="an empty group",
        ),
        pytest.param(
            "groups:\n  web:\n    unit: [httpd]\n",
            "3:5: groups.web.unit: unknown key 'unit'; did you mean 'units'?",
            id="units with a typo",
        ),
        pytest.param(
            "groups: {web: {units: }}",
            "1:23: groups.web.units: must not be empty; list at least one",
            id="nothing in units",
        ),
        pytest.param(
            "groups: {web: {units: httpd}}",
            "1:23: groups.web.units: must be a list, like [one, two]",
            id="units that are no list",
        ),
        pytest.param(
            "groups: {web: {units: [smb, smb.service]}}",
            "1:29: groups.web.units[1]: 'smb.service' is already listed; list it once",
            id="a unit twice, written in two ways",
        ),
        pytest.param(
            f"groups: {{web: {{units: [{', '.join(f'u{n}' for n in range(129))}]}}}}",
            "1:23: groups.web.units: has 129 items; at most 128 are allowed",
            id="129 units",
        ),
        pytest.param(
            "groups: {Web: {units: [a]}}",
            f"1:10: groups.Web: 'Web' is not a group id; {ID_RULE}",
            id="a capital",
        ),
        pytest.param(
            "groups: {-web: {units: [a]}}",
            f"1:10: groups.-web: '-web' is not a group id; {ID_RULE}",
            id="an option",
        ),
        pytest.param(
            'groups: {"": {units: [a]}}', f"1:10: groups.: '' is not a group id; {ID_RULE}", id="an empty id"
        ),
        pytest.param(
            "groups: {on: {units: [a]}}",
            '1:10: groups.on: a key must be text; put it in quotes: "on"',
            id="an id that YAML reads as true",
        ),
        pytest.param(
            "groups: {web: {units: [a]}, web: {units: [b]}}",
            "1:29: groups.web: duplicate key 'web'; the first one is on line 1",
            id="an id twice",
        ),
    ],
)
def test_a_mistake_in_the_structure_is_refused(text: str, message: str) -> None:
    assert problems(text) == message


# What groups must not share


@pytest.mark.parametrize(
    ("first", "second", "place", "name"),
    [
        pytest.param("name: Web", "name: WEB", "3:25: groups.b.name", "WEB", id="in other letters"),
        pytest.param("name: B", "type: fan", "3:3: groups.b", "B", id="made from the id"),
        pytest.param(
            "name: Web, restart: true",
            "name: Restart  web",
            "3:25: groups.b.name",
            "Restart  web",
            id="of a restart switch",
        ),
        pytest.param(
            "name: Restart Web",
            "name: Web, restart: true",
            "3:25: groups.b.name",
            "Restart Web",
            id="of a restart switch that comes later",
        ),
        pytest.param(
            "name: Web, restart: true",
            "name: Web, restart: true",
            "3:25: groups.b.name",
            "Web",
            id="said once for both switches",
        ),
    ],
)
def test_two_switches_of_one_name_are_refused(first: str, second: str, place: str, name: str) -> None:
    text = f"groups:\n  a: {{units: [a], {first}}}\n  b: {{units: [b], {second}}}\n"
    assert problems(text) == (
        f"{place}: '{name}' is taken by the group on line 2; Siri cannot tell the two apart"
    )


def test_a_refused_name_or_id_is_not_compared() -> None:
    text = "groups: {web: {units: [a]}, b: {units: [a], name: 1}, WEB: {units: [a]}, B: {units: [a]}}"
    assert problems(text).count("\n") == 2


def test_the_name_of_a_restart_switch_must_be_short_enough_too() -> None:
    name = "n" * 57
    config(group(f"name: {name}"))
    config(group(f"name: {name[:-1]}\n    restart: true"))
    assert problems(group(f"name: {name}\n    restart: true")) == (
        f"4:11: groups.web.name: the restart switch's name 'Restart {name[:55]}…' is too long; "
        "at most 64 characters are allowed"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("group-22235", "group-30796", id="two groups"),
        pytest.param("group-42962", "group-77547", id="a restart switch and a group"),
    ],
)
def test_two_ids_that_make_one_aid_are_refused(first: str, second: str) -> None:
    assert {aid_of(first), aid_of(f"{first}:restart")} & {aid_of(second), aid_of(f"{second}:restart")}
    assert problems(f"groups:\n  {first}: {{units: [a]}}\n  {second}: {{units: [a]}}\n") == (
        f"3:3: groups.{second}: '{second}' and '{first}' result in the same HomeKit accessory id; "
        "change one of these group ids"
    )


@pytest.mark.parametrize(
    ("groups", "restarts", "accessories"),
    [
        pytest.param(150, 0, 150, id="groups"),
        pytest.param(75, 75, 150, id="groups and restart switches"),
    ],
)
def test_more_accessories_than_homekit_allows_are_refused(
    groups: int, restarts: int, accessories: int
) -> None:
    assert accessories == MOST_ACCESSORIES + 1
    lines = [f"  g{n}: {{units: [a], restart: {'true' if n < restarts else 'false'}}}" for n in range(groups)]
    assert len(config("\n".join(["groups:", *lines[1:]])).groups) == groups - 1
    assert problems("\n".join(["groups:", *lines])) == (
        "2:3: groups: needs 150 accessories, restart switches and sensors included; "
        "HomeKit allows at most 149 behind a bridge"
    )


# All at once


def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
bridge:
  nam: Homelab
  interface: [eth0, 'a b']
  port: 80
groups:
  web:
    unit: [httpd]
    restart: yes
  Web_2:
    units: [a@.timer, smb, smb.service, *x]
    actions: [start, strat]
    restart: true
  vm: [libvirt]
  db: &db
    name: web
    units: !!seq [postgresql]
    type: light
    type: fan
  db2:
    <<: *db
    name: 2
"""
    assert problems(text) == "\n".join(
        [
            "2:3: bridge.nam: unknown key 'nam'; did you mean 'name'?",
            f"3:21: bridge.interface[1]: 'a b' is not an interface; {INTERFACE_RULE}",
            f"4:9: bridge.port: {PORT_RULE}",
            "7:5: groups.web.unit: unknown key 'unit'; did you mean 'units'?",
            f"8:14: groups.web.restart: {TRUE_RULE}",
            f"9:3: groups.Web_2: 'Web_2' is not a group id; {ID_RULE}",
            "10:13: groups.Web_2.units[0]: 'a@.timer' is a template; name an instance, like 'a@one.timer'",
            "10:28: groups.Web_2.units[2]: 'smb.service' is already listed; list it once",
            f"10:41: groups.Web_2.units[3]: '*x' is not allowed; {PLAIN_YAML}",
            "11:22: groups.Web_2.actions[1]: unknown value 'strat'; did you mean 'start'?",
            "13:7: groups.vm: must be a mapping, lines like 'key: value', with the space",
            f"14:7: groups.db: '&db' is not allowed; {PLAIN_YAML}",
            "15:11: groups.db.name: 'web' is taken by the group on line 6; Siri cannot tell the two apart",
            f"16:12: groups.db.units: '!!seq' is not allowed; {PLAIN_YAML}",
            "18:5: groups.db.type: duplicate key 'type'; the first one is on line 17",
            "20:5: groups.db2.<<: merge key '<<' is not allowed; write the keys out",
            f"20:9: groups.db2.<<: '*db' is not allowed; {PLAIN_YAML}",
            '21:11: groups.db2.name: must be text; put it in quotes: "2"',
        ]
    )


# What is not read at all. Both parsers, so that it does not matter which one root has.


@pytest.fixture(params=["libyaml", "PyYAML"])
def each_loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "PyYAML":
        monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    elif not hasattr(yaml, "CSafeLoader"):
        pytest.skip("PyYAML is built without libyaml")


LAUGHS = "a0: &a0 [lol]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
TOO_DEEP = "nested too deeply; at most 8 levels are allowed"


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"[" * 900, f"1:9: {'[0]' * 8}: {TOO_DEEP}", id="deep lists"),
        pytest.param(b"{" * 900, f"1:9: {'.'.join('?' * 8)}: {TOO_DEEP}", id="deep mappings"),
        pytest.param(b"- " * (1 << 19), f"1:17: {'[0]' * 8}: {TOO_DEEP}", id="a bomb of dashes"),
        pytest.param(b"? " * (1 << 19), f"1:17: {'.'.join('?' * 8)}: {TOO_DEEP}", id="a bomb of keys"),
        pytest.param(
            b"#" * ((1 << 20) + 1),
            "1:1: the file is too large; at most 1048576 bytes are allowed",
            id="1 MiB and 1 byte",
        ),
        pytest.param(
            "a: ü\nb: ü".encode("latin-1"), "1:4: this is not UTF-8; save the file as UTF-8", id="Latin-1"
        ),
        pytest.param(
            "ä: 'ü\0'".encode(),
            "1:1: the key 'groups' is missing; it is required\n"
            "1:1: ä: unknown key 'ä'; allowed keys: bridge, helper, alert_command, hosts, groups\n"
            "1:6: the invisible character U+0000 is not allowed; remove it or use spaces",
            id="NUL",
        ),
        pytest.param(
            b"a: b\n\tc: d",
            "2:1: a tab is not allowed; remove it or use spaces",
            id="a tab",
        ),
        pytest.param(
            b"a: b\rc: d",
            "1:5: the invisible character U+000D is not allowed; remove it or use spaces",
            id="a line end of old",
        ),
        pytest.param(
            "\ufeffa: b".encode(),
            "1:1: the invisible character U+FEFF is not allowed; remove it or use spaces",
            id="a byte order mark",
        ),
        pytest.param(
            "a: \u202eb".encode(),
            "1:1: the key 'groups' is missing; it is required\n"
            "1:1: a: unknown key 'a'; allowed keys: bridge, helper, alert_command, hosts, groups\n"
            "1:4: the invisible character U+202E is not allowed; remove it or use spaces",
            id="text that looks like other text",
        ),
        pytest.param(
            b"groups: {}\n---\ngroups: {}\n",
            "2:1: only one document is allowed; remove '---'",
            id="two documents",
        ),
        pytest.param(
            b"groups: !!python/object/apply:os.system [id]",
            f"1:9: groups: '!!python/object/apply:os.system' is not allowed; {PLAIN_YAML}",
            id="an object",
        ),
        pytest.param(b"groups: ! {}", f"1:9: groups: '!' is not allowed; {PLAIN_YAML}", id="an empty tag"),
        pytest.param(
            b"groups: *groups",
            f"1:9: groups: '*groups' is not allowed; {PLAIN_YAML}",
            id="an alias of nothing",
        ),
        pytest.param(
            b"groups: &a [*a]",
            f"1:9: groups: '&a' is not allowed; {PLAIN_YAML}\n"
            "1:9: groups: must be a mapping, lines like 'key: value', with the space\n"
            f"1:13: groups[0]: '*a' is not allowed; {PLAIN_YAML}",
            id="a list in itself",
        ),
    ],
)
def test_what_is_more_than_plain_yaml_is_refused(data: bytes, message: str) -> None:
    assert problems(data) == message


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize("bracket", [b"[", b"{"])
def test_a_bomb_of_brackets_is_refused(bracket: bytes) -> None:
    """libyaml reads ahead, and newer ones refuse more than 1,000 brackets before we see the ninth."""
    [problem] = problems(bracket * (1 << 20)).splitlines()
    assert problem.endswith(TOO_DEEP) or "not valid YAML: exceeded maximum nesting depth" in problem


@pytest.mark.usefixtures("each_loader")
def test_a_billion_laughs_are_refused_one_by_one() -> None:
    assert problems(LAUGHS).count(PLAIN_YAML) == 10 + 9 * 9


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize(
    ("text", "place", "cause"),
    [
        pytest.param(
            "groups:\n  web: units: [a]\n", "2:13", "two keys in one line, or", id="two keys in a line"
        ),
        pytest.param(
            "groups:\n  web\n    units: [a]\n", "3:10", "two keys in one line, or a ':' or", id="no colon"
        ),
        pytest.param(
            "groups:\n  web:\n    units:[a]\n    name: x\n",
            "4:9",
            "two keys in one line, or a ':' or",
            id="no space",
        ),
        pytest.param("groups: [a\n", "2:1", "a comma or a closing bracket is missing (", id="an open list"),
        pytest.param("groups: {a: [x y: z}\n", "1:20", "a comma or a closing bracket is", id="no comma"),
        pytest.param(
            "groups:\n  web:\n    name: 'Web\n",
            "4:1",
            "a closing quotation mark is missing (",
            id="an open quote",
        ),
        pytest.param(
            "groups:\n  web: {}\n db: {}\n", "3:2", "the indentation differs", id="between two levels"
        ),
        pytest.param("groups: @web\n", "1:9", "", id="a reserved character"),
        pytest.param("!x!y z\n", "1:1", "", id="an unknown tag handle"),
    ],
)
def test_bad_syntax_is_one_problem_where_the_parser_stops(text: str, place: str, cause: str) -> None:
    message = problems(text)
    assert message.startswith(f"{place}: not valid YAML: {cause}")
    assert "\n" not in message


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize("escape", [r"\UFFFFFFFF", r"\U00110000", r"\uD800"])
def test_an_escape_that_is_no_character_is_refused(escape: str) -> None:
    assert problems(f'groups: {{"{escape}": {{units: ["{escape}"], name: "{escape}"}}}}')


@pytest.mark.usefixtures("each_loader")
def test_both_parsers_see_the_same_places() -> None:
    text = "bridge:\n  name:\n  port: é\ngroups:\n  web:\n  db:\n    units:\n    - [ü,\n       x]\n    -\n"
    assert problems(text) == "\n".join(
        [
            "2:8: bridge.name: must not be empty",
            f"3:9: bridge.port: {PORT_RULE}",
            f"5:7: groups.web: the key 'units' is missing; it is required, {OTHERS}",
            "8:7: groups.db.units[0]: must be a single value, not a list or a mapping",
            "10:6: groups.db.units[1]: must not be empty",
        ]
    )


# Containers

SIXTY_FOUR = ", ".join(f"u{n}" for n in range(64))


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize(
    ("keys", "members"),
    [
        ("containers: [web]", ("docker/web",)),
        ("containers: [web], engine: docker", ("docker/web",)),
        ("containers: [w, Web_1.a-b], engine: podman", ("podman/w", "podman/Web_1.a-b")),
        ("compose: immich", ("docker-compose/immich",)),
        ("compose: '2'", ("docker-compose/2",)),
        ("containers: [web], compose: my_app-2, engine: podman", ("podman/web", "podman-compose/my_app-2")),
        ("units: [web], containers: [web, db]", ("web.service", "docker/web", "docker/db")),
        ("containers: [ab], units: [a]", ("a.service", "docker/ab")),
    ],
)
def test_units_come_before_containers_and_each_has_a_name_of_its_own(
    keys: str, members: tuple[str, ...]
) -> None:
    [group] = config(f"groups: {{web: {{{keys}}}}}").groups
    assert group.members == members
    assert group.commands is None


@pytest.mark.usefixtures("each_loader")
@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("containers: [a]", "1:28: groups.web.containers: 'a' is too short"),
        ("containers: [-web]", "1:29: groups.web.containers[0]: '-web' is not a container's name"),
        ("containers: [web/db]", "1:29: groups.web.containers[0]: 'web/db' is not a container's name"),
        (
            "containers: ['web?all=1']",
            "1:29: groups.web.containers[0]: 'web?all=1' is not a container's name",
        ),
        ("containers: ['we b']", "1:29: groups.web.containers[0]: 'we b' is not a container's name"),
        ("containers: [wéb]", "1:29: groups.web.containers[0]: 'wéb' is not a container's name"),
        (f"containers: [{'a' * 129}]", f"1:29: groups.web.containers[0]: '{'a' * 63}"),
        ("containers: [web, web]", "1:34: groups.web.containers[1]: 'web' is already listed"),
        ("containers: []", "1:28: groups.web.containers: must not be empty"),
        ("containers: web", "1:28: groups.web.containers: must be a list"),
        ("compose: Immich", "1:25: groups.web.compose: 'Immich' is not a compose project's name"),
        ("compose: a.b", "1:25: groups.web.compose: 'a.b' is not a compose project's name"),
        ("compose: [immich]", "1:25: groups.web.compose: must be a single value"),
        ("containers: [web], engine: lxc", "1:43: groups.web.engine: unknown value 'lxc'"),
        (
            "units: [web], engine: podman",
            "1:38: groups.web.engine: applies only with 'containers'",
        ),
        (
            "containers: [web], timeout_seconds: 5",
            "1:52: groups.web.timeout_seconds: applies only with",
        ),
        ("compose: web, user: pi", "1:36: groups.web.user: applies only with 'commands'"),
        (
            f"units: [{SIXTY_FOUR}], containers: [{SIXTY_FOUR}], compose: web",
            "1:10: groups.web: has 129 units and containers; at most 128 are allowed",
        ),
    ],
)
def test_a_mistake_in_containers_is_refused_where_it_is(keys: str, problem: str) -> None:
    assert problems(f"groups: {{web: {{{keys}}}}}").startswith(problem)


# The example


@pytest.mark.usefixtures("each_loader")
def test_the_example_is_a_config() -> None:
    assert [(each.id, each.name, each.units) for each in config(EXAMPLE).groups] == [
        ("vm-guests", "VM Guests", ("libvirt-guests.service",)),
        ("fileserver", "File Server", ("smb.service", "nmb.service", "netatalk.service")),
        ("web", "Web Server", ("httpd.service",)),
    ]


@pytest.mark.parametrize("left_out", ["interface", "address"])
def test_the_example_is_a_config_with_every_key_uncommented(left_out: str) -> None:
    text = COMMENTED_KEY.sub(lambda key: key[0] if key[3] == left_out else key[1] + key[2], EXAMPLE)
    full = config(text)
    assert (full.bridge.interfaces == ()) == (left_out == "interface")
    assert (full.bridge.addresses == ()) == (left_out == "address")
    assert full.groups[0].restart


def test_the_group_of_commands_in_the_example_is_one() -> None:
    text = COMMENTED_GROUP.sub(lambda found: re.sub("(?m)^  # ", "  ", found[0]), EXAMPLE)
    assert config(text).groups[-1] == Group(
        "gaming-vm",
        "Gaming VM",
        commands=Commands(
            start=("/usr/bin/virsh", "start", "win10"),
            stop=("/usr/bin/virsh", "shutdown", "win10"),
            status=("/usr/local/libexec/vm-is-running", "win10"),
            restart=("/usr/bin/virsh", "reboot", "win10"),
        ),
        interval_seconds=5,
        timeout_seconds=30,
        user="root",
        directory="/root",
    )


def test_the_defaults_that_the_example_tells_are_the_defaults() -> None:
    assert f"Default: {BridgeConfig.__dataclass_fields__['name'].default}" in EXAMPLE
    assert config(EXAMPLE.replace("# port: ", "port: ")).bridge == BridgeConfig()
    assert config(EXAMPLE.replace("# type: ", "type: ")) == config(EXAMPLE)
    defaults = COMMANDS.replace("lamp:", "lamp:\n    interval_seconds: 5\n    timeout_seconds: 10")
    assert config(COMMANDS) == config(defaults)
    check = group("check: [/bin/true]")
    assert config(check) == config(f"{check}    interval_seconds: 30\n    timeout_seconds: 10\n")
