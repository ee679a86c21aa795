"""Lines of the debug log about large requests: they take no time beyond the limit, and little within it."""

import json
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from hkswitch.daemon.debug_log import LONGEST_DEBUG_LINE, MOST_DEBUG_LINES, DebugLimit
from hkswitch.hap import debug_log
from hkswitch.hap.debug_log import MOST_ITEMS
from hkswitch.hap.sessions import Session

SESSION = Session("10.0.0.7", UUID("8de3a2c0-5d7b-4e7c-9f52-3f1b7a2d9e10"))
TARGET = b"/characteristics"
MANY = 21_000


def body(items: list[dict[str, Any]]) -> bytes:
    return json.dumps({"characteristics": items}).encode()


WRITES: dict[str, Callable[[int], None]] = {
    "request": lambda many: debug_log.request(SESSION, b"PUT", TARGET, body([{}] * many)),
    "response": lambda many: debug_log.response(SESSION, TARGET, 207, body([{}] * many)),
    "event": lambda many: debug_log.event(SESSION, [((2, 9), True)] * many),
}


class Lines(logging.Handler):
    """A handler with the limits of the daemon's."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(DebugLimit())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines that the debug log has. pytest formats all lines of loggers that it knows."""
    logger, handler = logging.Logger(debug_log.__name__, logging.DEBUG), Lines()  # noqa: LOG001
    logger.addHandler(handler)
    monkeypatch.setattr(debug_log, "_log", logger)
    return handler.lines


@pytest.fixture
def formatted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The values that were formatted."""
    values: list[object] = []
    real = debug_log._value

    def format_value(value: object) -> str:
        values.append(value)
        return real(value)

    monkeypatch.setattr(debug_log, "_value", format_value)
    return values


@pytest.mark.parametrize("kind", WRITES)
def test_a_line_has_the_first_items_and_the_number_of_the_others(
    log: list[str], formatted: list[object], kind: str
) -> None:
    WRITES[kind](MOST_ITEMS)
    WRITES[kind](MANY)
    assert "more" not in log[0]
    assert log[1].endswith(f" ... and {MANY - MOST_ITEMS} more")
    assert log[0].startswith(log[1].partition(" ... ")[0])
    assert len(formatted) <= 4 * MOST_ITEMS
    assert max(map(len, log)) < LONGEST_DEBUG_LINE


@pytest.mark.parametrize("kind", WRITES)
def test_a_line_over_the_limit_is_not_formatted(
    log: list[str], formatted: list[object], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for _ in range(MOST_DEBUG_LINES):
        WRITES[kind](1)
    assert len(log) == MOST_DEBUG_LINES
    formatted.clear()
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("it was parsed"))
    WRITES[kind](1)
    assert (len(log), formatted) == (MOST_DEBUG_LINES, [])


def test_failures_come_first(log: list[str]) -> None:
    items = [{"aid": number, "iid": 9, "status": 0} for number in range(100)]
    items[99]["status"] = -70402
    debug_log.response(SESSION, TARGET, 207, body(items))
    assert log[0].startswith("8DE3…: 207: 99.9 status=-70402 0.9 status=0 1.9 ")
