"""The client's end of a connection to the simulated bus: it stands in for sdbus.

hkswitch's own proxies and connections work on it unchanged. It must not know who answers its calls.
"""

import asyncio
import errno
import itertools
from collections import Counter, deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, NamedTuple, Protocol, cast

import sdbus

from hkswitch.systemd.connection import BUS, BUS_PATH, PROPERTIES_INTERFACE, BusConnection
from tests.world.messages import Delay, Message, Pipe, Rule, text_of

Callback = Callable[[Message], None]


class Reply(NamedTuple):
    """The answer to a call of a connection: a message, or the error that it raises."""

    serial: int
    answer: Message | Exception


class Bus(Protocol):
    """The other end."""

    delay_seconds: Delay

    def open(self, lose: Callable[[], None]) -> "ClientBus":
        """A new connection."""

    def called(self, client: "ClientBus", serial: int, message: Message) -> None:
        """Take a call."""

    def leave(self, client: "ClientBus") -> None:
        """Forget a connection that ended."""


class SimulatedConnection(BusConnection):
    """hkswitch's connection, on a simulated bus."""

    def __init__(self, bus: Bus) -> None:
        self._simulated = bus
        super().__init__()

    def _open(self) -> None:
        self.client = self._simulated.open(self.lost.set)
        self.bus = cast("sdbus.SdBus", self.client)

    def close(self) -> None:
        self.lost.set()
        self.client.close()


class Slot:
    """A match that lasts until it is forgotten, as sdbus's does."""

    __slots__ = ("_drop",)

    def __init__(self, drop: Callable[[], None]) -> None:
        self._drop = drop

    def __del__(self) -> None:
        self._drop()


class ClientBus:
    """The client's end of a connection: the part of sdbus's `SdBus` that hkswitch and its proxies use."""

    def __init__(self, bus: Bus, name: str, lose: Callable[[], None]) -> None:
        self.name = name
        self.rules: Counter[Rule] = Counter()
        """Kept by the bus."""
        self.method_call_timeout_usec = 10_000_000
        self._bus = bus
        self._lose = lose
        self._is_open = True
        self._serials = itertools.count(1)
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._deadlines: deque[tuple[float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._matches: dict[int, tuple[Rule, Callback]] = {}
        self._to_bus: Pipe[tuple[int, Message] | None] = Pipe(self._arrived, bus.delay_seconds)
        self._to_client: Pipe[Reply | Message | None] = Pipe(self._come, bus.delay_seconds)
        self._context = copy_context()
        """In which the client's code runs."""

    # What sdbus has

    def new_method_call_message(self, destination: str, path: str, interface: str, member: str) -> Message:
        return Message(path, interface, member, destination=destination)

    def new_property_get_message(self, destination: str, path: str, interface: str, name: str) -> Message:
        return Message(path, PROPERTIES_INTERFACE, "Get", (interface, name), destination)

    def call_async(self, message: Message) -> asyncio.Future[Any]:
        if not self._is_open:
            raise sdbus.SdBusLibraryError(f"returned error number: {errno.ENOTCONN}")
        loop = asyncio.get_running_loop()
        serial, future = next(self._serials), loop.create_future()
        self._calls[serial] = future
        self._deadlines.append((loop.time() + self.method_call_timeout_usec / 1_000_000, serial))
        if self._timer is None:
            self._arm()
        self._to_bus.send((serial, message))
        return future

    def match_signal_async(
        self, sender: str, path: str | None, interface: str, member: str, callback: Callback
    ) -> asyncio.Future[Any]:
        rule = Rule(sender, interface, member, path)
        slot = Slot(lambda: self._unmatch(number))
        added = self.call_async(_bus_call("AddMatch", text_of(rule)))
        number = next(self._serials)
        self._matches[number] = (rule, callback)
        future = asyncio.get_running_loop().create_future()
        added.add_done_callback(lambda answer: _pass_on(answer, future, slot))
        return future

    def close(self) -> None:
        """As hkswitch's connection does it: what was sent still arrives, and calls fail."""
        if self._is_open:
            self._to_bus.send(None)
            self._end()

    # The rest is the bus's

    def answer(self, serial: int, answer: Message | Exception) -> None:
        """Send the answer to a call."""
        if self._is_open:
            self._to_client.send(Reply(serial, answer))

    def signal(self, message: Message) -> None:
        """Send a signal, wanted or not."""
        if self._is_open:
            self._to_client.send(message)

    def break_off(self) -> None:
        """The bus is gone: what it sent before can still be read."""
        self._to_bus.close()
        self._to_client.send(None)

    def destroy(self) -> None:
        """Leave nothing that would still happen."""
        self._to_bus.close()
        self._end()

    def _arrived(self, item: tuple[int, Message] | None) -> None:
        if item is None:
            self._bus.leave(self)
        else:
            self._bus.called(self, *item)

    def _come(self, item: Reply | Message | None) -> None:
        self._context.run(self._receive, item)

    def _receive(self, item: Reply | Message | None) -> None:
        match item:
            case None:
                self._end()
                self._lose()
            case Reply(serial, answer):
                self._settle(serial, answer)
            case Message():
                for rule, callback in list(self._matches.values()):
                    if rule[1:3] == (item.interface, item.member) and rule.path in {None, item.path}:
                        callback(item)

    def _settle(self, serial: int, answer: Message | Exception) -> None:
        future = self._calls.pop(serial, None)
        if future is None or future.done():  # it timed out, or was given up
            return
        if isinstance(answer, Message):
            future.set_result(answer)
        else:
            future.set_exception(answer)

    def _end(self) -> None:
        self._is_open = False
        self._matches.clear()
        self._to_client.close()
        self._stop_timer()
        for serial in list(self._calls):
            self._settle(serial, sdbus.DbusNoReplyError("BusConnection terminated"))

    def _unmatch(self, number: int) -> None:
        """Have sdbus forget a match: it does not wait for an answer."""
        found = self._matches.pop(number, None)
        if found is not None:
            self._to_bus.send((0, _bus_call("RemoveMatch", text_of(found[0]))))

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._deadlines[0][0], self._time_out)

    def _time_out(self) -> None:
        now_seconds = max(asyncio.get_running_loop().time(), self._deadlines[0][0])
        while self._deadlines and (
            self._deadlines[0][0] <= now_seconds or self._deadlines[0][1] not in self._calls
        ):
            self._settle(self._deadlines.popleft()[1], sdbus.DbusNoReplyError("Method call timed out"))
        self._timer = None
        if self._deadlines:
            self._arm()

    def _stop_timer(self) -> None:
        self._deadlines.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _pass_on(answer: asyncio.Future[Any], future: asyncio.Future[Any], slot: Slot) -> None:
    """Give the slot to who waits for the match."""
    error = answer.exception()  # also if it is no longer awaited
    if future.done():
        return
    if error is None:
        future.set_result(slot)
    else:
        future.set_exception(error)


def _bus_call(member: str, text: str) -> Message:
    return Message(BUS_PATH, BUS, member, (text,), BUS)
