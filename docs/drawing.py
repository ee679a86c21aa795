"""Draws a terminal and tiles of the Home app as an SVG that loads no other file. Pure: no I/O.

The tiles show what a paired controller has read: names, types and states. Their look is only like that of
Apple's app.
"""

import re
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from typing import Final, NamedTuple

from rich.color import blend_rgb
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME
from rich.text import Text

COLUMNS: Final = 112
"""Enough for longer times and user names than on the machine that draws the picture."""
CELL_WIDTH, CELL_HEIGHT = 10, 20
"""A half block is a square, like the modules of a QR code."""
FONT_SIZE: Final = 16
MARGIN: Final = 16
TITLE: Final = (
    "A terminal with hkswitch pair and hkswitch status, and the same switches as tiles of the Home app"
)

UPPER, LOWER = "▀█", "▄█"
"""The characters that fill the upper or the lower half of a cell."""

HOME_WIDTH, HOME_TOP, HOME_HEAD = 350, 56, 66
TILE_WIDTH, TILE_HEIGHT, TILE_GAP = 150, 104, 14
HOME_COLOR, ON_COLOR, OFF_COLOR = "#51688f", "#f8f8fa", "#3d4f6e"
LIT_COLOR: Final = "#f5a623"
FONT: Final = "-apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"

LINE_CHARACTERS: Final = 16
"""Characters of a name in one line of a tile."""

ICONS: Final = {
    "switch": "M-5 -13h10a5 5 0 0 1 5 5v16a5 5 0 0 1 -5 5h-10a5 5 0 0 1 -5 -5v-16a5 5 0 0 1 5 -5zM0 -8v6",
    "outlet": "M-12 -12h24v24h-24zM-4 -5v7M4 -5v7",
    "light": "M-4 6a9 9 0 1 1 8 0v3h-8zM-3 13h6",
    "fan": "M0 0c-9 -3 -7 -12 0 -13c5 1 3 9 0 13c9 -3 14 4 9 9c-4 3 -9 -4 -9 -9"
    "c-2 9 -11 8 -12 1c0 -5 8 -4 12 -1",
}
"""Outlines around the middle of an icon, by the accessory type in the configuration."""


class HomeTile(NamedTuple):
    """An accessory as a controller sees it."""

    name: str
    kind: str
    on: bool


def drawing(session: str, tiles: Sequence[HomeTile]) -> str:
    """Draw a terminal with this session, and the tiles beside its QR code."""
    console = Console(width=COLUMNS, force_terminal=True)
    lines = Text.from_ansi(session).split(allow_blank=True)
    drawings: list[str] = []
    for row, line in enumerate(lines):
        column = 0
        for segment in line.render(console):
            style = segment.style or Style()
            drawings += _words(segment.text, style, column, row)
            drawings += _blocks(segment.text, style, column, row)
            column += segment.cell_length
    return "\n".join((*_head(len(lines)), *drawings, "</g>", *_home(tiles), "</svg>", ""))


def _head(rows: int) -> Iterator[str]:
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, rows * CELL_HEIGHT + 2 * MARGIN
    color = f'fill="{THEME.foreground_color.hex}" shape-rendering="crispEdges"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    yield f"<title>{TITLE}</title>"
    yield f'<rect width="{width}" height="{height}" rx="8" fill="{THEME.background_color.hex}"/>'
    yield f'<g id="terminal" font-family="monospace" font-size="{FONT_SIZE}" {color}>'


def _words(text: str, style: Style, column: int, row: int) -> Iterator[str]:
    """Yield the words of a segment, without spaces: so each word starts in its column in every font."""
    color = style.color.get_truecolor(THEME) if style.color else THEME.foreground_color
    if style.dim:
        color = blend_rgb(color, THEME.background_color, 0.4)
    look = f' fill="{color.hex}"' if color != THEME.foreground_color else ""
    look += ' font-weight="bold"' if style.bold else ""
    for word in re.finditer(r"[^\s▀▄█]+", text):
        x = MARGIN + (column + word.start()) * CELL_WIDTH
        y = MARGIN + row * CELL_HEIGHT + FONT_SIZE - 1
        length = len(word[0]) * CELL_WIDTH
        yield f'<text x="{x}" y="{y}" textLength="{length}"{look}>{escape(word[0], quote=False)}</text>'


def _blocks(text: str, style: Style, column: int, row: int) -> Iterator[str]:
    """Yield half blocks as rectangles, on their background: no font draws them without gaps."""
    if style.bgcolor is None or style.color is None:
        return
    left, top = MARGIN + column * CELL_WIDTH, MARGIN + row * CELL_HEIGHT
    dark, light = (color.get_truecolor(THEME).hex for color in (style.bgcolor, style.color))
    place = f'x="{left}" y="{top}" width="{len(text) * CELL_WIDTH}" height="{CELL_HEIGHT}"'
    yield f'<rect {place} fill="{dark}"/>'
    half = CELL_HEIGHT // 2
    for number, filling in enumerate((UPPER, LOWER)):
        start = left
        for filled, run in groupby(text, filling.__contains__):
            width = len(list(run)) * CELL_WIDTH
            if filled:
                place = f'x="{start}" y="{top + number * half}" width="{width}" height="{half}"'
                yield f'<rect {place} fill="{light}"/>'
            start += width


def _home(tiles: Sequence[HomeTile]) -> Iterator[str]:
    """Yield a panel with the tiles in two columns."""
    left = COLUMNS * CELL_WIDTH + MARGIN - HOME_WIDTH
    height = HOME_HEAD + (len(tiles) + 1) // 2 * (TILE_HEIGHT + TILE_GAP) + 6
    yield f'<g id="home" font-family="{FONT}" transform="translate({left} {HOME_TOP})">'
    yield f'<rect width="{HOME_WIDTH}" height="{height}" rx="28" fill="{HOME_COLOR}"/>'
    yield '<text x="20" y="46" font-size="26" font-weight="bold" fill="#ffffff">My Home</text>'
    for number, tile in enumerate(tiles):
        x = 18 + number % 2 * (TILE_WIDTH + TILE_GAP)
        yield from _tile(tile, x, HOME_HEAD + number // 2 * (TILE_HEIGHT + TILE_GAP))
    yield "</g>"


def _tile(tile: HomeTile, x: int, y: int) -> Iterator[str]:
    ground, text, faint = (ON_COLOR, "#1c1c1e", "#6e6e73") if tile.on else (OFF_COLOR, "#ffffff", "#c3ccdc")
    line = LIT_COLOR if tile.on else faint
    yield f'<g transform="translate({x} {y})">'
    yield f'<rect width="{TILE_WIDTH}" height="{TILE_HEIGHT}" rx="18" fill="{ground}"/>'
    icon = f'fill="none" stroke="{line}" stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round"'
    yield f'<path transform="translate(28 27)" d="{ICONS[tile.kind]}" {icon}/>'
    bold = f'font-size="14" font-weight="bold" fill="{text}"'
    for number, words in enumerate(_in_lines(tile.name)):
        yield f'<text x="14" y="{60 + 16 * number}" {bold}>{escape(words)}</text>'
    yield f'<text x="14" y="96" font-size="13" fill="{faint}">{"On" if tile.on else "Off"}</text>'
    yield "</g>"


def _in_lines(name: str) -> list[str]:
    """Break a name after the first words, as a tile has room for two lines."""
    if len(name) <= LINE_CHARACTERS:
        return [name]
    first, _, rest = name.partition(" ")
    return [first, rest]
