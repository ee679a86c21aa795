"""A connection to the system bus: the parts that sdbus lacks, and the meaning of its errors."""

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import sdbus
from sdbus import dbus_method_async

from hkswitch.model.errors import BusUnavailable

SYSTEMD: Final = "org.freedesktop.systemd1"
PROPERTIES_INTERFACE: Final = "org.freedesktop.DBus.Properties"
BUS: Final = "org.freedesktop.DBus"
BUS_PATH: Final = "/org/freedesktop/DBus"

MOST_CALLS_IN_FLIGHT: Final = 32
"""dbus-daemon refuses the 129th pending call of a connection; stay far below."""

CALL_TIMEOUT_SECONDS: Final = 10
OWNER_WITHIN_SECONDS: Final = 5

_Result = TypeVar("_Result")

BUS_ERRORS: Final = (sdbus.SdBusBaseError, ConnectionError, TimeoutError)
_LOSSES: Final = (
    sdbus.SdBusLibraryError,
    sdbus.DbusDisconnectedError,
    sdbus.DbusNoReplyError,
    sdbus.DbusServiceUnknownError,
    sdbus.DbusNameHasNoOwnerError,
    sdbus.DbusTimeoutError,
    ConnectionError,
    TimeoutError,
)


class BusItself(sdbus.DbusInterfaceCommonAsync, interface_name=BUS):
    """The bus driver (D-Bus specification, "Message Bus Messages")."""

    @dbus_method_async("s", "s")
    async def get_name_owner(self, name: str) -> str:
        """Return the unique name of a name's owner."""
        raise NotImplementedError

    @dbus_method_async("s")
    async def add_match(self, rule: str) -> None:
        """Send messages that match the rule to this connection."""
        raise NotImplementedError

    @dbus_method_async("s")
    async def remove_match(self, rule: str) -> None:
        """Undo `add_match` with the same rule."""
        raise NotImplementedError


def bus_itself(bus: sdbus.SdBus) -> BusItself:
    """Return the bus driver of a connection."""
    return BusItself.new_proxy(BUS, BUS_PATH, bus)


class BusConnection:
    """A connection to the system bus that notices its loss and closes completely, unlike sdbus's own."""

    _ended: ClassVar[list[sdbus.SdBus]] = []
    """Never freed, a few KB each: the destructor removes the event loop's reader of the descriptor number,
    which may by then belong to a controller's connection or to the helper's pipe."""

    def __init__(self) -> None:
        """Open it; raises one of `BUS_ERRORS`. `lost` is set when it breaks or is given up."""
        self.lost = asyncio.Event()
        self.why_lost = "the connection was lost"
        self._loop = asyncio.get_running_loop()
        self._calls = asyncio.Semaphore(MOST_CALLS_IN_FLIGHT)
        self._open()

    def _open(self) -> None:
        self.bus = sdbus.sd_bus_open_system()
        self.bus.method_call_timeout_usec = CALL_TIMEOUT_SECONDS * 1_000_000
        descriptor = self.bus.get_fd()
        self._socket = socket.socket(fileno=os.dup(descriptor))
        self._loop.add_reader(self._socket, self._read)
        before = _timers()
        self._read()  # creates its timer, which only the destructor would close
        self._timers = _timers() - before
        self._loop.remove_reader(descriptor)  # sdbus's own, which does not report the end

    async def call(self, call: Awaitable[_Result]) -> _Result:
        """Await a bus call; raises `BusUnavailable` for a lost connection, and systemd's own errors."""
        try:
            async with self._calls:
                if self.lost.is_set():
                    raise BusUnavailable("the connection was lost")
                return await call
        except _LOSSES as error:
            raise self.lose(error) from error
        finally:
            if isinstance(call, Coroutine):
                call.close()  # it may not have started

    async def call_or_lose(self, call: Awaitable[_Result]) -> _Result:
        """Await a call that must not fail: systemd's own errors, too, count as a lost connection."""
        try:
            return await self.call(call)
        except sdbus.SdBusBaseError as error:
            raise self.lose(error) from error

    def lose(self, error: BaseException) -> BusUnavailable:
        """Give up the connection; the next one reads everything again.

        A connection that continued after a call without a reply could have missed something for good.
        """
        if not self.lost.is_set():
            self.why_lost = sentence(error)
            self.lost.set()
        return BusUnavailable(sentence(error))

    async def properties(self, path: str, interface: str) -> dict[str, Any]:
        """Read all properties of a systemd object; raises as `call` does."""
        answer = await self.call(self._ask(path, "GetAll", interface))
        return {name: value for name, (_, value) in answer.items()}

    async def property(self, path: str, interface: str, name: str) -> Any:  # noqa: ANN401 -- D-Bus has all types
        """Read one property of a systemd object; raises as `call` does."""
        _, value = await self.call(self._ask(path, "Get", interface, name))
        return value

    async def _ask(self, path: str, member: str, *words: str) -> Any:  # noqa: ANN401 -- D-Bus has all types
        # Not before `call` awaits it: on a broken connection, the next two lines raise.
        asked = self.bus.new_method_call_message(SYSTEMD, path, PROPERTIES_INTERFACE, member)
        asked.append_data("s" * len(words), *words)
        return (await self.bus.call_async(asked)).get_contents()

    def close(self) -> None:
        """Close it, and fail pending calls, which sdbus does only at the end of its input."""
        if self._socket.fileno() < 0:
            return
        with suppress(OSError):  # it is already broken
            self._socket.shutdown(socket.SHUT_RDWR)
        self._read()
        self.lost.set()  # sdbus does not notice the end before the bus has answered for the first time
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._loop.call_soon(self._end_timers)
        self._ended.append(self.bus)

    def _end_timers(self) -> None:
        """Close its timers after sdbus's deferred work: while the bus is closing, it defers more."""
        try:
            self.bus.get_fd()
        except sdbus.SdBusBaseError:
            while self._timers:
                timer = self._timers.pop()
                self._loop.remove_reader(timer)
                self._loop.call_soon(os.close, timer)
        else:
            self._loop.call_soon(self._end_timers)

    def _read(self) -> None:
        """Let sdbus process its input, and notice the end."""
        try:
            self._process()
            self.bus.get_fd()
        except sdbus.SdBusBaseError:
            self._loop.remove_reader(self._socket)
            self.lost.set()

    def _process(self) -> None:
        while True:
            try:
                self.bus.process()
            except asyncio.InvalidStateError:  # the reply to a cancelled call; others follow it
                continue
            return


def _timers() -> set[int]:
    """Return the timer descriptors of this process."""
    return {int(link.name) for link in Path("/proc/self/fd").iterdir() if _is_timer(link)}


def _is_timer(descriptor: Path) -> bool:
    with suppress(FileNotFoundError):  # another thread has closed it since
        return descriptor.readlink().name == "anon_inode:[timerfd]"
    return False


async def owner_of_systemd(bus: sdbus.SdBus) -> str:
    """Return systemd's unique name; at boot, it connects a moment after the bus starts."""
    names = bus_itself(bus)
    loop = asyncio.get_running_loop()
    deadline_seconds = loop.time() + OWNER_WITHIN_SECONDS
    while True:
        try:
            return await names.get_name_owner(SYSTEMD)
        except sdbus.DbusNameHasNoOwnerError:
            if loop.time() > deadline_seconds:
                raise
            await asyncio.sleep(0.1)


def sentence(error: BaseException) -> str:
    """Return the readable part of a bus error; sdbus prepends the name if it has no class for the error."""
    if isinstance(error, sdbus.SdBusLibraryError) and (
        number := re.search(r"error number: (\d+)", str(error))
    ):
        return os.strerror(int(number[1]))
    return str(error.args[-1]).rstrip(".") if error.args else type(error).__name__
