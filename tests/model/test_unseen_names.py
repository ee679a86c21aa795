"""No name is invisible, and no two look the same by characters of which nothing is seen."""

import pytest

from hkswitch.homebridge.names import name_of
from hkswitch.model.config import parse
from hkswitch.model.errors import Failure

FILLERS = ("\u115f", "\u1160", "\u3164", "\uffa0")


def groups(*names: str) -> bytes:
    listed = ", ".join(f"g{number}: {{name: '{name}', units: [a]}}" for number, name in enumerate(names))
    return f"groups: {{{listed}}}".encode()


@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("name", ["{}", "{0}{0} {0}", "Lamp{}", "{}Lamp", "La{}mp"])
def test_a_letter_of_which_nothing_is_seen_is_not_in_a_name(name: str, filler: str) -> None:
    written = name.format(filler)
    with pytest.raises(Failure, match=rf"is not a name, because of .* \(U\+{ord(filler):04X}\)"):
        parse(groups(written), "config.yaml")
    assert parse(groups(name_of(written)), "config.yaml").groups[0].name in {"Switch", "Lamp", "La mp"}


UNSEEN = ("\u034f", "\u17b4", "\u17b5", "\u180b", "\u180d", "\u180f", "\U000e0100", "\U000e01ef")


@pytest.mark.parametrize("mark", UNSEEN)
def test_names_that_differ_by_a_mark_of_which_nothing_is_seen_are_the_same(mark: str) -> None:
    with pytest.raises(Failure, match="Siri cannot tell the two apart"):
        parse(groups("Lamp", f"La{mark}mp"), "config.yaml")
    with pytest.raises(Failure, match="Siri cannot tell the two apart"):
        parse(groups(f"Lamp{mark}", f"La{mark}mp"), "config.yaml")


@pytest.mark.parametrize("name", ["葛\U000e0100城", "ᠠ\u180bᠨ", "한", "ഉ\u034f"])
def test_a_mark_that_chooses_a_shape_is_in_names(name: str) -> None:
    assert parse(groups(name, "Lamp"), "config.yaml").groups[0].name == name


@pytest.mark.parametrize("other", ["Lamp\u0301", "Lam", "Lam p", "Lampe"])
def test_names_that_differ_by_what_is_seen_are_two(other: str) -> None:
    assert len(parse(groups("Lamp", other), "config.yaml").groups) == 2
