"""Groups of commands: which commands the keys of a group require, allow and exclude."""

from collections.abc import Mapping
from typing import Final

import pytest

from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError
from hkswitch.model.group import Commands, Group
from hkswitch.model.unit_state import Action, GroupState, ProbeResult

START, STOP, STATUS, RESTART = (("/opt/tv", word) for word in ("start", "stop", "status", "restart"))
ALL: Final = {"start": START, "stop": STOP, "status": STATUS}
BOTH: Final = {"start": START, "stop": STOP}


def parsed(options: str, commands: Mapping[str, tuple[str, ...]]) -> Group:
    words = ", ".join(f"{name}: [{', '.join(argv)}]" for name, argv in commands.items())
    config = f"groups:\n  tv:\n    commands: {{{words}}}\n"
    lines = "".join(f"    {line}\n" for line in options.split("\n") if line)
    return parse((config + lines).encode(), "c").groups[0]


@pytest.mark.parametrize(
    ("options", "commands", "actions"),
    [
        ("", ALL, {Action.START, Action.STOP}),
        ("actions: [start]", {"start": START, "status": STATUS}, {Action.START}),
        ("actions: [stop]", {"stop": STOP, "status": STATUS}, {Action.STOP}),
        ("actions: [restart]", {"restart": RESTART, "status": STATUS}, {Action.RESTART}),
        ("assume_state: true", BOTH, {Action.START, Action.STOP}),
        ("assume_state: false", ALL, {Action.START, Action.STOP}),
        ("momentary: true", {"start": START}, {Action.START}),
        ("momentary: true", {"stop": STOP}, {Action.STOP}),
        ("momentary: true\nassume_state: false", {"stop": STOP}, {Action.STOP}),
        ("momentary: true\nactions: [start]", {"start": START}, {Action.START}),
        ("momentary: false", ALL, {Action.START, Action.STOP}),
        ("user: pi", ALL, {Action.START, Action.STOP}),
        ("user: www-data\ndirectory: /srv/www data\ndetach: true", ALL, {Action.START, Action.STOP}),
    ],
)
def test_a_group_has_the_commands_that_its_actions_need(
    options: str, commands: Mapping[str, tuple[str, ...]], actions: set[Action]
) -> None:
    group = parsed(options, commands)
    assert group.commands == Commands(**commands)
    assert group.actions == actions


STATUS_IS_MISSING = (
    "3:15: groups.tv.commands: the key 'status' is missing; "
    "it is required unless assume_state or momentary is set"
)
NO_COMMAND = (
    "3:15: groups.tv.commands: the key 'start' or 'stop' is missing; a momentary group has one of them"
)


@pytest.mark.parametrize(
    ("options", "commands", "problem"),
    [
        ("", BOTH, STATUS_IS_MISSING),
        ("actions: [start]", {"start": START}, STATUS_IS_MISSING),
        (
            "actions: [stop]",
            {"start": START, "status": STATUS},
            "3:15: groups.tv.commands: the key 'stop' is missing; it is required",
        ),
        (
            "assume_state: true",
            {"start": START},
            "3:15: groups.tv.commands: the key 'stop' is missing; it is required",
        ),
        (
            "assume_state: true",
            ALL,
            (
                "3:15: groups.tv.commands: has 'status', which does not apply with 'assume_state'; "
                "remove one of the two"
            ),
        ),
        (
            "assume_state: true",
            BOTH | {"restart": RESTART},
            (
                "3:15: groups.tv.commands: has 'restart', which does not apply with 'assume_state'; "
                "remove one of the two"
            ),
        ),
        (
            "assume_state: true\ninterval_seconds: 9",
            BOTH,
            "5:23: groups.tv.interval_seconds: does not apply with 'assume_state'; remove it",
        ),
        (
            "momentary: true",
            BOTH,
            ("3:15: groups.tv.commands: has both 'start' and 'stop'; a momentary group has only one of them"),
        ),
        ("momentary: true", {}, NO_COMMAND),
        ("momentary: true\nactions: [start]", {}, NO_COMMAND),
        (
            "momentary: true",
            {"start": START, "status": STATUS},
            (
                "3:15: groups.tv.commands: has 'status', which does not apply with 'momentary'; "
                "remove one of the two"
            ),
        ),
        (
            "momentary: true\nassume_state: true",
            {"start": START},
            "4:16: groups.tv.momentary: cannot be combined with 'assume_state'; keep one of the two",
        ),
        (
            "momentary: true\nactions: [stop]",
            {"start": START},
            "5:14: groups.tv.actions: can list only 'start', the command of a momentary group",
        ),
        (
            "momentary: true\nrestart: true",
            {"start": START},
            "5:14: groups.tv.restart: does not apply with 'momentary'; remove one of the two",
        ),
        (
            "momentary: true\nactions: [start]\nrestart: true",
            {"start": START},
            "6:14: groups.tv.restart: does not apply with 'momentary'; remove one of the two",
        ),
        (
            "momentary: true\nactions: [start, restart]",
            {"start": START},
            "5:14: groups.tv.actions: can list only 'start', the command of a momentary group",
        ),
        (
            "assume_state: true\nrestart: true",
            BOTH,
            "5:14: groups.tv.restart: does not apply with 'assume_state'; remove one of the two",
        ),
        (
            "assume_state: true\nactions: [start, restart]",
            {"start": START},
            (
                "5:14: groups.tv.actions: lists 'restart', which does not apply with 'assume_state'; "
                "remove one of the two"
            ),
        ),
        (
            "directory: /srv",
            ALL,
            (
                "4:16: groups.tv.directory: applies only with 'user'; "
                "add that if the group has commands, or remove this key"
            ),
        ),
        (
            "user: pi\ndirectory: srv",
            ALL,
            (
                "5:16: groups.tv.directory: 'srv' is not the absolute path of a directory, "
                "without '//', '.' and '..'"
            ),
        ),
        (
            "user: 1000",
            ALL,
            '4:11: groups.tv.user: must be text; put it in quotes: "1000"',
        ),
        *(
            (
                f"user: {name}",
                ALL,
                (
                    f"4:11: groups.tv.user: {name} is not a user name; "
                    "at most 31 letters, digits and '_', '.', '-' are allowed, with a letter or '_' first"
                ),
            )
            for name in ("'1000'", "'-u'", "'a b'", "'a:b'", "''", "'ö'")
        ),
        (
            "user: hkswitch",
            ALL,
            "4:11: groups.tv.user: 'hkswitch' is the daemon's own user, which must not run anything else",
        ),
        ("detach: yes", ALL, "4:13: groups.tv.detach: must be true or false; write true, in lower case"),
    ],
)
def test_a_group_has_no_other_commands_and_no_contradictions(
    options: str, commands: Mapping[str, tuple[str, ...]], problem: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(options, commands)
    assert f"c:{problem}" in str(refused.value).split(" and without quotes")[0]
    assert "add 'restart'" not in str(refused.value)  # no remedy leads to another error


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("strat", "start"),
        ("statrt", "start"),
        ("state", "status"),
        ("stat", "status"),
        ("statsu", "status"),
        ("stopp", "stop"),
    ],
)
def test_a_misspelt_command_is_one_mistake(written: str, meant: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed("", {written if name == meant else name: argv for name, argv in ALL.items()})
    [problem] = refused.value.problems
    assert problem.message == f"unknown key '{written}'; did you mean '{meant}'?"


@pytest.mark.parametrize("options", ["", "assume_state: true", "momentary: true"])
def test_a_group_with_an_empty_mapping_of_commands_lacks_them(options: str) -> None:
    lines = "".join(f"    {line}\n" for line in options.split("\n") if line)
    with pytest.raises(ConfigError, match=r"the key 'start'.* is missing"):
        parse(f"groups:\n  tv:\n    commands:\n{lines}".encode(), "c")


def test_the_directory_of_a_group_of_units_has_no_remedy_that_leads_to_another_error() -> None:
    with pytest.raises(ConfigError, match="add that if the group has commands, or remove this key"):
        parse(b"groups: {web: {units: [a], directory: /srv}}", "c")


@pytest.mark.parametrize("key", ["user: pi", "directory: /srv", "detach: true", "momentary: true"])
def test_a_group_of_units_has_none_of_these_keys(key: str) -> None:
    with pytest.raises(ConfigError, match="applies only with"):
        parse(f"groups: {{web: {{units: [a], {key}}}}}".encode(), "c")


@pytest.mark.parametrize(
    ("user", "programs"),
    [("", ("/opt/tv",) * 3), ("root", ("/opt/tv",) * 3), ("pi", ()), ("toor", ())],
)
def test_the_programs_that_root_runs_are_those_of_groups_without_another_user(
    user: str, programs: tuple[str, ...]
) -> None:
    assert Group("tv", "TV", commands=Commands(**ALL), user=user).programs == programs


def test_each_option_that_root_acts_on_changes_the_token() -> None:
    groups = [
        parsed(options, commands)
        for options, commands in (
            ("", ALL),
            ("user: pi", ALL),
            ("user: pi\ndirectory: /srv", ALL),
            ("user: other", ALL),
            ("detach: true", ALL),
            ("assume_state: true", BOTH),
            ("momentary: true", {"start": START}),
        )
    ]
    assert len({group.token for group in groups}) == len(groups)


def test_a_group_without_such_options_has_the_token_of_earlier_versions() -> None:
    assert Group("web", "Web", ("httpd.service",)).token == "89f67b61ff7ea6c1b50e40b86486ed59"


@pytest.mark.parametrize("result", [None, *ProbeResult])
def test_a_momentary_group_is_always_in_its_resting_state(result: ProbeResult | None) -> None:
    starts, stops = Commands(start=START), Commands(stop=STOP)
    assert Group("a", "A", commands=starts, momentary=True).state({}, result) is GroupState.OFF
    assert Group("a", "A", commands=stops, momentary=True).state({}, result) is GroupState.ON
