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
from tests.hap.conftest import Served
from tests.peer import packages
from tests.peer.identity import Identity
from tests.peer.raw import Raw
from tests.peer.switches import JOB_SECONDS, SHORT_TYPES, SWITCHES, short_type
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE_SECONDS

ADMIN: Final = Identity.of(1)
USER: Final = Identity.of(2)
STRANGER: Final = Identity.of(3)
BRIDGE_ID: Final = {"blank": "CC:22:3D:E3:CE:30", "home": "CC:22:3D:E3:CE:31"}
REFERENCE: Final = Path(__file__).with_name("reference.js")
CODE: Final = "031-45-154"

CharacteristicId = tuple[int, int]
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
    ids: dict[str, CharacteristicId] = field(default_factory=dict)
    """Of each characteristic by its name, like `web.On`."""
    values: dict[str, Any] = field(default_factory=dict)
    """As they were when it was paired."""
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
        found = named(await raw.accessories())
        self.ids = {name: path for name, (path, _) in found.items()}
        self.values = {name: value for name, (_, value) in found.items()}
        raw.close()


def named(accessories: list[dict[str, Any]]) -> dict[str, tuple[CharacteristicId, Any]]:
    """The characteristics of /accessories by name, with their values."""
    return {
        f"{name_of(accessory)}.{SHORT_TYPES[short_type(found['type'])]}": (
            (accessory["aid"], found["iid"]),
            found.get("value"),
        )
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

    at: dict[Place, At] = field(default_factory=dict)
    served: dict[Place, Served] = field(default_factory=dict)

    async def outside(self, switch: str, *, on: bool) -> None:
        for each in self.served.values():
            each.host.change({f"{switch}.service": ACTIVE if on else INACTIVE})

    async def reset(self) -> None:
        for each in self.served.values():
            await each.host.close()
            each.host.change({one.unit: MISSING if one.missing else INACTIVE for one in SWITCHES})
            each.bridge.reset_attempts()

    async def restore(self, place: Place) -> None:
        bridge = self.served[place].bridge
        wanted = {ADMIN.id: True, USER.id: False} if place is Place.HOME else {}
        if {each.id: each.admin for each in bridge.controllers()} == wanted:
            return  # pairing takes a tenth of a second
        bridge.unpair(None)
        if wanted:
            await self.at[place].pair()


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Ours]:
    """Have them online, and the one paired."""
    peer = Ours()
    groups = tuple(each.group for each in SWITCHES)
    try:
        for place in Place:
            host = SimulatedHost(
                groups,
                job_seconds=JOB_SECONDS,
                slow={each.unit: each.seconds for each in SWITCHES},
                broken={each.unit for each in SWITCHES if each.fails},
            )
            (folder / place).mkdir()
            served = await Served.start(folder / place, host, groups)
            peer.served[place], peer.at[place] = served, At(served.port, served.bridge.setup.code)
        await peer.reset()
        await prepare(peer)
        yield peer
    finally:
        await asyncio.gather(*(each.stop() for each in peer.served.values()))


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

    async def done(self) -> dict[str, Any]:
        """Wait until it has done what it was told; its library prints warnings to the same pipe."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self.process.stdout.readline():
                if line.startswith(b"{"):
                    return dict(json.loads(line))
        raise AssertionError("HAP-NodeJS ended")


@asynccontextmanager
async def reference(folder: Path, model: Ours) -> AsyncIterator[Reference]:
    """Have HAP-NodeJS serve what `model` does, and the one of its bridges paired."""
    modules = packages.downloaded() / "node_modules"
    wanted = {
        "folder": str(folder),
        "code": CODE,
        "switches": [each.for_reference | _about(model, each.id) for each in SWITCHES],
        "bridges": [_about(model, "bridge") | _bridge(place) for place in Place],
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
    peer = Reference({}, process)
    try:
        peer.at |= {Place(name): At(port, CODE) for name, port in (await peer.done()).items()}
        await prepare(peer)
        await peer.remember()
        yield peer
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


def _bridge(place: Place) -> dict[str, Any]:
    return {"name": str(place), "username": BRIDGE_ID[place], "serial": BRIDGE_ID[place]}


def _about(model: Ours, name: str) -> dict[str, Any]:
    """What hkswitch tells about an accessory."""
    told = {
        "manufacturer": "Manufacturer",
        "model": "Model",
        "serial": "SerialNumber",
        "firmware": "FirmwareRevision",
    }
    return {key: model.at[Place.HOME].values[f"{name}.{what}"] for key, what in told.items()}
