"""Keeps a helper running, whatever it takes to reach one. Does not run as root."""

import asyncio
import logging
from contextlib import suppress
from typing import Final, NoReturn, Protocol

from hkswitch.backend.complaints import Complaints
from hkswitch.backend.helper_session import End, HelperGone, HelperSession
from hkswitch.protocol.helper import Told

READY_WITHIN_SECONDS: Final = 10
BACK_OFF_SECONDS: Final = (0.1, 0.5, 1, 2, 5, 10, 30)

GOOD_AFTER_SECONDS: Final = 10
"""A helper that lived for so long did not end for the reason that the one before it did."""

_log = logging.getLogger(__name__)


class Connection(Protocol):
    """What carries lines to a helper and back."""

    async def close(self) -> None:
        """Give the helper the end of its input, which ends it, and let go of it."""


class Transport(Protocol):
    """How to reach a helper: over the trust line."""

    async def open(self, session: HelperSession) -> Connection:
        """Begin to carry; raises `HelperGone`."""

    def explain(self, why_gone: str) -> str:
        """What to do about a helper that is gone for this reason: one sentence for the log."""

    def hint(self, why_gone: str) -> str:
        """The cause and the remedy alone; nothing if they are not known."""


class Listener(Protocol):
    """Who is told what helpers say."""

    def began(self, session: HelperSession) -> None:
        """A helper is there; what it tells comes from now on."""

    def told(self, told: Told) -> None:
        """It told something of groups."""

    def told_config(self, problem: str) -> None:
        """It believes its config, or does not, for this reason."""

    def gone(self, end: End) -> None:
        """It is gone, or none could be reached."""


class HelperClient:
    """A helper that is kept running."""

    def __init__(self, transport: Transport) -> None:
        """Starts nothing yet: `keep_running` does."""
        self._transport = transport
        self._complaints = Complaints()
        self._session: HelperSession | None = None
        self._is_ready = asyncio.Event()
        self._why_gone = "it was not started yet"
        self.was_tried = False
        """Whether it was there once, or could not be started once."""

    @property
    def why_gone(self) -> str:
        """Why there is no helper; nothing if there is one."""
        return "" if self._session is not None else self._why_gone

    def trouble(self) -> str:
        """Why there is no helper, and what to do about it where that is known; nothing if there is one."""
        hint = self._transport.hint(self.why_gone)
        return f"{hint} ({self.why_gone})" if hint else self.why_gone

    async def session(self, within_seconds: float) -> HelperSession:
        """The helper that runs, or the next one if it comes in time; raises `HelperGone`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                while True:
                    await self._is_ready.wait()
                    if self._session is not None and not self._session.ended.done():
                        return self._session
                    await asyncio.sleep(0)  # it has just ended, which is about to be noticed
        raise HelperGone(self._why_gone)

    async def keep_running(self, listener: Listener) -> NoReturn:
        """Start the helper, and start it again whenever it ends, until cancelled."""
        loop, attempt, said = asyncio.get_running_loop(), 0, ""
        while True:
            began_seconds = loop.time()
            end = await self._live_once(listener)
            if loop.time() - began_seconds >= GOOD_AFTER_SECONDS:
                attempt, said = 0, ""
                self._complaints.forget()
            if end.why != said:
                _log.error("%s", self._transport.explain(end.why))
                said = end.why
            await asyncio.sleep(BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)])
            attempt += 1

    async def _live_once(self, listener: Listener) -> End:
        session = HelperSession(listener.told, listener.told_config, self._complaints)
        try:
            connection = await self._transport.open(session)
        except HelperGone as gone:
            return self._lost(End(gone.why), listener)
        try:
            # Told before the process has ended: that takes a while if it hangs.
            return self._lost(await self._lived(session, listener), listener)
        finally:
            self._session = None
            self._is_ready.clear()
            session.end("the daemon let go of it")
            await connection.close()

    async def _lived(self, session: HelperSession, listener: Listener) -> End:
        try:
            async with asyncio.timeout(READY_WITHIN_SECONDS):
                await session.hello
        except TimeoutError:
            said = f" ({self._complaints.lines[-1]})" if self._complaints.lines else ""
            return End(f"it did not say hello within {READY_WITHIN_SECONDS} s{said}")
        except HelperGone as gone:
            return End(gone.why)
        self._session = session
        self.was_tried = True
        self._is_ready.set()
        _log.info("the helper is ready")
        listener.began(session)
        return await session.live()

    def _lost(self, end: End, listener: Listener) -> End:
        self._session = None
        self._is_ready.clear()
        self.was_tried = True
        self._why_gone = end.why
        listener.gone(end)
        return end
