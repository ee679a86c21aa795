"""`serviceswitch serve`: the daemon's requests over a pipe, decided and done one by one. Runs as root."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final

from hkswitch import __version__
from hkswitch.model.errors import BusUnavailable, Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import JobResult, UnitResult
from hkswitch.protocol.helper import (
    Accepted,
    Finished,
    Hello,
    Observe,
    Observed,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    parse_request,
)
from hkswitch.protocol.json_lines import Malformed
from hkswitch.serviceswitch.audit import Decision
from hkswitch.serviceswitch.commands import Runner, Said
from hkswitch.serviceswitch.execute import Results, Worker
from hkswitch.serviceswitch.probes import Probes
from hkswitch.serviceswitch.stdio import Unheard
from hkswitch.systemd import Systemd

MOST_REQUESTS_AT_ONCE: Final = 512
"""More than a bridge can have accessories; whoever sends more is told so and harms nobody."""

TOO_MANY: Final = "too many requests at once"

Say = Callable[[Reply], None]


class LineTooLong(Failure):
    """The other side sent a line without an end."""

    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return "a request line is too long; ending"


async def serve(worker: Worker, systemd: Systemd, lines: AsyncIterator[bytes], say: Say) -> None:
    """Work on requests side by side until the input ends; raises `BusUnavailable` if the bus is lost.

    `say` raises `Unheard` where nobody listens; that ends it too.
    """
    desk = _Desk(worker, systemd, say)
    say(Hello(__version__))
    reading = asyncio.ensure_future(desk.take(lines))
    losing = asyncio.ensure_future(systemd.until_lost())
    ends: list[asyncio.Future[Any]] = [reading, losing, desk.broken]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if losing.done() and not reading.done():
            raise losing.result()
        await (desk.broken if desk.broken.done() else reading)
    finally:
        await desk.clear(*ends)


class _Desk:
    """The requests that are being worked on."""

    def __init__(self, worker: Worker, systemd: Systemd, say: Say) -> None:
        self._worker = worker
        self._say = say
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Fails when the work on a request does: nobody hears the answer, or there is no memory left."""
        self._runner = Runner(systemd, worker.rules.examine)
        self._probes = Probes(worker.rules, self._runner, self._tell, self._spawn)
        self._newest: dict[str, int] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._requests: set[asyncio.Task[None]] = set()
        self._others: set[asyncio.Task[None]] = set()

    async def take(self, lines: AsyncIterator[bytes]) -> None:
        """Take each line as a request; a bad one is refused and harms no other."""
        try:
            async for line in lines:
                self._take(line)
        except LineTooLong:
            self._worker.audit.malformed("it has no end")
            raise

    def _take(self, line: bytes) -> None:
        try:
            # TRUST: the line comes from an unprivileged process. It names an action and a group, at most.
            request = parse_request(line)
        except Malformed as error:
            self._worker.audit.malformed(str(error))
            self._say(Refused(error.request_id, f"not a request: {error}"))
            return
        if isinstance(request, Ping):
            self._say(Pong(request.id))
        elif isinstance(request, Observe):
            self._probes.observe()
        elif len(self._requests) >= MOST_REQUESTS_AT_ONCE:
            self._worker.audit.write(Decision(request.action, request.group, denied=TOO_MANY))
            self._say(Refused(request.id, TOO_MANY))
        else:
            self._begin(self._work(request), self._requests)

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> None:
        self._begin(coroutine, self._others)

    def _begin(self, coroutine: Coroutine[None, None, None], among: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(coroutine)
        among.add(task)
        task.add_done_callback(among.discard)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        if not (task.cancelled() or self.broken.done()) and (error := task.exception()):
            self.broken.set_exception(error)

    async def clear(self, *others: asyncio.Future[Any]) -> None:
        """Stop working; jobs that systemd already has go on without us."""
        ending = [*self._requests, *self._others, *others]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _work(self, request: Request) -> None:
        async def run(group: Group) -> Results:
            self._newest[request.group] = request.id
            self._say(Accepted(request.id))
            if group.commands is None:
                return await self._runner.do(request.action, group, self._probes.ask, replaced)
            async with self._turns[request.group]:  # no command is cut short: a newer request waits
                if replaced():
                    return (UnitResult(request.group, JobResult.CANCELED),)
                return await self._runner.do(request.action, group, self._probes.ask, replaced)

        def replaced() -> bool:
            return self._newest[request.group] != request.id

        def superseded(results: Results) -> bool:
            """Whether jobs were canceled because a newer request for the group came: that is no failure."""
            canceled = any(result.job is JobResult.CANCELED for result in results)
            return canceled and replaced()

        try:
            results = await self._worker.carry_out(request.action, request.group, run, superseded)
        except Unheard:
            raise
        except BusUnavailable as lost:
            self._say(Refused(request.id, str(lost)))
        except Failure as denial:
            self._say(Refused(request.id, f"denied: {denial}"))
        else:
            self._say(Finished(request.id, results, superseded(results)))

    def _tell(self, group_id: str, said: Said) -> None:
        if said.denied:
            self._worker.audit.write(Decision("status", group_id, denied=said.reason))
        self._say(Observed(group_id, said.verdict, said.reason))
