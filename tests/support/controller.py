"""A real HomeKit controller (Home Assistant's aiohomekit) that pairs without mDNS."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from aiohomekit.characteristic_cache import CharacteristicCacheMemory
from aiohomekit.controller.ip.controller import IpController
from aiohomekit.controller.ip.discovery import IpDiscovery
from aiohomekit.controller.ip.pairing import IpPairing
from aiohomekit.model.categories import Categories
from aiohomekit.model.feature_flags import FeatureFlags
from aiohomekit.model.status_flags import StatusFlags
from aiohomekit.zeroconf import HomeKitService

from tests.support.waiting import PATIENCE_SECONDS

NAME = "00000023-0000-1000-8000-0026BB765291"
ON = "00000025-0000-1000-8000-0026BB765291"
CONTACT_SENSOR_STATE = "0000006A-0000-1000-8000-0026BB765291"
SERIAL_NUMBER = "00000030-0000-1000-8000-0026BB765291"
FIRMWARE_REVISION = "00000052-0000-1000-8000-0026BB765291"

Path = tuple[int, int]
"""AID and IID."""


@dataclass(frozen=True)
class SwitchSeen:
    """A switch or a contact sensor as the controller sees it in /accessories."""

    name: str
    aid: int
    on: Path
    """Of a sensor, the state of the contact: on is open."""
    serial_number: str
    firmware_revision: str


@dataclass
class Controller:
    """One paired controller with one connection."""

    pairing: IpPairing
    switches: dict[str, SwitchSeen] = field(default_factory=dict)
    events: "asyncio.Queue[tuple[Path, dict[str, Any]]]" = field(default_factory=asyncio.Queue)
    told: "Counter[str]" = field(default_factory=Counter)
    """The number of events received for each switch."""

    @classmethod
    async def pair(cls, address: str, port: int, setup_code: str) -> "Controller":
        """Pair as the first controller of a bridge, and read its switches."""
        controller = await cls.pair_only(address, port, setup_code)
        await controller.look()
        return controller

    @classmethod
    async def pair_only(cls, address: str, port: int, setup_code: str) -> "Controller":
        """Pair, without reading anything yet."""
        discovery = IpDiscovery(_unstarted(), _service(address, port))
        try:
            finish = await discovery.async_start_pairing("test")
            return cls(cast("IpPairing", await finish(setup_code)))
        finally:
            await discovery.close()  # type: ignore[no-untyped-call] # so in aiohomekit

    @classmethod
    def of_pairing(cls, data: Mapping[str, Any], address: str, port: int) -> "Controller":
        """Return a controller that was paired before, with a bridge that is elsewhere now."""
        there = {"AccessoryIP": address, "AccessoryIPs": [address], "AccessoryPort": port}
        return cls(IpPairing(_unstarted(), cast("Any", {**data, **there})))

    async def accessories(self) -> list[dict[str, Any]]:
        """Return the accessories as the bridge sends them: aiohomekit changes types and values."""
        await self._connected()
        body = await self.pairing.connection.get_json("/accessories")
        return cast("list[dict[str, Any]]", body["accessories"])

    def again(self) -> "Controller":
        """Return the same controller with a new connection, as when a phone wakes up."""
        data = dict(self.pairing.pairing_data)
        return Controller(IpPairing(_unstarted(), cast("Any", data)), dict(self.switches))

    async def look(self) -> list[dict[str, Any]]:
        """Read /accessories again."""
        accessories = await self.pairing.list_accessories_and_characteristics()
        seen = [_switch(accessory) for accessory in accessories if accessory["aid"] != 1]
        self.switches = {switch.name: switch for switch in seen}
        return accessories

    async def subscribe(self) -> None:
        """Subscribe to every switch; events go to `events`."""
        self.pairing.dispatcher_connect(self._put)
        await self._put_json([{"aid": s.on[0], "iid": s.on[1], "ev": True} for s in self.switches.values()])

    async def read(self, name: str) -> bool | int:
        """Return On of a switch, or the HAP status if the read fails."""
        return (await self.read_all([name]))[name]

    async def read_all(self, names: Iterable[str]) -> dict[str, bool | int]:
        """Read several switches in one request."""
        paths = {self.switches[name].on: name for name in names}
        ids = ",".join(f"{aid}.{iid}" for aid, iid in paths)
        await self._connected()
        body = await self.pairing.connection.get_json(f"/characteristics?id={ids}")
        return {
            paths[item["aid"], item["iid"]]: item["value"] if "value" in item else item["status"]
            for item in body["characteristics"]
        }

    async def write(self, name: str, *, on: bool) -> int:
        """Write On, and return the HAP status, 0 for success."""
        return (await self.write_all({name: on}))[name]

    async def write_all(self, values: dict[str, bool]) -> dict[str, int]:
        """Write several switches in one request; return a HAP status for each."""
        items = [
            {"aid": self.switches[name].on[0], "iid": self.switches[name].on[1], "value": value}
            for name, value in values.items()
        ]
        body = await self._put_json(items)
        if not body:
            return dict.fromkeys(values, 0)
        statuses = {(item["aid"], item["iid"]): item["status"] for item in body["characteristics"]}
        return {name: statuses[self.switches[name].on] for name in values}

    async def event(self, name: str, *, within_seconds: float = PATIENCE_SECONDS) -> bool:
        """Return the next event of a switch, ignoring those of others."""
        async with asyncio.timeout(within_seconds):
            while True:
                path, change = await self.events.get()
                if path == self.switches[name].on:
                    return bool(change["value"])

    async def until_on_is(self, name: str, *, on: bool) -> None:
        """Wait until reads return `on`."""
        deadline_seconds = time.monotonic() + PATIENCE_SECONDS
        while (read := await self.read(name)) is not on:
            assert time.monotonic() < deadline_seconds, f"{name} is still {read}"
            await asyncio.sleep(0.02)

    def closing(self) -> Callable[[], bool]:
        """Return a function that tells whether the current connection is closed."""
        protocol = self.pairing.connection.protocol
        assert protocol is not None
        return protocol.transport.is_closing

    async def add(self, identity: str, public_key: bytes, permissions: str) -> None:
        """Add another controller, as "Admin" or "User"."""
        adding = self.pairing.add_pairing(identity, public_key.hex(), permissions)  # type: ignore[no-untyped-call] # so in aiohomekit
        await adding

    async def connect_once(self) -> None:
        """Connect, and raise any error; all other methods retry until they succeed."""
        await self.pairing.connection._connect_once()  # type: ignore[no-untyped-call] # so in aiohomekit

    async def unpair(self) -> None:
        """Remove this controller's pairing."""
        await self.pairing.remove_pairing(self.pairing.pairing_data["iOSPairingId"])

    async def close(self) -> None:
        """Close the connection for good: no announcement makes the controller connect again."""
        await self.pairing.shutdown()

    async def _put_json(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        await self._connected()
        return await self.pairing.connection.put_json("/characteristics", {"characteristics": items})

    async def _connected(self) -> None:
        await self.pairing.connection.ensure_connection()

    def _put(self, changes: dict[Path, dict[str, Any]]) -> None:
        names = {switch.on: name for name, switch in self.switches.items()}
        for path, change in changes.items():
            self.events.put_nowait((path, change))
            self.told[names.get(path, "")] += 1


def _switch(accessory: dict[str, Any]) -> SwitchSeen:
    found = {
        characteristic["type"]: characteristic
        for service in accessory["services"]
        for characteristic in service["characteristics"]
    }
    aid = accessory["aid"]
    return SwitchSeen(
        found[NAME]["value"],
        aid,
        (aid, found[ON if ON in found else CONTACT_SENSOR_STATE]["iid"]),
        found[SERIAL_NUMBER]["value"],
        found[FIRMWARE_REVISION]["value"],
    )


def _unstarted() -> IpController:
    return IpController(CharacteristicCacheMemory(), cast("Any", None))  # not started: no mDNS


def _service(address: str, port: int) -> HomeKitService:
    return HomeKitService(
        name="test",
        id="00:00:00:00:00:00",
        model="",
        feature_flags=FeatureFlags(0),
        status_flags=StatusFlags(1),
        config_num=1,
        state_num=1,
        category=Categories.BRIDGE,
        protocol_version="1.1",
        type="_hap._tcp.local.",
        address=address,
        addresses=[address],
        port=port,
    )
