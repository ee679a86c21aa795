"""What the Home app takes for a name, in any script."""

import pytest

from hkswitch.homebridge.names import name_of
from hkswitch.model.config import parse
from hkswitch.model.errors import Failure

GOOD = [
    *("a", "7", "File Server", "Bob's 2nd NAS", "x  y", "O'' k", "n" * 64),
    *("Дом", "家", "בית", "بيت", "घर", "दिल्ली", "ประตู", "Nhà", "Œuvre", "٣", "²"),
    "q\u0323\u0307",  # a letter that no single character is
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
