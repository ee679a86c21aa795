"""Whatever is in a Homebridge config, a config of hkswitch comes of it, or a sentence that says why not."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from hkswitch.homebridge import Imported, NothingImported, shellwords
from hkswitch.model.errors import Failure
from hkswitch.model.group import Group
from tests.homebridge.importing import SCRIPTS, WRAPPER, groups, imported, switches

EXAMPLES, LONGER = 25, 80
"""How many are drawn for each test, and how many times more there are with --long."""

ANY_TEXT = st.text(st.characters(), max_size=80)
PIECES = st.sampled_from(
    [
        "systemctl ",
        "sudo ",
        "start ",
        "stop ",
        "is-active ",
        "true ",
        "serviceswitch ",
        "web ",
        "fileserver ",
        "|",
        ";",
        "'",
        '"',
        "\\",
        "$",
        "$(",
        ")",
        "#",
        "&",
        "\n",
        "\t",
        "*",
        "~",
        "a",
        "x.socket",
        "-",
        "--",
        "=",
        "/",
    ]
)
COMMANDS = st.one_of(
    st.none(),
    ANY_TEXT,
    st.lists(PIECES, max_size=8).map("".join),
    st.builds("true {!r}".format, ANY_TEXT),
    st.builds("systemctl {} {}".format, st.sampled_from(["start", "stop", "restart"]), st.sampled_from("ab")),
)
NAMES = st.one_of(ANY_TEXT, st.sampled_from(["TV", "tv", "Restart TV", "yes", "null", "1", "Web"]), st.none())
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
    VALUES,
)


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


def outcome(config: bytes, wrapper: bytes | None = WRAPPER) -> Imported | Failure:
    try:
        return imported(config, wrapper, SCRIPTS)
    except Failure as failure:
        return failure


def one_line_each(group: Group) -> bool:
    argvs = (group.commands.start, group.commands.stop, group.commands.status) if group.commands else ()
    return all(word.isprintable() for argv in argvs for word in argv)


def test_whatever_the_switches_are_the_config_is_one(long: bool) -> None:
    outcomes: set[bool] = set()

    @drawn(long=long)
    @given(st.lists(SWITCHES, min_size=1, max_size=6), st.sampled_from([None, WRAPPER]))
    def check(items: list[object], wrapper: bytes | None) -> None:
        found = outcome(switches(*items).encode(), wrapper)
        outcomes.add(isinstance(found, Imported))
        if isinstance(found, Failure):
            assert isinstance(found, NothingImported)
            assert str(found).isprintable()
            return
        assert found.taken + len(found.left) == len(items)
        assert all(one_line_each(group) for group in groups(found))
        assert all(char.isprintable() or char == "\n" for char in found.text + found.summary)
        assert len({script.name for script in found.scripts}) == len(found.scripts)
        assert all(script.text.encode() for script in found.scripts)

    check()
    assert outcomes == {False, True}


def test_whatever_the_file_is_there_is_a_sentence(long: bool) -> None:
    good = switches({"name": "A", "on_cmd": "systemctl start a", "off_cmd": "systemctl stop a"}).encode()

    @drawn(long=long)
    @given(
        st.integers(0, len(good)), st.integers(0, 20), st.one_of(st.binary(max_size=8), VALUES.map(as_json))
    )
    def check(at: int, cut: int, put: bytes) -> None:
        found = outcome(good[:at] + put + good[at + cut :])
        if isinstance(found, Failure):
            assert str(found).startswith("config.json:")
            assert str(found).isprintable()

    check()


def test_whatever_a_wrapper_is_it_is_read(long: bool) -> None:
    commands = {"on_cmd": "serviceswitch start web", "off_cmd": "serviceswitch stop web"}
    config = switches({"name": "A", **commands}).encode()

    @drawn(long=long)
    @given(st.integers(0, len(WRAPPER)), st.integers(0, 20), st.one_of(st.binary(max_size=8), ANY_PIECES))
    def check(at: int, cut: int, put: bytes) -> None:
        found = outcome(config, WRAPPER[:at] + put + WRAPPER[at + cut :])
        if isinstance(found, Imported):
            assert found.taken == 1

    check()


def test_words_are_what_a_quoted_command_says(long: bool) -> None:
    words = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=1, max_size=4)

    @drawn(long=long)
    @given(words)
    def check(expected: list[str]) -> None:
        quoted = " ".join("'" + word.replace("'", "'\\''") + "'" for word in ["x", *expected])
        assert shellwords.split(quoted) == ("x", *expected)

    check()


ANY_PIECES = st.lists(PIECES, max_size=3).map(lambda pieces: "".join(pieces).encode())


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()
