"""Commands that stay commands do as the plugin did: the same words, by the same user, with the same pace."""

import json
import time

import pytest

from hkswitch.homebridge.commands import read
from tests.homebridge.importing import argvs, group, groups, imported, machine, notes, switch, switches

AS_SHELL = {
    "a pipe": "ping -c 2 -W 1 tv | grep -i '2 received'",
    "two commands": "tvservice -p && chvt 6",
    "a choice": "amixer mute || true",
    "a semicolon": "beep; beep",
    "the background": "nohup /opt/momo &",
    "an address with &": "curl http://lamp/?a=1&b=2",
    "a redirection": "echo 1 > /sys/led",
    "a redirection of errors": "pgrep x 2>/dev/null",
    "a substitution": "test $(cat /run/x) = 1",
    "backquotes": "kill `cat /run/x`",
    "a variable": "$HOME/x",
    "a variable in quotes": 'play "$X"',
    "a home folder": "~/on.sh",
    "a pattern": "rm /tmp/*.pid",
    "braces": "touch {a,b}",
    "an assignment": "A=1 play",
    "a builtin": "exit 1",
    "a condition": "if pgrep x; then exit 0; fi",
    "several lines": "beep\n\tbeep",
    "a negation": "! pgrep x",
    "a keyword": "if pgrep x",
    "a quote without an end": "say 'x",
    "a here-document": "cat <<X\nX",
    "a path from somewhere": "./on.sh 1",
    "a loop": "for x in 1 2 3; do beep; done",
    "arithmetic": "exit $((1 - 1))",
    "sudo within": "sudo beep; sudo beep",
}

AS_WORDS = {
    "plain": ("/opt/lamp set 80", ["/opt/lamp", "set", "80"]),
    "quotes": ("""say 'a b' "c 'd'" e\\ f ''""", ["say", "a b", "c 'd'", "e f", ""]),
    "an address": ("curl http://tv:80/key?n=24", ["curl", "http://tv:80/key?n=24"]),
    "an address in quotes": ("curl -s 'http://l/?a=1&b=2'", ["curl", "-s", "http://l/?a=1&b=2"]),
    "a continued line": ("curl \\\n  -s x", ["curl", "-s", "x"]),
    "line breaks in quotes": ("say 'a\n\tb'", ["say", "a\n\tb"]),
    "a shell with a text": ("bash -c 'exit $((2 - 1))'", ["bash", "-c", "exit $((2 - 1))"]),
    "words of YAML": ("say yes ~ '~' null '#1' '- a' 'a: b' '[x]' '{y}' '&z' '*w' '!v' '|' '%' '@'", None),
    "backslashes": ("say 'a\\b' '\"' '\\\\n'", ["say", "a\\b", '"', "\\\\n"]),
    "a tilde within": ("say a~b", ["say", "a~b"]),
    "an assignment later": ("env A=1 play", ["env", "A=1", "play"]),
}

USERS = {
    "without sudo": ("beep on", "homebridge", ["beep", "on"]),
    "with sudo": ("sudo beep on", "", ["beep", "on"]),
    "sudo's options": ("/usr/bin/sudo -nEH -- beep on", "", ["beep", "on"]),
    "a shell as root": ("sudo sh -c 'a | b'", "", ["sh", "-c", "a | b"]),
    "another user": ("sudo -u jo beep on", "jo", ["beep", "on"]),
    "another user, long": ("sudo --user=jo beep", "jo", ["beep"]),
    "another user, together": ("sudo -nu jo beep", "jo", ["beep"]),
    "a login": ("sudo -iu jo beep on", "homebridge", ["sudo", "-iu", "jo", "beep", "on"]),
    "a group": ("sudo -g audio beep", "homebridge", ["sudo", "-g", "audio", "beep"]),
    "an environment": ("sudo X=1 beep", "homebridge", ["sudo", "X=1", "beep"]),
    "a number": ("sudo -u '#1000' beep", "homebridge", ["sudo", "-u", "#1000", "beep"]),
    "sudo alone": ("sudo -n", "homebridge", ["sudo", "-n"]),
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in AS_SHELL.items()])
def test_what_needs_a_shell_gets_one_with_the_text_unchanged(text: str) -> None:
    found = group(switches(switch("A", text, "true")))
    assert argvs(found)["start"] == ["/bin/sh", "-c", text]
    assert found.user == "homebridge"
    assert found.detach


@pytest.mark.parametrize(("text", "words"), [pytest.param(*row, id=name) for name, row in AS_WORDS.items()])
def test_what_needs_no_shell_gets_none(text: str, words: list[str] | None) -> None:
    found = argvs(group(switches(switch("A", text, "true"))))["start"]
    if words is None:
        assert found == ["/bin/sh", "-c", text]
    else:
        assert found == words


@pytest.mark.parametrize(
    ("text", "user", "words"), [pytest.param(*row, id=name) for name, row in USERS.items()]
)
def test_a_command_runs_as_the_user_that_ran_it(text: str, user: str, words: list[str]) -> None:
    found = group(switches(switch("A", text, text)))
    assert (found.user, argvs(found)["start"]) == (user, words)


def test_users_that_differ_are_in_the_commands() -> None:
    found = group(switches(switch("A", "sudo beep on", "beep off | cat", "sudo -u jo beep")))
    assert found.user == ""
    assert argvs(found) == {
        "start": ["beep", "on"],
        "stop": ["/usr/sbin/runuser", "-u", "homebridge", "--", "/bin/sh", "-c", "beep off | cat"],
        "status": ["/usr/sbin/runuser", "-u", "jo", "--", "beep"],
    }


def test_a_homebridge_of_root_needs_no_user() -> None:
    found = group(switches(switch("A", "beep on", "sudo beep off", "sudo beep | cat")), user="root")
    assert found.user == ""
    assert argvs(found) == {
        "start": ["beep", "on"],
        "stop": ["beep", "off"],
        "status": ["/bin/sh", "-c", "sudo beep | cat"],
    }
    assert "sudo" not in "".join(
        notes(imported(switches(switch("A", "sudo a | b", "b")), user="root"))["'A'"]
    )


def test_a_homebridge_of_root_runs_what_others_can_write() -> None:
    found = imported(switches(switch("A", "/home/jo/a | b", "c")), user="root")
    assert notes(found)["'A'"][0] == (
        f"'/home/jo/a' runs or is used as root, and users other than root can write it; {COPY}"
    )


SHAPES = {
    "on and off": (("on", "off", None), {"assume_state": True}, ["start", "stop"]),
    "on alone": (("on", None, None), {"momentary": True}, ["start"]),
    "off alone": ((None, "off", None), {"momentary": True}, ["stop"]),
    "on and a state": (("on", None, "state"), {"interval_seconds": 60}, ["start", "status"]),
    "off and a state": ((None, "off", "state"), {"interval_seconds": 60}, ["stop", "status"]),
    "an empty off": (("on", " \t", ""), {"momentary": True}, ["start"]),
    "all": (("on", "off", "state"), {"interval_seconds": 60}, ["start", "stop", "status"]),
}


@pytest.mark.parametrize(
    ("commands", "keys", "names"), [pytest.param(*row, id=name) for name, row in SHAPES.items()]
)
def test_a_group_has_the_commands_that_the_switch_had(
    commands: tuple[str | None, ...], keys: dict[str, object], names: list[str]
) -> None:
    found = group(switches(switch("A", *commands)))
    assert [*argvs(found)] == names
    assert {key: getattr(found, key) for key in keys} == keys
    assert (found.assume_state, found.momentary) == (
        bool(keys.get("assume_state")),
        bool(keys.get("momentary")),
    )
    assert sorted(found.actions) == sorted(name for name in names if name != "status")


PACES = {
    "polling": ({"polling": True, "interval": 7}, 7, 10),
    "no polling": ({"polling": False, "interval": 7}, 60, 10),
    "polling as text": ({"polling": "true", "interval": 7}, 60, 10),
    "polling as often as by default": ({"polling": True}, 1, 10),
    "an interval as text": ({"polling": True, "interval": "10s"}, 10, 10),
    "an interval that is none": ({"polling": True, "interval": -3}, 1, 10),
    "a huge interval": ({"polling": True, "interval": 10**9}, 86400, 10),
    "a number that JavaScript writes with an exponent": ({"polling": True, "interval": 10**30}, 1, 10),
    "seconds": ({"timeout": 4}, 60, 4),
    "almost a thousand seconds": ({"timeout": 999}, 60, 999),
    "milliseconds": ({"timeout": 1000}, 60, 1),
    "rounded up": ({"timeout": "2500"}, 60, 3),
    "a huge timeout": ({"timeout": 10**9}, 60, 3600),
    "a timeout that is none": ({"timeout": [1]}, 60, 10),
    "a timeout of zero": ({"timeout": 0}, 60, 10),
    "a boolean": ({"timeout": True}, 60, 10),
}


@pytest.mark.parametrize(
    ("keys", "interval", "timeout"), [pytest.param(*row, id=name) for name, row in PACES.items()]
)
def test_intervals_and_timeouts_stay(keys: dict[str, object], interval: int, timeout: int) -> None:
    found = group(switches(switch("A", "on", "off", "state", **keys)))
    assert (found.interval_seconds, found.timeout_seconds) == (interval, timeout)


CONSTANT = [
    "true",
    "/bin/false",
    "echo on",
    "printf 1",
    ":",
    "exit 2",
    "x; exit 1",
    "x; echo on",
    "gpio -g read 4",
]
NOT_CONSTANT = [
    "x",
    "x; y",
    "x && true",
    "x || false",
    "if x; then exit 0; fi; exit 1",
    "echo 1 | grep 1",
    "x | echo",
    "x && true || true",
    "gpio",
    "x; [ $? = 2 ]",
]


@pytest.mark.parametrize("state", [*CONSTANT, *NOT_CONSTANT])
def test_a_state_that_never_changes_is_told(state: str) -> None:
    said = "; ".join(notes(imported(switches(switch("A", "on", "off", state))))["'A'"])
    assert ("always gives the same state" in said) == (state in CONSTANT)


COPY = "use a root-owned copy in /usr/local/libexec"
NOTES = {
    "sudo within": (
        switch("A", "sudo a; b", "c"),
        "it calls sudo itself: keep the sudo rule of the user homebridge",
    ),
    "sudo in a shell": (
        switch("A", "bash -c 'sudo a'", "c"),
        "it calls sudo itself: keep the sudo rule of the user homebridge",
    ),
    "off alone": (switch("A", None, "a"), "it had only an off_cmd: it rests at On, and runs it at Off"),
    "a program of others": (
        switch("A", "sudo /home/jo/a", "sudo /opt/b"),
        f"'/home/jo/a' stays denied as long as users other than root can write it; {COPY}",
    ),
    "a script of others": (
        switch("A", "sudo python3 /home/jo/a.py", "sudo /opt/b"),
        f"'/home/jo/a.py' runs as root, and users other than root can write it; {COPY}",
    ),
    "a program of others for a shell": (
        switch("A", "sudo bash /home/jo/on", "sudo /opt/b"),
        f"'/home/jo/on' runs or is used as root, and users other than root can write it; {COPY}",
    ),
    "a script of others in a text": (
        switch("A", "sudo sh -c '/home/jo/x.sh on;b'", "sudo /opt/b"),
        f"'/home/jo/x.sh' runs as root, and users other than root can write it; {COPY}",
    ),
    "a program of others in a text": (
        switch("A", """sudo sh -c 'a;"/tmp/x" on'""", "sudo /opt/b"),
        f"'/tmp/x' runs or is used as root, and users other than root can write it; {COPY}",
    ),
    "a program of others in a substitution": (
        switch("A", "sudo sh -c 'a $(/var/tmp/x)'", "sudo /opt/b"),
        f"'/var/tmp/x' runs or is used as root, and users other than root can write it; {COPY}",
    ),
    "a program of others in an option": (
        switch("A", "sudo a --run=/home/jo/on", "sudo /opt/b"),
        f"'/home/jo/on' runs or is used as root, and users other than root can write it; {COPY}",
    ),
    "a dimmer": (switch("A", "a", "b", dim_cmd="c %s"), "key 'dim_cmd' has no counterpart"),
    "a key that is misspelt": (switch("A", "a", "b", pooling=True), "key 'pooling' is unknown, and ignored"),
    "a name": (switch("A", "a", "b", model=1), "key 'model' has no counterpart"),
    "a relative path": (
        switch("A", "python3 a.py", "b"),
        "'python3 a.py' has a relative path, from the folder that Homebridge ran in; write the absolute one",
    ),
}
NO_NOTES = {
    "a program of one's own": switch("A", "/home/jo/a", "python3 /home/jo/b.py"),
    "sudo elsewhere": switch("A", "ssh pc sudo a", "ssh pc 'sudo b; c'"),
    "sudo in a message": switch("A", "echo use sudo here | wall", "b"),
    "empty keys": switch("A", "a", "b", manufacturer="", model=None),
    "a program of root": switch("A", "sudo /usr/local/bin/a", "sudo /opt/b"),
    "an address": switch("A", "curl http://pc/a.php", "b"),
    "an address for root": switch("A", "sudo curl http://pc/home/a.php", "sudo sh -c 'wget pc/home/b; c'"),
    "files of root": switch("A", "sudo cat /srv/home/x /homes/x", "sudo sh -c '/opt/home/b;/opt/tmp/c'"),
    "others' programs for a shell": switch("A", "bash /home/jo/on", "sh -c '/home/jo/x.sh on;b'"),
}


@pytest.mark.parametrize(("item", "note"), [pytest.param(*row, id=name) for name, row in NOTES.items()])
def test_what_is_different_now_is_told(item: object, note: str) -> None:
    assert note in notes(imported(switches(item)))["'A'"]


@pytest.mark.parametrize("item", [pytest.param(row, id=name) for name, row in NO_NOTES.items()])
def test_what_is_as_before_needs_no_note(item: object) -> None:
    assert isinstance(item, dict)
    polled = item | {"state_cmd": "pgrep x", "polling": True}
    assert notes(imported(switches(polled)))["'A'"] == []


STATE_NOTES = {
    "assumed": (
        switch("A", "a", "b"),
        "it has no state_cmd: it shows the last action that succeeded (`assume_state`)",
    ),
    "momentary on": (
        switch("A", "a"),
        "it has one command, and no state_cmd: each tap runs start (`momentary`)",
    ),
    "momentary off": (
        switch("A", None, "a"),
        "it has one command, and no state_cmd: each tap runs stop (`momentary`)",
    ),
    "start alone": (switch("A", "a", None, "c"), "it has one command: only start is allowed (`actions`)"),
    "without polling": (
        switch("A", "a", "b", "c", polling=False, interval=7),
        "it has no polling: its status now runs every 60 s",
    ),
    "a constant state": (
        switch("A", "a", "b", "exit 2"),
        (
            "its state_cmd always gives the same state; write a status that depends on the device, "
            "or use `momentary: true` with start alone"
        ),
    ),
    "other units": (
        switch("A", "systemctl start a b", "systemctl stop a"),
        "it keeps its commands: they do not all name the same units or containers",
    ),
}


@pytest.mark.parametrize(("item", "note"), STATE_NOTES.values(), ids=STATE_NOTES)
def test_how_a_group_of_commands_knows_its_state_is_told(item: object, note: str) -> None:
    assert note in notes(imported(switches(item)))["'A'"]


def test_polling_and_the_same_units_need_no_note() -> None:
    polled = notes(imported(switches(switch("A", "a", "b", "c", polling=True))))["'A'"]
    assert polled == []
    units = switch("A", "systemctl start a", "systemctl stop a")
    assert not any("it stays with" in note for note in notes(imported(switches(units)))["'A'"])


def test_a_relative_path_after_a_change_to_an_absolute_folder_needs_no_note() -> None:
    item = switch("A", "cd /opt/lamp && ./on", "cd '/opt/lamp' && ./off")
    found = imported(switches(item), folder="/var/lib/homebridge")
    assert "relative" not in found.text
    assert groups(found)[0].directory == ""


def test_a_group_with_the_folder_of_homebridges_service_needs_no_absolute_path() -> None:
    found = imported(switches(switch("A", "python3 a.py", "/opt/b")), folder="/var/lib/homebridge")
    ran_in = "from the folder that Homebridge ran in; see `directory`"
    assert f"'python3 a.py' has a relative path, {ran_in}" in notes(found)["'A'"]
    assert "write the absolute one" not in found.text


@pytest.mark.parametrize("script", ["/opt/units", "/home/jo/units.sh"])
@pytest.mark.parametrize("shell", ["", "bash "])
def test_a_script_of_ones_own_that_was_not_read_can_be_named(shell: str, script: str) -> None:
    found = imported(switches(switch("A", f"sudo {shell}{script} on", f"sudo {shell}{script} off")))
    remedy = f"was not read; if it starts and stops units or containers, add `--wrapper {script}`"
    assert f"'{script}' {remedy}" in notes(found)["'A'"]


@pytest.mark.parametrize(
    ("on", "off"),
    [
        ("/opt/units on", "/opt/units off"),  # no root
        ("sudo /opt/on", "sudo /opt/off"),
        ("sudo virsh start a", "sudo virsh stop a"),
        ("sudo /opt/units on", None),
        ("sudo /usr/local/bin/serviceswitch start x", "sudo /usr/local/bin/serviceswitch stop x"),
    ],
)
def test_other_programs_are_no_scripts_for_units(on: str, off: str | None) -> None:
    assert "--wrapper" not in imported(switches(switch("A", on, off))).text


def test_a_relative_path_is_one_in_the_folder_of_homebridges_service() -> None:
    config = switches(switch("A", "python3 a.py", "./b"))
    assert group(config, folder="/var/lib/homebridge").directory == "/var/lib/homebridge"
    assert group(config).directory == ""
    assert (
        group(switches(switch("A", "sudo python3 a.py", "sudo b")), folder="/var/lib/homebridge").directory
        == ""
    )
    assert group(switches(switch("A", "/opt/a", "b")), folder="/var/lib/homebridge").directory == ""


def test_other_plugins_that_are_read() -> None:
    config = {
        "accessories": [
            {
                "accessory": "cmdSwitch",
                "name": "Old",
                "on_cmd": "a",
                "off_cmd": "b",
                "state_cmd": "c",
                "keyword": "on",
            },
            {"accessory": "CmdSwitch2", "name": "New", "on_cmd": "a", "off_cmd": "b", "timeout": 7000},
            {
                "accessory": "Script2",
                "name": "Flag",
                "on": "~/on.sh",
                "off": "/x/off.sh",
                "fileState": "/run/it's on",
                "state": "x",
            },
        ],
        "platforms": [{"platform": "cmdSwitch", "switches": [{"name": "Oldest", "on_cmd": "a"}]}],
    }
    found = imported(json.dumps(config))
    assert [(each.name, argvs(each)) for each in groups(found)] == [
        ("Old", {"start": ["a"], "stop": ["b"], "status": ["c"]}),
        ("New", {"start": ["a"], "stop": ["b"]}),
        (
            "Flag",
            {
                "start": ["/bin/sh", "-c", "~/on.sh"],
                "stop": ["/x/off.sh"],
                "status": ["test", "-f", "/run/it's on"],
            },
        ),
        ("Oldest", {"start": ["a"]}),
    ]
    said = notes(found)
    assert "any output of its state_cmd meant On; hkswitch takes exit status 0 for On" in said["'Old'"]
    assert "key 'keyword' has no counterpart" in said["'Old'"]
    polled = "it has no polling: its status now runs every 60 s"
    assert said["'Flag'"] == ["key 'state' has no counterpart", polled]


HOSTILE = {
    "blank lines": ("a; ", " \n", "x"),
    "sudo again and again": ("", "sudo ", "x"),
    "substitutions without an end": ("", "$(", ""),
    "subshells": ("", "(", ""),
}


@pytest.mark.parametrize(
    ("before", "again", "after"), [pytest.param(*row, id=name) for name, row in HOSTILE.items()]
)
def test_a_long_command_takes_no_time(before: str, again: str, after: str) -> None:
    started = time.process_time()
    assert read(before + again * (400_000 // len(again)) + after, machine({})).why
    assert time.process_time() - started < 1
