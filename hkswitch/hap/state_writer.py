"""Writes the bridge's state, retries while writing fails, and describes the consequences for phones.

The database decides which accessories to serve; this module tells it what is on disk.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hkswitch.hap import state_file
from hkswitch.hap.database import Database
from hkswitch.hap.state_format import Stored

WRITE_AGAIN_SECONDS: Final = 60.0
"""The interval between retries; writing succeeds again when the disk has space."""

RETRY_SECONDS: Final = 1.0
"""The interval between retries for devices that want to pair: each may block the event loop as long as the
disk takes."""

LOG_AGAIN_SECONDS: Final = 60.0
"""The interval between equal messages, which any device on the network could otherwise trigger repeatedly."""

MOST_NAMED_ACCESSORIES: Final = 3
"""Accessories to name in a message; the others are only counted."""

REMEDY: Final = "free space on that disk or make it writable; hkswitch retries every minute"

_log = logging.getLogger(__name__)


class StateWriter:
    """Writes the state of one bridge, in the event loop."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        stored: Callable[[], Stored],
        announce: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`stored` returns the state to write; `announce` is called when pending changes are served."""
        self._loop = loop
        self._folder = folder
        self._database = database
        self._stored = stored
        self._failure: state_file.StateUnwritable | None = None
        self._again: asyncio.Handle | None = None
        self._announce = announce
        self._tell: Callable[[], None] | None = None
        self._failed_at_seconds = 0.0
        self._logged = ""
        self._logged_at_seconds = 0.0

    def tell(self, changed: Callable[[], None]) -> None:
        """Call `changed` when `trouble` has changed."""
        self._tell = changed

    @property
    def is_waiting(self) -> bool:
        """Whether a write failed and will be retried."""
        return self._again is not None

    @property
    def trouble(self) -> str:
        """The reason why writing fails, the remedy and the consequences; empty if it works."""
        if self._failure is None:
            return ""
        means = ["no controller can be paired or removed"]
        if self._database.has_unannounced_changes:
            means.append("phones are not notified of changes")
        if names := self._database.left_out:
            means.append(f"not in the Home app: {_some(names)}")
        if names := self._database.of_old_type:
            means.append(f"still shown with the old type: {_some(names)}")
        return f"{self._failure}; {REMEDY}; until then: {'; '.join(means)}"

    def write(self) -> None:
        """Write keys, pairings and iids; raises `StateUnwritable` and then retries later."""
        stored = self._stored()
        try:
            state_file.write(self._folder, stored)
        except state_file.StateUnwritable as failure:
            self._failed(failure)
            raise
        self._database.written(stored.iids or {})
        if self._again is not None:  # serve the pending changes now
            self._again.cancel()
            self._again = self._loop.call_soon(self.try_again)
        if self._failure is not None:
            self._failure, self._logged = None, ""
            _log.info("the bridge's state can be written again")
            self._changed()

    def write_or_wait(self) -> None:
        """Write, or log the failure and serve only what is on disk.

        Until the state is written, controllers are not notified of other accessories: after a restart, an
        unwritten c# could stand for different ones.
        """
        try:
            self.write()
        except state_file.StateUnwritable:
            self._database.serve_written()
            self.log_trouble()

    def can_write(self) -> bool:
        """Return whether writing works. After a failure, this retries at most once a second."""
        if self._failure is not None and self._loop.time() - self._failed_at_seconds >= RETRY_SECONDS:
            self.try_again()
        return self._failure is None

    def log_trouble(self) -> None:
        """Log why writing fails, once a minute while the text is the same."""
        trouble, now_seconds = self.trouble, self._loop.time()
        if trouble != self._logged or now_seconds - self._logged_at_seconds >= LOG_AGAIN_SECONDS:
            self._logged, self._logged_at_seconds = trouble, now_seconds
            _log.error("%s", trouble)

    def try_again(self) -> None:
        """Write and serve the pending changes and notify controllers, or keep waiting."""
        self.stop()
        self._database.serve_wanted()
        try:
            self.write()
        except state_file.StateUnwritable:
            self._database.serve_written()
        else:
            self._announce()

    def stop(self) -> None:
        """Stop retrying."""
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _failed(self, failure: state_file.StateUnwritable) -> None:
        if self._again is None:
            self._again = self._loop.call_later(WRITE_AGAIN_SECONDS, self.try_again)
        self._failed_at_seconds = self._loop.time()
        before, self._failure = self._failure, failure
        if str(before) != str(failure):
            self._changed()

    def _changed(self) -> None:
        if self._tell is not None:
            self._loop.call_soon(self._tell)  # after the database has decided what to serve


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - MOST_NAMED_ACCESSORIES
    return ", ".join(names[:MOST_NAMED_ACCESSORIES]) + (f" and {more} more" if more > 0 else "")
