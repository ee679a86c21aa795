"""systemd over the system bus: watch units, run jobs, await their results. The only module that knows sdbus.

The interface is described in org.freedesktop.systemd1(5). Nothing here decides anything: callers name units
that the config allowed. The daemon uses `Systemd.watch`, which needs no privilege; the helper uses
`Systemd.run`, as root.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar, Final, Self, TypeVar

import sdbus
from sdbus import dbus_method_async

from hkswitch.core.errors import BusUnavailable
from hkswitch.core.model import Action, ActiveState, JobResult, LoadState, UnitResult, UnitState
from hkswitch.core.watch import UnitSink, Watch
from hkswitch.jobs import Jobs

SYSTEMD: Final = "org.freedesktop.systemd1"
MANAGER_PATH: Final = "/org/freedesktop/systemd1"
BUS: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"

MOST_CALLS_IN_FLIGHT: Final = 32
"""dbus-daemon refuses the 129th call of a connection that still waits for answers; stay far below."""

CALL_TIMEOUT_SECONDS: Final = 10
HEARTBEAT_SECONDS: Final = 15
OWNER_WITHIN_SECONDS: Final = 5

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
        self._jobs = Jobs()
        self._watch: Watch | None = None
        self._matches: list[object] = []  # a match ends when its slot is forgotten
        self._refreshing: set[asyncio.Future[None]] = set()

    @classmethod
    async def connect(cls) -> Self:
        """Open the system bus and subscribe to systemd's signals; raises `BusUnavailable`."""
        with ExitStack() as on_failure:
            try:
                connection = _Connection()
                on_failure.callback(connection.close)
                owner = await _owner_of_systemd(connection.bus)
                systemd = cls(connection, owner)
                await systemd._subscribe()
            except _BUS_ERRORS as error:
                raise BusUnavailable(_sentence(error)) from error
            on_failure.pop_all()
        return systemd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; jobs and answers that are waited for end as lost, and the watch ends."""
        self._watch = None
        self._matches.clear()
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
            active, sub = ActiveState(changed["ActiveState"][1]), changed["SubState"][1]
            # systemd 252 restarts a crashed unit by way of inactive. That is not off: the job's end, which
            # is another signal, says what comes of it.
            if active is not ActiveState.INACTIVE or not _has_job(changed):
                self._watch.changed(message.path, active, sub)
            if self._watch.missing(message.path):
                self._refresh_soon()  # it changed, so it is there now

    def _owner_changed(self, message: _Message) -> None:
        name, _, owner = message.get_contents()
        # TRUST: any local user may send this signal too, but only the bus itself under its name.
        if message.sender == BUS and name == SYSTEMD and owner != self._owner:
            self._connection.lost.set()

    def _reloading(self, message: _Message) -> None:
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


class _Connection:
    """A connection to the system bus, with what sdbus leaves out: to tell that it broke, and to end whole."""

    _ended: ClassVar[list[sdbus.SdBus]] = []
    """Kept for ever, a few KB each: their destructor stops the event loop from reading the descriptor that
    has the number of the connection's by then, whatever it is: another controller, the helper's pipe."""

    def __init__(self) -> None:
        """Open it; raises one of `_BUS_ERRORS`. `lost` is set when it breaks."""
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.bus = sdbus.sd_bus_open_system()
        self.bus.method_call_timeout_usec = CALL_TIMEOUT_SECONDS * 1_000_000
        before = _timers()
        self.bus.process()  # makes its timer, which nothing but the destructor would close
        self._timers = _timers() - before
        self._socket = socket.socket(fileno=os.dup(self.bus.get_fd()))
        self._loop.add_reader(self._socket, self._read)

    def close(self) -> None:
        """Close it. Calls that wait for answers fail: sdbus does that at the end of its input only."""
        if self._socket.fileno() < 0:
            return
        with suppress(OSError):  # it broke before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._read()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        while self._timers:
            timer = self._timers.pop()
            self._loop.remove_reader(timer)
            self._loop.call_soon(os.close, timer)  # after what sdbus itself has put off
        self._ended.append(self.bus)

    def _read(self) -> None:
        """Let sdbus read what it has not read yet, and notice the end."""
        try:
            self.bus.process()
            self.bus.get_fd()
        except sdbus.SdBusBaseError:
            self._loop.remove_reader(self._socket)
            self.lost.set()


def _timers() -> set[int]:
    """The timer descriptors of this process."""
    links = Path("/proc/self/fd").iterdir()
    return {int(link.name) for link in links if link.resolve().name == "anon_inode:[timerfd]"}


async def _owner_of_systemd(bus: sdbus.SdBus) -> str:
    """The unique name of systemd. At boot it comes to the bus a moment after the bus itself."""
    names = _BusDaemon.new_proxy(BUS, BUS_PATH, bus)
    deadline_seconds = time.monotonic() + OWNER_WITHIN_SECONDS
    while True:
        try:
            return await names.get_name_owner(SYSTEMD)
        except sdbus.DbusNameHasNoOwnerError:
            if time.monotonic() > deadline_seconds:
                raise
            await asyncio.sleep(0.1)


def _unit_state(load: str, active: str, sub: str) -> UnitState:
    return UnitState(LoadState(load), ActiveState(active), sub)


def _sentence(error: BaseException) -> str:
    """The human part of a bus error; sdbus puts the error's name before it where it has no class for it."""
    if isinstance(error, sdbus.SdBusLibraryError) and (
        number := re.search(r"error number: (\d+)", str(error))
    ):
        return os.strerror(int(number[1]))
    return str(error.args[-1]).rstrip(".") if error.args else type(error).__name__


def _has_job(properties: Mapping[str, tuple[str, Any]]) -> bool:
    """Whether a unit is about to change."""
    _, (job, _) = properties.get("Job", ("(uo)", (0, "/")))
    return bool(job)
