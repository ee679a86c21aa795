"""Whatever is in a Homebridge config: the result is a config of hkswitch, or the reasons why not."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from hkswitch.homebridge import Imported, NothingImported
from hkswitch.homebridge.commands import read
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from tests.homebridge.importing import SPARE, WRAPPER, groups, imported, machine, switch, switches

EXAMPLES, LONGER = 25, 80
"""How many are drawn for each test, and how many times more there are with --long."""

MOST_SECONDS = 20
"""For any config: the largest takes a few seconds on a slow machine."""

ANY_TEXT = st.text(st.characters(), max_size=80)
PIECES = st.sampled_from(
    [
        *(
            "systemctl ",
            "sudo ",
            "sudo -u jo ",
            "start ",
            "stop ",
            "is-active ",
            "true ",
            "serviceswitch ",
            "web ",
        ),
        *(
            "fileserver ",
            "sh -c ",
            "exit ",
            "echo ",
            "http://",
            "|",
            ";",
            "&&",
            "||",
            "'",
            '"',
            "\\",
            "$",
            "$(",
            ")",
        ),
        *(
            "(",
            "{ ",
            "} ",
            "#",
            "&",
            "\n",
            "\t",
            "\r",
            "\0",
            "*",
            "~",
            "a",
            "x.socket",
            "-",
            "--",
            "=",
            "/",
            "[ ",
            "!",
        ),
        *(
            "if ",
            "then ",
            "fi ",
            "case ",
            "esac ",
            "in ",
            ";;",
            ": ",
            "- ",
            "%",
            "@",
            "`",
            "\ud800",
            "\u202e",
            "\ufeff",
        ),
    ]
)
COMMANDS = st.one_of(
    st.none(),
    ANY_TEXT,
    st.lists(PIECES, max_size=12).map("".join),
    st.builds("true {!r}".format, ANY_TEXT),
    st.builds("systemctl {} {}".format, st.sampled_from(["start", "stop", "restart"]), st.sampled_from("ab")),
)
NAMES = st.one_of(
    ANY_TEXT,
    st.sampled_from(
        ["TV", "tv", "Restart TV", "yes", "null", "1", "Web", "a: b", "- a", "\ud800", "\0", "a\nb: c"]
    ),
    st.none(),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), ANY_TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(ANY_TEXT, inner, max_size=3)),
    max_leaves=5,
)
SWITCHES = st.one_of(
    st.fixed_dictionaries(
        {"name": NAMES, "on_cmd": COMMANDS, "off_cmd": COMMANDS, "state_cmd": COMMANDS},
        optional={"polling": st.booleans(), "interval": VALUES, "timeout": VALUES, "dim_cmd": VALUES},
    ),
    st.dictionaries(ANY_TEXT, VALUES, max_size=3),
    VALUES,
)
BLOCKS = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"platform": st.sampled_from(["cmdSwitch", "Cmd4", "x\0"])},
        optional={"switches": st.lists(SWITCHES, max_size=2), "name": VALUES},
    ),
    st.fixed_dictionaries(
        {"accessory": st.sampled_from(["cmdSwitch", "CmdSwitch2", "Script2", "SSH"]), "name": NAMES},
        optional={
            **dict.fromkeys(("on_cmd", "off_cmd", "state_cmd", "on", "off", "state"), COMMANDS),
            "fileState": st.one_of(ANY_TEXT, VALUES),
        },
    ),
)
USERS = st.sampled_from(["homebridge", "root", "pi"])


@pytest.fixture(scope="module", autouse=True)
def hypothesis_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    set_hypothesis_home_dir(tmp_path_factory.mktemp("hypothesis"))


def drawn(*, long: bool) -> settings:
    return settings(
        max_examples=EXAMPLES * (LONGER if long else 1),
        derandomize=not long,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(config: bytes, wrapper: bytes | None = WRAPPER, user: str = "homebridge") -> Imported | Failure:
    try:
        return imported(config, wrapper, user)
    except Failure as failure:
        return failure


def is_written_safely(group: Group) -> bool:
    argvs = (group.commands.start, group.commands.stop, group.commands.status) if group.commands else ()
    return all(char.isprintable() or char in "\n\t" for argv in argvs for word in argv for char in word)


def is_printable(text: str) -> bool:
    return all(char.isprintable() or char in "\n\u200c\u200d" for char in text)


def test_whatever_the_switches_are_the_result_is_a_config(long: bool) -> None:
    outcomes: set[bool] = set()

    @drawn(long=long)
    @given(st.lists(SWITCHES, min_size=1, max_size=6), st.sampled_from([None, WRAPPER]), USERS)
    def check(items: list[object], wrapper: bytes | None, user: str) -> None:
        found = outcome(switches(*items).encode(), wrapper, user)
        outcomes.add(isinstance(found, Imported))
        if isinstance(found, Failure):
            assert isinstance(found, NothingImported)
            assert len(str(found).splitlines()) >= 1 + len(items)
            assert is_printable(str(found))
            return
        assert len(found.origins) + len(found.left) == len(items)
        assert all(is_written_safely(group) for group in groups(found))
        assert is_printable(found.text + found.summary)

    check()
    assert outcomes == {False, True}


def test_whatever_else_is_in_the_config_is_named(long: bool) -> None:
    @drawn(long=long)
    @given(st.lists(BLOCKS, max_size=4), st.lists(BLOCKS, max_size=4))
    def check(accessories: list[object], platforms: list[object]) -> None:
        config = json.loads(switches(SPARE))
        config["accessories"] += accessories
        config["platforms"] += platforms
        found = outcome(json.dumps(config).encode())
        assert isinstance(found, Imported)
        assert is_printable(found.text + found.summary)
        assert all(note in found.summary for note in found.notes)

    check()


def test_whatever_the_file_is_there_is_a_sentence(long: bool) -> None:
    good = switches({"name": "A", "on_cmd": "systemctl start a", "off_cmd": "systemctl stop a"}).encode()
    pieces = st.sampled_from(
        [b"\xef\xbb\xbf", b"//", b"/*", b"*/", b",", b'"', b"\\ud800", b"\0", b"1" * 5000, b"[" * 2000]
    )

    @drawn(long=long)
    @given(
        st.integers(0, len(good)),
        st.integers(0, 20),
        st.one_of(st.binary(max_size=8), VALUES.map(as_json), pieces),
    )
    def check(at: int, cut: int, put: bytes) -> None:
        found = outcome(good[:at] + put + good[at + cut :])
        if isinstance(found, Failure):
            assert str(found).startswith("config.json:")
            assert is_printable(str(found))

    check()


def test_whatever_a_script_is_it_is_read(long: bool) -> None:
    commands = {"on_cmd": "serviceswitch start web", "off_cmd": "serviceswitch stop web"}
    config = switches({"name": "A", **commands}).encode()

    @drawn(long=long)
    @given(st.integers(0, len(WRAPPER)), st.integers(0, 20), st.one_of(st.binary(max_size=8), ANY_PIECES))
    def check(at: int, cut: int, put: bytes) -> None:
        found = outcome(config, WRAPPER[:at] + put + WRAPPER[at + cut :])
        assert isinstance(found, Imported)
        assert len(found.origins) == 1

    check()


def test_words_are_those_of_a_quoted_command(long: bool) -> None:
    words = st.lists(
        st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])), min_size=1, max_size=4
    )

    @drawn(long=long)
    @given(words)
    def check(expected: list[str]) -> None:
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in ["/x", *expected])
        found = read(quoted, machine({}))
        assert found.argv == ("/x", *expected) or (found.why and not "".join(expected).isprintable())

    check()


HOSTILE = {
    "braces": "{ " * 1000,
    "subshells": "(a;" * 1000,
    "substitutions": "$(" * 1000,
    "substitutions in quotes": '"$(' * 1000,
    "backquotes": "`" * 1001,
    "ifs": "if " * 1000,
    "negations": "! " * 1000,
    "cases": "case x in x) " * 1000,
    "shells in shells": "sh -c " * 600,
    "choices": "true" + " || true" * 1300,
    "ways": "systemctl start a || true;" * 150,
    "functions": "f() { f; f; }; f",
    "doubling": 'f() { f "$@" "$@"; }; f a b',
    "arguments": 'f() { f "$@" "$@$@$@$@"; }; f ""',
    "a long name": "a" * 4000,
    "globs": "case " + "a" * 2000 + " in " + "*a" * 500 + "b) ;; esac",
    "an expression": "[[ " + "a" * 2000 + " =~ ^[a-z@a]+$ ]]",
    "digits": "exit " + "9" * 4000,
    "shifts": "shift " + "9" * 4000,
    "a parameter": "echo $" + "9" * 4000 + "; x ${" + "9" * 4000 + "}",
    "blanks": " \\\n" * 1300,
    "redirections": "a " + "2>&1 " * 800,
    "YAML": "a: &b [*c, {d: \"e\", f: |\n g}] # 'h' %TAG !!python/object",
}


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in HOSTILE.items()])
def test_a_hostile_command_takes_a_moment(text: str) -> None:
    began = time.monotonic()
    for command in (text, text[:4000], f"sh -c '{text[:4000]}'", f"serviceswitch '{text[:4000]}'"):
        script = f"#!/bin/bash\n{text}\n".encode()
        found = outcome(switches(SPARE, switch("A", command, command, command)).encode(), script)
        assert isinstance(found, Imported)
    assert time.monotonic() - began < MOST_SECONDS


@pytest.mark.parametrize("user", ["homebridge", "root"])
def test_the_largest_config_takes_a_moment(user: str) -> None:
    text = "systemctl start a || true;" * 9
    items = [switch(f"S{number}", *[text + f" # {number}"] * 3) for number in range(1000)]
    began = time.monotonic()
    found = outcome(switches(*items).encode(), user=user)
    assert isinstance(found, Imported)
    assert time.monotonic() - began < MOST_SECONDS * 3


ANY_PIECES = st.lists(PIECES, max_size=3).map(lambda pieces: "".join(pieces).encode(errors="replace"))


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()
