"""Texts with styles, and standard output with the styles that rich would write there.

`hkswitch status` does not import rich, which takes as long as all the rest (docs/benchmarks.md, "Three
shortcuts"). rich can print these texts too, as it does for `--watch`; tests compare every byte.
"""

import os
from typing import TYPE_CHECKING, Final, NamedTuple, TextIO

from hkswitch.cli.layout import UNLIMITED_COLUMNS, columns_of

if TYPE_CHECKING:
    from rich.console import Group
    from rich.text import Text

_CODES: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}
"""Select Graphic Rendition (ECMA-48, 8.3.117)."""
_COLORS: Final = frozenset({"red", "green", "yellow"})

_DUMB: Final = frozenset({"dumb", "unknown"})
"""Values of TERM, in lower case."""


class StyledText(NamedTuple):
    """A text whose parts have styles: words like `bold red`; empty for none. It may have several lines."""

    parts: tuple[tuple[str, str], ...]

    @property
    def plain(self) -> str:
        """The text alone."""
        return "".join(text for text, _ in self.parts)

    def __str__(self) -> str:
        return self.plain

    def __rich__(self) -> "Text":
        """Return the text for rich."""
        from rich.text import Text  # noqa: PLC0415 -- only where rich prints

        return Text.assemble(*self.parts)


def styled(text: str = "", style: str = "") -> StyledText:
    """Return a text in one style."""
    return StyledText(((text, style),))


def styled_within(text: str, style: str, start: int, end: int) -> StyledText:
    """Return a text in which only the characters from `start` to `end` have a style."""
    return StyledText(((text[:start], ""), (text[start:end], style), (text[end:], "")))


class StyledTexts(NamedTuple):
    """Texts to print one below the other."""

    texts: tuple[StyledText, ...]

    def __rich__(self) -> "Group":
        """Return the texts for rich."""
        from rich.console import Group  # noqa: PLC0415 -- only where rich prints

        return Group(*self.texts)


class StyledOutput:
    """Standard output, with or without styles and colors as rich decides: `Console` in its documentation."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_styles = _is_terminal(stream) and os.environ.get("TERM", "").lower() not in _DUMB
        self._has_colors = not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """The columns of the terminal."""
        return columns_of(self._stream) or UNLIMITED_COLUMNS

    def print(self, shown: StyledTexts) -> None:
        """Print texts."""
        self._stream.write("".join(f"{self._encoded(text)}\n" for text in shown.texts))
        self._stream.flush()

    def _encoded(self, text: StyledText) -> str:
        return "".join(self._with_style(part, style) for part, style in text.parts)

    def _with_style(self, part: str, style: str) -> str:
        """Return a part with the codes of its style; those of one line end before the next one."""
        words = style.split() if self._has_styles else ()
        codes = ";".join(_CODES[word] for word in words if self._has_colors or word not in _COLORS)
        if not codes:
            return part
        return "\n".join(line and f"\x1b[{codes}m{line}\x1b[0m" for line in part.split("\n"))


def _is_terminal(stream: TextIO) -> bool:
    if (compatible := os.environ.get("TTY_COMPATIBLE")) in {"0", "1"}:
        return compatible == "1"
    forced = os.environ.get("FORCE_COLOR")
    return stream.isatty() if forced is None else forced != ""
