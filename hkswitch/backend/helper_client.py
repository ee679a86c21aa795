"""Keeps a helper running, and asks the one that does. Does not run as root."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final, Protocol

from hkswitch.backend.helper_session import Conversation, HelperGone
from hkswitch.model.unit_state import Action
from hkswitch.protocol.helper import Finished, Observe, Observed, Request

READY_WITHIN_SECONDS: Final = 10
BACK_OFF_SECONDS: Final = (0.5, 1, 2, 5, 10, 30)

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who wants to know what probes say."""

    def probing(self) -> None:
        """A helper is about to tell."""

    def probed(self, observed: Observed) -> None:
        """Take over what one says."""

    def unprobed(self) -> None:
        """There is no helper any more: nobody knows what they say."""


class Line(Protocol):
    """What carries lines to a helper and back."""

    async def close(self) -> None:
        """Give the helper the end of its input, which ends it, and let go of it."""


class Way(Protocol):
    """How to get at a helper: over the trust line."""

    async def open(self, conversation: Conversation) -> Line:
        """Begin to carry; raises `HelperGone`."""

    def explain(self, why_gone: str) -> str:
        """What to do about a helper that is gone for this reason: one sentence for the log."""


class Helper:
    """A helper that is kept running, and the requests it works on."""

    def __init__(self, way: Way) -> None:
        """Starts nothing yet: `keep_running` does."""
        self._way = way
        self._numbers = count(1)
        self._conversation: Conversation | None = None
        self._why_gone = "it was not started yet"
        self._tried = asyncio.Event()
        self._start_now = asyncio.Event()
        self._useful = False
        self._listener: Listener | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a helper said hello and is still there."""
        return self._conversation is not None

    @property
    def why_gone(self) -> str:
        """Why there is no helper; nothing if there is one."""
        return "" if self._conversation is not None else self._why_gone

    async def tried(self) -> None:
        """Wait until the first start of the helper went well or did not."""
        await self._tried.wait()

    async def request(self, action: Action, group_id: str, accepted: Callable[[], None]) -> Finished:
        """Have `action` done on a group; raises `HelperGone` or `RequestRefused`."""
        if self._conversation is None:
            raise HelperGone(self._why_gone)
        return await self._conversation.request(Request(next(self._numbers), action, group_id), accepted)

    async def keep_running(self) -> None:
        """Start the helper and start it again whenever it ends, until cancelled."""
        attempt, told = 0, ""
        while True:
            self._why_gone = await self._run_once()
            self._tried.set()
            if self._why_gone != told:
                _log.error("%s", self._way.explain(self._why_gone))
            told = self._why_gone
            if self._useful:
                attempt, told = 0, ""
            await self._rest(BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)])
            attempt += 1

    def observe(self, listener: Listener) -> None:
        """Have `listener` told what the probes say: at once, after each change, and by each new helper."""
        self._listener = listener
        self._ask_for_probes()

    def start_now(self) -> None:
        """Do not wait any longer to start the helper: what it needs has come back."""
        self._start_now.set()

    async def _rest(self, seconds: float) -> None:
        self._start_now.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._start_now.wait()

    async def _run_once(self) -> str:
        """One life of a helper; returns why it ended."""
        conversation = Conversation(self._tell)
        self._useful = False
        try:
            line = await self._way.open(conversation)
        except HelperGone as error:
            return error.why
        try:
            async with asyncio.timeout(READY_WITHIN_SECONDS):
                await conversation.ready
            self._conversation = conversation
            self._ask_for_probes()
            self._tried.set()
            _log.info("the helper is ready")
            return await conversation.ended
        except TimeoutError:
            return f"it did not say hello within {READY_WITHIN_SECONDS} s"
        except HelperGone as error:
            return error.why
        finally:
            self._conversation = None
            if self._listener is not None:
                self._listener.unprobed()
            self._useful = conversation.useful
            await line.close()

    def _ask_for_probes(self) -> None:
        if self._conversation is not None and self._listener is not None:
            self._listener.probing()
            self._conversation.send(Observe())

    def _tell(self, observed: Observed) -> None:
        if self._listener is not None:
            self._listener.probed(observed)
