"""A Homebridge config that cannot be read, or has nothing in it: one sentence, and an exit code."""

import json

import pytest

from hkswitch.homebridge import jsonc
from hkswitch.model.errors import Exit, Failure
from tests.homebridge.importing import SPARE, imported, switch, switches, systemd

THERE = "; the error is here or just before"
NONE = "config.json: no switch could be imported\nconfig.json"
OURS = '{"platform": "cmdSwitch2", "switches": %s}'

REFUSED = {
    "empty": ("", f"config.json:1:1: not valid JSON: Expecting value{THERE}"),
    "a missing quote": (
        '{\n  "platforms: []\n}',
        f"config.json:2:3: not valid JSON: Unterminated string starting at{THERE}",
    ),
    "a missing comma": (
        '{\n  "a": 1 // one\n  "b": 2}',
        f"config.json:3:3: not valid JSON: Expecting ',' delimiter{THERE}",
    ),
    "single quotes": (
        "{'platforms': []}",
        f"config.json:1:2: not valid JSON: Expecting property name enclosed in double quotes{THERE}",
    ),
    "two commas": (
        '{"a": [1, ,]}',
        f"config.json:1:11: not valid JSON: Expecting value{THERE}",
    ),
    "two commas at the end of an object": (
        '{"a": 1,,}',
        f"config.json:1:9: not valid JSON: Expecting property name enclosed in double quotes{THERE}",
    ),
    "nothing but a comma": ("[,]", f"config.json:1:2: not valid JSON: Expecting value{THERE}"),
    "a comma in place of a value": ('{"a":,}', f"config.json:1:6: not valid JSON: Expecting value{THERE}"),
    "YAML": (
        "platforms:\n- platform: cmdSwitch2\n",
        f"config.json:1:1: not valid JSON: Expecting value{THERE}",
    ),
    "something after the end": (
        "{}\n{}",
        f"config.json:2:1: not valid JSON: Extra data{THERE}",
    ),
    "a comment without an end": (
        '{\n "a": 1 /* one }',
        "config.json:2:9: unterminated comment; close it with */",
    ),
    "a comment that only begins": ("{} /*/", "config.json:1:4: unterminated comment; close it with */"),
    "Latin-1": (b'{\n  "\xe9": 1}', "config.json:2:4: this is not UTF-8; save the file as UTF-8"),
    "UTF-16": ("{}".encode("utf-16"), "config.json:1:1: this is not UTF-8; save the file as UTF-8"),
    "too large": (
        b" " * (jsonc.MOST_CONFIG_BYTES + 1),
        "config.json: the file is too large; the limit is 1048576 bytes",
    ),
    "too deep": ("[" * 200_000, "config.json: nested too deeply; is this a Homebridge config?"),
    "a list": ("[]", f"{NONE}: it has no platforms and no accessories"),
    "no platforms": ('{"bridge": {}, "accessories": []}', f"{NONE}: it has no platforms and no accessories"),
    "platforms that are no list": (
        '{"platforms": {"platform": "cmdSwitch2"}}',
        f"{NONE}: it has no platforms and no accessories",
    ),
    "other platforms": (
        '{"platforms": [{"platform": "config"}, {"platform": "Hue\\u0007"}, {"platform": 1}, 2]}',
        (
            f"{NONE}: not imported: the platform 'Hue\\x07'"
            "\nconfig.json: not imported: the platform without a type"
            "\nconfig.json: not imported: the accessory without a type"
        ),
    ),
    "no switches": (
        '{"platforms": [{"platform": "cmdSwitch2", "name": "x"}]}',
        f"{NONE}: a cmdSwitch platform has no switches",
    ),
    "switches that are text": (OURS % '"all"', f"{NONE}: a cmdSwitch platform has no switches"),
    "too many switches": (
        OURS % json.dumps([{}] * 1001),
        "config.json: it has 1001 switches; the limit is 1000",
    ),
}


@pytest.mark.parametrize(
    ("config", "sentence"), [pytest.param(*row, id=name) for name, row in REFUSED.items()]
)
def test_what_cannot_be_read_is_one_sentence(config: str | bytes, sentence: str) -> None:
    with pytest.raises(Failure) as caught:
        imported(config)
    assert str(caught.value) == sentence
    assert caught.value.exit_code is Exit.CONFIG


def test_what_makes_more_than_hkswitch_reads_is_refused() -> None:
    items = [switch(str(number), *["http://" + "b" * 260] * 3) for number in range(990)]
    config = switches(SPARE, *items)
    assert len(config) < jsonc.MOST_CONFIG_BYTES
    with pytest.raises(Failure) as caught:
        imported(config)
    assert str(caught.value) == (
        "config.json: the result is not a valid configuration: the file is too large;"
        " at most 1048576 bytes are allowed"
    )
    assert caught.value.exit_code is Exit.CONFIG


@pytest.mark.parametrize(
    "number",
    ["1" * 5000, "-1e999", "NaN", "Infinity", '"' + "9" * 5000 + '"', "[[[]]]", "{}", '"5 s"', '" 5"', "5.5"],
)
def test_any_number_is_read_somehow(number: str) -> None:
    config = switches(systemd("A", "a")).replace(
        '"name": "A"', f'"name": "A", "interval": {number}, "timeout": {number}'
    )
    assert len(imported(config).origins) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": "// no /* comment */", "b": ",]"}', {"a": "// no /* comment */", "b": ",]"}),
        ('{"a": "\\" // \\\\", /* "x" */ "b": 1}', {"a": '" // \\', "b": 1}),
        ("[1, 2 /* 3 */ // 4\n ,]", [1, 2]),
        ("[1, // }\n]", [1]),
        ('{"a": {"b": [],},}', {"a": {"b": []}}),
        ("[1 /**/ /***/ // */\n]", [1]),
        ('["tab\there"]', ["tab\there"]),
        ('{"a": 1, "a": 2}', {"a": 2}),
    ],
)
def test_comments_and_trailing_commas_are_passed_over(text: str, value: object) -> None:
    assert jsonc.read(text.encode(), "config.json") == value
