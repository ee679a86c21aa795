"""The table of keys: all that a key needs is its entry, and the documentation says what the table says."""

import inspect
from dataclasses import dataclass
from typing import Any

import pytest

from docs.config_reference import EXAMPLE, MANUAL, example, manual, sections
from hkswitch.model import config, config_values
from hkswitch.model.config import BridgeConfig, Config, parse
from hkswitch.model.config_keys import BRIDGE_KEYS, COMMANDS_KEYS, CONFIG_KEYS, GROUP_KEYS, HOST_KEYS
from hkswitch.model.config_reader import Entries, Key, ListOf, Section
from hkswitch.model.elsewhere import RemoteHost
from hkswitch.model.errors import ConfigError
from hkswitch.model.group import Commands, Group
from hkswitch.model.unit_state import Action

PLACE_KEYS = {"host", "group"}
"""Keys of a group from which the parser makes the field `elsewhere`."""


def test_the_example_file_is_made_from_the_table() -> None:
    assert EXAMPLE.read_text() == example(), "make reference"


def test_the_manual_page_says_of_each_key_what_the_table_says() -> None:
    assert MANUAL.read_text() == manual(MANUAL.read_text()), "make reference"


@pytest.mark.parametrize(
    ("keys", "value_class", "given_otherwise"),
    [
        pytest.param(BRIDGE_KEYS, BridgeConfig, set(), id="bridge"),
        pytest.param(GROUP_KEYS, Group, {"id", "elsewhere"}, id="group"),
        pytest.param(HOST_KEYS, RemoteHost, {"name"}, id="host"),
        pytest.param(COMMANDS_KEYS, Commands, set(), id="commands"),
        pytest.param(CONFIG_KEYS, Config, set(), id="config"),
    ],
)
def test_the_keys_of_a_section_are_the_fields_of_its_value(
    keys: tuple[Key, ...], value_class: type[Any], given_otherwise: set[str]
) -> None:
    fields = {*inspect.signature(value_class).parameters}
    assert {key.field or key.name for key in keys} - PLACE_KEYS == fields - given_otherwise


def test_a_default_of_the_table_is_that_of_the_value() -> None:
    least = parse(b"groups: {vm-guests: {units: [a.service]}}", "config.yaml")
    assert least.bridge == BridgeConfig() == BridgeConfig(**defaults(BRIDGE_KEYS))
    made_from_others = {"name": "Vm Guests", "units": ("a.service",), "actions": {Action.START, Action.STOP}}
    own_defaults = {key: value for key, value in defaults(GROUP_KEYS).items() if key not in PLACE_KEYS}
    assert least.groups == (Group("vm-guests", **{**own_defaults, **made_from_others}),)
    assert least.groups == (Group("vm-guests", "Vm Guests", ("a.service",)),)
    assert least == Config(BridgeConfig(), least.groups, defaults(CONFIG_KEYS)["helper"])
    assert least == Config(BridgeConfig(), least.groups)


def defaults(keys: tuple[Key, ...]) -> dict[str, Any]:
    return {key.field or key.name: key.default for key in keys}


EVERY_KEY = [key for _, keys in sections("", CONFIG_KEYS) for key in keys]


@pytest.mark.parametrize("key", EVERY_KEY, ids=lambda key: key.name)
def test_a_text_is_one_short_line_without_markup(key: Key) -> None:
    assert key.text.endswith(".")
    assert len(key.text) <= 105
    assert not set(key.text) & set('\\\n"`')
    assert not key.text.startswith((".", "'"))
    assert not (key.required and (key.default or key.default_text))


@pytest.mark.parametrize("keys", [BRIDGE_KEYS, COMMANDS_KEYS, GROUP_KEYS, HOST_KEYS, CONFIG_KEYS])
def test_a_key_names_only_keys_of_its_section(keys: tuple[Key, ...]) -> None:
    names = [key.name for key in keys]
    assert len(names) == len(set(names))
    for key in keys:
        assert {*key.only_with, *filter(None, [key.instead_of])} <= set(names) - {key.name}


# A key more: each of these has one entry, and a field of the group


@dataclass(frozen=True, slots=True)
class Rule:
    cpu_percent: int
    for_seconds: int = 180


@dataclass(frozen=True, slots=True)
class LaterGroup(Group):
    dim: bool = False
    colour: str = "red"
    user: str = "root"
    jobs: tuple[str, ...] = ()
    rule: Rule | None = None


DIM = Key("dim", config_values.boolean, "Whether it can be dimmed.", default=False)
COLOUR = Key("colour", config_values.interface, "The colour of its tile.", "red")
USER = Key(
    "user", config_values.interface, "The user that runs its commands.", "root", only_with=("commands",)
)
JOBS = Key("jobs", ListOf(config_values.interface), "Jobs in place of units.", instead_of="units")
RULE = Key(
    "rule",
    Section(
        (
            Key("cpu_percent", config_values.port, "The load that is too much.", required=True),
            Key("for_seconds", config_values.timeout_seconds, "For how long.", 180),
        ),
        Rule,
    ),
    "When to restart the group.",
    default=None,
    only_with=("units",),
)
LATER = (*GROUP_KEYS, DIM, COLOUR, USER, JOBS, RULE)
KEYS = tuple(
    key._replace(kind=Entries(config_values.group_id, LATER, "group")) if key.name == "groups" else key
    for key in CONFIG_KEYS
)
UNITS_MISSING = "the key 'units' is missing; it is required"
OTHERS = "or 'containers' or 'compose' or 'commands' or 'host' or 'jobs' in its place"
COMMANDS_OF_LAMP = "commands: {start: [/bin/a], stop: [/bin/b], status: [/bin/c]}"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "Group", LaterGroup)


def only_group(text: str) -> Group:
    [group] = parse(f"groups: {{lamp: {{{text}}}}}".encode(), "config.yaml", KEYS).groups
    return group


def problems(text: str, keys: tuple[Key, ...] = KEYS) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(f"groups:\n  lamp:\n    {text}\n".encode(), "config.yaml", keys)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.usefixtures("later")
def test_a_new_key_is_parsed_and_has_its_default() -> None:
    assert only_group("units: [a], colour: blue") == LaterGroup("lamp", "Lamp", ("a.service",), colour="blue")
    assert only_group(f"{COMMANDS_OF_LAMP}, user: pi") == LaterGroup(
        "lamp",
        "Lamp",
        commands=Commands(("/bin/a",), ("/bin/b",), ("/bin/c",)),
        interval_seconds=5,
        user="pi",
    )
    assert only_group("jobs: [web, db]") == LaterGroup("lamp", "Lamp", jobs=("web", "db"))
    assert only_group("units: [a], rule: {cpu_percent: 2000}") == LaterGroup(
        "lamp", "Lamp", ("a.service",), rule=Rule(2000, 180)
    )


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "units: [a]\n    dim: 1",
            "4:10: groups.lamp.dim: must be true or false",
        ),
        ("units: [a]\n    color: red", "4:5: groups.lamp.color: unknown key 'color'; did you mean 'colour'?"),
        (
            "units: [a]\n    user: pi",
            "4:11: groups.lamp.user: applies only with 'commands'; add that or remove this key",
        ),
        (
            f"{COMMANDS_OF_LAMP}\n    containers: [ab]",
            "3:15: groups.lamp.commands: cannot be combined with 'containers'; keep one of the two",
        ),
        (
            "units: [a]\n    jobs: [a]",
            "4:11: groups.lamp.jobs: cannot be combined with 'units'; keep one of the two",
        ),
        (
            "containers: [ab]\n    jobs: [a]",
            "4:11: groups.lamp.jobs: cannot be combined with 'containers'; keep one of the two",
        ),
        (
            "name: Lamp",
            f"3:5: groups.lamp: {UNITS_MISSING}, {OTHERS}",
        ),
        (
            "units: [a]\n    rule: {for_seconds: 0}",
            "4:11: groups.lamp.rule: the key 'cpu_percent' is missing; it is required",
        ),
        (
            "units: [a]\n    rule: {cpu_percents: 2000}",
            "4:12: groups.lamp.rule.cpu_percents: unknown key 'cpu_percents'; did you mean 'cpu_percent'?",
        ),
    ],
)
def test_a_mistake_in_a_new_key_is_refused_where_it_is(text: str, expected: str) -> None:
    assert expected in problems(text)


def test_a_key_without_an_entry_is_unknown() -> None:
    assert [each.partition("; ")[0] for each in problems("units: [a]\n    colour: red", CONFIG_KEYS)] == [
        "4:5: groups.lamp.colour: unknown key 'colour'"
    ]


def test_a_new_key_is_in_the_example() -> None:
    text = example(KEYS)
    assert "\n    # The colour of its tile. Default: red\n    # colour: red\n" in text
    assert "\n  #   # The user that runs its commands. Default: root\n  #   user: root\n" in text
    assert "\n    # rule:\n    #   # The load that is too much. Required\n" in text
    assert "Required, or containers, compose, commands, host or jobs in its place\n" in text


def test_a_new_key_is_in_the_manual_page() -> None:
    page = manual(MANUAL.read_text(), KEYS)
    assert "\n.It Ic colour : Ar text\nThe colour of its tile.\nDefault: red.\n" in page
    assert "\n.It Ic user : Ar text\nThe user that runs its commands.\nOnly with\n.Ic commands .\n" in page
    assert "\nor\n.Ic host\nor\n.Ic jobs\nin its place.\n" in page
    assert "\n.Sh RULE\n.Bl -tag -width Ds\n.It Ic cpu_percent : Ar number\n" in page
    assert manual(page, KEYS) == page
    assert ".It Ic colour" not in manual(page, CONFIG_KEYS)


def test_a_text_that_changes_changes_both_and_keeps_what_is_written_by_hand() -> None:
    before = MANUAL.read_text()
    keys = tuple(
        key._replace(text="How it is reached.") if key.name == "helper" else key for key in CONFIG_KEYS
    )
    page = manual(before, keys)
    assert "\nHow it is reached.\nDefault: sudo.\nWith\n.Ql sudo ,\n" in page
    assert manual(page) == before
    assert "# How it is reached. Default: sudo\n" in example(keys)
