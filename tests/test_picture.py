"""docs/picture.svg shows the output of the current program, except what changes from run to run."""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import segno

from docs import picture
from tests.support.ports import free_port

SVG = "{http://www.w3.org/2000/svg}"
COMMITTED = picture.PICTURE.read_text()

CHANGING = ((r"\d+(\.\d)? s(?=[ ,\n]|$)", "N s"), (r"port \d+", "port N"), (r"by user \S+,", "by user U,"))
"""Times, the port, and the user who drew the picture."""


@dataclass(frozen=True)
class Seen:
    """A picture as seen: its lines with their colours, and the modules of the QR code."""

    lines: tuple[str, ...]
    looks: tuple[tuple[str, str | None, str | None], ...]
    """The words in colour or bold, without numbers, because these change."""
    modules: frozenset[tuple[int, int]]


def seen(svg: str) -> Seen:
    root = ET.fromstring(svg)
    words = sorted(root.iter(f"{SVG}text"), key=lambda word: (int(word.attrib["y"]), int(word.attrib["x"])))
    lines = tuple(
        unchanging(" ".join(word.text or "" for word in line))
        for _, line in itertools.groupby(words, key=lambda word: word.attrib["y"])
    )
    looks = tuple((word.text or "", word.get("fill"), word.get("font-weight")) for word in words)
    marked = tuple(look for look in looks if look[1:] != (None, None) and not re.search(r"\d", look[0]))
    return Seen(lines, marked, modules(root))


def unchanging(line: str) -> str:
    for pattern, instead in CHANGING:
        line = re.sub(pattern, instead, line)
    return line


def modules(root: ET.Element) -> frozenset[tuple[int, int]]:
    """The filled squares, by column and half row."""
    size = picture.CELL_WIDTH
    filled = set()
    for rectangle in root.iter(f"{SVG}rect"):
        if "x" in rectangle.attrib:
            x, y, width = (int(rectangle.attrib[name]) for name in ("x", "y", "width"))
            filled |= {
                ((x - picture.MARGIN) // size + n, (y - picture.MARGIN) // size) for n in range(width // size)
            }
    return frozenset(filled)


@pytest.fixture(scope="module")
def taken() -> str:
    return picture.taken(free_port())


def test_the_picture_shows_the_output_of_the_current_program(taken: str) -> None:
    assert seen(taken) == seen(COMMITTED), "make picture"


def test_the_picture_has_a_setup_code_and_both_states_in_colour() -> None:
    shown = seen(COMMITTED)
    assert any(line.startswith(f"Setup code: {picture.SETUP.code}") for line in shown.lines)
    assert {"on", "off"} <= {word for word, colour, _ in shown.looks if colour}


def test_the_qr_code_in_the_picture_is_that_of_its_setup_code() -> None:
    code = segno.make(picture.SETUP.payload, micro=False)
    light = {
        (column, row)
        for row, line in enumerate(code.matrix_iter(border=4))
        for column, dark in enumerate(line)
        if not dark
    }
    found = seen(COMMITTED).modules
    left, top = min(x for x, _ in found), min(y for _, y in found)
    assert {(x - left, y - top) for x, y in found} == light


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (r">\d+</text>\n(.*)>s</text>", r">77</text>\n\1>s</text>", True),
        (">51826<", ">21000<", True),
        (r"(>user</text>\n.*)>\S+,<", r"\1>alice,<", True),
        (">Setup<", ">Secret<", False),
        (">off<", ">on<", False),
        (r' fill="#98a84b">on<', ">on<", False),
        (' width="290"', ' width="280"', False),
    ],
)
def test_only_what_changes_by_itself_may_differ(old: str, new: str, same: bool) -> None:
    changed = re.sub(old, new, COMMITTED, count=1)
    assert changed != COMMITTED
    assert (seen(changed) == seen(COMMITTED)) is same


def test_the_picture_loads_nothing() -> None:
    root = ET.fromstring(COMMITTED)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {"svg", "title", "rect", "g", "text"}
    assert re.findall(r"https?:|url\(|href|@import|data:", COMMITTED) == ["http:"]  # the namespace


def test_a_program_that_fails_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(
        picture.NotTaken, match="hkswitch pair exited with status 69: hkswitch: there is no bridge in"
    ):
        picture._in_terminal("pair", "--state-dir", str(tmp_path))
