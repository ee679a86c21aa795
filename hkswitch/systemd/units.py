"""Watches units, and runs jobs and commands to their results, on one connection to the bus."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any, Final, Self

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, JobResult, UnitResult, UnitState, Usage
from hkswitch.systemd import transient
from hkswitch.systemd.command import Command, Ended, ServiceResult
from hkswitch.systemd.connection import BUS_ERRORS, SYSTEMD, BusConnection, owner_of_systemd, sentence
from hkswitch.systemd.failure_reports import FailureObserver
from hkswitch.systemd.interface import MANAGER_PATH, SERVICE_INTERFACE, UNIT_INTERFACE, Manager
from hkswitch.systemd.jobs import Jobs, together
from hkswitch.systemd.lost_jobs import row_of, settled, sight_in
from hkswitch.systemd.resources import measured
from hkswitch.systemd.signals import Message, Signals
from hkswitch.systemd.starts import Start, Starts
from hkswitch.systemd.watch import StatesCallback, UnitSight
from hkswitch.systemd.watching import Watching

HEARTBEAT_SECONDS: Final = 15

Begin = Callable[[], None]
Method = Callable[[str, str], Awaitable[str]]
"""Queues a job for a unit, in a mode."""


class Systemd:
    """systemd, over one connection to the system bus.

    A lost connection stays lost: make a new one.
    """

    def __init__(self, connection: BusConnection, owner: str) -> None:
        """Use `connect`; `owner` is systemd's unique name on this bus."""
        self._connection = connection
        self._owner = owner
        self._manager = Manager.new_proxy(SYSTEMD, MANAGER_PATH, connection.bus)
        self._signals = Signals(connection, owner)
        self._jobs = Jobs()
        self._starts = Starts(connection, self._signals)
        self._watching = Watching(connection, self._signals, self._starts, self._list)
        self._commands: dict[str, dict[str, Any]] = {}
        self._job_subscription: list[asyncio.Future[None]] = []
        self._change_subscription: list[asyncio.Future[None]] = []

    @classmethod
    async def connect(cls, open_connection: Callable[[], BusConnection] = BusConnection) -> Self:
        """Open the system bus and subscribe to systemd's signals; raises `BusUnavailable`."""
        with ExitStack() as on_failure:
            try:
                connection = open_connection()
                on_failure.callback(connection.close)
                owner = await owner_of_systemd(connection.bus)
                systemd = cls(connection, owner)
                await systemd._subscribe()
                # From here on, NameOwnerChanged reports another owner.
                if await owner_of_systemd(connection.bus) != owner:
                    raise BusUnavailable("systemd restarted during the attempt")
            except (*BUS_ERRORS, OSError) as error:
                raise BusUnavailable(sentence(error)) from error
            on_failure.pop_all()
        return systemd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection: awaited jobs and replies fail as lost, and the watch ends."""
        self._watching.close()
        self._signals.forget()
        self._jobs.lose(BusUnavailable("the connection was closed"))
        for subscription in (*self._job_subscription, *self._change_subscription):
            subscription.cancel()
        self._connection.close()

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """Return the states of units now; raises `BusUnavailable`."""
        return {name: sight.state for name, (_, sight) in (await self._list(units)).items()}

    async def usages(self, units: Iterable[str]) -> list[Usage]:
        """Return the resources of those units that run; raises `BusUnavailable`."""
        listed = (await self._list(units)).items()
        running = {unit: path for unit, (path, sight) in listed if sight.state.is_running}
        return await measured(self._connection, running)

    async def main_process(self, service: str) -> int:
        """Return the main process of a service, 0 if there is none; raises `BusUnavailable`."""
        return await self._starts.main_process(service)

    async def watch(
        self, units: Iterable[str], on_states: StatesCallback, failures: FailureObserver | None = None
    ) -> None:
        """Pass the states of all units to `on_states` before it returns, and changes until the next watch.

        `failures` is told of those that have failed, a moment later.
        """
        watch = self._watching.begin(units, on_states, failures)
        await self._subscribe_to_changes()
        if self._watching.is_current(watch):  # else the watch that replaced it reads them
            await self._watching.refresh()

    async def run(
        self, action: Action, units: Iterable[str], confirm_seconds: float, begin: Begin = lambda: None
    ) -> tuple[UnitResult, ...]:
        """Queue a job for each unit at once, stops in reverse order, and wait for all of them.

        Calls `begin` just before; it may raise.
        A start or restart has succeeded when the unit is up `confirm_seconds` after its job. A unit for which
        systemd makes no job has the result `refused`. Raises `BusUnavailable` if the connection is lost
        before the last job has ended.
        """
        await self._subscribe_to_jobs()
        if action is Action.STOP:
            begin()
            stops = (self._queue(self._manager.stop_unit, unit) for unit in list(units)[::-1])
            ends = await together(stops)
            return tuple(end if isinstance(end, UnitResult) else UnitResult(end[0], end[2]) for end in ends)
        starts_unit = action is Action.START
        method = self._manager.start_unit if starts_unit else self._manager.try_restart_unit
        await self._subscribe_to_changes()
        asked = list(units)
        async with self._starts.watching(asked) as starts:
            begin()
            runs = (self._start(method, unit, action, starts.get(unit), confirm_seconds) for unit in asked)
            return tuple(await together(runs))

    async def invocations(self, units: Iterable[str]) -> dict[str, str]:
        """Return the invocation ID of each running unit."""
        states = await self.states(units)
        return {unit: await self._starts.invocation(unit) for unit in states if states[unit].is_running}

    async def settled(
        self, action: Action, units: Iterable[str], before: Mapping[str, str]
    ) -> tuple[UnitResult, ...]:
        """Wait until no job is left, and return the results of an action that began on a lost connection.

        The action may have queued no job. For a restart, `before` has the invocation ID of each unit that
        ran: a unit that is up may not have been restarted, and one that is down did not come back.
        """
        return await settled(self._rows, self._starts, action, list(units), before)

    async def execute(
        self, command: Command, begin: Begin = lambda: None, begun: Begin = lambda: None
    ) -> Ended:
        """Run a command to its end. Calls `begin` just before, which may raise, and `begun` once it runs.

        Raises `BusUnavailable` if the connection is lost before the end; the command continues.
        """
        path = sdbus.encode_object_path(f"{MANAGER_PATH}/unit", command.unit)
        properties = transient.properties_of(command, await self._environment())
        if path in self._commands:
            return Ended(ServiceResult.EXISTS, 0, "it is already running")
        last = self._commands[path] = {}
        try:
            await self._subscribe_to_jobs()
            async with self._signals.receiving_changes_of(path, self._command_changed):
                begin()
                with self._jobs.collecting():
                    make = self._manager.start_transient_unit(command.unit, "fail", properties, [])
                    ending = self._jobs.ending(await self._connection.call(make))
                begun()
                await ending
        except sdbus.SdBusBaseError as error:
            exists = f"{SYSTEMD}.UnitExists" in error.args
            return Ended(ServiceResult.EXISTS if exists else ServiceResult.OTHER, 0, sentence(error))
        finally:
            del self._commands[path]
        return transient.ended(last)

    async def enter(self, scope: transient.Scope) -> str:
        """Ask systemd to move this process into a scope; returns why it refuses, empty if it does not."""
        make = self._manager.start_transient_unit(scope.name, "fail", scope.properties, [])
        try:
            await self._connection.call(make)
        except sdbus.SdBusBaseError as error:
            return sentence(error)
        return ""

    async def _environment(self) -> list[str]:
        """Return the names of the variables that systemd gives to every unit."""
        variables = await self._connection.call_or_lose(self._manager.environment)
        return [variable.partition("=")[0] for variable in variables]

    async def until_lost(self) -> BusUnavailable:
        """Wait until the connection breaks, or systemd no longer answers on it."""
        while not self._connection.lost.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._connection.lost.wait()
            except TimeoutError:
                await self._ping()
        lost = BusUnavailable(self._connection.why_lost)
        self._jobs.lose(lost)
        return lost

    async def _ping(self) -> None:
        try:
            await self._connection.call(self._manager.dbus_ping())
        except BusUnavailable:
            self._connection.lost.set()

    async def _subscribe(self) -> None:
        """Add the match rules before systemd sends its signals, so that none is missed."""
        await self._signals.receive(f"{SYSTEMD}.Manager", "Reloading", self._reloading)
        await self._signals.receive_owners(self._owner_changed)
        await self._manager.subscribe()

    async def _queue(
        self, method: Method, unit: str, mode: str = "replace"
    ) -> tuple[str, str, JobResult] | UnitResult:
        """Queue a job and await it; return the unit, the job's path and its result, or why there is none."""
        try:
            with self._jobs.collecting():
                job = await self._connection.call(method(unit, mode))
                ending = self._jobs.ending(job)
        except sdbus.SdBusBaseError as error:
            if f"{SYSTEMD}.TransactionIsDestructive" in error.args:  # another job stops it, or what it needs
                return UnitResult(unit, JobResult.CANCELED, f"conflicts with another job: {sentence(error)}")
            return UnitResult(unit, JobResult.REFUSED, sentence(error))
        return unit, job, await ending

    async def _start(
        self, method: Method, unit: str, action: Action, start: Start | None, confirm_seconds: float
    ) -> UnitResult:
        # A restart must not replace a stop that waits for its turn: it would start what is being stopped.
        ended = await self._queue(method, unit, "replace" if action is Action.START else "fail")
        if isinstance(ended, UnitResult):
            return ended
        _, job, result = ended
        if start is None:
            return UnitResult(unit, result)
        return await self._starts.outcome(start, unit, action, (job, result), confirm_seconds)

    async def _list(self, units: Iterable[str]) -> dict[str, tuple[str, UnitSight]]:
        """Return the object path and state of each unit, by the requested name, which may be an alias."""
        names = list(units)
        rows = await self._rows(names)
        return {name: (row[6], sight_in(row)) for name, row in zip(names, rows, strict=True)}

    async def _rows(self, names: list[str]) -> list[tuple[Any, ...]]:
        """Return a row for each unit; systemd omits some invalid names, and rejects the call for others."""
        try:
            rows = list(await self._connection.call(self._manager.list_units_by_names(names)))
        except sdbus.DbusInvalidArgsError:
            rows = []
        except sdbus.SdBusBaseError as error:
            raise self._connection.lose(error) from error
        if len(rows) == len(names):
            return rows
        if len(names) == 1:
            return [row_of(names[0])]
        return [row for name in names for row in await self._rows([name])]

    async def _subscribe_to_jobs(self) -> None:
        """Subscribe to ends of jobs only at the first job: until then, they need not wake this process."""
        await self._once(self._job_subscription, self._receive_jobs)

    async def _subscribe_to_changes(self) -> None:
        """Subscribe to changes of units, and to their removal, at the first watch."""
        await self._once(self._change_subscription, self._receive_changes)

    async def _once(
        self, subscription: list[asyncio.Future[None]], begin: Callable[[], Awaitable[None]]
    ) -> None:
        """Begin once, and wait; if one caller is cancelled, the others keep waiting."""
        if not subscription:
            subscription.append(asyncio.ensure_future(begin()))
            subscription[0].add_done_callback(lambda done: done.cancelled() or done.exception())
        # Even if it has begun: an older request that has just called `begin` queues its jobs meanwhile.
        await asyncio.wait(subscription)
        if subscription[0].cancelled():  # by `close`: the waiting caller gets an error
            raise BusUnavailable("the connection was closed")
        subscription[0].result()

    async def _receive_jobs(self) -> None:
        await self._signals.receive(f"{SYSTEMD}.Manager", "JobRemoved", self._job_removed)

    async def _receive_changes(self) -> None:
        await self._signals.receive_changes(self._unit_changed)
        await self._signals.receive(f"{SYSTEMD}.Manager", "UnitRemoved", self._unit_removed)

    def _job_removed(self, message: Message) -> None:
        _, path, unit, result = message.get_contents()
        self._starts.job_removed(unit, path)
        self._jobs.removed(path, JobResult(result))

    def _command_changed(self, message: Message) -> None:
        command = self._commands.get(message.path)
        interface, changed, _ = message.get_contents()
        if command is not None and interface == SERVICE_INTERFACE:
            command.update(changed)

    def _unit_changed(self, message: Message) -> None:
        path = message.path
        is_watched = self._watching.needs(path)
        if not is_watched and not self._starts.needs(path):
            return
        interface, changed, _ = message.get_contents()
        properties = {name: value for name, (_, value) in changed.items()}
        if interface == SERVICE_INTERFACE:
            self._starts.service_changed(path, properties)
        if interface != UNIT_INTERFACE or "ActiveState" not in properties:
            return
        self._starts.changed(path, properties)
        if is_watched:
            self._watching.changed(path, properties)

    def _unit_removed(self, message: Message) -> None:
        _, path = message.get_contents()
        self._watching.unit_removed(path)

    def _owner_changed(self, message: Message) -> None:
        name, _, owner = message.get_contents()
        if name == SYSTEMD and owner != self._owner:
            self._connection.lost.set()

    def _reloading(self, message: Message) -> None:
        starts = message.get_contents()
        if not starts:
            self._watching.reloaded()
