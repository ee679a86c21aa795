"""One life of a helper: what it is asked and what it answers, whatever carries the lines.

Does not run as root.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeVar

from hkswitch.model.errors import Failure
from hkswitch.protocol.helper import (
    LONGEST_REPLY_BYTES,
    Accepted,
    Ask,
    Finished,
    Hello,
    Observed,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    encode,
    parse_reply,
)
from hkswitch.protocol.json_lines import Malformed

ANSWER_WITHIN_SECONDS: Final = 5

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@dataclass(eq=False)
class HelperGone(Failure):
    """There is no helper that could have done the request, or it went away before it said how it ended."""

    why: str

    def __str__(self) -> str:
        return f"the helper is not there ({self.why})"


@dataclass(eq=False)
class RequestRefused(Failure):
    """The helper did nothing, for this reason."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(slots=True)
class _Pending:
    accepted: asyncio.Future[None]
    finished: asyncio.Future[Finished]

    def fail(self, error: Failure) -> None:
        _fail(self.accepted, error)
        _fail(self.finished, error)


class Conversation:
    """The requests that one helper works on. Who carries the lines says what came, and that it is over."""

    def __init__(self, tell: Callable[[Observed], None]) -> None:
        """`tell` is told what probes say."""
        self._tell = tell
        self._write: Callable[[bytes], None] | None = None
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        """Done when it said hello."""
        self.ended: asyncio.Future[str] = loop.create_future()
        """Done when it is over, with the reason."""
        self.useful = False
        """Whether it has finished a request: not one that only comes up and ends again."""
        self._pending: dict[int, _Pending] = {}
        self._pings = count(1)
        self._pongs: dict[int, asyncio.Future[None]] = {}
        self._replies = _Lines(self._reply)
        self._complaints = _Lines(self._complain)
        self._last_complaint = ""

    # For who carries the lines

    def begin(self, write: Callable[[bytes], None]) -> None:
        """`write` takes lines to the helper."""
        self._write = write

    def heard(self, data: bytes) -> None:
        """Some of its answers."""
        try:
            self._replies.feed(data)
        except Malformed as error:
            self.end(f"it sent garbage: {error}")

    def complained(self, data: bytes) -> None:
        """Some of what it, or who starts it, has to complain of."""
        try:
            self._complaints.feed(data)
        except Malformed as error:
            self.end(f"it sent garbage: {error}")

    def end(self, why: str = "") -> None:
        """It is over, for this reason, or for the last that was heard."""
        why = why or self._last_complaint or "it ended"
        gone = HelperGone(why)
        for pending in self._pending.values():
            pending.fail(gone)
        for pong in self._pongs.values():
            _fail(pong, gone)
        _fail(self.ready, gone)
        _resolve(self.ended, why)

    # For who asks

    async def request(self, request: Request, accepted: Callable[[], None]) -> Finished:
        """Have it done; raises `HelperGone` or `RequestRefused`."""
        if self.ended.done():
            raise HelperGone(self.ended.result())
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), loop.create_future())
        self._pending[request.id] = pending
        try:
            self.send(request)
            await self._in_time(pending.accepted)
            accepted()
            while not pending.finished.done():
                await asyncio.wait([pending.finished], timeout=ANSWER_WITHIN_SECONDS)
                if not pending.finished.done():  # it takes long: is anybody still there?
                    await self._ping()
            self.useful = True
            return await pending.finished
        finally:
            del self._pending[request.id]

    async def _ping(self) -> None:
        ping = Ping(next(self._pings))
        pong = self._pongs[ping.id] = asyncio.get_running_loop().create_future()
        try:
            self.send(ping)
            await self._in_time(pong)
        finally:
            del self._pongs[ping.id]

    def send(self, message: Ask) -> None:
        """Write a message; whoever waits for an answer sees that nobody took it."""
        assert self._write is not None  # noqa: S101 -- begin() came first
        self._write(encode(message))

    async def _in_time(self, answer: "asyncio.Future[None]") -> None:
        """Wait for a sign of life; a helper that gives none is given up, with all that it had to do."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                await answer
        except TimeoutError:
            self.end(f"it did not answer within {ANSWER_WITHIN_SECONDS} s")
            raise HelperGone(f"it did not answer within {ANSWER_WITHIN_SECONDS} s") from None

    def _reply(self, line: bytes) -> None:
        match parse_reply(line):
            case Hello():
                _resolve(self.ready, None)
            case reply:
                self._settle(reply)

    def _settle(self, reply: Reply) -> None:
        match reply:
            case Accepted(request_id) if (pending := self._pending.get(request_id)) is not None:
                _resolve(pending.accepted, None)
            case Finished(request_id) if (pending := self._pending.get(request_id)) is not None:
                _resolve(pending.accepted, None)
                _resolve(pending.finished, reply)
            case Pong(number) if (pong := self._pongs.get(number)) is not None:
                _resolve(pong, None)
            case Refused(int(request_id), reason) if (pending := self._pending.get(request_id)) is not None:
                pending.fail(RequestRefused(reason))
            case Observed():
                self._tell(reply)
            case Refused(None, reason):
                _log.warning("the helper did not understand a request: %s", reason)
            case _:
                pass  # the end of a request that nobody waits for any more

    def _complain(self, line: bytes) -> None:
        self._last_complaint = line.decode(errors="replace").strip()
        _log.warning("%s", self._last_complaint)


@dataclass(slots=True)
class _Lines:
    """Bytes as they come, cut into lines for `sink`; raises `Malformed` at an endless one."""

    sink: Callable[[bytes], None]
    _rest: bytes = field(init=False, default=b"")

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self.sink(line)
        if len(self._rest) > LONGEST_REPLY_BYTES:
            raise Malformed("a line without an end")


def _resolve(future: asyncio.Future[_Result], result: _Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Failure) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waits sees it; nobody has to
