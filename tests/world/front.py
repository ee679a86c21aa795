"""What controllers see of a simulated bridge: no HomeKit, but its rules for writes, events and reads.

An event is told with the value of the moment in which it goes out, never to the connection that wrote it, and
never between a write and its answer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Protocol

from hkswitch.daemon.bridge import WriteHandler
from hkswitch.daemon.requests import Write
from hkswitch.daemon.serving import ServedBridge as DaemonFront
from hkswitch.daemon.tiles import tiles_of
from hkswitch.hap.setup_code import Setup
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from hkswitch.network.endpoint import Endpoint
from hkswitch.protocol.control import SetupInfo
from hkswitch.protocol.report import PairedController
from tests.world.messages import NOBODY

Key = tuple[str, Tile]

_numbers = count(1)

FAILED: Final = "no response"
"""What a read says that has no value."""


class AnyFront(DaemonFront, Protocol):
    """A front, as the world sees it."""

    @property
    def is_online(self) -> bool:
        """Whether controllers can connect."""

    @property
    def tiles(self) -> dict[Key, "Shown"]:
        """All tiles."""

    @property
    def sensors(self) -> dict[str, bool]:
        """Whether the sensors of groups are open."""

    @property
    def groups(self) -> dict[str, Group]:
        """The groups that it shows."""

    @property
    def lapses(self) -> list[str]:
        """The groups whose reads began to fail, one after the other; to be cleared by who counts."""

    @property
    def unruly(self) -> list[str]:
        """The rules of events that were broken."""

    def read(self) -> dict[Key, bool | str]:
        """What reads of all tiles say."""

    def units(self, group_id: str) -> tuple[str, ...] | None:
        """The units and containers of a group, None for one of commands."""

    def go_down(self) -> None:
        """Be gone."""


class SensorWatch(Protocol):
    """What is told of sensors."""

    def regrouped(self, groups: Iterable[Group]) -> None:
        """These groups are served from now on."""

    def shown(self, group_id: str, *, detected: bool) -> None:
        """The daemon shows a sensor, which may not change."""


@dataclass(slots=True)
class Shown:
    """A tile."""

    on: bool = False
    is_available: bool = False
    told_at_seconds: float = 0
    """When the switchboard said something of it, last."""

    @property
    def read(self) -> bool | str:
        """What a read says."""
        return self.on if self.is_available else FAILED


@dataclass(eq=False)
class Wire:
    """One connection of one controller; `hear` and `hear_sensor` are told events."""

    hear: Callable[[Key, bool], None]
    hear_sensor: Callable[[str, bool], None]
    delay_seconds: Callable[[], float]
    is_cut: bool = False
    writes: int = 0
    """That are not answered."""
    _untold: dict[Key, None] = field(default_factory=dict)
    _on_their_way: deque[Callable[[], None]] = field(default_factory=deque)
    _last_due_seconds: float = 0

    def event(self, key: Key, value: Callable[[], bool | None]) -> None:
        """There is news of a tile."""
        if self.writes:
            self._untold[key] = None
        else:
            self._send(key, value())

    def answered(self, value: Callable[[Key], bool | None]) -> None:
        """A write was answered: what was held back goes out behind it."""
        self.writes -= 1
        if not self.writes:
            untold, self._untold = self._untold, {}
            for key in untold:
                self._send(key, value(key))

    def sensor_event(self, group_id: str, is_open: bool) -> None:
        """There is news of a sensor, to which no controller writes."""

        def arrive() -> None:
            if not self.is_cut:
                self.hear_sensor(group_id, is_open)

        self.later(arrive)

    def later(self, call: Callable[[], None]) -> None:
        """Have something arrive, behind everything that was sent before it."""
        loop = asyncio.get_running_loop()
        self._last_due_seconds = max(self._last_due_seconds, loop.time() + self.delay_seconds())
        self._on_their_way.append(call)  # timers of the same moment have no order
        loop.call_at(self._last_due_seconds, self._arrive, context=NOBODY)

    def _arrive(self) -> None:
        self._on_their_way.popleft()()

    def _send(self, key: Key, on: bool | None) -> None:
        def arrive() -> None:
            if not self.is_cut and on is not None:
                self.hear(key, on)

        self.later(arrive)


@dataclass(eq=False)
class Front:
    """The bridge of one daemon."""

    tiles: dict[Key, Shown] = field(default_factory=dict)
    wires: list[Wire] = field(default_factory=list)
    setup: Setup = field(default_factory=Setup.new)
    config_version: int = 1
    paired: bool = True
    storage_problem: str = ""
    identity_conflict: str = ""
    type_note: str = ""
    left_out: frozenset[str] = frozenset()
    is_online: bool = False
    groups: dict[str, Group] = field(default_factory=dict)
    sensors: dict[str, bool] = field(default_factory=dict)
    sensor_numbers: dict[str, int] = field(default_factory=dict)
    """Tells a sensor from one that a group had before."""
    sensor_watch: SensorWatch | None = None
    lapses: list[str] = field(default_factory=list)
    unruly: list[str] = field(default_factory=list)
    _taps: WriteHandler | None = None

    @classmethod
    def of(cls, groups: Iterable[Group]) -> "Front":
        front = cls()
        front._place(groups)
        return front

    def regroup(self, groups: Iterable[Group], taps: WriteHandler) -> None:
        self._taps = taps
        before = {*self.tiles}, {*self.sensors}
        self._place(groups)
        self.config_version += ({*self.tiles}, {*self.sensors}) != before
        if self.sensor_watch is not None:
            self.sensor_watch.regrouped(self.groups.values())

    async def start(self, taps: WriteHandler, place: Endpoint) -> None:
        assert place.addresses
        self._taps = taps
        self.is_online = True

    async def move(self, place: Endpoint) -> None:
        assert place.addresses

    async def leave(self) -> None:
        raise AssertionError("a world always has a place")

    async def stop(self) -> None:
        self.go_down()

    def go_down(self) -> None:
        """Be gone."""
        self.is_online = False
        for wire in self.wires:
            wire.is_cut = True
        self.wires.clear()

    def units(self, group_id: str) -> tuple[str, ...] | None:
        """The units and containers of a group, None for one of commands."""
        group = self.groups[group_id]
        return None if group.commands is not None else group.members

    def connect(self, wire: Wire) -> dict[Key, bool | str]:
        """A controller comes, subscribes to everything and reads everything."""
        self.wires.append(wire)
        return self.read()

    def read(self) -> dict[Key, bool | str]:
        """All tiles."""
        return {key: shown.read for key, shown in self.tiles.items()}

    async def write(self, wire: Wire, key: Key, told: Callable[[bool], None], *, on: bool, by: str) -> None:
        """A controller writes; it is `told` whether that was a success."""
        assert self._taps is not None
        wire.writes += 1
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def respond(ok: bool) -> None:
            if not answered.done():  # the daemon may have been killed
                answered.set_result(ok)

        group_id, tile = key
        self._taps.write(Write(group_id, by, wire, respond=respond), tile, on=on)
        ok = await answered
        wire.later(lambda: told(ok))
        wire.answered(self._value)

    # For the switchboard

    def show(self, group_id: str, tile: Tile, writer: Hashable | None, *, on: bool) -> None:
        key = group_id, tile
        if (shown := self.tiles.get(key)) is not None:
            shown.on, shown.told_at_seconds = on, asyncio.get_running_loop().time()
            for wire in self.wires:
                if wire is not writer:
                    wire.event(key, lambda: self._value(key))

    def set_available(self, group_id: str, *, available: bool) -> None:
        if not available:
            self.lapses.append(group_id)
        for tile in Tile:
            if (shown := self.tiles.get((group_id, tile))) is not None:
                shown.is_available, shown.told_at_seconds = available, asyncio.get_running_loop().time()

    def show_alert(self, group_id: str, *, detected: bool) -> None:
        if self.sensor_watch is not None:
            self.sensor_watch.shown(group_id, detected=detected)
        if self.sensors[group_id] is not detected:
            self.sensors[group_id] = detected
            for wire in self.wires:
                wire.sensor_event(group_id, detected)

    # For the control socket

    @property
    def pairing_refused(self) -> bool:
        return False

    def controllers(self) -> tuple[PairedController, ...]:
        return ()

    def setup_info(self) -> SetupInfo:
        raise NotImplementedError

    def unpair(self, controller_id: str | None) -> None:
        raise NotImplementedError

    def reset_attempts(self) -> None:
        raise NotImplementedError

    def _value(self, key: Key) -> bool | None:
        shown = self.tiles.get(key)
        return None if shown is None else shown.on

    def _place(self, groups: Iterable[Group]) -> None:
        before, self.tiles = self.tiles, {}
        known, self.groups = self.groups, {}
        groups = tuple(groups)
        self.sensors = {
            each.id: self.sensors.get(each.id, False) for each in groups if each.alert is not None
        }
        self.sensor_numbers = {each: self.sensor_numbers.get(each) or next(_numbers) for each in self.sensors}
        for group in groups:
            self.groups[group.id] = group
            for tile in tiles_of(group):
                stays = group.id in known and known[group.id].type is group.type
                shown = before.get((group.id, tile)) if stays or group.id in known else None
                self.tiles[group.id, tile] = Shown() if shown is None else shown
