"""`serviceswitch serve`: takes the daemon's lines, and does one request after its checks. Runs as root."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hkswitch import __version__
from hkswitch.model.errors import BusUnavailable, Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import JobResult, UnitResult
from hkswitch.protocol.helper import (
    Accepted,
    Finished,
    Hello,
    Observe,
    Ping,
    Pong,
    ProbeTold,
    Refused,
    Request,
    parse_request,
)
from hkswitch.protocol.json_lines import Malformed
from hkswitch.serviceswitch.audit import Denial
from hkswitch.serviceswitch.execute import Manager, Runner, Said, Wanted
from hkswitch.serviceswitch.journal import Unwritten
from hkswitch.serviceswitch.observe import Observation, Watch
from hkswitch.serviceswitch.policy import Policy, Results
from hkswitch.serviceswitch.probes import Probes
from hkswitch.serviceswitch.states import States
from hkswitch.serviceswitch.stdio import Output, Unheard, Write

MOST_REQUESTS_AT_ONCE: Final = 512
"""More than a bridge can have accessories; whoever sends more is told so and harms nobody."""

TOO_MANY: Final = "too many requests at once"


class LineTooLong(Failure):
    """The other side sent a line without an end."""

    exit_code = Exit.USAGE

    def __str__(self) -> str:
        return "a request line is too long; ending"


class Overruled(Failure):
    """A newer request wants the opposite of one that was not begun yet."""


class Abandoned(Failure):
    """The daemon went away before its request was begun."""

    def __str__(self) -> str:
        return "not begun: the daemon that asked for it went away"


async def first_to_end(*awaited: Awaitable[object]) -> None:
    """Run them side by side until one ends, and raise what it raised."""
    ends = [asyncio.ensure_future(each) for each in awaited]
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            if end.done():
                end.result()
    finally:
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)


class Order(NamedTuple):
    """Of a request among others for the same units."""

    older: list[asyncio.Event]
    """Are set when older ones are about to make their jobs, or make none."""
    made: asyncio.Event


@dataclass(eq=False, slots=True)
class Turns:
    """Of one group: which request is the newest, and whose command runs."""

    newest: Request | None = None
    running: asyncio.Lock = field(default_factory=asyncio.Lock)


class Dispatcher:
    """The requests of one daemon."""

    def __init__(
        self, policy: Policy, systemd: Manager, watch: Watch, write: Write, hung_up: Callable[[], bool]
    ) -> None:
        """`write` takes lines to the daemon; `hung_up` tells whether that closed the end where it writes."""
        self._policy = policy
        self._hung_up = hung_up
        self._states = States()
        self._output = Output(write, self._states)
        self._runner = Runner(systemd, policy.config.examine)
        self._probes = Probes(self._runner, self._probed, self._spawn)
        self._turns: defaultdict[str, Turns] = defaultdict(Turns)
        self._making: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.observation = Observation(
            policy.config,
            self._states,
            self._probes,
            watch=watch,
            output=self._output,
            spawn=self._spawn,
        )

    async def serve(self, lines: AsyncIterator[bytes]) -> None:
        """Take lines until there are no more; raises what ends it before: `Unheard`, `LineTooLong`."""
        self._output.say(Hello(__version__))
        try:
            await first_to_end(self._take_all(lines), self._output.keep_writing(), self._broken)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_all(self, lines: AsyncIterator[bytes]) -> None:
        try:
            async for line in lines:
                self._take(line)
                await self._output.room()
        except LineTooLong:
            self._policy.audit.denied(Denial("it has no end"))
            raise

    def _take(self, line: bytes) -> None:
        """Take one line; a bad one is refused and harms no other."""
        try:
            # TRUST: the line comes from an unprivileged process. It names an action and a group, at most.
            asked = parse_request(line)
        except Malformed as error:
            self._policy.audit.denied(Denial(str(error)))
            self._output.say(Refused(error.request_id, f"not a request: {error}"))
            return
        match asked:
            case Ping(number):
                self.observation.look()
                self._output.say(Pong(number))
            case Observe(epoch):
                self.observation.observe(epoch)
            case Request() if self._requests >= MOST_REQUESTS_AT_ONCE:
                self._policy.audit.denied(Denial(TOO_MANY, asked.action, asked.group))
                self._output.say(Refused(asked.id, TOO_MANY))
            case Request():
                self.observation.look()
                self._requests += 1
                self._spawn(self._answer(asked))

    async def _answer(self, request: Request) -> None:
        """Do a request, if it is allowed, and say what came of it."""
        try:
            group = self._policy.allowed(request.action, request.group, request.token)
            results = await self._done(request, group)
        except Unheard:
            raise
        except (BusUnavailable, Abandoned, Unwritten) as failure:
            self._output.say(Refused(request.id, str(failure)))
        except Failure as denial:
            self._output.say(Refused(request.id, f"denied: {denial}"))
        else:
            self._output.say(Finished(request.id, results, self._is_superseded(request, results)))
        finally:
            self._requests -= 1

    async def _done(self, request: Request, group: Group) -> Results:
        """Do what was allowed: the audit and the daemon know of it before it begins."""
        turns = self._turns[group.id]
        turns.newest = request
        with self._in_order(group) as order:
            async with self._policy.audited(request.action, group.id) as record:
                await self._output.said(Accepted(request.id))
                if group.commands is None:
                    record.results = await self._act(request, group, order)
                else:
                    async with turns.running:  # no command is cut short: a newer request waits
                        record.results = await self._act(request, group, order)
                record.is_superseded = self._is_superseded(request, record.results)
        return record.results

    @contextmanager
    def _in_order(self, group: Group) -> Iterator[Order]:
        """Of requests for the same units, in whatever groups, an older one makes its jobs first."""
        made = asyncio.Event()
        older = [self._making[unit] for unit in group.units if unit in self._making]
        self._making |= dict.fromkeys(group.units, made)
        try:
            yield Order(older, made)
        finally:
            made.set()

    async def _act(self, request: Request, group: Group, order: Order) -> Results:
        def look() -> None:
            if self._hung_up():  # this process was stopped, and goes on when nobody wants this any more
                raise Abandoned
            if self._is_overruled(request):
                raise Overruled

        def begin() -> None:
            look()
            order.made.set()

        try:
            look()
            for older in order.older:
                await older.wait()
            wanted = Wanted(begin, lambda: self._is_replaced(request))
            confirm_seconds = request.confirm_ms / 1000
            return await self._runner.do(request.action, group, self._probes.ask, confirm_seconds, wanted)
        except Overruled:
            return (UnitResult(group.id, JobResult.CANCELED),)

    def _is_replaced(self, request: Request) -> bool:
        """Whether a newer request for the group came."""
        return self._turns[request.group].newest is not request

    def _is_overruled(self, request: Request) -> bool:
        """Whether a newer one came that wants the opposite."""
        newest = self._turns[request.group].newest
        return newest is not None and newest.action.overrules(request.action)

    def _is_superseded(self, request: Request, results: Results) -> bool:
        """Whether jobs were canceled because a newer request for the group came: that is no failure."""
        canceled = any(result.job is JobResult.CANCELED for result in results)
        return canceled and self._is_replaced(request)

    def _probed(self, group_id: str, said: Said | None) -> None:
        """Tell what a probe says."""
        if said is not None and said.denied:
            self._policy.audit.denied(Denial(said.reason, "status", group_id))
        told = ProbeTold(None) if said is None else ProbeTold(said.verdict, said.reason)
        self._states.probed(group_id, told)
        self._output.tell()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not (task.cancelled() or self._broken.done()) and (error := task.exception()):
            self._broken.set_exception(error)
