"""One run of a helper: its requests and its reports, over any transport.

Does not run as root. Lines from the helper are untrusted input: bounded, and checked.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, NamedTuple, TypeVar

from hkswitch.backend import NOT_IN_ACTIONS
from hkswitch.backend.debug_log import described
from hkswitch.backend.helper_stderr import HelperStderr
from hkswitch.model.errors import Failure
from hkswitch.protocol.helper import (
    HELPER_PROTOCOL,
    LONGEST_REPLY_BYTES,
    Accepted,
    Alert,
    Complete,
    ConfigUpdate,
    DaemonMessage,
    Finished,
    GroupUpdate,
    Hello,
    Lost,
    Observe,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    SamplesUpdate,
    StatesUpdate,
    Update,
)
from hkswitch.protocol.helper_dialect import encode_for, missing_in
from hkswitch.protocol.helper_replies import parse_reply
from hkswitch.protocol.json_lines import MalformedMessage

READY_WITHIN_SECONDS: Final = 10
SILENCE_SECONDS: Final = 5
"""Of this machine's helper."""

_log = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class Terms(NamedTuple):
    """What is expected of a helper."""

    ready_within_seconds: float
    silence_seconds: float
    """The interval between pings, and the time limit for an answer to one."""
    host: str = ""
    """The other host that it runs on; empty for this machine."""
    protocols: frozenset[int] = frozenset({HELPER_PROTOCOL})
    wrong_protocol: str = "run `sudo systemctl restart hkswitch`"
    """What to do about a helper with another protocol."""
    longest_line_bytes: int = LONGEST_REPLY_BYTES
    most_values: int | None = None
    """In a line; None is no limit. A line of short values takes longer to parse than one of long texts."""
    sample_interval_seconds: float = 0
    """Samples that come sooner after one are dropped: a rule must not act at a host's own pace."""


def local_terms() -> Terms:
    """Return what is expected of this machine's helper."""
    return Terms(READY_WITHIN_SECONDS, SILENCE_SECONDS)


class HelperGone(Failure):
    """A missing helper, or one that ended before it reported the result of a request."""

    def __init__(self, why: str, host: str = "", *, accepted: bool = False) -> None:
        """`accepted`: the helper had begun to carry out the request. `host` is empty for this machine."""
        what = f"the host {host} is not connected" if host else "the helper is not running"
        super().__init__(f"{what} ({why})")
        self.why = why
        self.accepted = accepted


class RequestRefused(Failure):
    """A request that the helper refused, for this reason."""


@dataclass(frozen=True, slots=True)
class End:
    """The end of a helper. `was_silent`: it did not reply, and may still be running."""

    why: str
    was_silent: bool = False
    silent_seconds: float = field(default=0, compare=False)
    """How long ago it sent its last line."""


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
    """The pending requests of one helper, and its reports.

    Its transport calls `begin`, and then `receive`, `receive_stderr` and `end`.
    """

    def __init__(
        self,
        tell: Callable[[Update], None],
        tell_config: Callable[[str], None],
        stderr: HelperStderr | None = None,
        terms: Terms | None = None,
    ) -> None:
        """`tell` receives states, and `tell_config` the reason why the helper rejects its config.

        `stderr` has the lines of earlier helpers.
        """
        self._terms = terms = terms or local_terms()
        self._protocol = HELPER_PROTOCOL
        self._pinged = 0, 0.0
        """The number of the last ping, and when it was sent."""
        self.round_trip_seconds: float | None = None
        """How long the helper took to answer the last ping that it answered."""
        self._tell = tell
        self._tell_config = tell_config
        self._write: Callable[[bytes], None] | None = None
        loop = asyncio.get_running_loop()
        self.hello: asyncio.Future[Hello] = loop.create_future()
        """Done when the helper has sent `Hello`."""
        self.ended: asyncio.Future[End] = loop.create_future()
        """Done when the helper has ended."""
        self._epoch = 0
        self._lines = 0
        self._heard_seconds = loop.time()
        self._sampled_seconds = float("-inf")
        self._pending: dict[int, _Pending] = {}
        self._pings = count(1)
        self._pongs: dict[int, asyncio.Future[None]] = {}
        self._replies = _Lines(self._reply, terms.longest_line_bytes)
        self.stderr = stderr or HelperStderr()
        self.stderr.begin()
        self._errors = _Lines(self._take_stderr, terms.longest_line_bytes)

    # For the transport

    def begin(self, write: Callable[[bytes], None]) -> None:
        """Begin to send with `write`, which takes lines to the helper."""
        self._write = write

    def receive(self, data: bytes) -> None:
        """Process some of its output; output after the end is dropped."""
        try:
            if not self.ended.done():
                self._replies.feed(data)
        except MalformedMessage as error:
            self.end(f"it sent an invalid line: {error}")

    def receive_stderr(self, data: bytes) -> None:
        """Process some of its standard error, or of that of the program that starts it."""
        try:
            self._errors.feed(data)
        except MalformedMessage as error:
            self.end(f"it sent an invalid line: {error}")

    def end(self, why: str = "", *, was_silent: bool = False) -> None:
        """End the session for this reason; by default, for the one in the last line of standard error."""
        if self.ended.done():
            return
        silent_seconds = asyncio.get_running_loop().time() - self._heard_seconds
        end = End(why or next(reversed(self.stderr.lines), "it gave no reason"), was_silent, silent_seconds)
        self.ended.set_result(end)
        for pending in self._pending.values():
            _fail(pending.finished, HelperGone(end.why, self._terms.host, accepted=pending.is_accepted))
        _fail(self.hello, HelperGone(end.why, self._terms.host))

    # For callers

    @property
    def missing(self) -> str:
        """What the helper does not do because it is older; empty if it does everything."""
        return missing_in(self._protocol)

    def observe(self, epoch: int, sampled: tuple[str, ...] = ()) -> None:
        """Have the helper report everything again, and the resources of groups; older reports are dropped."""
        self._epoch = epoch
        self.send(Observe(epoch, sampled))

    async def request(self, request: Request | Alert, accepted: Callable[[], None]) -> Finished:
        """Have a request carried out; raises `HelperGone` or `RequestRefused`."""
        if self.ended.done():
            raise HelperGone(self.ended.result().why, self._terms.host)
        finished: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        self._pending[request.id] = _Pending(accepted, finished)
        try:
            self.send(request)
            return await finished
        finally:
            del self._pending[request.id]

    async def ping(self) -> bool:
        """Wait until the helper has processed what was sent, and read its config; False if it ended."""
        number = next(self._pings)
        pong = self._pongs[number] = asyncio.get_running_loop().create_future()
        try:
            self.send(Ping(number))
            await asyncio.wait([pong, self.ended], return_when=asyncio.FIRST_COMPLETED)
            return pong.done()
        finally:
            del self._pongs[number]

    async def live(self) -> End:
        """Ping the helper until its end; any line counts as a reply."""
        while not self.ended.done():
            lines, number, limit_seconds = self._lines, next(self._pings), self._terms.silence_seconds
            self._pinged = number, asyncio.get_running_loop().time()
            self.send(Ping(number))
            await asyncio.wait([self.ended], timeout=limit_seconds)
            if self._lines == lines:
                self.end(f"it did not answer within {limit_seconds} s", was_silent=True)
        return self.ended.result()

    def send(self, message: DaemonMessage) -> None:
        """Write a message; if it is lost, the helper's silence reveals it."""
        assert self._write is not None  # noqa: S101 -- begin() came first
        self._debug("to the helper", message)
        self._write(encode_for(message, self._protocol))

    # From the helper

    def _reply(self, line: bytes) -> None:
        if self.ended.done():
            return  # the line before this one, which came in the same read, ended the session
        if self._terms.most_values is not None and line.count(b",") > self._terms.most_values:
            raise MalformedMessage("it has too many values")
        reply = parse_reply(line)
        self._lines += 1
        self._heard_seconds = asyncio.get_running_loop().time()
        # TRUST: nothing counts before the protocol is known, and nothing changes it later.
        if reply is not None and self.hello.done() is not isinstance(reply, Hello):
            self._take(reply)

    def _take(self, reply: Reply) -> None:
        self._debug("from the helper", reply)
        match reply:
            case Hello(version, protocol) if protocol not in self._terms.protocols:
                self.end(f"it is version {version} of hkswitch; {self._terms.wrong_protocol}")
            case Hello(_, protocol):
                self._protocol = protocol
                self.stderr.begin()  # sudo may have printed warnings before it started the helper
                _resolve(self.hello, reply)
            case Accepted(request_id) if (pending := self._pending.get(request_id)) is not None:
                pending.accept()
            case Finished(request_id) if (pending := self._pending.get(request_id)) is not None:
                pending.accept()
                _resolve(pending.finished, reply)
            case Refused(int(request_id), reason) if (pending := self._pending.get(request_id)) is not None:
                _fail(pending.finished, _refusal(reason))
            case Refused(None, reason):
                self._note(f"the helper rejected a malformed request: {reason}")
            case Pong(number):
                self._ponged(number)
            case ConfigUpdate(problem):
                self._tell_config(problem)
            case GroupUpdate() | StatesUpdate() | SamplesUpdate() | Lost() | Complete() if (
                reply.epoch == self._epoch
            ):
                self._reported(reply)
            case _:
                pass  # an older epoch, or the end of a request that was cancelled

    def _reported(self, update: Update) -> None:
        if isinstance(update, SamplesUpdate):
            now_seconds = asyncio.get_running_loop().time()
            if now_seconds - self._sampled_seconds < self._terms.sample_interval_seconds:
                return
            self._sampled_seconds = now_seconds
        self._tell(update)

    def _ponged(self, number: int) -> None:
        sent_number, sent_seconds = self._pinged
        if number == sent_number:
            self.round_trip_seconds = asyncio.get_running_loop().time() - sent_seconds
        if (pong := self._pongs.get(number)) is not None:
            _resolve(pong, None)

    def _debug(self, direction: str, message: DaemonMessage | Reply) -> None:
        if _log.isEnabledFor(logging.DEBUG) and (text := described(message)):
            _log.debug("%s: %s", direction, text)

    def _take_stderr(self, line: bytes) -> None:
        self._note(line.decode(errors="replace"))

    def _note(self, text: str) -> None:
        """Keep what the helper complains of, and log it within the limits."""
        now_seconds = asyncio.get_running_loop().time()
        self.stderr.take(text, now_seconds, again=self.hello.done())


@dataclass(slots=True)
class _Lines:
    """Received bytes, split into lines for `sink`; raises `MalformedMessage` if one is too long."""

    sink: Callable[[bytes], None]
    longest_bytes: int
    _rest: bytearray = field(init=False, default_factory=bytearray)

    def feed(self, data: bytes) -> None:
        # What is kept is not searched again: a line may come byte by byte.
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._add(line)
            whole = bytes(self._rest)
            self._rest.clear()
            self.sink(whole)
        self._add(rest)

    def _add(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > self.longest_bytes:
            raise MalformedMessage("it is too long")


def _refusal(reason: str) -> RequestRefused:
    return RequestRefused(reason.removeprefix("denied: ") if reason.endswith(NOT_IN_ACTIONS) else reason)


def _resolve(future: asyncio.Future[_Result], result: _Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Failure) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # so that asyncio does not log it if no caller is waiting
