"""What the Home app takes for a name, in any script."""

import pytest

from hkswitch.homebridge.names import name_of
from hkswitch.model.config import parse
from hkswitch.model.errors import Failure

GOOD = [
    *("a", "7", "File Server", "Bob's 2nd NAS", "x  y", "O'' k", "n" * 64),
    *("Дом", "家", "בית", "بيت", "घर", "दिल्ली", "ประตู", "Nhà", "Œuvre", "٣", "²"),
    "q\u0323\u0307",  # a letter that no single character is
    *("می\u200cشود", "نمی\u200cشود 2", "نُم\u200cتر", "مُ\u200cم"),  # joiners that spelling needs, UAX #31
    *("ශ්\u200dරී ලංකා", "क्\u200cष", "क्\u200dष", "র\u200d্যাক"),
]

BAD = [
    *("", " ", "'", "-", "'a", "a'", " a", "a ", "-Lab", "Lab-", "a-b", "a.b", "a_b", "_a", "!", "..."),
    *(
        "🏠",
        "Home 🏠",
        "❤\ufe0f",
        "1\ufe0f\u20e3",
        "a\ufe0f",
        "A\u2019s",
        "a\u200db",
        "a\u202eb",
    ),
    *("a\u200cb", "\u200cم", "م\u200c", "م\u200c\u200cم", "م\u200c م", "م\u200ca", "a\u200cم"),
    *("م\u200dم", "ශ\u200dරී", "ශ්\u200d", "ශ්\u200d රී", "ශ්\u200d\u200dරී", "\u200dර", "दि\u200cल्ली"),
    *("👩\u200d🚀", "م\u200bم", "م\u200fم", "م\u2060م", "م\ufeffم"),
    *("\u0301", "\u0301a", " \u0301", "a \u0301b", "a'\u0301", "n" * 65),
]


def config(name: str) -> bytes:
    quoted = name.replace("'", "''")
    return f"bridge: {{name: '{quoted}'}}\ngroups: {{web: {{name: '{quoted}', units: [httpd]}}}}\n".encode()


@pytest.mark.parametrize("name", GOOD)
def test_a_name_in_any_script_is_taken(name: str) -> None:
    parsed = parse(config(name), "config.yaml")
    assert parsed.bridge.name == parsed.groups[0].name == name


@pytest.mark.parametrize("name", BAD)
def test_what_home_does_not_take_is_no_name(name: str) -> None:
    with pytest.raises(Failure, match=r"is not a name|not allowed here|must not be empty|invisible"):
        parse(config(name), "config.yaml")


@pytest.mark.parametrize(
    ("written", "name"), [("Cafe\u0301", "Café"), ("\u1112\u1161\u11ab", "한"), ("Café", "Café")]
)
def test_a_name_is_the_same_however_its_letters_are_written(written: str, name: str) -> None:
    parsed = parse(config(written), "config.yaml")
    assert parsed.groups[0].name == name


@pytest.mark.parametrize("name", GOOD)
def test_the_importer_leaves_a_name_alone(name: str) -> None:
    assert name_of(name) == " ".join(name.split())


@pytest.mark.parametrize("name", BAD)
def test_the_importer_makes_a_name_of_anything(name: str) -> None:
    made = name_of(name)
    assert parse(config(made), "config.yaml").bridge.name == made


REFUSED_BY = [
    ("A\u2019s", "'\u2019' (U+2019)"),
    ("File-Server", "'-' (U+002D)"),
    ("a_b.c", "'_' (U+005F)"),
    ("Home 🏠", "'🏠' (U+1F3E0)"),
    ("a\u200db", "'\\u200d' (U+200D)"),
    ("می\u200cشود\u200c", "'\\u200c' (U+200C)"),
    ("❤\ufe0f", "'❤' (U+2764)"),
    ("a\ufe0f", "'\ufe0f' (U+FE0F)"),
    ("n" * 65, ""),
    (" a", ""),
    ("a'", ""),
    ("\u0301a", ""),
]


@pytest.mark.parametrize(("name", "because"), REFUSED_BY)
def test_a_refusal_says_which_character_is_not_allowed(name: str, because: str) -> None:
    with pytest.raises(Failure) as caught:
        parse(config(name), "config.yaml")
    first = str(caught.value).splitlines()[0]
    assert (" is not a name, because of " in first) == bool(because)
    assert f" is not a name{because and ', because of '}{because}; at most 64 letters, digits" in first


@pytest.mark.parametrize(
    ("other", "is_heard"),
    [("میشود", True), ("می\u200cشود", True), ("می شود", False), ("می\u200cشد", False)],
)
def test_names_that_differ_by_a_joiner_alone_sound_the_same(other: str, is_heard: bool) -> None:
    text = f"groups: {{a: {{name: 'می\u200cشود', units: [a]}}, b: {{name: '{other}', units: [b]}}}}"
    if is_heard:
        with pytest.raises(Failure, match="Siri cannot tell the two apart"):
            parse(text.encode(), "config.yaml")
    else:
        assert len(parse(text.encode(), "config.yaml").groups) == 2


@pytest.mark.parametrize(
    "value",
    [
        "bridge: {name: a, interface: 'e\u200cth'}",
        "bridge: {address: '10.0.0.1\u200d'}",
        "bridge: {port: 51826\u200d}",
        "helper: su\u200ddo",
        "gr\u200doups: {a: {units: [b]}}",
        "groups: {'م\u200cم': {units: [b]}}",
        "groups: {a: {units: ['م\u200cم']}}",
        "groups: {a: {units: [b], type: f\u200dan}}",
        "groups: {a: {units: [b], check: ['/bin/م\u200cم']}}",
        "groups: {a: {units: [b], check: [/bin/a, 'م\u200cم']}}",
    ],
)
def test_a_joiner_is_allowed_in_names_alone(value: str) -> None:
    text = value if value.startswith("gr") else f"{value}\ngroups: {{a: {{units: [b]}}}}"
    parse(text.replace("\u200c", "").replace("\u200d", "").replace("م", "m").encode(), "config.yaml")
    with pytest.raises(Failure):
        parse(text.encode(), "config.yaml")
