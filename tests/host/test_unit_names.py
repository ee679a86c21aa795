"""Unit names: systemd and the configuration must accept the same ones."""

import json
from itertools import product
from typing import Any, Final

import pytest

from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError
from tests.host.machine import Host

TYPES: Final = (
    *("service", "socket", "target", "timer", "path", "mount", "automount", "swap", "slice"),
    *("device", "scope"),
)
UNSTARTABLE: Final = {"device", "scope"}
STEMS: Final = (
    *("plain", "a-b", "a.b", "a:b_c", "a.", "-", "--", "-a", "a-", "a--b", "-a-b", "A9"),
    *("x@y", "x@y-z", "x@y@z", "x@", "@y", "@", "x@@", "x y", "x/y", "ä", "x*", "x\ny", ""),
    *(".", "..", "...", ".a", "..a", "a-.b", "a-.", "a-..", "a-.-b", "a-..-b", "a-..b"),
    *(r"a\x2db", r"a\x2Db", r"\x2ea", r"a\xzz", r"a\b", "\\", "a\\"),
)
NAMES: Final = (
    *(f"{stem}.{kind}" for stem, kind in product(STEMS, TYPES)),
    *("u" * (length - len(kind) - 1) + f".{kind}" for length, kind in product((255, 256), TYPES)),
)

LIST: Final = """
import json, subprocess, sys

call = ["busctl", "--json=short", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1"]
call += ["org.freedesktop.systemd1.Manager", "ListUnitsByNames", "--", "as", "1"]
for name in json.load(sys.stdin):
    done = subprocess.run([*call, name], capture_output=True, text=True)
    rows = json.loads(done.stdout)["data"][0] if done.returncode == 0 else []
    print(json.dumps([row[2] for row in rows]))
"""
"""Asks systemd about units one by one, as a single invalid name makes the whole call fail."""


WRITE: Final = """
import json, pathlib, sys

for name in json.load(sys.stdin):
    pathlib.Path("/run/systemd/system", name).write_text("[Mount]\\nWhat=tmpfs\\nType=tmpfs\\n")
"""
"""Writes a file for each unit; systemd ignores sections of other unit types."""


def load_states(host: Host, names: tuple[str, ...]) -> dict[str, str]:
    """Return the load state of each unit, without those that systemd refuses."""
    printed = host.run("python3", "-c", LIST, input=json.dumps(names), timeout_seconds=120).stdout
    answers: list[Any] = [json.loads(line) for line in printed.splitlines()]
    return {name: "".join(states) for name, states in zip(names, answers, strict=True)}


def refusal(name: str) -> str:
    """Return the error for a configuration with this unit, with its place; nothing if it is valid."""
    text = json.dumps({"groups": {"web": {"units": [name]}}}, ensure_ascii=False)
    try:
        [unit] = parse(text.encode(), "config.yaml").groups[0].units
    except ConfigError as error:
        return str(error)
    assert unit == name
    return ""


def test_systemd_lists_exactly_the_names_that_the_configuration_accepts(host: Host) -> None:
    states = load_states(host, NAMES)
    refused = {name: error for name in NAMES if (error := refusal(name))}
    taken = {name: state for name, state in states.items() if name not in refused}
    assert set(taken.values()) == {"not-found", "loaded"}
    listed = {name for name, state in states.items() if state not in {"", "error"}}
    assert {name for name in taken if name not in listed} == set()
    assert {error.partition("units[0]: ")[0] for error in refused.values()} == {
        "config.yaml:1:31: groups.web."
    }
    assert len(taken) > 100
    assert len(refused) > 100


@pytest.mark.parametrize("kind", ["mount", "automount", "slice"])
def test_exactly_the_names_that_the_configuration_accepts_can_be_loaded_from_a_file(
    host: Host, kind: str
) -> None:
    """Tests unit types with special names: the name of a mount unit, for one, is its path."""
    states = load_states(host, tuple(name for name in NAMES if name.endswith(f".{kind}")))
    names = tuple(name for name, state in states.items() if state)
    try:
        host.run("python3", "-c", WRITE, input=json.dumps(names))
        host.run("systemctl", "daemon-reload")
        states = load_states(host, names)
    finally:
        host.run("find", "/run/systemd/system", "-name", f"*.{kind}", "-delete")
        host.run("systemctl", "daemon-reload")
    assert {name for name, state in states.items() if state == "loaded"} == {
        name for name in names if not refusal(name)
    }
