"""A controller of a simulated world: its reads, writes and events, and the values that it has from them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.world.front import AnyFront, Front, Key, Wire
from tests.world.processes import Process


class Connected(Protocol):
    """A connection."""

    @property
    def is_cut(self) -> bool:
        """Whether it is over."""


@dataclass(eq=False)
class Write:
    """One write, and what became of it. An answer of None: the connection broke before."""

    key: Key
    on: bool
    asked_seconds: float
    wire: Connected = field(repr=False)
    units: tuple[str, ...] | None = None
    """The members of the group, None for one of commands."""
    is_disputed: bool = False
    """Whether another client requested something of the group before the answer."""
    answers: int = 0
    answered_seconds: float | None = None
    ok: bool | None = None

    def __str__(self) -> str:
        group_id, tile = self.key
        wrote = (
            f"{'On' if self.on else 'Off'} of {group_id} ({tile.value}), written at {self.asked_seconds:.4f}"
        )
        if self.answered_seconds is None:
            return f"{wrote}, is not answered"
        return f"{wrote}, is {'done' if self.ok else 'an error'} at {self.answered_seconds:.4f}"


@dataclass(eq=False)
class Phone:
    """One that subscribes to everything, and comes back whenever it was cut off."""

    name: str
    delay_seconds: Callable[[], float]
    believes: dict[Key, bool | str] = field(default_factory=dict)
    writes: list[Write] = field(default_factory=list)
    wire: Any = None
    """Its connection."""

    heard: list[tuple[Key, bool]] = field(default_factory=list)
    """The events of late."""

    sensors: dict[str, bool] = field(default_factory=dict)
    """What it believes of the sensors of groups."""

    _sensor_numbers: dict[str, int] = field(default_factory=dict)

    repeats: list[str] = field(default_factory=list)
    """Events of sensors that were no news."""

    def connect(self, front: AnyFront) -> None:
        """Be connected to it, if it is online."""
        assert isinstance(front, Front)
        if front.is_online and (self.wire is None or self.wire.is_cut):
            wire = self.wire = Wire(self._hear, self._hear_sensor, self.delay_seconds)
            self.believes = dict(front.connect(wire))
            self.sensors, self._sensor_numbers = dict(front.sensors), dict(front.sensor_numbers)

    def look(self, front: AnyFront) -> None:
        """Read which tiles there are, as when the bridge says that they changed; keep what it believes."""
        there = front.read()
        self.believes = {key: self.believes.get(key, value) for key, value in there.items()}
        assert isinstance(front, Front)
        before, self._sensor_numbers = self._sensor_numbers, dict(front.sensor_numbers)
        same = {key for key, number in self._sensor_numbers.items() if before.get(key) == number}
        news = {key: value for key, value in front.sensors.items() if key not in same}
        self.sensors = {key: value for key, value in self.sensors.items() if key in same} | news

    def tap(self, front: AnyFront, daemon: Process, key: Key, *, on: bool) -> Write | None:
        """Write, if it is connected."""
        assert isinstance(front, Front)
        if not isinstance(self.wire, Wire) or self.wire.is_cut:
            return None
        wire, now_seconds = self.wire, asyncio.get_running_loop().time()
        write = Write(key, on, now_seconds, wire, front.units(key[0]))
        self.writes.append(write)

        def told(ok: bool) -> None:
            if wire.is_cut:
                return
            write.answers += 1
            write.ok, write.answered_seconds = ok, asyncio.get_running_loop().time()
            if ok and key in self.believes:
                self.believes[key] = on

        daemon.spawn(front.write(wire, key, told, on=on, by=self.name))
        return write

    def read(self, front: AnyFront) -> None:
        """Read everything anew."""
        if self.wire is not None and not self.wire.is_cut:
            self.believes = dict(front.read())

    def forget_answered(self) -> list[Write]:
        """Keep only the writes that wait for an answer that can still come; returns the others."""
        waits = [write for write in self.writes if write.ok is None and not write.wire.is_cut]
        others = [write for write in self.writes if write not in waits]
        self.writes = waits
        return others

    def _hear_sensor(self, group_id: str, is_open: bool) -> None:
        self.sensors[group_id] = is_open

    def _hear(self, key: Key, on: bool) -> None:
        self.heard.append((key, on))
        if key in self.believes:
            self.believes[key] = on
