"""The daemon's end of the helper's pipe: starts the helper, asks it, restarts it. Does not run as root."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Protocol, TypeVar

from hkswitch.core.errors import Failure
from hkswitch.core.lines import Malformed
from hkswitch.core.model import Action
from hkswitch.core.protocol import (
    LONGEST_REPLY_BYTES,
    Accepted,
    Ask,
    Finished,
    Hello,
    Observe,
    Observed,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    encode,
    parse_reply,
)
from hkswitch.hosts.sudo import explain

READY_WITHIN_SECONDS: Final = 10
ANSWER_WITHIN_SECONDS: Final = 5
END_WITHIN_SECONDS: Final = 1
BACK_OFF_SECONDS: Final = (0.5, 1, 2, 5, 10, 30)

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


class Listener(Protocol):
    """Who wants to know what probes say."""

    def probing(self) -> None:
        """A helper is about to tell."""

    def probed(self, observed: Observed) -> None:
        """Take over what one says."""

    def unprobed(self) -> None:
        """There is no helper any more: nobody knows what they say."""


@dataclass(slots=True)
class _Pending:
    accepted: asyncio.Future[None]
    finished: asyncio.Future[Finished]

    def fail(self, error: Failure) -> None:
        _fail(self.accepted, error)
        _fail(self.finished, error)


class Helper:
    """A helper process that is kept running, and the requests it works on."""

    def __init__(self, command: Sequence[str]) -> None:
        """`command` is an argv, as `by_sudo` returns it."""
        self._command = command
        self._numbers = count(1)
        self._pipe: _Pipe | None = None
        self._why_gone = "it was not started yet"
        self._tried = asyncio.Event()
        self._start_now = asyncio.Event()
        self._useful = False
        self._listener: Listener | None = None

    @property
    def is_ready(self) -> bool:
        """Whether a helper said hello and is still there."""
        return self._pipe is not None

    @property
    def why_gone(self) -> str:
        """Why there is no helper; nothing if there is one."""
        return "" if self._pipe is not None else self._why_gone

    async def tried(self) -> None:
        """Wait until the first start of the helper went well or did not."""
        await self._tried.wait()

    async def request(self, action: Action, group_id: str, accepted: Callable[[], None]) -> Finished:
        """Have `action` done on a group; raises `HelperGone` or `RequestRefused`."""
        if self._pipe is None:
            raise HelperGone(self._why_gone)
        return await self._pipe.request(Request(next(self._numbers), action, group_id), accepted)

    async def keep_running(self) -> None:
        """Start the helper and start it again whenever it ends, until cancelled."""
        attempt, told = 0, ""
        while True:
            self._why_gone = await self._run_once()
            self._tried.set()
            if self._why_gone != told:
                _log.error("%s", explain(self._why_gone))
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
        self._useful = False
        loop = asyncio.get_running_loop()
        try:
            # TRUST: crosses to root. The command is literal; only requests in core/protocol.py follow.
            transport, pipe = await loop.subprocess_exec(lambda: _Pipe(self._tell), *self._command)
        except OSError as error:
            return f"{self._command[0]}: {error.strerror}"
        try:
            async with asyncio.timeout(READY_WITHIN_SECONDS):
                await pipe.ready
            self._pipe = pipe
            self._ask_for_probes()
            self._tried.set()
            _log.info("the helper is ready")
            return await pipe.ended
        except TimeoutError:
            return f"it did not say hello within {READY_WITHIN_SECONDS} s"
        except HelperGone as error:
            return error.why
        finally:
            self._pipe = None
            if self._listener is not None:
                self._listener.unprobed()
            self._useful = pipe.useful
            await pipe.close(transport)

    def _ask_for_probes(self) -> None:
        if self._pipe is not None and self._listener is not None:
            self._listener.probing()
            self._pipe.send(Observe())

    def _tell(self, observed: Observed) -> None:
        if self._listener is not None:
            self._listener.probed(observed)


class _Pipe(asyncio.SubprocessProtocol):
    """One helper process: lines out, lines in."""

    def __init__(self, tell: Callable[[Observed], None]) -> None:
        self._tell = tell
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._exited = asyncio.Event()
        self._pending: dict[int, _Pending] = {}
        self._pings = count(1)
        self._pongs: dict[int, asyncio.Future[None]] = {}
        self._stdin: asyncio.WriteTransport | None = None
        self._replies = _Lines(self._reply)
        self._complaints = _Lines(self._complain)
        self._last_complaint = ""
        self._outputs = {1, 2}
        self.useful = False
        """Whether it has finished a request: not one that only comes up and ends again."""

    async def request(self, request: Request, accepted: Callable[[], None]) -> Finished:
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
        assert self._stdin is not None  # noqa: S101 -- connection_made came first
        self._stdin.write(encode(message))

    async def _in_time(self, answer: "asyncio.Future[None]") -> None:
        """Wait for a sign of life; a helper that gives none is given up, with all that it had to do."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                await answer
        except TimeoutError:
            self._end(f"it did not answer within {ANSWER_WITHIN_SECONDS} s")
            raise HelperGone(f"it did not answer within {ANSWER_WITHIN_SECONDS} s") from None

    async def close(self, transport: asyncio.SubprocessTransport) -> None:
        """Give the helper the end of its input, which ends it, and let go of it."""
        if self._stdin is not None:
            self._stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_WITHIN_SECONDS):
                    await self._exited.wait()
        finally:
            with suppress(PermissionError):  # a sudo that may not be killed ends with its pipe, or with us
                transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101 -- asyncio's types are too wide
        stdin = transport.get_pipe_transport(0)
        assert isinstance(stdin, asyncio.WriteTransport)  # noqa: S101
        self._stdin = stdin

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        try:
            (self._replies if fd == 1 else self._complaints).feed(data)
        except Malformed as error:
            self._end(f"it sent garbage: {error}")

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's signature
        # Why it ended may still be on its way on standard error; but that one may stay open for ever.
        self._outputs.discard(fd)
        if not self._outputs:
            self._end()
        elif fd == 1:
            asyncio.get_running_loop().call_later(END_WITHIN_SECONDS, self._end)

    def process_exited(self) -> None:
        self._exited.set()

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

    def _end(self, why: str = "") -> None:
        why = why or self._last_complaint or "it ended"
        gone = HelperGone(why)
        for pending in self._pending.values():
            pending.fail(gone)
        for pong in self._pongs.values():
            _fail(pong, gone)
        _fail(self.ready, gone)
        _resolve(self.ended, why)


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
