"""Where log lines go: to the journal with their priority, or to a terminal with the time."""

import asyncio
import faulthandler
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TextIO

from hkswitch.hap.log_limiter import LogRateLimiter
from hkswitch.model.printable import printable_line

ACCEPT_FAILED: Final = "socket.accept() out of system resource"
"""asyncio's words; a test with too few descriptors would find others."""

OURS: Final = "hkswitch"
FRAMES: Final = 3
LONGEST_LINE: Final = 400

PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


_log = logging.getLogger(__name__)


class Foreign(logging.Filter):
    """Makes what libraries log one short line, and lets each of their messages through once a minute.

    Devices in the network can make them log, and a traceback is a hundred times what was sent for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limiter = LogRateLimiter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log it; our own lines have their limits where they are written."""
        if record.name.partition(".")[0] == OURS:
            return True
        now_seconds = time.monotonic()
        if not self._limiter.may_log(f"{record.name} {record.msg}", now_seconds, record.name, record.name):
            return False
        error = record.exc_info[1] if record.exc_info else None
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 -- arguments that do not fit are no reason to raise at a library
            text = str(record.msg)
        if error is not None:
            text = f"{text}: {described(error)}"
        more = (
            f" (and {many} more messages of {name})" for many, name in self._limiter.suppressed(now_seconds)
        )
        record.msg, record.args = shortened(text) + "".join(more), None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


class JournalFormatter(logging.Formatter):
    """Lines that begin with a priority, as sd-daemon(3) defines them; one record is one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as journald reads it from a service's standard error."""
        line = super().format(record).replace("\n", " | ")
        return f"<{PRIORITIES.get(record.levelno, 6)}>{line}"


def begin(environment: Mapping[str, str], *, in_detail: bool = False) -> None:
    """Log our own lines from INFO on, or all of them in detail, and from WARNING on what libraries say."""
    if sys.stderr is None:  # it is closed: nobody hears it
        return
    # No line says where it is from (logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a line that standard error does not take is lost, and no traceback
    faulthandler.enable()  # systemd's watchdog ends what hangs by SIGABRT: say where it was
    lines = logging.StreamHandler(sys.stderr)
    lines.addFilter(Foreign())
    if is_journal(sys.stderr, environment):
        lines.setFormatter(JournalFormatter("%(message)s"))
    else:
        lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("hkswitch").setLevel(logging.DEBUG if in_detail else logging.INFO)
    # Any device in the network can make it log, as often as it likes: hap/ says it instead.
    for name in ("pyhap.hap_handler", "pyhap.hap_protocol"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # It says with a traceback that an interface is down, which addresses.py hears of.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether journald reads it (systemd.exec(5)); JOURNAL_STREAM alone is inherited, by terminals too."""
    status = os.fstat(stream.fileno())
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def of_loop() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """An exception handler for an event loop: one line a minute for each error, by where it was raised.

    asyncio would log a traceback for every packet that a library cannot take, and up to a hundred each second
    while the process has no descriptor left.
    """
    limiter = LogRateLimiter()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), str(context["message"])
        if message == ACCEPT_FAILED and isinstance(error, OSError):
            kind, source, line = "accept", message, f"cannot accept connections: {error.strerror}"
        elif error is None:
            kind, source, line = "message", message[:LONGEST_LINE], f"error in the event loop: {message}"
        else:
            kind, source = type(error).__name__, f"{type(error).__name__} {_places(error)}"
            line = f"unexpected error in {_where(context)}: {described(error)}"
        now_seconds = loop.time()
        if limiter.may_log(source, now_seconds, kind, shortened(line)):
            _log.error("%s", shortened(line))
        for many, like in limiter.suppressed(now_seconds):
            _log.error("%s more errors, such as %s", many, like)

    return handle


def described(error: BaseException) -> str:
    """An error with where it was raised, for one line."""
    places = _places(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{what[:LONGEST_LINE]} ({places})" if places else what


def shortened(text: str) -> str:
    """What others wrote, fit for one line."""
    return printable_line(text, 2 * LONGEST_LINE)


def _places(error: BaseException) -> str:
    """The innermost places in the code, the last one first."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


def _where(context: Mapping[str, Any]) -> str:
    """What asyncio was doing; its own words have arguments in them, which may be anything."""
    for name in ("task", "future", "protocol", "handle"):
        if (found := context.get(name)) is not None:
            called = getattr(found, "get_coro", lambda found=found: getattr(found, "_callback", found))()
            return str(getattr(called, "__qualname__", type(called).__name__))
    return "the event loop"
