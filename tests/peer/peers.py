"""The two that are compared: hkswitch, and HAP-NodeJS. Each serves two bridges with the same switches.

Nobody is paired with the one that is `BLANK`; with the one that is `HOME` an admin and a user are.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

from hkswitch.backend.simulated import ACTIVE, INACTIVE, MISSING, SimulatedHost
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.switchboard import Switchboard
from tests.peer import packages
from tests.peer.identity import Identity
from tests.peer.raw import Raw
from tests.peer.switches import JOB_SECONDS, SHORT_TYPES, SWITCHES, short_type
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import PATIENCE_SECONDS

ADMIN: Final = Identity.of(1)
USER: Final = Identity.of(2)
STRANGER: Final = Identity.of(3)
BRIDGE_ID: Final = {"blank": "CC:22:3D:E3:CE:30", "home": "CC:22:3D:E3:CE:31"}
REFERENCE: Final = Path(__file__).with_name("reference.js")
CODE: Final = "031-45-154"

Path_ = tuple[int, int]
"""AID and IID."""


class Place(StrEnum):
    """Which of its two bridges."""

    BLANK = "blank"
    HOME = "home"


@dataclass
class At:
    """A bridge that is reached there."""

    port: int
    code: str
    key: bytes = b""
    """Its long-term key, once it is paired."""
    ids: dict[str, Path_] = field(default_factory=dict)
    """Of each characteristic by its name, like `web.On`."""
    address: str = LOOPBACK.addresses[0]

    async def connect(self, identity: Identity = STRANGER) -> Raw:
        return await Raw.connect(self.address, self.port, identity)

    async def verified(self, identity: Identity) -> Raw:
        return await Raw.verified(self.address, self.port, identity, self.key)

    async def pair(self) -> None:
        """Have an admin and a user, and learn the names of what is there."""
        raw = await self.connect(ADMIN)
        self.key = await raw.pair(self.code)
        raw.close()
        raw = await self.verified(ADMIN)
        await raw.add(USER, admin=False)
        self.ids = named(await raw.accessories())
        raw.close()


def named(accessories: list[dict[str, Any]]) -> dict[str, Path_]:
    """The characteristics of /accessories by name."""
    return {
        f"{name_of(accessory)}.{SHORT_TYPES[short_type(found['type'])]}": (accessory["aid"], found["iid"])
        for accessory in accessories
        for service in accessory["services"]
        for found in service["characteristics"]
        if short_type(found["type"]) in SHORT_TYPES
    }


def name_of(accessory: Mapping[str, Any]) -> str:
    """A switch by its serial number, which is its id."""
    if accessory["aid"] == 1:
        return "bridge"
    values = {
        short_type(found["type"]): found.get("value")
        for service in accessory["services"]
        for found in service["characteristics"]
    }
    return str(values["30"])


class Peer(Protocol):
    """One of the two."""

    at: dict[Place, At]

    async def outside(self, switch: str, *, on: bool) -> None:
        """Let a switch of both bridges change from outside."""

    async def reset(self) -> None:
        """All off, and failed pairings forgotten."""

    async def restore(self, place: Place) -> None:
        """Have those paired who were."""


async def prepare(peer: Peer) -> None:
    """Pair with the one bridge; the IDs of the other are the same."""
    await peer.at[Place.HOME].pair()
    peer.at[Place.BLANK].ids = peer.at[Place.HOME].ids


@dataclass
class Ours:
    """hkswitch's bridges, on the event loop of the test."""

    at: dict[Place, At]
    hosts: list[SimulatedHost]
    bridges: list[Bridge]

    async def outside(self, switch: str, *, on: bool) -> None:
        for host in self.hosts:
            host.change({f"{switch}.service": ACTIVE if on else INACTIVE})

    async def reset(self) -> None:
        for host in self.hosts:
            await host.close()
            host.change({each.unit: MISSING if each.missing else INACTIVE for each in SWITCHES})
        for bridge in self.bridges:
            bridge.reset_attempts()

    async def restore(self, place: Place) -> None:
        bridge = self.bridges[list(Place).index(place)]
        bridge.unpair(None)
        if place is Place.HOME:
            await self.at[place].pair()


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Ours]:
    """Have them online, and the one paired."""
    peer = Ours({}, [], [])
    groups = tuple(each.group for each in SWITCHES)
    boards = []
    for place in Place:
        host = SimulatedHost(
            groups,
            job_seconds=JOB_SECONDS,
            slow={each.unit: each.seconds for each in SWITCHES},
            broken={each.unit for each in SWITCHES if each.fails},
        )
        state, port = folder / place, free_port()
        state.mkdir()
        bridge = Bridge(place, groups, state, port)
        board = Switchboard(groups, host, bridge)
        await host.open(board)
        await bridge.start(board, LOOPBACK)
        peer.at[place] = At(port, bridge.setup.code)
        peer.hosts.append(host)
        peer.bridges.append(bridge)
        boards.append(board)
    try:
        await peer.reset()
        await prepare(peer)
        yield peer
    finally:
        for bridge, board, host in zip(peer.bridges, boards, peer.hosts, strict=True):
            await bridge.stop()
            await board.close()
            await host.close()


@dataclass
class Reference:
    """HAP-NodeJS, in a process of its own."""

    at: dict[Place, At]
    process: asyncio.subprocess.Process

    async def outside(self, switch: str, *, on: bool) -> None:
        await self._tell({"set": switch, "on": on})

    async def reset(self) -> None:
        await self._tell({"reset": True})

    async def restore(self, place: Place) -> None:
        await self._tell({"restore": place})

    async def remember(self) -> None:
        """Note who is paired, for `restore`."""
        await self._tell({"remember": True})

    async def _tell(self, asked: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self.done()

    async def done(self) -> None:
        """Wait until it has done what it was told; its library prints warnings to the same pipe."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self.process.stdout.readline():
                if line.startswith(b"{"):
                    return
        raise AssertionError("HAP-NodeJS ended")


@asynccontextmanager
async def reference(folder: Path) -> AsyncIterator[Reference]:
    """Have HAP-NodeJS serve, and the one of its bridges paired."""
    modules = packages.downloaded() / "node_modules"
    at = {place: At(free_port(), CODE) for place in Place}
    wanted = {
        "folder": str(folder),
        "code": CODE,
        "switches": [each.for_reference for each in SWITCHES],
        "bridges": [_bridge(place, at[place].port) for place in Place],
    }
    process = await asyncio.create_subprocess_exec(
        str(packages.node(modules)),
        str(REFERENCE),
        str(modules),
        json.dumps(wanted),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a line for each refusal
    )
    peer = Reference(at, process)
    try:
        await peer.done()
        await prepare(peer)
        await peer.remember()
        yield peer
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


def _bridge(place: Place, port: int) -> dict[str, Any]:
    about = {"manufacturer": "hkswitch", "model": "Bridge", "serial": BRIDGE_ID[place]}
    known = SWITCHES[0].for_reference["firmware"]
    return {"name": str(place), "username": BRIDGE_ID[place], "port": port, "firmware": known, **about}
