"""The real bridge as the front of a daemon: controllers connect to it in memory, and need no proof."""

import asyncio
from collections.abc import Hashable, Iterable, Sequence
from math import inf
from pathlib import Path as FilePath
from typing import Any, Final, cast
from uuid import UUID

from pyhap.hap_handler import HAPResponse

from hkswitch.daemon.bridge import Bridge, WriteHandler
from hkswitch.hap.connection import HapConnection
from hkswitch.hap.events import PACE, Change, Path
from hkswitch.model.group import Group
from hkswitch.model.switch_events import Tile
from hkswitch.network.endpoint import Endpoint
from tests.world.front import Key, SensorWatch, Shown
from tests.world.link import End, Link
from tests.world.messages import Delay
from tests.world.processes import current

PORT: Final = 51826
ADMIN: Final = b"\1"
AN_INSTANT_SECONDS: Final = 1e-6
"""What rounding makes of a time."""


class WatchedConnection(HapConnection):
    """A connection of a controller that asks one thing at a time: which rules of events it breaks."""

    unruly: list[str]

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 -- those of a connection
        super().__init__(*arguments)
        self._responses = 0
        self._last_seconds: dict[Path, float] = {}
        self._message_seconds = -inf

    def send_response(self, response: HAPResponse) -> None:
        self._responses += 1
        super().send_response(response)

    def send_changes(self, changes: Sequence[Change]) -> None:
        now_seconds = self.loop.time() + AN_INSTANT_SECONDS
        if self._requests != self._responses:
            self.unruly.append("an event between a request and its response")
        if now_seconds - self._message_seconds < PACE.message_seconds:
            self.unruly.append("two messages in 250 ms")
        if any(now_seconds - self._last_seconds.get(path, -inf) < 1 for path, _ in changes):
            self.unruly.append("two events of a characteristic within a second")
        self._message_seconds = self.loop.time()
        self._last_seconds |= {path: self._message_seconds for path, _ in changes}
        super().send_changes(changes)


class HapFront(Bridge):
    """The bridge of one daemon."""

    def __init__(self, groups: Iterable[Group], state_folder: FilePath, controllers: Iterable[UUID]) -> None:
        self.groups: dict[str, Group] = {}
        self.lapses: list[str] = []
        self.unruly: list[str] = []
        self.sensor_watch: SensorWatch | None = None
        self._told_at_seconds: dict[str, float] = {}
        self._links: list[Link] = []
        self._may_cut = False
        super().__init__("World", groups, state_folder, PORT)
        process = current()
        assert process is not None
        self._process = process
        is_new = not self.paired
        for controller in controllers:
            if is_new:
                self._driver.pair(str(controller).upper().encode(), controller.bytes * 2, ADMIN)
            assert controller in self._driver.state.paired_clients, "a pairing is lost"

    @property
    def is_online(self) -> bool:
        return self._serving

    @property
    def tiles(self) -> dict[Key, Shown]:
        """What reads say."""
        return {
            key: Shown(tile.on.value, tile.is_available, self._told_at_seconds.get(key[0], 0))
            for key, tile in self._tiles.items()
        }

    def read(self) -> dict[Key, bool | str]:
        """All tiles."""
        return {key: shown.read for key, shown in self.tiles.items()}

    def units(self, group_id: str) -> tuple[str, ...] | None:
        """The units and containers of a group, None for one of commands."""
        group = self.groups[group_id]
        return None if group.commands is not None else group.members

    def connect(self, controller: UUID, end: End, delay: Delay) -> Link:
        """A controller comes, and has proved who it is."""
        return self._process.context.run(self._connect, controller, end, delay)

    def _connect(self, controller: UUID, end: End, delay: Delay) -> Link:
        server = self._driver.http_server
        connection = WatchedConnection(asyncio.get_running_loop(), server, self._driver)
        connection.unruly = self.unruly
        facts = {"peername": end.peer, "sockname": (self._driver.state.address, PORT)}
        link = Link(self._process, connection, facts, end, delay)
        link.closing = self._closing
        requests = cast("Any", connection.handler)
        requests.is_encrypted, requests.client_uuid = True, controller
        connection._deadline.cancel()
        server.remove_connection(connection)
        self._links.append(link)
        return link

    def show(self, group_id: str, tile: Tile, writer: Hashable | None, *, on: bool) -> None:
        self._told_at_seconds[group_id] = asyncio.get_running_loop().time()
        super().show(group_id, tile, writer, on=on)

    def set_available(self, group_id: str, *, available: bool) -> None:
        if not available:
            self.lapses.append(group_id)
        self._told_at_seconds[group_id] = asyncio.get_running_loop().time()
        super().set_available(group_id, available=available)

    @property
    def sensors(self) -> dict[str, bool]:
        """What reads of sensors say."""
        return {group_id: sensor.is_detected for group_id, sensor in self._sensors.items()}

    def regroup(self, groups: Iterable[Group], write_handler: WriteHandler) -> None:
        groups = tuple(groups)
        super().regroup(groups, write_handler)
        if self.sensor_watch is not None:
            self.sensor_watch.regrouped(groups)

    def show_alert(self, group_id: str, *, detected: bool) -> None:
        if self.sensor_watch is not None:
            self.sensor_watch.shown(group_id, detected=detected)
        super().show_alert(group_id, detected=detected)

    def go_down(self) -> None:
        """Be gone."""
        self._serving = False
        for link in self._links:
            link.break_off()

    async def move(self, place: Endpoint) -> None:
        self._may_cut = True  # those at an address that went away
        await super().move(place)
        self._may_cut = False

    async def stop(self) -> None:
        self._may_cut = True
        await super().stop()

    def _closing(self) -> None:
        assert self._may_cut, "a controller that did nothing wrong was cut off"

    def _set_accessories(self, groups: Iterable[Group]) -> None:
        groups = tuple(groups)
        self.groups = {group.id: group for group in groups}
        super()._set_accessories(groups)
