"""However often something raises in a library's callback, the log has a line a minute, and no traceback."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from hkswitch.daemon import logs
from hkswitch.hap.log_limiter import LOG_INTERVAL_SECONDS, MOST_SOURCES


class Clock(asyncio.SelectorEventLoop):
    """A loop with a time of its own."""

    now_seconds = 0.0

    def time(self) -> float:
        return self.now_seconds


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 -- any
        return caught


def elsewhere(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:  # noqa: BLE001 -- any
        return caught


def context(error: Exception | None, message: str = "Exception in callback f()") -> dict[str, Any]:
    return {"message": message} if error is None else {"message": message, "exception": error}


CONTEXTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "one error": lambda _: context(raised(ValueError("no name"))),
    "with another text each time": lambda number: context(raised(ValueError(f"no name {number}"))),
    "with other arguments each time": lambda number: context(raised(ValueError()), f"in f({number})"),
    "of a protocol": lambda _: context(raised(OSError(5, "x"))) | {"protocol": asyncio.Protocol()},
    "without an error": lambda _: context(None, "Task was destroyed but it is pending!"),
    "with lines in it": lambda _: context(raised(ValueError("a\nb\x1b[31m" + "c" * 5_000))),
}


@pytest.mark.parametrize("kind", CONTEXTS)
def test_an_error_that_comes_thousands_of_times_is_one_short_line_a_minute(
    caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    loop, handle = Clock(), logs.of_loop()
    for minute in range(2):
        loop.now_seconds = minute * LOG_INTERVAL_SECONDS
        for number in range(3_000 if minute else 100):
            handle(loop, CONTEXTS[kind](number))
    loop.close()
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(lines) == 2
    assert all(line.isprintable() and len(line) < 1_000 for line in lines)
    assert not any(each.exc_info for each in caplog.records if each.levelno >= logging.WARNING)


def test_a_line_says_what_was_raised_and_where(caplog: pytest.LogCaptureFixture) -> None:
    loop = Clock()
    logs.of_loop()(loop, context(raised(ValueError("no name"))))
    loop.close()
    (line,) = caplog.messages
    assert "ValueError: no name (test_bounded_logs.py:" in line


def test_errors_of_other_places_are_lines_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    loop, handle = Clock(), logs.of_loop()
    for error in (raised(ValueError()), elsewhere(ValueError()), raised(KeyError())):
        handle(loop, context(error))
    loop.close()
    assert len(caplog.messages) == 3


async def test_a_callback_a_task_and_a_protocol_that_raise_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.of_loop())

    def called() -> None:
        raise ValueError

    async def run() -> None:
        raise LookupError

    loop.call_soon(called)
    task = asyncio.ensure_future(run())
    await asyncio.sleep(0.01)
    del task
    await asyncio.sleep(0)
    assert [line.partition(" in ")[2].partition(":")[0].rpartition(".")[2] for line in caplog.messages] == [
        "called",
        "run",
    ]


LIBRARY = """
import logging
from hkswitch.daemon import logs

logs.begin({})
library = logging.getLogger("library.part")
for number in range(3_000):
    try:
        raise ValueError("a" * 10_000 + "\\n")
    except ValueError:
        library.exception("cannot do %d", number)
    library.error("other\\nlines")
    library.error("does %d not fit", "this")
    logging.getLogger("hkswitch.part").error("ours %d", number)
"""


def test_a_library_that_logs_without_end_has_a_short_line_for_each_message_and_we_have_all_of_ours() -> None:
    done = subprocess.run((sys.executable, "-c", LIBRARY), capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    theirs = [line for line in lines if "ours" not in line]
    assert len(lines) == 3_003
    assert [line[9:50] for line in theirs] == [
        "cannot do 0: ValueError: " + "a" * 16,
        "other; lines",
        "does %d not fit",
    ]
    assert max(map(len, theirs)) < 1_000


def test_any_number_of_messages_is_a_few_lines_and_a_sum_and_hides_no_other_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop, handle = Clock(), logs.of_loop()
    for number in range(500):
        handle(loop, context(None, f"message {number}"))
    assert len(caplog.messages) == MOST_SOURCES
    handle(loop, context(raised(ValueError("no name"))))
    assert len(caplog.messages) == MOST_SOURCES + 1
    loop.now_seconds = LOG_INTERVAL_SECONDS
    handle(loop, context(raised(ValueError("no name"))))
    loop.close()
    assert len(caplog.messages) == MOST_SOURCES + 3
    assert caplog.messages[-1] == "484 more errors, for example error in the event loop: message 499"


def test_a_library_with_any_number_of_messages_hides_no_other_library_and_is_summed_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_seconds = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now_seconds[0])
    foreign = logs.Foreign()

    def logged(library: str, message: str) -> str | None:
        record = logging.LogRecord(library, logging.ERROR, "", 0, message, None, None)
        return record.getMessage() if foreign.filter(record) else None

    assert sum(logged("loud", f"message {number}") is not None for number in range(500)) == MOST_SOURCES
    assert logged("quiet", "trouble") == "trouble"
    now_seconds[0] = LOG_INTERVAL_SECONDS
    assert logged("quiet", "trouble") == "trouble (and 484 more messages from loud)"
    assert logged("loud", "message 1") == "message 1"
