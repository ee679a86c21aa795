"""Commands that do nothing but start, stop and ask units become a group of them; all others stay commands."""

import pytest

from hkswitch.model.unit_state import Action
from tests.homebridge.importing import argvs, group, imported, notes, services, switch, switches, systemd

IS_UNITS = {
    "the same unit": ("systemctl start a", "systemctl stop a", "systemctl is-active a", "a"),
    "without a state": ("systemctl start a", "systemctl stop a", None, "a"),
    "several at once": ("sudo -n systemctl start a b", "sudo systemctl stop b a.service", None, "a b"),
    "paths and options": ("/usr/bin/systemctl --no-pager start a", "/bin/systemctl stop -q a", None, "a"),
    "root by name": ("/usr/bin/sudo -u root systemctl start a@1.service", "systemctl stop a@1", None, "a@1"),
    "sudo's options": (
        "sudo -nH -- systemctl start a.timer",
        "sudo --user=root systemctl stop 'a.timer'",
        None,
        "a.timer",
    ),
    "service": ("/usr/sbin/service a start", "sudo service a stop", "service a status", "a"),
    "init.d": ("sudo /etc/init.d/a start", "/etc/init.d/a stop", "/etc/init.d/a status >/dev/null", "a"),
    "a suffix within the name": (
        "systemctl start a.socket.service",
        "service a.socket.service stop",
        None,
        "a.socket.service",
    ),
    "&&": ("systemctl start a && systemctl start b", "systemctl stop a && systemctl stop b", None, "a b"),
    "semicolons": ("systemctl start a; systemctl start b;", "systemctl stop a;systemctl stop b", None, "a b"),
    "lines": ("systemctl start a\nsystemctl start b\n", "systemctl stop a \\\n b", None, "a b"),
    "no output": ("systemctl start a > /dev/null 2>&1", "systemctl stop a >/dev/null", None, "a"),
    "a shell of its own": ("sudo sh -c 'systemctl start a'", 'bash -c "systemctl stop a"', None, "a"),
    "a subshell": ("(systemctl start a; systemctl start b)", "{ systemctl stop a b; }", None, "a b"),
    "a state of both": (
        *("systemctl start a b", "systemctl stop a b"),
        *("systemctl -q is-active a && systemctl -q is-active b", "a b"),
    ),
    "a test before": (
        *("[ a = a ] && systemctl start a", "[ a = b ] || systemctl stop a"),
        *("if [ 1 -le 2 ]; then systemctl status a; fi", "a"),
    ),
    "a message": ("systemctl start a; echo 'done'", "systemctl stop a", None, "a"),
}

IS_COMMANDS = {
    "a second choice": ("systemctl start a || systemctl start b", "systemctl stop a"),
    "a second choice on both sides": (
        *("systemctl start a || systemctl start b", "systemctl stop a || systemctl stop b"),
    ),
    "a failure that does not matter": ("systemctl start a || true", "systemctl stop a || echo no"),
    "other units": ("systemctl start a", "systemctl stop b"),
    "fewer units": ("systemctl start a b", "systemctl stop a"),
    "the state of another unit": ("systemctl start a", "systemctl stop a", "systemctl is-active b"),
    "the state of fewer units": ("systemctl start a b", "systemctl stop a b", "systemctl is-active a"),
    "the state of either": (
        *("systemctl start a b", "systemctl stop a b"),
        "systemctl -q is-active a || systemctl -q is-active b",
    ),
    "a state by a process": ("systemctl start a", "systemctl stop a", "pgrep a"),
    "a state that is always the same": ("systemctl start a", "systemctl stop a", "systemctl status a; true"),
    "a state turned round": ("systemctl start a", "systemctl stop a", "! systemctl is-active a"),
    "a state by an if": (
        *("systemctl start a", "systemctl stop a"),
        "if systemctl -q is-active a; then exit 0; else exit 1; fi",
    ),
    "a state by its text": ("systemctl start a", "systemctl stop a", "systemctl is-active a | grep ^active"),
    "a state by its text, with sudo": (
        "systemctl start a",
        "systemctl stop a",
        "sudo systemctl status a | grep running",
    ),
    "a state by its text, compared": (
        "systemctl start a",
        "systemctl stop a",
        '[ "$(systemctl is-active a)" = active ]',
    ),
    "on that stops": ("systemctl stop a", "systemctl start a"),
    "something else as well": ("systemctl start a && /opt/lamp on", "systemctl stop a"),
    "a pause": ("systemctl start a; sleep 1; systemctl start b", "systemctl stop a b"),
    "the background": ("systemctl start a &", "systemctl stop a"),
    "enabled as well": ("systemctl enable --now a", "systemctl stop a"),
    "a restart": ("systemctl restart a", "systemctl stop a"),
    "a user's units": ("systemctl --user start a", "systemctl --user stop a"),
    "somebody else": ("sudo -u jo systemctl start a", "sudo systemctl stop a"),
    "another machine": ("ssh jo@pc sudo systemctl start a", "ssh jo@pc sudo systemctl stop a"),
    "another systemctl": ("/opt/systemctl start a", "/opt/systemctl stop a"),
    "a pattern": ("systemctl start 'a*'", "systemctl stop 'a*'"),
    "a condition of the machine": ("[ -e /run/a ] && systemctl start a", "systemctl stop a"),
    "a variable": ("systemctl start $UNIT", "systemctl stop a"),
    "another root": ("systemctl --root=/mnt start a", "systemctl stop a"),
    "no output, as in bash alone": ("systemctl start a &>/dev/null", "systemctl stop a"),
    "a mistake": ("systemctl start a; ; true", "systemctl stop a"),
    "nothing in parentheses": ("systemctl start a; ()", "systemctl stop a"),
    "an output file": ("systemctl start a > /tmp/log", "systemctl stop a"),
    "a state that decides": (*("systemctl is-active a || systemctl start a", "systemctl stop a"),),
}


@pytest.mark.parametrize(
    ("on", "off", "state", "units"), [pytest.param(*row, id=name) for name, row in IS_UNITS.items()]
)
def test_what_only_switches_units_becomes_a_group_of_them(
    on: str, off: str, state: str | None, units: str
) -> None:
    found = group(switches(switch("A", on, off, state)))
    assert found.commands is None
    assert found.units == services(units.split())
    assert found.actions == {Action.START, Action.STOP}


@pytest.mark.parametrize("commands", [pytest.param(row, id=name) for name, row in IS_COMMANDS.items()])
def test_what_does_anything_else_keeps_its_commands(commands: tuple[str, ...]) -> None:
    found = group(switches(switch("A", *commands)))
    assert found.commands is not None
    assert [*argvs(found)] == ["start", "stop", "status"][: len(commands)]


def test_the_order_is_that_of_the_start() -> None:
    found = group(switches(switch("A", "systemctl start c a b", "systemctl stop a; systemctl stop b c")))
    assert found.units == services(["c", "a", "b"])


def test_one_command_that_starts_or_stops_units_still_does_only_that() -> None:
    found = imported(switches(switch("A", "systemctl start a"), switch("B", None, "systemctl stop b")))
    assert (
        notes(found)["'A'"][0]
        == "it had one command, and still does only that; it shows the state of the units"
    )
    (first, second) = (
        group(switches(each))
        for each in (switch("A", "systemctl start a"), switch("B", None, "systemctl stop b"))
    )
    assert (first.units, first.actions) == (("a.service",), frozenset({Action.START}))
    assert (second.units, second.actions) == (("b.service",), frozenset({Action.STOP}))


def test_a_state_of_several_units_by_one_call_is_told() -> None:
    found = imported(switches(systemd("A", "a b")))
    assert notes(found)["'A'"][0] == "it was on with any of its units active, and is now on with all of them"
