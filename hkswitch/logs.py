"""Where log lines go: to the journal with their priority, or to a terminal with the time."""

import logging
import sys
from collections.abc import Mapping
from typing import Final

PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}


class JournalFormatter(logging.Formatter):
    """Lines that begin with a priority, as sd-daemon(3) defines them; one record is one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as journald reads it from a service's standard error."""
        line = super().format(record).replace("\n", " | ")
        return f"<{PRIORITIES.get(record.levelno, 6)}>{line}"


def begin(environment: Mapping[str, str]) -> None:
    """Log our own lines from INFO on, and from WARNING on what libraries say."""
    lines = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in environment:
        lines.setFormatter(JournalFormatter("%(message)s"))
    else:
        lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("hkswitch").setLevel(logging.INFO)
    logging.captureWarnings(capture=True)
