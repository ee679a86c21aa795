"""Evaluates the conditions in `[ ]` and `[[ ]]`. Pure: no I/O.

A condition that depends on the machine raises `NotUnderstood`.
"""

import operator
import re
from collections.abc import Callable, Sequence
from typing import Final

from hkswitch.homebridge.expansion import NotUnderstood

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,8})")
_COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "-eq": operator.eq,
    "-ne": operator.ne,
    "-lt": operator.lt,
    "-le": operator.le,
    "-gt": operator.gt,
    "-ge": operator.ge,
}


def condition(words: Sequence[str], *, closing: str) -> bool:
    """Whether the condition holds. `closing` is the bracket that must end it, if any."""
    if closing:
        if not words or words[-1] != closing:
            raise NotUnderstood(f"a condition without '{closing}'")
        words = words[:-1]
    match words:
        case [] | [""]:
            return False
        case [_]:
            return True
        case [left, "=" | "==" | "!=" as comparison, right]:
            return (left == right) == (comparison != "!=")
        case [left, comparison, right] if comparison in _COMPARISONS:
            return _COMPARISONS[comparison](_number(left), _number(right))
        case ["!", *others]:
            return not condition(others, closing="")
        case ["-z" | "-n" as test, text]:
            return bool(text) == (test == "-n")
    raise NotUnderstood(f"the condition '{' '.join(words)}'")


def _number(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise NotUnderstood(f"the number '{text}'")
    return int(text)
