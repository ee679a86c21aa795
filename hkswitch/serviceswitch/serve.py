"""`serviceswitch serve`: the daemon's requests over a pipe, decided and done one by one. Runs as root."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from hkswitch import __version__
from hkswitch.core.errors import BusUnavailable, Exit, Failure
from hkswitch.core.lines import Malformed
from hkswitch.core.model import JobResult, UnitResult
from hkswitch.core.protocol import (
    Accepted,
    Finished,
    Hello,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    parse_request,
)
from hkswitch.serviceswitch.policy import Denied, permit
from hkswitch.serviceswitch.rules import Rules
from hkswitch.systemd import Systemd

MOST_REQUESTS_AT_ONCE: Final = 512
"""More than a bridge can have accessories; whoever sends more is told so and harms nobody."""

Say = Callable[[Reply], None]


class LineTooLong(Failure):
    """The other side sent a line without an end."""

    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return "a request line is too long; ending"


async def serve(rules: Rules, systemd: Systemd, lines: AsyncIterator[bytes], say: Say) -> None:
    """Work on requests side by side until the input ends; raises `BusUnavailable` if the bus is lost."""
    desk = _Desk(rules, systemd, say)
    say(Hello(__version__))
    reading = asyncio.ensure_future(desk.take(lines))
    losing = asyncio.ensure_future(systemd.until_lost())
    try:
        await asyncio.wait([reading, losing], return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            raise losing.result()
        await reading
    finally:
        await desk.clear(reading, losing)


class _Desk:
    """The requests that are being worked on."""

    def __init__(self, rules: Rules, systemd: Systemd, say: Say) -> None:
        self._rules = rules
        self._systemd = systemd
        self._say = say
        self._newest: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, lines: AsyncIterator[bytes]) -> None:
        """Take each line as a request; a bad one is refused and harms no other."""
        async for line in lines:
            try:
                # TRUST: the line comes from an unprivileged process. It names an action and a group, no more.
                request = parse_request(line)
            except Malformed as error:
                self._say(Refused(error.request_id, f"not a request: {error}"))
                continue
            if isinstance(request, Ping):
                self._say(Pong(request.id))
                continue
            if len(self._tasks) >= MOST_REQUESTS_AT_ONCE:
                self._say(Refused(request.id, "too many requests at once"))
                continue
            task = asyncio.create_task(self._work(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def clear(self, *others: asyncio.Future[Any]) -> None:
        """Stop working; jobs that systemd already has go on without us."""
        ending = [*self._tasks, *others]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _work(self, request: Request) -> None:
        try:
            verdict = permit(request.action, request.group, self._rules.now())
        except Failure as failure:
            verdict = Denied(str(failure))
        if isinstance(verdict, Denied):
            self._say(Refused(request.id, f"denied: {verdict.reason}"))
            return
        self._newest[request.group] = request.id
        self._say(Accepted(request.id))
        try:
            results = await self._systemd.run(request.action, verdict.units)
        except BusUnavailable as lost:
            self._say(Refused(request.id, str(lost)))
            return
        self._say(Finished(request.id, results, self._superseded(request, results)))

    def _superseded(self, request: Request, results: tuple[UnitResult, ...]) -> bool:
        """Whether jobs were canceled because a newer request for the group came: that is no failure."""
        canceled = any(result.job is JobResult.CANCELED for result in results)
        return canceled and self._newest[request.group] != request.id
