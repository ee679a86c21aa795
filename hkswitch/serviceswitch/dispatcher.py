"""`serviceswitch serve`: reads the daemon's lines, checks each request and carries it out. Runs as root."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from hkswitch import __version__
from hkswitch.containers.engines import Engines
from hkswitch.model.errors import BusUnavailable, Exit, Failure
from hkswitch.model.group import Group
from hkswitch.model.unit_state import JobResult, UnitResult
from hkswitch.protocol.helper import (
    Accepted,
    Alert,
    Finished,
    Hello,
    Observe,
    Ping,
    Pong,
    ProbeUpdate,
    Refused,
    Request,
    parse_request,
)
from hkswitch.protocol.json_lines import MalformedMessage
from hkswitch.serviceswitch.audit import Denial
from hkswitch.serviceswitch.execute import ActionGuard, Executor, ProbeOutcome, ServiceManager
from hkswitch.serviceswitch.journal import NotRecorded
from hkswitch.serviceswitch.observe import Observation, WatchUnits
from hkswitch.serviceswitch.policy import ALERT, Policy, Results
from hkswitch.serviceswitch.probes import Probes
from hkswitch.serviceswitch.samples import Measure
from hkswitch.serviceswitch.states import UnsentStates
from hkswitch.serviceswitch.stdio import OutputUnwritable, ReplyWriter, Write

MOST_REQUESTS_AT_ONCE: Final = 512
"""A bridge cannot have that many accessories; the helper refuses further requests."""

TOO_MANY_REQUESTS: Final = "too many requests at once"
DAEMON_HUNG_UP: Final = "not carried out: the daemon closed the connection"


class LineTooLong(Failure):
    """A request line that exceeds the protocol's limit."""

    exit_code = Exit.USAGE


class Overruled(Failure):
    """A request that a newer, opposite one overruled before it began."""


class Abandoned(Failure):
    """A request that had not begun when the daemon closed the connection."""


async def until_first_ends(*awaited: Awaitable[object]) -> None:
    """Run awaitables concurrently until one ends, cancel the others, and re-raise its exception."""
    tasks = [asyncio.ensure_future(each) for each in awaited]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class JobOrder(NamedTuple):
    """The position of a request among others for the same units."""

    earlier: list[asyncio.Event]
    """Set when the earlier requests are about to queue their jobs, or will queue none."""
    queued: dict[str, asyncio.Event]
    """The same of this request, by its members: units and containers begin one after the other."""

    def end(self) -> None:
        """Let newer requests go on."""
        for event in self.queued.values():
            event.set()


@dataclass(eq=False, slots=True)
class GroupRequests:
    """The requests of one group: the newest, and a lock for the one whose command is running."""

    newest: Request | None = None
    orders: list[JobOrder] = field(default_factory=list)
    """Of those that are under way."""
    running: asyncio.Lock = field(default_factory=asyncio.Lock)


class Dispatcher:
    """The dispatcher of one daemon's requests."""

    def __init__(  # noqa: PLR0913 -- what it joins
        self,
        policy: Policy,
        systemd: ServiceManager,
        engines: Engines,
        *,
        watch: WatchUnits,
        measure: Measure,
        write: Write,
        has_hung_up: Callable[[], bool],
    ) -> None:
        """`write` sends lines to the daemon; `has_hung_up` tells whether it closed its writing end."""
        self._policy = policy
        policy.config.share_reads()
        self._has_hung_up = has_hung_up
        self._states = UnsentStates()
        self._replies = ReplyWriter(write, self._states)
        self._executor = Executor(systemd, engines, policy.config.examine)
        self._probes = Probes(self._executor, self._probed, self._spawn)
        self._by_group: defaultdict[str, GroupRequests] = defaultdict(GroupRequests)
        self._last_queued: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._requests = 0
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.observation = Observation(
            policy.config,
            self._states,
            self._probes,
            watch=watch,
            measure=measure,
            engines=engines,
            replies=self._replies,
            spawn=self._spawn,
        )

    async def serve(self, lines: AsyncIterator[bytes]) -> None:
        """Serve all lines; raises `OutputUnwritable` or `LineTooLong`."""
        self._replies.send(Hello(__version__, unix_seconds=int(time.time())))
        try:
            await until_first_ends(self._take_all(lines), self._replies.keep_writing(), self._broken)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take_all(self, lines: AsyncIterator[bytes]) -> None:
        try:
            async for line in lines:
                self._take(line)
                await self._replies.until_room()
        except LineTooLong:
            self._policy.audit.denied(Denial("the line is too long"))
            raise

    def _take(self, line: bytes) -> None:
        """Take one line; a malformed one is refused and affects no other."""
        try:
            # TRUST: the line comes from an unprivileged process. It can name only an action and a group.
            message = parse_request(line)
        except MalformedMessage as error:
            self._policy.audit.denied(Denial(str(error)))
            self._replies.send(Refused(error.request_id, f"malformed request: {error}"))
            return
        match message:
            case Ping(number):
                self.observation.read_config()
                self._replies.send(Pong(number))
            case Observe(epoch, sampled):
                self.observation.observe(epoch, sampled)
            case Request() | Alert() if self._requests >= MOST_REQUESTS_AT_ONCE:
                action = message.action if isinstance(message, Request) else ALERT
                self._policy.audit.denied(Denial(TOO_MANY_REQUESTS, action, message.group))
                self._replies.send(Refused(message.id, TOO_MANY_REQUESTS))
            case Request() | Alert():
                self._requests += 1
                self._spawn(self._answer(message))

    async def _answer(self, request: Request | Alert) -> None:
        """Carry out a request, if it is allowed, and reply with its results."""
        try:
            self.observation.read_config()
            results = await (self._alert(request) if isinstance(request, Alert) else self._do(request))
        except OutputUnwritable:
            raise
        except (BusUnavailable, Abandoned, NotRecorded) as failure:
            self._replies.send(Refused(request.id, str(failure)))
        except Failure as denial:
            self._replies.send(Refused(request.id, f"denied: {denial}"))
        else:
            self._replies.send(Finished(request.id, results, self._is_superseded(request, results)))
        finally:
            self._requests -= 1

    async def _alert(self, alert: Alert) -> Results:
        """Run the alert command, if it is allowed; the audit and the daemon know of it before it begins."""
        command = self._policy.alert_command(alert.group, alert.token)
        async with self._policy.audited(ALERT, alert.group) as record:
            await self._replies.deliver(Accepted(alert.id))
            record.results = (await self._executor.alert(command, alert, self._require_daemon),)
        return record.results

    async def _do(self, request: Request) -> Results:
        """Carry out a request, if it is allowed; the audit and the daemon know of it before it begins."""
        by_rule = request.by_rule
        group = self._policy.allowed(request.action, request.group, request.token, by_rule=by_rule)
        requests = self._by_group[group.id]
        if requests.newest is not None and request.action.overrules(requests.newest.action):
            for older in requests.orders:  # one that has begun will begin no other part
                if any(event.is_set() for event in older.queued.values()):
                    older.end()
        requests.newest = request
        with self._in_order(group) as order:
            async with self._policy.audited(request.action, group.id, by_rule=by_rule) as record:
                await self._replies.deliver(Accepted(request.id))
                if group.commands is None:
                    record.results = await self._execute(request, group, order)
                else:
                    async with requests.running:  # a command is not interrupted: newer requests wait
                        record.results = await self._execute(request, group, order)
                record.is_superseded = self._is_superseded(request, record.results)
        return record.results

    @contextmanager
    def _in_order(self, group: Group) -> Iterator[JobOrder]:
        """Make requests for the same units, even in different groups, queue jobs in order of arrival."""
        earlier = [self._last_queued[member] for member in group.members if member in self._last_queued]
        order = JobOrder(earlier, {member: asyncio.Event() for member in group.members})
        self._last_queued |= order.queued
        self._by_group[group.id].orders.append(order)
        try:
            yield order
        finally:
            self._by_group[group.id].orders.remove(order)
            order.end()

    async def _execute(self, request: Request, group: Group, order: JobOrder) -> Results:
        def check() -> None:
            self._require_daemon()
            if self._is_overruled(request):
                raise Overruled(f"a newer request overruled {request.action} {request.group}")

        def begin(members: Iterable[str] = ()) -> None:
            check()
            for member in members:
                order.queued[member].set()

        try:
            check()
            for earlier in order.earlier:
                await earlier.wait()
            guard = ActionGuard(begin, lambda: self._is_replaced(request))
            confirm_seconds, probe = request.confirm_ms / 1000, self._probes.probe
            results = await self._executor.do(request.action, group, probe, confirm_seconds, guard)
        except Overruled:
            results = (UnitResult(group.id, JobResult.CANCELED),)
        await self.observation.catch_up(group.contained)
        return results

    def _require_daemon(self) -> None:
        if self._has_hung_up():  # this process was suspended, and resumed after the daemon exited
            raise Abandoned(DAEMON_HUNG_UP)

    def _is_replaced(self, request: Request | Alert) -> bool:
        """Tell whether a newer request for the group has arrived."""
        return self._by_group[request.group].newest is not request

    def _is_overruled(self, request: Request) -> bool:
        """Tell whether the newest request wants the opposite."""
        newest = self._by_group[request.group].newest
        return newest is not None and newest.action.overrules(request.action)

    def _is_superseded(self, request: Request | Alert, results: Results) -> bool:
        """Tell whether a newer request canceled the jobs, which is no failure."""
        canceled = any(result.job is JobResult.CANCELED for result in results)
        return canceled and self._is_replaced(request)

    def _probed(self, group_id: str, outcome: ProbeOutcome | None) -> None:
        if outcome is not None and outcome.denied:
            self._policy.audit.denied(Denial(outcome.reason, "status", group_id))
        message = ProbeUpdate(None) if outcome is None else ProbeUpdate(outcome.result, outcome.reason)
        self._states.probed(group_id, message)
        self._replies.wake()

    def _spawn(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not (task.cancelled() or self._broken.done()) and (error := task.exception()):
            self._broken.set_exception(error)
