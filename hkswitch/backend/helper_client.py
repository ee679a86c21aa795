"""Keeps a helper running, over any transport. Does not run as root."""

import asyncio
import logging
import time
from contextlib import suppress
from typing import Final, NoReturn, Protocol

from hkswitch.backend.helper_session import End, HelperGone, HelperSession, Terms
from hkswitch.backend.helper_stderr import HelperStderr
from hkswitch.backend.host_log import HostLog
from hkswitch.protocol.helper import Update

BACK_OFF_SECONDS: Final = (0.1, 0.5, 1, 2, 5, 10, 30)

GOOD_AFTER_SECONDS: Final = 10
"""A helper that ran this long did not end for the same reason as the one before it."""

LONG_PAUSE_SECONDS: Final = 60
"""A pause of this length is deliberate, and does not end because something else works again."""

MOST_REASONS: Final = 20
"""Different reasons that are logged until a helper runs for long again; each is logged once."""


def back_off_seconds(attempt: int) -> float:
    """Return how long to wait before an attempt to reach this machine's helper; the first is 0."""
    return BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)]


class HelperConnection(Protocol):
    """A connection that carries lines to a helper and back."""

    async def close(self) -> None:
        """Close the helper's input, which makes it exit, and release the connection."""


class Transport(Protocol):
    """A transport to a helper, across the trust boundary."""

    @property
    def terms(self) -> Terms:
        """What is expected of the helper."""

    async def open(self, session: HelperSession) -> HelperConnection:
        """Start or reach a helper, and carry its lines; raises `HelperGone`."""

    def pause_seconds(self, why_gone: str, attempt: int) -> float:
        """Return how long to wait before the next attempt; `attempt` counts those that failed in a row."""

    def explain(self, why_gone: str) -> str:
        """Return one sentence for the log: why the helper is gone, and what to do."""

    def hint(self, why_gone: str) -> str:
        """Return only the cause and the remedy; empty if they are unknown."""


class HelperListener(Protocol):
    """The receiver of the reports of helpers."""

    def started(self, session: HelperSession) -> None:
        """Begin with a helper that is ready; its reports follow."""

    def reported(self, update: Update) -> None:
        """Apply a report about groups."""

    def config_checked(self, problem: str) -> None:
        """Note whether the helper accepts its config; `problem` is the reason if it does not."""

    def gone(self, end: End) -> None:
        """Note that the helper is gone, or that none could be reached."""


class HelperClient:
    """A client that keeps its helper running."""

    def __init__(self, transport: Transport, log: HostLog | None = None) -> None:
        """Starts nothing yet: `keep_running` does."""
        self._transport = transport
        self._host = transport.terms.host
        self._log = log or HostLog(self._host)
        self._stderr = HelperStderr(self._host)
        self._session: HelperSession | None = None
        self._is_ready = asyncio.Event()
        self._retry = asyncio.Event()
        self._pause_seconds: float = 0
        """The length of the current pause before an attempt; 0 if there is none."""
        self._why_gone = "it has not been started yet"
        self._ready_since_seconds: float | None = None
        """Since when the current or last helper was ready; None if it never was."""
        self.connected_since_unix_seconds = 0
        """Since when the current helper is ready."""
        self.was_tried = False
        """Whether a helper has been ready, or has failed to start, at least once."""

    @property
    def current(self) -> HelperSession | None:
        """The session of the helper that is ready, if one is."""
        return self._session

    @property
    def is_missing(self) -> bool:
        """Whether the last attempt failed, or the helper has ended; of another host, that may last."""
        return self.was_tried and self._session is None

    @property
    def why_gone(self) -> str:
        """The reason why there is no helper; empty if there is one."""
        return "" if self._session is not None else self._why_gone

    def trouble(self) -> str:
        """Return why there is no helper, and the remedy where it is known; empty if there is one."""
        hint = self._transport.hint(self.why_gone)
        return f"{hint} ({self.why_gone})" if hint else self.why_gone

    def retry(self) -> None:
        """Make the next attempt at once: something may have changed."""
        if self._session is None:
            self._retry.set()

    def hurry(self) -> None:
        """End the pause before the next attempt, unless it is a long one."""
        if 0 < self._pause_seconds < LONG_PAUSE_SECONDS:
            self._retry.set()

    async def session(self, within_seconds: float) -> HelperSession:
        """Return the session of the current helper, or of the next within this time; raises `HelperGone`."""
        if (session := self._living()) is not None:
            return session  # almost always, and without a timer
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while True:
                    await self._is_ready.wait()
                    if (session := self._living()) is not None:
                        return session
                    await asyncio.sleep(0)  # it has just ended, and `keep_running` is about to notice
        raise HelperGone(self._why_gone, self._host)

    def _living(self) -> HelperSession | None:
        return None if self._session is None or self._session.ended.done() else self._session

    async def keep_running(self, listener: HelperListener) -> NoReturn:
        """Start the helper, and restart it whenever it ends, until cancelled."""
        attempt, said = 0, set[str]()
        while True:
            end = await self._live_once(listener)
            if self._was_good():
                attempt, said = 0, set()
                self._stderr.forget()
            if end.why not in said and len(said) < MOST_REASONS:
                self._log.line(logging.ERROR, self._transport.explain(end.why))
                said.add(end.why)
            self._pause_seconds = self._transport.pause_seconds(end.why, attempt)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause_seconds):
                    await self._retry.wait()
            self._pause_seconds = 0
            self._retry.clear()
            attempt += 1

    def _was_good(self) -> bool:
        since_seconds = self._ready_since_seconds
        now_seconds = asyncio.get_running_loop().time()
        return since_seconds is not None and now_seconds - since_seconds >= GOOD_AFTER_SECONDS

    async def _live_once(self, listener: HelperListener) -> End:
        terms = self._transport.terms
        session = HelperSession(listener.reported, listener.config_checked, self._stderr, terms)
        self._ready_since_seconds = None
        try:
            connection = await self._transport.open(session)
        except HelperGone as gone:
            return self._lost(End(gone.why), listener)
        try:
            # Reported before the process has ended: that takes a while if it hangs.
            return self._lost(await self._lived(session, listener), listener)
        finally:
            self._session = None
            self._is_ready.clear()
            session.end("the daemon closed it")
            await connection.close()

    async def _lived(self, session: HelperSession, listener: HelperListener) -> End:
        try:
            async with asyncio.timeout(within_seconds := self._transport.terms.ready_within_seconds):
                await session.hello
        except TimeoutError:
            said = f" ({self._stderr.lines[-1]})" if self._stderr.lines else ""
            return End(f"it was not ready within {within_seconds} s{said}")
        except HelperGone as gone:
            return End(gone.why)
        self._session = session
        self.was_tried = True
        self._is_ready.set()
        self._ready_since_seconds = asyncio.get_running_loop().time()
        self.connected_since_unix_seconds = int(time.time())
        self._log.line(logging.INFO, "the helper is ready")
        listener.started(session)
        return await session.live()

    def _lost(self, end: End, listener: HelperListener) -> End:
        self._session = None
        self._is_ready.clear()
        self.was_tried = True
        self._why_gone = end.why
        listener.gone(end)
        return end
