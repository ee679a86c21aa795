"""An unusual locale, which sorts backwards and has invented names for days and months.

Build machines have only C and C.UTF-8, which hide programs whose output depends on the locale.
"""

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ODD: Final = "odd"

CHARACTERS: Final = range(128)

CLASSES: Final = {
    "upper": range(65, 91),
    "lower": range(97, 123),
    "digit": range(48, 58),
    "space": (*range(9, 14), 32),
    "cntrl": (*range(32), 127),
    "punct": [number for number in range(33, 127) if not chr(number).isalnum()],
    "xdigit": (*range(48, 58), *range(65, 71), *range(97, 103)),
}


def symbol(number: int) -> str:
    return f"<U{number:04X}>"


def text(words: str) -> str:
    return '"' + "".join(symbol(ord(character)) for character in words) + '"'


def names(stem: str, count: int) -> str:
    return ";".join(text(f"{stem}{number}") for number in range(count))


def category(name: str, lines: Iterable[str]) -> str:
    return "\n".join((name, *lines, f"END {name}", ""))


def source() -> str:
    capitals = [(number, number + 32) for number in CLASSES["upper"]]
    upper = ";".join(f"({symbol(small)},{symbol(capital)})" for capital, small in capitals)
    lower = ";".join(f"({symbol(capital)},{symbol(small)})" for capital, small in capitals)
    classes = (f"{name} {';'.join(map(symbol, numbers))}" for name, numbers in CLASSES.items())
    times = (("d_t_fmt", "%Y %d %m"), ("d_fmt", "%Y"), ("t_fmt", "%H"), ("t_fmt_ampm", ""))
    return "".join(
        (
            "comment_char %\nescape_char /\n",
            category("LC_CTYPE", (*classes, f"toupper {upper}", f"tolower {lower}")),
            category("LC_COLLATE", ("order_start forward", *map(symbol, reversed(CHARACTERS)), "order_end")),
            category(
                "LC_NUMERIC", (f"decimal_point {text(',')}", f"thousands_sep {text('.')}", "grouping 3")
            ),
            category(
                "LC_TIME",
                (
                    *(f"{short}day {names(f'{short}day', 7)}" for short in ("ab", "")),
                    *(f"{short}mon {names(f'{short}mon', 12)}" for short in ("ab", "")),
                    *(f"{key} {text(form)}" for key, form in times),
                    'am_pm "";""',
                ),
            ),
        )
    )


def make_odd_locale(folder: Path) -> Path:
    """Create the locale below a folder by localedef; return the value for LOCPATH."""
    definitions = {
        "odd.source": source(),
        # the name by which Python asks for the encoding
        "odd.charmap": "\n".join(
            (
                "<code_set_name> ANSI_X3.4-1968\n<comment_char> %\n<escape_char> /\nCHARMAP",
                *(f"{symbol(number)} /x{number:02x}" for number in CHARACTERS),
                "END CHARMAP\n",
            )
        ),
    }
    for name, content in definitions.items():
        (folder / name).write_text(content)
    locales = folder / "locales"
    locales.mkdir()
    made = subprocess.run(
        ["localedef", "--force", "-f", "./odd.charmap", "-i", "./odd.source", f"./locales/{ODD}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,  # missing categories cause a warning and exit code 1
    )
    assert (locales / ODD / "LC_TIME").exists(), made.stderr
    return locales
