"""Configurations as users have them, each with the expected result of its import (cases/EXPECTED.yaml)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hkswitch.homebridge import Imported, NothingImported, convert
from hkswitch.homebridge.commands import read
from hkswitch.model.config import parse
from hkswitch.model.errors import Failure
from hkswitch.model.group import TIMEOUT_SECONDS, Group
from tests.homebridge.importing import argvs, machine, services

FOLDER = Path(__file__).parent / "cases"
EXPECTED = yaml.safe_load((FOLDER / "EXPECTED.yaml").read_text())
CASES: dict[str, Any] = EXPECTED["cases"]

NOTES = {
    "name-changed": "renamed from",
    "duplicate-name": "switch has the same name",
    "key:X": "key 'X' has no counterpart",
    "unknown-key:X": "key 'X' is unknown",
    "not-imported:X": "not imported: the (?:platform|accessory) 'X'",
    "sudo-inside": "calls sudo itself",
    "constant-status": "always gives the same state",
    "only-off": "only an off_cmd",
    "nothing-to-switch": "switches nothing",
    "no-program": "is no program",
    "units-differ": "not the same units",
    "never-guessed": "is never guessed at",
    "json": "not valid JSON",
    "others-may-write": "users other than root can write it",
    "status-finds-itself": "finds itself",
}


def keywords(text: str) -> set[str]:
    """The keywords of all notes in a text."""
    return set(_keywords(text))


def _keywords(text: str) -> Iterator[str]:
    for keyword, pattern in NOTES.items():
        for found in re.finditer(pattern.replace("'X'", "'([^']+)'"), text):
            yield keyword.replace("X", found[1]) if found.groups() else keyword


def outcome(name: str) -> Imported | Failure:
    case = CASES[name]
    wrapper = case.get("wrapper")
    scripts = {wrapper["at"]: (FOLDER / wrapper["file"]).read_bytes()} if wrapper else {}
    try:
        return convert((FOLDER / f"{name}.json").read_bytes(), "config.json", machine(scripts))
    except Failure as failure:
        return failure


def sections(text: str) -> list[str]:
    """The part of the file about each switch: its comments, and its group."""
    return re.split(r"\n(?=  # '[^']*'(?: is not imported:)?\n)", text)[1:]


SWITCHES = [
    pytest.param(name, index, id=f"{name}-{switch['switch']}-{index}")
    for name, case in CASES.items()
    for index, switch in enumerate(case["switches"])
    if case.get("result") != "refused"
]


@pytest.mark.parametrize(("name", "index"), SWITCHES)
def test_a_switch_becomes_what_its_commands_are(name: str, index: int) -> None:
    expected = CASES[name]["switches"][index]
    found = outcome(name)
    imported = found.imported if isinstance(found, NothingImported) else found
    assert isinstance(imported, Imported)
    section = sections(imported.text)[index]
    assert section.startswith(f"  # '{expected['switch']}'")
    said = keywords(section)
    wanted = set(expected["notes"])
    assert wanted <= said <= wanted | {*expected.get("may_note", ())}
    if expected["kind"] == "left":
        assert section.splitlines()[0].endswith(" is not imported:")
        return
    group = group_in(section)
    assert group.id == expected.get("id", group.id)
    assert as_expected(group, expected) == expected


def group_in(section: str) -> Group:
    (group,) = parse(f"groups:\n{section}".encode(), "config.yaml").groups
    return group


def as_expected(group: Group, expected: dict[str, Any]) -> dict[str, Any]:
    """The group in the form of EXPECTED.yaml."""
    found: dict[str, Any] = {
        key: expected[key] for key in ("switch", "notes", "may_note", "id") if key in expected
    }
    found |= {"name": group.name, "kind": "commands" if group.commands else "units"}
    if group.timeout_seconds != TIMEOUT_SECONDS or "timeout_seconds" in expected:
        found["timeout_seconds"] = group.timeout_seconds
    if group.commands is None:
        assert services(expected["units"]) == group.units
        return found | {"units": expected["units"]}
    assert group.detach
    found["commands"] = argvs(group)
    for action, argv in found["commands"].items():  # a program in /usr/bin stands for its name
        for word in argv:
            assert not word.startswith("/usr/bin/"), action
    found |= {key: True for key in ("assume_state", "momentary") if getattr(group, key)}
    if group.user:
        found["user"] = group.user
    if group.commands.status:
        found["interval_seconds"] = group.interval_seconds
    if not group.momentary and len(group.actions) == 1:
        found["actions"] = sorted(group.actions)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_one_that_hkswitch_reads_or_it_is_refused_with_every_reason(name: str) -> None:
    case = CASES[name]
    found = outcome(name)
    expected = [switch for switch in case["switches"] if switch["kind"] != "left"]
    if isinstance(found, Imported):
        groups = parse(found.text.encode(), "config.yaml").groups
        assert len(groups) == len(expected) == len(found.origins)
        told = "\n".join(found.notes)
    else:
        assert not expected
        told = str(found)
        assert found.exit_code == 78
        assert all(f"'{switch['switch']}'" in told for switch in case["switches"]) or case.get("lines")
        assert not case.get("lines") or int(told.split(":")[1]) in case["lines"]
    assert {*case.get("file_notes", ())} <= keywords(told)


CALLS = [
    pytest.param(name, call, id=f"{name}-{'-'.join(call['arguments'])}")
    for name, wrapper in EXPECTED["wrappers"].items()
    for call in wrapper["calls"]
]


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_a_call_of_a_wrapper_is_what_the_wrapper_does(name: str, call: dict[str, Any]) -> None:
    path = EXPECTED["wrappers"][name]["at"]
    words = [f"'{word}'" if " " in word else word for word in call["arguments"]]
    command = read(f"sudo {path} {' '.join(words)}", machine({path: (FOLDER / name).read_bytes()}))
    assert command.argv == (path, *call["arguments"])
    assert command.user == "root"
    effect = command.effect
    assert effect.is_constant == ("constant" in call) or call["arguments"][0] != "status"
    units = call.get("units") or call.get("also", {}).get("units")
    if effect.call or "units" in call:
        assert effect.call is not None
        assert effect.call.verb == call["arguments"][0]
        assert effect.call.members == services(units)
