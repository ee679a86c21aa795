"""systemd over the system bus: watch units, run jobs, await their results. The only module that knows sdbus.

The interface is described in org.freedesktop.systemd1(5). Nothing here decides anything: callers name units
that the config allowed. The daemon uses `Systemd.watch`, which needs no privilege; the helper uses
`Systemd.run`, as root.
"""

import asyncio
import os
import select
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Final, Self, TypeVar

import sdbus
from sdbus import dbus_method_async

from hkswitch.core.errors import BusUnavailable
from hkswitch.core.model import Action, ActiveState, JobResult, LoadState, UnitResult, UnitState

SYSTEMD: Final = "org.freedesktop.systemd1"
MANAGER_PATH: Final = "/org/freedesktop/systemd1"
BUS: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"

MOST_CALLS_IN_FLIGHT: Final = 32
"""dbus-daemon refuses the 129th call of a connection that still waits for answers; stay far below."""

CALL_TIMEOUT_SECONDS: Final = 10
HEARTBEAT_SECONDS: Final = 15

UnitSink = Callable[[Mapping[str, UnitState]], None]
"""Is told the states of units that changed, or were read, by the names they are watched under."""

_Message = Any  # sdbus does not export the type
_Result = TypeVar("_Result")

_BUS_ERRORS = (sdbus.SdBusBaseError, ConnectionError, TimeoutError)
_LOSSES = (
    sdbus.SdBusLibraryError,
    sdbus.DbusDisconnectedError,
    sdbus.DbusNoReplyError,
    sdbus.DbusServiceUnknownError,
    sdbus.DbusNameHasNoOwnerError,
    sdbus.DbusTimeoutError,
    ConnectionError,
    TimeoutError,
)


class _Manager(sdbus.DbusInterfaceCommonAsync, interface_name=f"{SYSTEMD}.Manager"):
    """The methods of systemd's manager object that hkswitch calls: no others exist for it."""

    @dbus_method_async()
    async def subscribe(self) -> None:
        raise NotImplementedError

    @dbus_method_async("ss", "o")
    async def start_unit(self, name: str, mode: str) -> str:
        raise NotImplementedError

    @dbus_method_async("ss", "o")
    async def stop_unit(self, name: str, mode: str) -> str:
        raise NotImplementedError

    @dbus_method_async("ss", "o")
    async def try_restart_unit(self, name: str, mode: str) -> str:
        raise NotImplementedError

    @dbus_method_async("as", "a(ssssssouso)")
    async def list_units_by_names(self, names: list[str]) -> list[tuple[Any, ...]]:
        raise NotImplementedError


class _BusDaemon(sdbus.DbusInterfaceCommonAsync, interface_name=BUS):
    """The one method of the bus itself."""

    @dbus_method_async("s", "s")
    async def get_name_owner(self, name: str) -> str:
        raise NotImplementedError


class Systemd:
    """One connection to the system bus, and systemd at its other end.

    A connection that was lost stays lost: make a new one.
    """

    def __init__(self, connection: "_Connection", owner: str) -> None:
        """Use `connect`; `owner` is systemd's unique name on this bus."""
        self._connection = connection
        self._owner = owner
        self._manager = _Manager.new_proxy(SYSTEMD, MANAGER_PATH, connection.bus)
        self._calls = asyncio.Semaphore(MOST_CALLS_IN_FLIGHT)
        self._jobs = _Jobs()
        self._watch: _Watch | None = None
        self._matches: list[object] = []  # a match ends when its slot is forgotten
        self._refreshing: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls) -> Self:
        """Open the system bus and subscribe to systemd's signals; raises `BusUnavailable`."""
        with ExitStack() as on_failure:
            try:
                connection = _Connection()
                on_failure.callback(connection.close)
                owner = await _BusDaemon.new_proxy(BUS, BUS_PATH, connection.bus).get_name_owner(SYSTEMD)
                systemd = cls(connection, owner)
                await systemd._subscribe()
            except _BUS_ERRORS as error:
                raise BusUnavailable(_sentence(error)) from error
            on_failure.pop_all()
        return systemd

    def close(self) -> None:
        """Close the connection; jobs and answers that are waited for end as lost, and the watch ends."""
        self._watch = None
        self._jobs.lose(BusUnavailable("the connection was closed"))
        if self._refreshing is not None:
            self._refreshing.cancel()
        self._connection.close()

    async def states(self, units: Iterable[str]) -> dict[str, UnitState]:
        """The states of `units` as systemd has them now; raises `BusUnavailable`."""
        return {name: state for name, (_, state) in (await self._list(units)).items()}

    async def watch(self, units: Iterable[str], sink: UnitSink) -> None:
        """Tell `sink` the states of all `units` before this returns, and each change from then on."""
        self._watch = _Watch(tuple(dict.fromkeys(units)), sink)
        await self.refresh()

    async def refresh(self) -> None:
        """Read the watched units anew; signals that systemd sent before are told before this returns.

        systemd sends a unit's change before the end of its job, and the bus keeps the order, so whoever
        learnt of a job's end by another way sees here the states it led to.
        """
        watch = self._watch
        if watch is None:
            return
        with watch.hearing() as heard:
            listed = await self._list(watch.units)
        if watch is self._watch:
            watch.read(listed, heard)

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
        ordered = list(units) if action is not Action.STOP else list(units)[::-1]
        with self._jobs.collecting():
            return tuple(await asyncio.gather(*(self._run_one(method, unit) for unit in ordered)))

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
            await self._call(self._manager.dbus_ping())
        except BusUnavailable:
            self._connection.lost.set()

    async def _subscribe(self) -> None:
        """Add the matches, then ask systemd for its signals: this way none is missed."""
        await self._receive(f"{SYSTEMD}.Manager", "JobRemoved", self._job_removed)
        await self._receive(f"{SYSTEMD}.Manager", "Reloading", self._reloading)
        await self._receive("org.freedesktop.DBus.Properties", "PropertiesChanged", self._properties_changed)
        await self._match(BUS, BUS, "NameOwnerChanged", self._owner_changed)
        await self._manager.subscribe()

    async def _run_one(self, method: Callable[[str, str], Awaitable[str]], unit: str) -> UnitResult:
        try:
            job = await self._call(method(unit, "replace"))
        except sdbus.SdBusBaseError as error:
            return UnitResult(unit, JobResult.REFUSED, _sentence(error))
        return UnitResult(unit, await self._jobs.result(job))

    async def _list(self, units: Iterable[str]) -> dict[str, tuple[str, UnitState]]:
        """The object path and state of each unit, by the name it was asked for (which may be an alias)."""
        names = list(units)
        try:
            rows = await self._call(self._manager.list_units_by_names(names))
            pairs = zip(names, rows, strict=True)  # one row for each name, in the same order
            return {name: (row[6], _unit_state(row[2], row[3], row[4])) for name, row in pairs}
        except (sdbus.SdBusBaseError, ValueError) as error:
            raise BusUnavailable(_sentence(error)) from error

    async def _call(self, call: Awaitable[_Result]) -> _Result:
        """Await a bus call; a loss of the connection becomes `BusUnavailable`, systemd's own errors pass."""
        async with self._calls:
            try:
                return await call
            except _LOSSES as error:
                raise BusUnavailable(_sentence(error)) from error

    async def _receive(self, interface: str, member: str, callback: Callable[[_Message], None]) -> None:
        def checked(message: _Message) -> None:
            # TRUST: any local user may send a signal straight to us, past the match: believe systemd only.
            if message.sender == self._owner:
                callback(message)

        await self._match(SYSTEMD, interface, member, checked)

    async def _match(
        self, sender: str, interface: str, member: str, callback: Callable[[_Message], None]
    ) -> None:
        matching = self._connection.bus.match_signal_async(sender, None, interface, member, callback)
        self._matches.append(await matching)

    def _job_removed(self, message: _Message) -> None:
        _, path, _, result = message.get_contents()
        self._jobs.removed(path, JobResult(result))

    def _properties_changed(self, message: _Message) -> None:
        if self._watch is None or not self._watch.wants(message.path):
            return
        interface, changed, _ = message.get_contents()
        if interface == f"{SYSTEMD}.Unit" and "ActiveState" in changed:
            active, sub = changed["ActiveState"][1], changed["SubState"][1]
            self._watch.changed(message.path, ActiveState(active), sub)

    def _owner_changed(self, message: _Message) -> None:
        name, _, owner = message.get_contents()
        # TRUST: a forged one costs a new connection, which asks the bus itself who systemd is.
        if name == SYSTEMD and owner != self._owner:
            self._connection.lost.set()

    def _reloading(self, message: _Message) -> None:
        starts = message.get_contents()
        if not starts and self._watch is not None:
            self._refreshing = asyncio.ensure_future(self._refresh_after_reload())

    async def _refresh_after_reload(self) -> None:
        with suppress(BusUnavailable):  # until_lost() notices, and a new connection reads everything
            await self.refresh()


class _Jobs:
    """Results of jobs, whichever comes first: the answer that names the job, or its end."""

    def __init__(self) -> None:
        self._collectors = 0
        self._ended: dict[str, JobResult] = {}
        self._waiting: dict[str, list[asyncio.Future[JobResult]]] = {}

    def collecting(self) -> "_Jobs":
        """While entered, the ends of unknown jobs are kept: their names may be on the way."""
        return self

    def __enter__(self) -> None:
        self._collectors += 1

    def __exit__(self, *_: object) -> None:
        self._collectors -= 1
        if not self._collectors:
            self._ended.clear()

    def removed(self, path: str, result: JobResult) -> None:
        for future in self._waiting.pop(path, ()):
            if not future.done():
                future.set_result(result)
        if self._collectors:
            self._ended[path] = result

    async def result(self, path: str) -> JobResult:
        if (ended := self._ended.get(path)) is not None:
            return ended
        future: asyncio.Future[JobResult] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(path, []).append(future)
        return await future

    def lose(self, error: BusUnavailable) -> None:
        for future in (future for futures in self._waiting.values() for future in futures):
            if not future.done():
                future.set_exception(error)
        self._waiting.clear()


_Heard = dict[str, tuple[ActiveState, str]]


class _Watch:
    """The last known states of the watched units; an alias and its unit share one object path."""

    def __init__(self, units: tuple[str, ...], sink: UnitSink) -> None:
        self.units = units
        self._sink = sink
        self._names: dict[str, list[str]] = {}
        self._states: dict[str, UnitState] = {}
        self._reads: list[_Heard] = []

    @contextmanager
    def hearing(self) -> Iterator[_Heard]:
        """Keep what signals say while a read is under way."""
        heard: _Heard = {}
        self._reads.append(heard)
        try:
            yield heard
        finally:
            self._reads.remove(heard)

    def wants(self, path: str | None) -> bool:
        return path in self._names or bool(self._reads)

    def read(self, listed: Mapping[str, tuple[str, UnitState]], heard: _Heard) -> None:
        """Take over what a read returned, but for the units of which a signal came meanwhile.

        The signal may be newer, as it overtakes the answer on its way to us; should it be older, then
        systemd will send another one.
        """
        self._names = {}
        for name, (path, state) in listed.items():
            self._names.setdefault(path, []).append(name)
            active, sub = heard.get(path, (state.active, state.sub))
            self._states[name] = UnitState(state.load, active, sub)
        self._sink(dict(self._states))

    def changed(self, path: str, active: ActiveState, sub: str) -> None:
        for heard in self._reads:
            heard[path] = (active, sub)
        names = self._names.get(path, ())
        for name in names:
            # What LoadState says changes only by a reload, which is read anew.
            self._states[name] = UnitState(self._states[name].load, active, sub)
        if names:
            self._sink({name: self._states[name] for name in names})


def _unit_state(load: str, active: str, sub: str) -> UnitState:
    return UnitState(LoadState(load), ActiveState(active), sub)


def _sentence(error: BaseException) -> str:
    """The human part of a bus error; sdbus puts the error's name before it where it has no class for it."""
    return str(error.args[-1]).rstrip(".") if error.args else type(error).__name__
