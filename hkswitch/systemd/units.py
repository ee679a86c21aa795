"""Watches units, runs jobs and commands, and awaits their results."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final, Self

import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, ActiveState, JobResult, LoadState, UnitResult, UnitState
from hkswitch.systemd import transient
from hkswitch.systemd.command import Command, Ended
from hkswitch.systemd.connection import BUS_ERRORS, SYSTEMD, Connection, owner_of_systemd, sentence
from hkswitch.systemd.interface import PATH, Manager
from hkswitch.systemd.jobs import Jobs
from hkswitch.systemd.signals import UNIT, Message, Signals
from hkswitch.systemd.watch import UnitSink, Watch

HEARTBEAT_SECONDS: Final = 15


class Systemd:
    """One connection to the system bus, and systemd at its other end.

    A connection that was lost stays lost: make a new one.
    """

    def __init__(self, connection: Connection, owner: str) -> None:
        """Use `connect`; `owner` is systemd's unique name on this bus."""
        self._connection = connection
        self._owner = owner
        self._manager = Manager.new_proxy(SYSTEMD, PATH, connection.bus)
        self._signals = Signals(connection, owner)
        self._jobs = Jobs()
        self._watch: Watch | None = None
        self._commands: dict[str, dict[str, Any]] = {}
        self._hears_jobs = False
        self._hears_changes = False
        self._refreshing: set[asyncio.Future[None]] = set()

    @classmethod
    async def connect(cls) -> Self:
        """Open the system bus and subscribe to systemd's signals; raises `BusUnavailable`."""
        with ExitStack() as on_failure:
            try:
                connection = Connection()
                on_failure.callback(connection.close)
                owner = await owner_of_systemd(connection.bus)
                systemd = cls(connection, owner)
                await systemd._subscribe()
            except BUS_ERRORS as error:
                raise BusUnavailable(sentence(error)) from error
            on_failure.pop_all()
        return systemd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; jobs and answers that are waited for end as lost, and the watch ends."""
        self._watch = None
        self._signals.forget()
        self._jobs.lose(BusUnavailable("the connection was closed"))
        for task in self._refreshing:
            task.cancel()
        self._connection.close()

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The states of `units` as systemd has them now; raises `BusUnavailable`."""
        return {name: state for name, (_, state) in (await self._list(units)).items()}

    async def watch(self, units: Iterable[str], sink: UnitSink) -> None:
        """Tell `sink` the states of all `units` before this returns, and each change from then on."""
        self._watch = Watch(tuple(dict.fromkeys(units)), sink)
        await self._hear_of_changes()
        await self.refresh()

    async def refresh(self, only: Collection[str] | None = None) -> None:
        """Read all watched units anew, or `only` some; older signals of systemd are told before this returns.

        systemd sends a unit's change before the end of its job, and the bus keeps the order, so whoever
        learnt of a job's end by another way sees here the states it led to.
        """
        watch = self._watch
        if watch is None:
            return
        units = watch.units if only is None else [unit for unit in watch.units if unit in only]
        with watch.hearing() as heard:
            listed = await self._list(units)
            if await self._signals.hear({path for path, _ in listed.values()}):
                listed = await self._list(units)  # what changed before was not heard
        if watch is self._watch:
            watch.read(listed, heard)

    async def see_ends_of(self, results: Collection[UnitResult]) -> None:
        """Have told what these jobs led to before this returns; raises `BusUnavailable`.

        Mostly their signals were faster than who tells of the results, and nothing has to be read.
        """
        if self._watch is not None and not self._watch.saw_ends_of(results):
            await self.refresh({result.unit for result in results})

    async def run(self, action: Action, units: Iterable[str]) -> tuple[UnitResult, ...]:
        """Queue a job for each of `units` at once and wait for all; stops go in reverse order.

        A unit for which systemd makes no job has the result `refused`. Raises `BusUnavailable` if the
        connection is lost before the last job ended.
        """
        method = {
            Action.START: self._manager.start_unit,
            Action.STOP: self._manager.stop_unit,
            Action.RESTART: self._manager.try_restart_unit,
        }[action]
        await self._hear_jobs()
        ordered = list(units) if action is not Action.STOP else list(units)[::-1]
        with self._jobs.collecting():
            if len(ordered) == 1:  # most groups: it needs no task of its own
                return (await self._run_one(method, ordered[0]),)
            return tuple(await asyncio.gather(*(self._run_one(method, unit) for unit in ordered)))

    async def execute(self, command: Command) -> Ended | None:
        """Run a command to its end; None if its unit could not be made, as while another of its name runs.

        Raises `BusUnavailable` if the connection is lost before that; the command goes on.
        """
        path = sdbus.encode_object_path(f"{PATH}/unit", command.unit)
        properties = transient.properties_of(command, await self._environment())
        if path in self._commands:
            return None
        said = self._commands[path] = {}
        try:
            await self._hear_jobs()
            async with self._signals.receiving_changes_of(path, self._command_changed):
                with self._jobs.collecting():
                    make = self._manager.start_transient_unit(command.unit, "fail", properties, [])
                    job = await self._connection.call(make)
                    await self._jobs.result(job)
        except sdbus.SdBusBaseError:
            return None
        finally:
            del self._commands[path]
        return transient.ended(said)

    async def _environment(self) -> list[str]:
        """The names of the variables that systemd gives to every unit."""
        try:
            variables = await self._connection.call(self._manager.environment)
        except sdbus.SdBusBaseError as error:
            raise BusUnavailable(sentence(error)) from error
        return [variable.partition("=")[0] for variable in variables]

    async def until_lost(self) -> BusUnavailable:
        """Return when this connection no longer works, or systemd no longer answers on it."""
        while not self._connection.lost.is_set():
            try:
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await self._connection.lost.wait()
            except TimeoutError:
                await self._ping()
        lost = BusUnavailable("the connection was lost")
        self._jobs.lose(lost)
        return lost

    async def _ping(self) -> None:
        try:
            await self._connection.call(self._manager.dbus_ping())
        except BusUnavailable:
            self._connection.lost.set()

    async def _subscribe(self) -> None:
        """Add the matches, then ask systemd for its signals: this way none is missed."""
        await self._signals.receive(f"{SYSTEMD}.Manager", "Reloading", self._reloading)
        await self._signals.receive_owners(self._owner_changed)
        await self._manager.subscribe()

    async def _run_one(self, method: Callable[[str, str], Awaitable[str]], unit: str) -> UnitResult:
        try:
            job = await self._connection.call(method(unit, "replace"))
        except sdbus.SdBusBaseError as error:
            return UnitResult(unit, JobResult.REFUSED, sentence(error))
        return UnitResult(unit, await self._jobs.result(job), job_id=int(job.rpartition("/")[2]))

    async def _list(self, units: Iterable[str]) -> dict[str, tuple[str, UnitState]]:
        """The object path and state of each unit, by the name it was asked for (which may be an alias)."""
        names = list(units)
        try:
            rows = await self._connection.call(self._manager.list_units_by_names(names))
            pairs = zip(names, rows, strict=True)  # one row for each name, in the same order
            return {name: (row[6], _unit_state(row[2], row[3], row[4])) for name, row in pairs}
        except (sdbus.SdBusBaseError, ValueError) as error:
            raise BusUnavailable(sentence(error)) from error

    async def _hear_jobs(self) -> None:
        """Have the ends of jobs told, from the first job on: who only watches is not woken up for them."""
        if self._hears_jobs:
            return
        self._hears_jobs = True  # also for who comes while this is on its way: their jobs are made after it
        try:
            await self._signals.receive(f"{SYSTEMD}.Manager", "JobRemoved", self._job_removed)
        except BusUnavailable:
            self._hears_jobs = False
            raise

    async def _hear_of_changes(self) -> None:
        """Have the changes of units told, from the first watch on."""
        if not self._hears_changes:
            self._hears_changes = True
            await self._signals.receive_changes(self._unit_changed)

    def _job_removed(self, message: Message) -> None:
        _, path, _, result = message.get_contents()
        self._jobs.removed(path, JobResult(result))

    def _command_changed(self, message: Message) -> None:
        command = self._commands.get(message.path)
        interface, changed, _ = message.get_contents()
        if command is not None and interface == transient.SERVICE:
            command.update(changed)

    def _unit_changed(self, message: Message) -> None:
        watch = self._watch
        if watch is None or not watch.wants(message.path):
            return
        interface, changed, _ = message.get_contents()
        if interface != UNIT or "ActiveState" not in changed:
            return
        active, sub = ActiveState(changed["ActiveState"][1]), changed["SubState"][1]
        job_id = _job_of(changed)
        # systemd 252 restarts a crashed unit by way of inactive. That is not off: the job's end, which
        # is another signal, says what comes of it.
        if active is not ActiveState.INACTIVE or not job_id:
            watch.changed(message.path, active, sub)
        watch.has_job(message.path, job_id)
        if watch.missing(message.path):
            self._refresh_soon()  # it changed, so it is there now

    def _owner_changed(self, message: Message) -> None:
        name, _, owner = message.get_contents()
        if name == SYSTEMD and owner != self._owner:
            self._connection.lost.set()

    def _reloading(self, message: Message) -> None:
        starts = message.get_contents()
        if not starts and self._watch is not None:
            self._refresh_soon()

    def _refresh_soon(self) -> None:
        task = asyncio.ensure_future(self._refresh_if_possible())
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _refresh_if_possible(self) -> None:
        with suppress(BusUnavailable):  # until_lost() notices, and a new connection reads everything
            await self.refresh()


def _unit_state(load: str, active: str, sub: str) -> UnitState:
    return UnitState(LoadState(load), ActiveState(active), sub)


def _job_of(properties: Mapping[str, tuple[str, Any]]) -> int:
    """The job that is about to change a unit, 0 for none."""
    _, (job_id, _) = properties.get("Job", ("(uo)", (0, "/")))
    return int(job_id)
