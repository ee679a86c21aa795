"""Reads JSON with comments and trailing commas. Pure: no I/O."""

import json
import re
from typing import Final

from hkswitch.model.errors import Exit, Failure

MOST_CONFIG_BYTES: Final = 1 << 20

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\]|\\.)*"?|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
# A comma that follows no value stays: all versions of Python report that one in the same words.
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{:,]\s*,|,(?=\s*[]}])', re.DOTALL)
_NOT_A_NEWLINE = re.compile(r"[^\n]")
_MOST_DIGITS: Final = 18


def _invalid(file: str, why: str, line: int = 0, column: int = 0) -> Failure:
    return Failure(f"{file}:{line}:{column}: {why}" if line else f"{file}: {why}", Exit.CONFIG)


def read(data: bytes, file: str) -> object:
    """Return the value in `data`; `file` is its name in failures. Raises `Failure`."""
    text = _blanked(_decoded(data, file), file)
    try:
        value: object = json.loads(text, strict=False, parse_int=_number)
    except json.JSONDecodeError as error:
        why = f"not valid JSON: {error.msg}; the error is here or just before"
        raise _invalid(file, why, error.lineno, error.colno) from None
    except RecursionError:
        raise _invalid(file, "nested too deeply; is this a Homebridge config?") from None
    return value


def _decoded(data: bytes, file: str) -> str:
    if len(data) > MOST_CONFIG_BYTES:
        raise _invalid(file, f"the file is too large; the limit is {MOST_CONFIG_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(errors="replace")
        line, column = _place(before)
        raise _invalid(file, "this is not UTF-8; save the file as UTF-8", line, column) from None


def _blanked(text: str, file: str) -> str:
    """Replace comments and trailing commas with spaces, so that lines and columns stay the same."""

    def comment(match: re.Match[str]) -> str:
        found = match[0]
        if found.startswith("/*") and (len(found) < 4 or not found.endswith("*/")):
            line, column = _place(text[: match.start()])
            raise _invalid(file, "unterminated comment; close it with */", line, column)
        return found if found.startswith('"') else _NOT_A_NEWLINE.sub(" ", found)

    def comma(match: re.Match[str]) -> str:
        return " " if match[0] == "," else match[0]

    return _STRING_OR_COMMA.sub(comma, _STRING_OR_COMMENT.sub(comment, text))


def _number(digits: str) -> int | float:
    """Convert a number; a long one to a float, as Python refuses to convert thousands of digits to an int."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")
