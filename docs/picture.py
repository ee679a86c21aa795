"""Draws docs/picture.svg: the README's example in a terminal. `make picture` runs it.

It runs the real programs, each in a terminal of its own, with simulated units on loopback. It puts a fixed
setup code into the state folder first, so that the picture shows no real one.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Final

from rich.color import blend_rgb
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import SVG_EXPORT_THEME as THEME
from rich.text import Text

from hkswitch.hap import state_file
from hkswitch.hap.setup_code import Setup
from hkswitch.model.config import BridgeConfig
from hkswitch.model.errors import Failure

PICTURE: Final = Path(__file__).with_name("picture.svg")
README: Final = Path(__file__).parents[1] / "README.md"
HKSWITCH: Final = Path(sys.executable).with_name("hkswitch")
SETUP: Final = Setup("031-45-154", "HKSW")

COLUMNS: Final = 112
"""Enough for longer times and user names than on the machine that draws the picture."""
CELL_WIDTH, CELL_HEIGHT = 10, 20
"""A half block is a square, like the modules of a QR code."""
FONT_SIZE: Final = 16
MARGIN: Final = 16

OWN_COMMAND: Final = re.compile(r"`\S*hkswitch (\w+) --state-dir\s+\S+`")
"""A command that the demo prints; the line may be wrapped."""

UPPER, LOWER = "▀█", "▄█"
"""The characters that fill the upper or the lower half of a cell."""


class NotTaken(Failure):
    """A program that did not print what the picture needs; `str()` has its output."""


def taken(port: int) -> str:
    """Draw a bridge on this port of loopback."""
    with tempfile.TemporaryDirectory(prefix="hkswitch-picture-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(_example())
        with _demo(folder, port):
            pass  # creates the state
        stored = state_file.read(folder)
        assert stored is not None
        state_file.write(folder, replace(stored, setup=SETUP))
        with _demo(folder, port):
            return drawn(_session(folder))


def drawn(session: str) -> str:
    """Draw a terminal with this session, as an SVG that loads no other file."""
    console = Console(width=COLUMNS, force_terminal=True)
    lines = Text.from_ansi(session).split(allow_blank=True)
    drawings: list[str] = []
    for row, line in enumerate(lines):
        column = 0
        for segment in line.render(console):
            drawings += _words(segment.text, segment.style or Style(), column, row)
            drawings += _blocks(segment.text, column, row)
            column += segment.cell_length
    return "\n".join((*_head(len(lines)), *drawings, "</g>", "</svg>", ""))


def _head(rows: int) -> Iterator[str]:
    width, height = COLUMNS * CELL_WIDTH + 2 * MARGIN, rows * CELL_HEIGHT + 2 * MARGIN
    colour = f'fill="{THEME.foreground_color.hex}" shape-rendering="crispEdges"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    yield "<title>A terminal with the QR code of hkswitch pair, and with hkswitch status</title>"
    yield f'<rect width="{width}" height="{height}" rx="8" fill="{THEME.background_color.hex}"/>'
    yield f'<g font-family="monospace" font-size="{FONT_SIZE}" {colour}>'


def _example() -> str:
    """Return the first configuration in the README."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(blocks[0])


@contextmanager
def _demo(folder: Path, port: int) -> Iterator[None]:
    place = ("--address", "127.0.0.1", "--port", str(port))
    command = (HKSWITCH, "demo", "--config", folder / "config.yaml", "--state-dir", folder, *place)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as demo:
        assert demo.stdout is not None and demo.stderr is not None  # noqa: PT018 -- they are pipes
        try:
            if not any(line.startswith("Setup code: ") for line in demo.stdout):
                raise NotTaken(f"hkswitch demo exited: {demo.stderr.read().strip()}")
            yield
        finally:
            demo.terminate()


def _session(folder: Path) -> str:
    """Return the commands for an installed hkswitch, with the demo's output."""
    shown = (
        ("sudo hkswitch pair", _in_terminal("pair", "--state-dir", str(folder))),
        ("sudo hkswitch start fileserver", _in_terminal("start", "fileserver", "--state-dir", str(folder))),
        ("hkswitch status", _in_terminal("status", "--state-dir", str(folder))),
    )
    session = "\n".join(f"\x1b[1m$ {command}\x1b[0m\n{output}" for command, output in shown)
    return OWN_COMMAND.sub(r"`sudo hkswitch \1`", session)


def _in_terminal(*arguments: str) -> str:
    """Run hkswitch with its output in a terminal; standard error, such as a spinner, is left out."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS"}}
    environment = kept | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    with subprocess.Popen(
        (HKSWITCH, *arguments), stdout=theirs, stderr=subprocess.PIPE, env=environment
    ) as run:
        os.close(theirs)
        with open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123 -- a descriptor, not a path
            output = b"".join(_read(terminal.fileno()))
        _, errors = run.communicate()
    if run.returncode != 0:
        raise NotTaken(
            f"hkswitch {arguments[0]} exited with status {run.returncode}: {errors.decode().strip()}"
        )
    return output.decode().replace("\r\n", "\n")


def _read(terminal: int) -> Iterator[bytes]:
    """Yield the output until the other end is closed, which Linux reports as EIO."""
    try:
        while chunk := os.read(terminal, 65536):
            yield chunk
    except OSError:
        return


def _words(text: str, style: Style, column: int, row: int) -> Iterator[str]:
    """Yield the words of a segment, without spaces: so each word starts in its column in every font."""
    colour = style.color.get_truecolor(THEME) if style.color else THEME.foreground_color
    if style.dim:
        colour = blend_rgb(colour, THEME.background_color, 0.4)
    look = f' fill="{colour.hex}"' if colour != THEME.foreground_color else ""
    look += ' font-weight="bold"' if style.bold else ""
    for word in re.finditer(r"[^\s▀▄█]+", text):
        x = MARGIN + (column + word.start()) * CELL_WIDTH
        y = MARGIN + row * CELL_HEIGHT + FONT_SIZE - 1
        length = len(word[0]) * CELL_WIDTH
        yield f'<text x="{x}" y="{y}" textLength="{length}"{look}>{escape(word[0], quote=False)}</text>'


def _blocks(text: str, column: int, row: int) -> Iterator[str]:
    """Yield half blocks as rectangles: no font draws them without gaps."""
    half = CELL_HEIGHT // 2
    for top, filling in enumerate((UPPER, LOWER)):
        start = column
        for filled, run in groupby(text, filling.__contains__):
            length = len(list(run))
            if filled:
                x, y = MARGIN + start * CELL_WIDTH, MARGIN + row * CELL_HEIGHT + top * half
                yield f'<rect x="{x}" y="{y}" width="{length * CELL_WIDTH}" height="{half}"/>'
            start += length


if __name__ == "__main__":
    try:
        PICTURE.write_text(taken(BridgeConfig().port), encoding="utf-8")
    except Failure as failure:
        sys.exit(f"picture: {failure}")
