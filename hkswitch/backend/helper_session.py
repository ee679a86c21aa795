"""One life of a helper: what it is asked and what it tells, whatever carries the lines.

Does not run as root. Lines from the helper are input like any other: bounded, and checked.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeVar

from hkswitch.backend import NOT_IN_ACTIONS
from hkswitch.backend.complaints import Complaints
from hkswitch.model.errors import Failure
from hkswitch.protocol.helper import (
    LONGEST_REPLY_BYTES,
    PROTOCOL,
    Accepted,
    Ask,
    Complete,
    ConfigTold,
    Finished,
    GroupTold,
    Hello,
    Lost,
    Observe,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    StatesTold,
    Told,
    encode,
)
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import Malformed

SILENCE_SECONDS: Final = 5
"""Between two pings, and how long a helper may say nothing after one."""

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


@dataclass(eq=False)
class HelperGone(Failure):
    """There is no helper, or it went away before it said how a request ended. `accepted`: it had begun."""

    why: str
    accepted: bool = False

    def __str__(self) -> str:
        return f"the helper is not running ({self.why})"


@dataclass(eq=False)
class RequestRefused(Failure):
    """The helper did nothing, for this reason."""

    reason: str

    def __str__(self) -> str:
        return self.reason.removeprefix("denied: ") if self.reason.endswith(NOT_IN_ACTIONS) else self.reason


@dataclass(frozen=True, slots=True)
class End:
    """How a life of a helper ended. `was_silent`: it may still be there, and does not answer."""

    why: str
    was_silent: bool = False


@dataclass(slots=True)
class _Pending:
    accepted: Callable[[], None]
    finished: asyncio.Future[Finished]
    is_accepted: bool = False

    def accept(self) -> None:
        if not self.is_accepted:
            self.is_accepted = True
            self.accepted()


class HelperSession:
    """The requests that one helper works on, and what it tells.

    Its transport calls `begin`, and then `heard`, `complained` and `end`.
    """

    def __init__(
        self,
        tell: Callable[[Told], None],
        tell_config: Callable[[str], None],
        complaints: Complaints | None = None,
    ) -> None:
        """`tell` is told states, `tell_config` why the helper does not believe its config.

        `complaints` has those of the helpers before.
        """
        self._tell = tell
        self._tell_config = tell_config
        self._write: Callable[[bytes], None] | None = None
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[Hello] = loop.create_future()
        """Done when it said hello."""
        self.ended: asyncio.Future[End] = loop.create_future()
        """Done when it is over."""
        self._epoch = 0
        self._lines = 0
        self._pending: dict[int, _Pending] = {}
        self._pings = count(1)
        self._pongs: dict[int, asyncio.Future[None]] = {}
        self._replies = _Lines(self._reply)
        self.complaints = complaints or Complaints()
        self.complaints.begin()
        self._errors = _Lines(self._complain)

    # For the transport

    def begin(self, write: Callable[[bytes], None]) -> None:
        """`write` takes lines to the helper."""
        self._write = write

    def heard(self, data: bytes) -> None:
        """Some of its output. What comes after the end is nobody's any more."""
        try:
            if not self.ended.done():
                self._replies.feed(data)
        except Malformed as error:
            self.end(f"it sent an invalid line: {error}")

    def complained(self, data: bytes) -> None:
        """Some of what it, or the program that starts it, complains of."""
        try:
            self._errors.feed(data)
        except Malformed as error:
            self.end(f"it sent an invalid line: {error}")

    def end(self, why: str = "", *, was_silent: bool = False) -> None:
        """It is over, for this reason, or for the last complaint."""
        if self.ended.done():
            return
        end = End(why or next(reversed(self.complaints.lines), "it exited"), was_silent)
        self.ended.set_result(end)
        for pending in self._pending.values():
            _fail(pending.finished, HelperGone(end.why, accepted=pending.is_accepted))
        _fail(self.hello, HelperGone(end.why))

    # For who asks

    def observe(self, epoch: int) -> None:
        """Have everything told anew; what belongs to an older epoch is dropped from now on."""
        self._epoch = epoch
        self.send(Observe(epoch))

    async def request(self, request: Request, accepted: Callable[[], None]) -> Finished:
        """Have it done; raises `HelperGone` or `RequestRefused`."""
        if self.ended.done():
            raise HelperGone(self.ended.result().why)
        finished: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._pending[request.id] = _Pending(accepted, finished)
        try:
            self.send(request)
            return await finished
        finally:
            del self._pending[request.id]

    async def ping(self) -> bool:
        """Whether it has taken all that it was sent before, and looked at its config; False if it ended."""
        number = next(self._pings)
        pong = self._pongs[number] = asyncio.get_running_loop().create_future()
        try:
            self.send(Ping(number))
            await asyncio.wait([pong, self.ended], return_when=asyncio.FIRST_COMPLETED)
            return pong.done()
        finally:
            del self._pongs[number]

    async def live(self) -> End:
        """Keep asking whether it is there, until its end; any line is an answer."""
        while not self.ended.done():
            lines = self._lines
            self.send(Ping(next(self._pings)))
            await asyncio.wait([self.ended], timeout=SILENCE_SECONDS)
            if self._lines == lines:
                self.end(f"it did not answer within {SILENCE_SECONDS} s", was_silent=True)
        return self.ended.result()

    def send(self, message: Ask) -> None:
        """Write a message; that nobody took it is seen by the silence."""
        assert self._write is not None  # noqa: S101 -- begin() came first
        self._write(encode(message))

    # What it says

    def _reply(self, line: bytes) -> None:
        if self.ended.done():
            return  # the line before this one, which came with it, was the last one
        reply = parse_reply(line)
        self._lines += 1
        if reply is not None:
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        match reply:
            case Hello(version, protocol) if protocol != PROTOCOL:
                self.end(f"it is version {version} of hkswitch: `sudo systemctl restart hkswitch`")
            case Hello():
                self.complaints.begin()  # sudo may have complained, and has started it
                _resolve(self.hello, reply)
            case Accepted(request_id) if (pending := self._pending.get(request_id)) is not None:
                pending.accept()
            case Finished(request_id) if (pending := self._pending.get(request_id)) is not None:
                pending.accept()
                _resolve(pending.finished, reply)
            case Refused(int(request_id), reason) if (pending := self._pending.get(request_id)) is not None:
                _fail(pending.finished, RequestRefused(reason))
            case Refused(None, reason):
                _log.warning("the helper did not understand a request: %s", reason)
            case Pong(number) if (pong := self._pongs.get(number)) is not None:
                _resolve(pong, None)
            case ConfigTold(problem):
                self._tell_config(problem)
            case GroupTold() | StatesTold() | Lost() | Complete() if reply.epoch == self._epoch:
                self._tell(reply)
            case _:
                pass  # a pong, an older epoch, or the end of a request that nobody waits for

    def _complain(self, line: bytes) -> None:
        now_seconds = asyncio.get_running_loop().time()
        self.complaints.take(line.decode(errors="replace"), now_seconds, again=self.hello.done())


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
            raise Malformed("it has no end")


def _resolve(future: asyncio.Future[_Result], result: _Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Failure) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever waits sees it; nobody has to
