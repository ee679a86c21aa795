"""A configuration with mistakes: one run of `hkswitch check` lists all that can be found in it."""

import pytest

from hkswitch.model.config import parse
from hkswitch.model.errors import ConfigError

BAD_NAME = "is not a name, because of"
HIDDEN = "the invisible character U+202E is not allowed"

FOUND: dict[str, tuple[str, list[str]]] = {
    "two names": (
        "groups:\n  a: {name: A-a, units: [x]}\n  b: {name: B_b, units: [y]}\n",
        [f"2:13: groups.a.name: 'A-a' {BAD_NAME} '-'", f"3:13: groups.b.name: 'B_b' {BAD_NAME} '_'"],
    ),
    "two names with invisible characters": (
        "groups:\n  a: {name: A\u202ea, units: [x]}\n  b: {name: B\u202eb, units: [y]}\n",
        [f"2:14: {HIDDEN}", f"3:14: {HIDDEN}"],
    ),
    "one of each, and a key": (
        "groups:\n  a: {name: A\u202ea, units: [x]}\n  b: {name: B_b, units: [y], typ: fan}\n",
        [f"2:14: {HIDDEN}", f"3:13: groups.b.name: 'B_b' {BAD_NAME}", "3:30: groups.b.typ: unknown key"],
    ),
    "several in one value": (
        "groups:\n  a: {name: \u202eA\u202ea, units: [x, x]}\n",
        [f"2:13: {HIDDEN}", f"2:15: {HIDDEN}", "2:30: groups.a.units[1]: 'x.service' is already listed"],
    ),
    "an invisible character in a key": (
        "groups:\n  a: {na\u202eme: A, units: [x, x]}\n",
        [f"2:9: {HIDDEN}", "2:28: groups.a.units[1]: 'x.service' is already listed"],
    ),
    "one in an id, whose group nobody can name": (
        "groups:\n  a\u202e: {units: [x], typ: fan}\n  b: {units: [y], typ: fan}\n",
        [f"2:4: {HIDDEN}", "3:19: groups.b.typ: unknown key"],
    ),
    "one in a number": (
        "bridge: {port: 1\u202e2}\ngroups: {a: {units: [a.device]}}\n",
        [f"1:17: {HIDDEN}", "2:22: groups.a"],
    ),
    "one in a comment": (
        "# \u202e\ngroups: {a: {units: [a.device]}}\n",
        [f"1:3: {HIDDEN}", "2:22: groups.a"],
    ),
    "a mark of byte order": (
        "\ufeffbridge: {port: 1}\ngroups: {a: {units: [a.device]}}\n",
        ["1:1: the invisible character U+FEFF", "2:22: groups.a"],
    ),
    "many": (
        "# " + "\u202e" * 200 + "\ngroups: {a: {units: []}}\n",
        [HIDDEN] * 100 + ["2:21: groups.a.units"],
    ),
    "one before bad syntax": ("a: \u202e\nb: [\n", [f"1:4: {HIDDEN}", "not valid YAML"]),
    "two keys before bad syntax": (
        "a: 1\na: 2\na: 3\nb: [\n",
        ["2:1: a: duplicate key", "3:1: a: duplicate key", "not valid YAML"],
    ),
    "tabs, which hide what is below what": (
        "groups:\n\ta: {name: A-a}\n\tb: {name: B_b}\n",
        ["2:1: a tab is not allowed", "3:1: a tab is not allowed"],
    ),
    "line ends, which do so too": (
        "groups:\r  a: {name: A-a}\u2028",
        ["1:8: the invisible character U+000D", "1:25: the invisible character U+2028"],
    ),
}


@pytest.mark.parametrize("case", FOUND)
def test_all_mistakes_are_listed_in_the_files_order_and_each_once(case: str) -> None:
    text, expected = FOUND[case]
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "c.yaml")
    found = str(caught.value).splitlines()
    assert len(found) == len(expected), found
    assert all(words in line for words, line in zip(expected, found, strict=True)), found
    assert [*caught.value.problems] == sorted(caught.value.problems)


STAND_IN = "\ue000"


@pytest.mark.parametrize(
    "text",
    [
        f"groups: {{a: {{units: [x], name: '{STAND_IN}'}}}}",
        'groups: {a: {units: [x], name: "\\ue000"}}',
        'groups: {a: {units: ["\\ue000"]}}',
        'groups: {"\\ue000": {units: [x]}}',
        'groups: {a: {units: [x], check: [/bin/a, "\\ue000"]}}',
        'groups: {a: {units: [x], "\\ue000": 1}}',
        'bridge: {interface: "\\ue000"}\ngroups: {a: {units: [x]}}',
        'helper: "\\ue000"\ngroups: {a: {units: [x]}}',
    ],
)
def test_what_stands_for_an_invisible_character_is_never_passed_over(text: str) -> None:
    """A value that was passed over without a word would be a default that nobody asked for."""
    with pytest.raises(ConfigError):
        parse(text.encode(), "c.yaml")
