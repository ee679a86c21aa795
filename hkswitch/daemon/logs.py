"""Where log lines go: to the journal with their priority, or to a terminal with the time."""

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, TextIO

ACCEPT_FAILED: Final = "socket.accept() out of system resource"
"""asyncio's words; a test with too few descriptors would find others."""

ACCEPT_QUIET_SECONDS: Final = 60.0

PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


_log = logging.getLogger(__name__)


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
    # No line says where it is from, so nobody has to find out (logging HOWTO, "Optimization").
    logging._srcfile = None  # noqa: SLF001 -- as documented there
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.raiseExceptions = False  # a line that standard error does not take is lost, and no traceback
    faulthandler.enable()  # systemd's watchdog ends what hangs by SIGABRT: say where it was
    lines = logging.StreamHandler(sys.stderr)
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
    """An exception handler for an event loop, which says once a minute that no connection can be accepted.

    asyncio would log up to a hundred tracebacks each second while the process has no descriptor left.
    """
    silent_until_seconds = -inf

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal silent_until_seconds
        if context["message"] != ACCEPT_FAILED:
            loop.default_exception_handler(context)
        elif loop.time() >= silent_until_seconds:
            silent_until_seconds = loop.time() + ACCEPT_QUIET_SECONDS
            _log.error("cannot accept connections: %s", context["exception"].strerror)

    return handle
