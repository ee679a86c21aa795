"""What cannot be taken over is never guessed at: it becomes a comment, and is told."""

import pytest

from hkswitch.homebridge import NothingImported
from hkswitch.model.errors import Exit
from tests.homebridge.importing import (
    SCRIPTS,
    SPARE,
    SPARE_GROUP,
    groups,
    imported,
    left,
    of_units,
    switch,
    switches,
    systemd,
)

NO_STATE = "it has no state_cmd; add a 'status' command that exits with 0 for on and with 1 to 125 for off"
BOTH = "a group of commands needs both, because hkswitch has no momentary switches"


def shell(kind: str, why: str) -> str:
    return f"its {kind} needs a shell: {why}"


LEFT = {
    "a pipe": (
        switch("TV", "true", "true", "ping -c 2 -W 1 tv | grep -i '2 received'"),
        shell("state_cmd", "a pipe, '|'"),
    ),
    "two commands": (switch("TV", "tvservice -p && sudo chvt 6", "true", "true"), shell("on_cmd", "'&&'")),
    "a semicolon": (switch("TV", "true", "true; true", "true"), shell("off_cmd", "';'")),
    "the background": (
        switch("Momo", "nohup /home/pi/momo &", "killall momo", "ps h -C momo"),
        shell("on_cmd", "a command in the background, '&'"),
    ),
    "an address with &": (
        switch("Lamp", "curl http://lamp/?a=1&b=2", "true", "true"),
        shell("on_cmd", "a command in the background, '&'"),
    ),
    "a redirection": (switch("LED", "echo 1 > /sys/led", "true", "true"), shell("on_cmd", "'>'")),
    "a redirection of errors": (
        switch("LED", "true", "true", "pgrep x 2>/dev/null"),
        shell("state_cmd", "'2>'"),
    ),
    "a substitution": (
        switch("Cool", "true", "true", "test $(cat /run/x) = 1"),
        shell("state_cmd", "'$('"),
    ),
    "backticks": (switch("Cool", "true `cat /run/x`", "true", "true"), shell("on_cmd", "'`'")),
    "a variable": (switch("Cool", "true $HOME/x", "true", "true"), shell("on_cmd", "the variable '$HOME'")),
    "a variable in quotes": (
        switch("Cool", 'true "$X"', "true", "true"),
        shell("on_cmd", "the variable '$X'"),
    ),
    "a home folder": (switch("Cool", "~/on.sh", "true", "true"), shell("on_cmd", "a home folder, '~'")),
    "a pattern": (switch("Cool", "true /tmp/*.pid", "true", "true"), shell("on_cmd", "the pattern '*'")),
    "braces": (switch("Cool", "true {a,b}", "true", "true"), shell("on_cmd", "the pattern '{'")),
    "an assignment": (switch("Cool", "A=1 true", "true", "true"), shell("on_cmd", "an assignment, 'A='")),
    "a shell": (
        switch("Cool", "true", "true", "bash -c 'exit $((1 - $(/home/pi/cooling.sh Get)))'"),
        shell("state_cmd", "'bash -c'"),
    ),
    "a shell of root": (switch("Cool", "sudo sh -c 'true'", "true", "true"), shell("on_cmd", "'sh -c'")),
    "a shell with other options": (
        switch("Cool", "/opt/bin/zsh -x -lc true", "bash --norc x -c", "true"),
        shell("on_cmd", "'zsh -c'"),
    ),
    "a builtin": (
        switch("Loud", "true", "exit 1", "true"),
        shell("off_cmd", "the shell builtin or keyword 'exit'"),
    ),
    "a condition": (
        switch("Loud", "true", "true", "if true; then true; fi"),
        shell("state_cmd", "';'"),
    ),
    "several lines": (switch("Loud", "true\ntrue", "true", "true"), shell("on_cmd", "a second line")),
    "a quote without an end": (
        switch("Loud", "true 'x", "true", "true"),
        shell("on_cmd", "an unterminated quote"),
    ),
    "a here-document": (
        switch("Loud", "cat <<X\nX", "true", "true"),
        shell("on_cmd", "a here-document, '<<'"),
    ),
    "a program that is not there": (
        switch("PS4", "ps4-waker", "true", "true"),
        "its on_cmd needs 'ps4-waker', which is not on this machine",
    ),
    "a program by a path from somewhere": (
        switch("PS4", "./on.sh", "true", "true"),
        (
            "its on_cmd is invalid: './on.sh' is not the path of a program; write its absolute path,"
            " like /usr/bin/docker, without '//', '.' and '..'"
        ),
    ),
    "an invisible character": (
        switch("PS4", "true 'a\u200bb'", "true", "true"),
        "its on_cmd is invalid: 'a\\u200bb' has an invisible character; remove it",
    ),
    "a word that is too long": (
        switch("PS4", "true " + "x" * 5000, "true", "true"),
        "its on_cmd has an argument of more than 4096 characters",
    ),
    "too many words": (
        switch("PS4", "true" + " x" * 128, "true", "true"),
        "hkswitch rejects it: start: has 129 items; at most 128 are allowed",
    ),
    "macOS": (
        switch("Mary", "/bin/launchctl kickstart gui/501/x", "pmset displaysleepnow", "true"),
        "its on_cmd is for macOS: 'launchctl'; its off_cmd is for macOS: 'pmset'",
    ),
    "Windows": (
        switch("Game", "C:\\Games\\x.exe", "taskkill.exe /im x.exe", "powershell Get-Process x"),
        "its on_cmd is for Windows; its off_cmd is for Windows; its state_cmd is for Windows",
    ),
    "a user's units": (
        switch("Radio", "systemctl --user start radio", "systemctl --user stop radio", "true"),
        (
            "its on_cmd is for user units, and hkswitch only switches system units;"
            " its off_cmd is for user units, and hkswitch only switches system units"
        ),
    ),
    "sudo alone": (switch("Root", "sudo -n", "true", "true"), "its on_cmd names no program"),
    "no state": (switch("Docker", "docker start x", "docker stop x"), NO_STATE),
    "only on": (switch("Bell", "true"), f"it has no off_cmd; {BOTH}; {NO_STATE}"),
    "only off": (switch("Bell", None, "true", "true"), f"it has no on_cmd; {BOTH}"),
    "only a state": (
        switch("Door", None, "", "true"),
        "it switches nothing: it has neither an on_cmd nor an off_cmd",
    ),
    "nothing": (
        switch("Door"),
        f"it switches nothing: it has neither an on_cmd nor an off_cmd; {NO_STATE}",
    ),
    "a restart with an off": (
        switch("Web", "systemctl restart web", "true", "false | true"),
        shell("state_cmd", "a pipe, '|'"),
    ),
    "more units than a group has": (
        systemd("Many", " ".join(f"u{number}" for number in range(129))),
        "hkswitch rejects it: units: has 129 items; at most 128 are allowed",
    ),
    "a light": (
        switch("Lamp", "true", "true", "true", dim_cmd="dim"),
        "it is a dimmable light, and hkswitch only has on and off",
    ),
    "a command that is a list": (switch("Odd", ["true"], "true", "true"), "its on_cmd is not a string"),
    "a switch that is text": ("on", "it is not an object with a name and commands"),
    "a switch that is null": (None, "it is not an object with a name and commands"),
}


@pytest.mark.parametrize(("item", "why"), [pytest.param(*row, id=name) for name, row in LEFT.items()])
def test_what_cannot_be_taken_over_is_left_and_said(item: object, why: str) -> None:
    found = imported(switches(item, SPARE))
    assert [each.why for each in found.left] == [why]
    assert groups(found) == (SPARE_GROUP,)
    assert found.count == "Imported 1 of 2 switches."
    assert found.scripts == ()


@pytest.mark.parametrize("item", [pytest.param(row[0], id=name) for name, row in LEFT.items()])
def test_what_is_left_alone_is_a_failure_that_says_why(item: object) -> None:
    with pytest.raises(NothingImported) as caught:
        imported(switches(item))
    assert caught.value.exit_code is Exit.CONFIG
    assert str(caught.value).startswith("config.json: no switch could be imported: ")
    assert str(caught.value).isprintable()
    assert caught.value.imported.count == "Imported 0 of 1 switch."


def test_a_long_list_of_reasons_is_cut() -> None:
    with pytest.raises(NothingImported, match=r"'0': .*; '4': .*; and 3 more$"):
        imported(switches(*(switch(str(number), "a | b") for number in range(8))))


def test_what_is_left_stays_in_its_place_with_its_commands() -> None:
    found = imported(
        switches(SPARE, switch("TV", "cec on | sh", "true -q", "a\tb;c"), systemd("Web", "httpd"))
    )
    assert (
        found.text
        == """\
# Generated by `hkswitch import-homebridge` from config.json: Imported 2 of 3 switches.
# Review every group before you use it.
#
# Not imported:
#   'TV'

groups:
  # 'Spare': units from: systemctl start spare
  spare:
    name: Spare
    units: [spare]

  # 'TV' is not imported:
  #   its on_cmd needs a shell: a pipe, '|'
  #   its state_cmd needs a shell: ';'
  #   on_cmd: cec on | sh
  #   off_cmd: true -q
  #   state_cmd: a\\tb;c
  # tv:
  #   name: TV
  #   commands:
  #     start: []  # a program by its absolute path, and its arguments
  #     stop: [/usr/bin/true, "-q"]
  #     status: []  # a program by its absolute path, and its arguments

  # 'Web': units from: systemctl start httpd
  web:
    name: Web
    units: [httpd]
"""
    )


def test_what_needs_a_shell_becomes_a_script_on_request() -> None:
    config = switches(SPARE, switch("TV\n", "echo on | cec", "true", "true;\ttrue\nfalse"))
    found = imported(config, scripts=SCRIPTS)
    head = "It will run as root: read it, and fix it where necessary, before you use it."
    assert [(script.name, script.text) for script in found.scripts] == [
        ("tv-start", f"#!/bin/sh\n# 'TV\\n', on_cmd, of config.json\n# {head}\necho on | cec\n"),
        ("tv-status", f"#!/bin/sh\n# 'TV\\n', state_cmd, of config.json\n# {head}\ntrue;\ttrue\nfalse\n"),
    ]
    assert groups(found) == (SPARE_GROUP,)
    assert "  #     start: [/usr/local/libexec/hkswitch/tv-start]\n" in found.text
    assert "  #     stop: [/usr/bin/true]\n" in found.text


@pytest.mark.parametrize("command", ["a | b\0", "a | \ud800", "a | \u202e"])
def test_what_cannot_be_read_becomes_no_script(command: str) -> None:
    assert imported(switches(SPARE, switch("TV", command)), scripts=SCRIPTS).scripts == ()


def test_nothing_that_was_written_uncomments_itself() -> None:
    name = "x\n  evil:\n    units: [evil]\u2028  evil2: {units: [a]}"
    found = imported(switches(SPARE, switch(name, name, f"{name} | x", f"'{name}")), scripts=SCRIPTS)
    assert groups(found) == (SPARE_GROUP,)


def test_no_more_accessories_than_homekit_allows() -> None:
    found = imported(switches(*(systemd(f"S{number}", f"s{number}") for number in range(160))))
    assert len(groups(found)) == 149
    assert set(left(found)) == {f"S{number}" for number in range(149, 160)}
    assert set(left(found).values()) == {"HomeKit allows at most 149 accessories per bridge"}
    assert "  # s149:\n  #   name: S149\n  #   units: [s149]\n" in found.text


def test_a_restart_switch_needs_room_too() -> None:
    singles = [systemd(f"S{number}", f"s{number}") for number in range(148)]
    found = imported(switches(*singles, switch("R", "systemctl restart r"), systemd("Last", "last")))
    assert groups(found)[-1] == of_units("last", "Last", "last")
    assert set(left(found)) == {"R"}


@pytest.mark.parametrize(
    ("item", "note"),
    [
        (switch("A", "ssh a on", "true", "true"), "root now makes this connection, so root needs the key"),
        (
            switch("A", "sudo -u pi x", "true", "true"),
            "sudo is kept, because it does more than switch to root",
        ),
        (
            switch("A", "/home/pi/on", "true", "true"),
            "'/home/pi/on': any user who can write that file can become root",
        ),
        (
            switch("A", "python3 /tmp/on.py", "true", "true"),
            "'/tmp/on.py': any user who can write that file can become root",
        ),
        (switch("A", "python3 x/on.py", "true", "true"), "'x/on.py': write its absolute path"),
        (
            switch("A", "true", "true", "true"),
            "and now run as root: make sure that only root can write the programs",
        ),
        (switch("A", "systemctl start a b", "systemctl stop a b"), "The units of a group start in parallel"),
        (switch("A", "systemctl start a"), "it had one command, and still does only that"),
        (switch("A", "systemctl restart a"), "its restart switch does the same"),
    ],
)
def test_what_is_different_now_is_said(item: object, note: str) -> None:
    assert note in imported(switches(item)).text
