"""A controller that speaks HAP: it reads, subscribes, writes and hears by requests and messages of HTTP."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final
from uuid import UUID

from hkswitch.model.switch_events import Tile
from tests.world.front import FAILED, AnyFront, Key
from tests.world.hap_front import HapFront
from tests.world.http_reader import Heard, Reader, request
from tests.world.link import End, Peer
from tests.world.phone import Phone, Write
from tests.world.processes import Process

SERIAL_NUMBER, ON = "30", "25"
SENSOR_STATES = ("6A", "71", "70")
"""ContactSensorState, OccupancyDetected and LeakDetected."""
Path = tuple[int, int]

ADDRESS: Final = "192.0.2.100"


@dataclass(eq=False)
class Asked:
    """A request, and what is done when it goes out and when its response comes."""

    sent: bytes
    answered: Callable[[Heard], None]
    going: Callable[[], None] = field(default=lambda: None)


@dataclass(eq=False)
class HapPhone(Phone):
    """One that subscribes to everything, asks one thing at a time, and comes back whenever it was cut off."""

    id: UUID = field(kw_only=True)
    _reader: Reader = field(default_factory=Reader)
    _paths: dict[Key, Path] = field(default_factory=dict)
    _sensor_paths: dict[str, Path] = field(default_factory=dict)
    _waiting: deque[Asked] = field(default_factory=deque)
    _asked: Asked | None = None
    _connections: int = 0
    _changes: int = 0
    """Of accessories, since it looked at them."""
    _told_meanwhile: set[Key] = field(default_factory=set)
    """Events that came before the response to a write: which of both is newer cannot be known."""

    def connect(self, front: AnyFront) -> None:
        assert isinstance(front, HapFront)
        if front.is_online and (self.wire is None or self.wire.is_cut):
            self._forget()
            self._connections += 1
            port = int.from_bytes(self.id.bytes[:1]) * 1000 + self._connections
            end = End(Peer(ADDRESS, port), self._received, self._forget)
            self.wire = front.connect(self.id, end, self.delay_seconds)
            self.look(front)

    def look(self, front: AnyFront) -> None:  # noqa: ARG002 -- it asks on its connection
        self.hear_of_changes(0)

    def hear_of_changes(self, number: int) -> None:
        """Read which accessories there are, subscribe to those that are new, and read them.

        After several changes all may be new, since one that is there may have been gone meanwhile. A group of
        another type has another characteristic, which has no subscriber.
        """
        self._changes += number
        self._ask(Asked(request("GET", "/accessories"), self._looked))

    def tap(self, front: AnyFront, daemon: Process, key: Key, *, on: bool) -> Write | None:  # noqa: ARG002
        if self.wire is None or self.wire.is_cut or key not in self._paths:
            return None
        write = Write(key, on, inf, self.wire, front.units(key[0]))
        self.writes.append(write)
        aid, iid = self._paths[key]
        body = {"characteristics": [{"aid": aid, "iid": iid, "value": on}]}
        sent = request("PUT", "/characteristics", body)
        self._ask(Asked(sent, partial(self._wrote, write), partial(self._begin_write, write, front)))
        return write

    def read(self, front: AnyFront) -> None:  # noqa: ARG002 -- it asks on its connection
        self._read(self._paths)

    # Its connection

    def _forget(self) -> None:
        self._reader, self._asked = Reader(), None
        self._waiting.clear()
        self._paths, self.believes = {}, {}
        self._sensor_paths, self.sensors = {}, {}

    def _ask(self, asked: Asked) -> None:
        self._waiting.append(asked)
        self._ask_next()

    def _ask_next(self) -> None:
        if self._asked is None and self._waiting and self.wire is not None and not self.wire.is_cut:
            self._asked = self._waiting.popleft()
            self._asked.going()
            self.wire.send(self._asked.sent)

    def _received(self, received: bytes) -> None:
        for heard in self._reader.read(received):
            if heard.is_event:
                self._take(heard, self._hear, self._hear_sensor)
                continue
            assert self._asked is not None, f"no request for {heard}"
            asked, self._asked = self._asked, None
            asked.answered(heard)
        self._ask_next()

    def _take(
        self, heard: Heard, tell: Callable[[Key, Any], None], tell_sensor: Callable[[str, bool], None]
    ) -> None:
        keys = {path: key for key, path in self._paths.items()}
        sensors = {path: group_id for group_id, path in self._sensor_paths.items()}
        for item in heard.body["characteristics"]:
            path = item["aid"], item["iid"]
            if (key := keys.get(path)) is not None:  # it may be gone
                tell(key, bool(item["value"]) if "value" in item else FAILED)
            if (group_id := sensors.get(path)) is not None and "value" in item:
                tell_sensor(group_id, bool(item["value"]))

    # What comes of requests

    def _looked(self, heard: Heard) -> None:
        assert heard.status == 200, heard
        is_known = self._changes < 2
        before, self._paths = (self._paths if is_known else {}, dict(_tiles(heard.body["accessories"])))
        sensors_before = self._sensor_paths if is_known else {}
        self._sensor_paths = dict(_sensors(heard.body["accessories"]))
        self._changes = 0
        self.believes = {key: value for key, value in self.believes.items() if key in self._paths}
        self.sensors = {key: is_open for key, is_open in self.sensors.items() if key in self._sensor_paths}
        new = [path for key, path in self._paths.items() if before.get(key) != path]
        new += [path for key, path in self._sensor_paths.items() if sensors_before.get(key) != path]
        if new:
            items = [{"aid": aid, "iid": iid, "ev": True} for aid, iid in new]
            sent = request("PUT", "/characteristics", {"characteristics": items})
            self._ask(Asked(sent, lambda _: None))
            self._read_paths(new)

    def _read(self, keys: Iterable[Key]) -> None:
        self._read_paths(self._paths[key] for key in keys if key in self._paths)

    def _read_paths(self, paths: Iterable[Path]) -> None:
        if ids := ",".join(f"{aid}.{iid}" for aid, iid in paths):
            self._ask(Asked(request("GET", f"/characteristics?id={ids}"), self._have_read))

    def _have_read(self, heard: Heard) -> None:
        assert heard.status in {200, 207}, heard
        self._take(heard, self.believes.__setitem__, self.sensors.__setitem__)

    def _begin_write(self, write: Write, front: AnyFront) -> None:
        write.asked_seconds = asyncio.get_running_loop().time()
        if write.key in front.tiles:
            write.units = front.units(write.key[0])
        self._told_meanwhile.clear()

    def _wrote(self, write: Write, heard: Heard) -> None:
        assert heard.status in {204, 207}, heard
        write.answers += 1
        write.ok, write.answered_seconds = heard.status == 204, asyncio.get_running_loop().time()
        if write.ok and write.key in self.believes:
            self.believes[write.key] = write.on
        if write.key in self._told_meanwhile:
            self._read([write.key])

    def _hear_sensor(self, group_id: str, is_open: bool) -> None:
        if self.sensors.get(group_id) is is_open:
            self.repeats.append(f"{self.name} hears again that the sensor of {group_id} is {is_open}")
        super()._hear_sensor(group_id, is_open)

    def _hear(self, key: Key, on: bool) -> None:
        super()._hear(key, on)
        self._told_meanwhile.add(key)


def _tiles(accessories: Iterable[dict[str, Any]]) -> Iterable[tuple[Key, Path]]:
    for accessory in accessories:
        found = {
            characteristic["type"]: characteristic
            for service in accessory["services"]
            for characteristic in service["characteristics"]
        }
        if ON in found:
            group, _, restart = found[SERIAL_NUMBER]["value"].partition(":")
            yield (group, Tile.RESTART if restart else Tile.GROUP), (accessory["aid"], found[ON]["iid"])


def _sensors(accessories: Iterable[dict[str, Any]]) -> Iterable[tuple[str, Path]]:
    for accessory in accessories:
        found = {
            characteristic["type"]: characteristic
            for service in accessory["services"]
            for characteristic in service["characteristics"]
        }
        for state in SENSOR_STATES:
            if state in found:
                yield found[SERIAL_NUMBER]["value"].partition(":")[0], (accessory["aid"], found[state]["iid"])
