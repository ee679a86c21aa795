"""Writes log lines to the journal, with their priority, or to a terminal, with the time."""

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

from hkswitch.daemon import debug_log
from hkswitch.hap.log_limiter import LogRateLimiter
from hkswitch.model.printable import printable_line

ACCEPT_FAILED: Final = "socket.accept() out of system resource"
"""asyncio's message; a test with too few file descriptors fails if it changes."""

OUR_LOGGERS: Final = "hkswitch"
FRAMES: Final = 3
LONGEST_LOG_TEXT: Final = 400

PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


_log = logging.getLogger(__name__)


class Foreign(logging.Filter):
    """A filter that shortens the messages of libraries to one line, and passes each at most once a minute.

    Devices on the network can trigger them, and a traceback is a hundred times as long as the packet that
    caused it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._limiter = LogRateLimiter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record; our own lines are limited where they are written."""
        if record.name.partition(".")[0] == OUR_LOGGERS:
            return True
        if record.levelno < logging.WARNING:
            return False  # pyhap's debug lines contain keys
        now_seconds = time.monotonic()
        if not self._limiter.may_log(f"{record.name} {record.msg}", now_seconds, record.name, record.name):
            return False
        error = record.exc_info[1] if record.exc_info else None
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 -- arguments that do not fit must not raise in a library
            text = str(record.msg)
        if error is not None:
            text = f"{text}: {described(error)}"
        more = (
            f" (and {many} more messages from {name})" for many, name in self._limiter.suppressed(now_seconds)
        )
        record.msg, record.args = shortened(text) + "".join(more), None
        record.exc_info = record.exc_text = record.stack_info = None
        return True


class JournalFormatter(logging.Formatter):
    """A formatter of lines that begin with a priority (sd-daemon(3)); one record is one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record as journald reads it from a service's standard error."""
        line = super().format(record).replace("\n", " | ")
        return f"<{PRIORITIES.get(record.levelno, 6)}>{line}"


def begin(environment: Mapping[str, str], *, verbose: bool = False, every_state: bool = False) -> None:
    """Log our own lines from INFO up, all of them if `verbose`, and those of libraries from WARNING up.

    `every_state` also logs transitional states, like "starting".
    """
    if sys.__stderr__ is None:  # it is closed
        return
    # No line names its thread or process (logging HOWTO, "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a line that cannot be written is lost, without a traceback
    faulthandler.enable()  # the watchdog sends SIGABRT to a process that hangs: show where it was
    lines = logging.StreamHandler(sys.stderr)
    lines.addFilter(Foreign())
    lines.addFilter(debug_log.DebugLimit())
    if is_journal(sys.stderr, environment):
        lines.setFormatter(JournalFormatter("%(message)s"))
    else:
        lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    debug_log.turn(on=verbose)
    if every_state:
        logging.getLogger("hkswitch.daemon.switchboard.states").setLevel(logging.DEBUG)
    # Any device on the network can trigger their lines without limit; hap/ logs its own, with limits.
    for name in ("pyhap.hap_handler", "pyhap.hap_protocol"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # It logs a traceback when an interface is down, which addresses.py learns from the kernel.
    logging.getLogger("zeroconf").setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)


def is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Return whether journald reads a stream (systemd.exec(5)); JOURNAL_STREAM alone may be inherited."""
    status = os.fstat(stream.fileno())
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def of_loop() -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return an exception handler for an event loop: it logs one line a minute for each place that raises.

    asyncio would log a traceback for every packet that a library cannot parse, and up to a hundred a second
    while the process has no file descriptor left.
    """
    limiter = LogRateLimiter()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, message = context.get("exception"), str(context["message"])
        if message == ACCEPT_FAILED and isinstance(error, OSError):
            kind, source, line = "accept", message, f"cannot accept connections: {error.strerror}"
        elif error is None:
            kind, source, line = "message", message[:LONGEST_LOG_TEXT], f"error in the event loop: {message}"
        else:
            kind, source = type(error).__name__, f"{type(error).__name__} {_places(error)}"
            line = f"unexpected error in {_where(context)}: {described(error)}"
        now_seconds = loop.time()
        if limiter.may_log(source, now_seconds, kind, shortened(line)):
            _log.error("%s", shortened(line))
        for many, like in limiter.suppressed(now_seconds):
            _log.error("%s more errors, for example %s", many, like)

    return handle


def described(error: BaseException) -> str:
    """Return an error and the places that raised it, in one line."""
    places = _places(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{what[:LONGEST_LOG_TEXT]} ({places})" if places else what


def shortened(text: str) -> str:
    """Return text from a library as one line of limited length."""
    return printable_line(text, 2 * LONGEST_LOG_TEXT)


def _places(error: BaseException) -> str:
    """Return the innermost places in the code, the last one first."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


def _where(context: Mapping[str, Any]) -> str:
    """Return the name of what asyncio was running; its own message may contain arbitrary arguments."""
    for name in ("task", "future", "protocol", "handle"):
        if (found := context.get(name)) is not None:
            called = getattr(found, "get_coro", lambda found=found: getattr(found, "_callback", found))()
            return str(getattr(called, "__qualname__", type(called).__name__))
    return "the event loop"
