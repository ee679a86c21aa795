"""docs/picture.svg shows the output of the current program, except what changes from run to run."""

import itertools
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import segno

from docs import drawing, picture
from docs.drawing import HomeTile

SVG = "{http://www.w3.org/2000/svg}"
LIGHT = "#ffffff"
COMMITTED = picture.PICTURE.read_text()

CHANGING = (
    (r"\d+(\.\d)? s(?=[ ,\n]|$)", "N s"),
    (r"(?<=connected: )[0-9A-F]{8}\b", "C"),
    (r"by [0-9A-F]{8},", "by C,"),
    (r"by user(\s)\S+,", r"by user\1U,"),
)
"""Times, the ID of the controller, and the user who drew the picture."""


@dataclass(frozen=True)
class Seen:
    """A picture as seen: its text, the words in colour, the light modules of the QR code, and the tiles."""

    text: str
    looks: tuple[tuple[str, str | None, str | None], ...]
    """The words in colour or bold, without numbers, because these change."""
    modules: frozenset[tuple[int, int]]
    tiles: tuple[tuple[str | None, ...], ...]
    """The shapes, colours and texts of the tiles."""


def group_of(root: ET.Element, identity: str) -> ET.Element:
    [found] = (each for each in root.iter(f"{SVG}g") if each.get("id") == identity)
    return found


def seen(svg: str) -> Seen:
    root = group_of(ET.fromstring(svg), "terminal")
    words = sorted(root.iter(f"{SVG}text"), key=lambda word: (int(word.attrib["y"]), int(word.attrib["x"])))
    lines = (
        " ".join(word.text or "" for word in line)
        for _, line in itertools.groupby(words, key=lambda word: word.attrib["y"])
    )
    looks = tuple((word.text or "", word.get("fill"), word.get("font-weight")) for word in words)
    marked = tuple(look for look in looks if look[1:] != (None, None) and not re.search(r"\d", look[0]))
    home = group_of(ET.fromstring(svg), "home")
    tiles = tuple((each.text, each.get("d"), each.get("fill"), each.get("stroke")) for each in home.iter())
    return Seen(unchanging("\n".join(lines)), marked, modules(root), tiles)


def unchanging(text: str) -> str:
    for pattern, instead in CHANGING:
        text = re.sub(pattern, instead, text)
    return text


def modules(root: ET.Element) -> frozenset[tuple[int, int]]:
    """The light squares, by column and half row."""
    size = drawing.CELL_WIDTH
    filled = set()
    for rectangle in root.iter(f"{SVG}rect"):
        if rectangle.attrib["fill"] == LIGHT:
            x, y, width = (int(rectangle.attrib[name]) for name in ("x", "y", "width"))
            filled |= {
                ((x - drawing.MARGIN) // size + n, (y - drawing.MARGIN) // size) for n in range(width // size)
            }
    return frozenset(filled)


@pytest.fixture(scope="module")
def taken() -> str:
    try:
        subprocess.run([*picture.isolated(), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs network namespaces and iproute2")
    return picture.taken()


def test_the_picture_shows_the_output_of_the_current_program(taken: str) -> None:
    assert seen(taken) == seen(COMMITTED), "make picture"


def test_the_picture_has_a_setup_code_and_both_states_in_colour() -> None:
    shown = seen(COMMITTED)
    assert any(line.startswith(f"Setup code: {picture.SETUP.code}") for line in shown.text.splitlines())
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
    left, top, below = min(x for x, _ in found), min(y for _, y in found), max(y for _, y in found)
    assert {(x - left, y - top) for x, y in found if y < below} == light  # half a line is below the code


def test_the_tiles_show_the_states_of_the_terminal() -> None:
    words = [text.text for text in group_of(ET.fromstring(COMMITTED), "home").iter(f"{SVG}text")]
    assert words == [
        *("My Home", "File Server", "On", "Home Assistant", "Off", "Restart", "File Server", "Off"),
        *("VPN", "Off", "Web Server", "On"),
    ]
    rows = [" ".join(line.split()[:4]) for line in seen(COMMITTED).text.splitlines()]
    assert [row for row in rows if row.startswith(("fileserver", "vpn", "web"))] == [
        *("fileserver File Server on", "web Web Server on", "vpn VPN off wg-quick@wg0.service")
    ]


SWITCH, OUTLET, GARAGE = "49", "00000047-0000-1000-8000-0026BB765291", "41"


@pytest.mark.parametrize(
    ("aid", "service", "on", "tiles"),
    [
        (2, SWITCH, True, [HomeTile("Web", "switch", on=True)]),
        (2, OUTLET, False, [HomeTile("Web", "outlet", on=False)]),
        (1, SWITCH, True, []),
    ],
)
def test_a_tile_is_what_a_controller_reads(
    aid: int,
    service: str,
    on: bool,
    tiles: list[HomeTile],
) -> None:
    name = {"type": "3E", "characteristics": [{"type": "23", "value": "Web"}]}
    switch = {"type": service, "characteristics": [{"type": "25", "value": on}]}
    assert picture.tiles_of([{"aid": aid, "services": [name, switch]}]) == tiles


def test_an_accessory_of_another_type_is_no_tile() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        picture.tiles_of([{"aid": 2, "services": [{"type": GARAGE, "characteristics": []}]}])


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (r">\d+</text>\n(.*)>s</text>", r">77</text>\n\1>s</text>", True),
        (">192.168.1.10,<", ">192.168.1.11,<", False),
        (r"[0-9A-F]{8}(?=<)", "0123ABCD", True),
        (r"(>user</text>\n.*)>\S+,<", r"\1>alice,<", True),
        (">Setup<", ">Secret<", False),
        (">off<", ">on<", False),
        (r' fill="#98a84b">on<', ">on<", False),
        (' width="290"([^>]*fill="#ffffff")', r' width="280"\1', False),
        (">VPN<", ">Vpn<", False),
        (">On<", ">Off<", False),
    ],
)
def test_only_what_changes_by_itself_may_differ(old: str, new: str, same: bool) -> None:
    changed = re.sub(old, new, COMMITTED, count=1)
    assert changed != COMMITTED
    assert (seen(changed) == seen(COMMITTED)) is same


def test_the_picture_loads_nothing() -> None:
    root, shapes = ET.fromstring(COMMITTED), {"svg", "title", "rect", "g", "text", "path"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == shapes
    assert re.findall(r"https?:|url\(|href|@import|data:", COMMITTED) == ["http:"]  # the namespace


def test_a_program_that_fails_makes_no_picture(tmp_path: Path) -> None:
    with pytest.raises(
        picture.NotTaken, match="hkswitch pair exited with status 69: hkswitch: there is no bridge in"
    ):
        picture._in_terminal("pair", "--state-dir", str(tmp_path))
