"""The two implementations to compare, hkswitch and HAP-NodeJS.

Each serves two bridges with the same switches. The bridge `UNPAIRED` has no controllers; the bridge `PAIRED`
has an admin and a user.
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
from tests.peer.raw_controller import RawController
from tests.peer.switches import JOB_SECONDS, SHORT_TYPES, SWITCHES, short_type
from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE_SECONDS

ADMIN: Final = Identity.of(1)
USER: Final = Identity.of(2)
STRANGER: Final = Identity.of(3)
BRIDGE_ID: Final = {"unpaired": "CC:22:3D:E3:CE:30", "paired": "CC:22:3D:E3:CE:31"}
REFERENCE: Final = Path(__file__).with_name("reference.js")
CODE: Final = "031-45-154"

CharacteristicId = tuple[int, int]
"""AID and IID."""


class BridgeKind(StrEnum):
    """The two bridges of each implementation."""

    UNPAIRED = "unpaired"
    PAIRED = "paired"


@dataclass
class ReachableBridge:
    """A bridge with its port, code and key."""

    port: int
    code: str
    key: bytes = b""
    """Its long-term public key, after pairing."""
    ids: dict[str, CharacteristicId] = field(default_factory=dict)
    """The ID of each characteristic, by a name like `web.On`."""
    values: dict[str, Any] = field(default_factory=dict)
    """The values at the time of pairing."""
    address: str = LOOPBACK.addresses[0]

    async def connect(self, identity: Identity = STRANGER) -> RawController:
        return await RawController.connect(self.address, self.port, identity)

    async def verified(self, identity: Identity) -> RawController:
        return await RawController.verified(self.address, self.port, identity, self.key)

    async def pair(self) -> None:
        """Pair an admin and a user, and look up the IDs by name."""
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
    """Return the name of a switch: its serial number, which is its id."""
    if accessory["aid"] == 1:
        return "bridge"
    values = {
        short_type(found["type"]): found.get("value")
        for service in accessory["services"]
        for found in service["characteristics"]
    }
    return str(values["30"])


class Peer(Protocol):
    """One of the two implementations."""

    bridges: dict[BridgeKind, ReachableBridge]

    async def change_externally(self, switch: str, *, on: bool) -> None:
        """Change a switch of both bridges without a controller."""

    async def reset(self) -> None:
        """Turn all switches off, and reset failed pairing attempts."""

    async def restore(self, bridge_kind: BridgeKind) -> None:
        """Restore the original pairings."""


async def prepare(peer: Peer) -> None:
    """Pair with the one bridge; the IDs of the other are the same."""
    await peer.bridges[BridgeKind.PAIRED].pair()
    peer.bridges[BridgeKind.UNPAIRED].ids = peer.bridges[BridgeKind.PAIRED].ids


@dataclass
class Ours:
    """hkswitch's bridges, on the event loop of the test."""

    bridges: dict[BridgeKind, ReachableBridge] = field(default_factory=dict)
    served: dict[BridgeKind, Served] = field(default_factory=dict)

    async def change_externally(self, switch: str, *, on: bool) -> None:
        for each in self.served.values():
            each.host.change({f"{switch}.service": ACTIVE if on else INACTIVE})

    async def reset(self) -> None:
        for each in self.served.values():
            await each.host.close()
            each.host.change({one.unit: MISSING if one.missing else INACTIVE for one in SWITCHES})
            each.bridge.reset_attempts()

    async def restore(self, bridge_kind: BridgeKind) -> None:
        bridge = self.served[bridge_kind].bridge
        wanted = {ADMIN.id: True, USER.id: False} if bridge_kind is BridgeKind.PAIRED else {}
        if {each.id: each.admin for each in bridge.controllers()} == wanted:
            return  # pairing takes a tenth of a second
        bridge.unpair(None)
        if wanted:
            await self.bridges[bridge_kind].pair()


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Ours]:
    """Serve both bridges, and pair one of them."""
    peer = Ours()
    groups = tuple(each.group for each in SWITCHES)
    try:
        for bridge_kind in BridgeKind:
            host = SimulatedHost(
                groups,
                job_seconds=JOB_SECONDS,
                slow={each.unit: each.seconds for each in SWITCHES},
                broken={each.unit for each in SWITCHES if each.fails},
            )
            (folder / bridge_kind).mkdir()
            served = await Served.start(folder / bridge_kind, host, groups)
            peer.served[bridge_kind], peer.bridges[bridge_kind] = (
                served,
                ReachableBridge(served.port, served.bridge.setup.code),
            )
        await peer.reset()
        await prepare(peer)
        yield peer
    finally:
        await asyncio.gather(*(each.stop() for each in peer.served.values()))


@dataclass
class Reference:
    """HAP-NodeJS, in a process of its own."""

    bridges: dict[BridgeKind, ReachableBridge]
    process: asyncio.subprocess.Process

    async def change_externally(self, switch: str, *, on: bool) -> None:
        await self._tell({"set": switch, "on": on})

    async def reset(self) -> None:
        await self._tell({"reset": True})

    async def restore(self, bridge_kind: BridgeKind) -> None:
        await self._tell({"restore": bridge_kind})

    async def remember(self) -> None:
        """Save the pairings for `restore`."""
        await self._tell({"remember": True})

    async def _tell(self, asked: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        await self.done()

    async def done(self) -> dict[str, Any]:
        """Wait for the result of a command; the library prints warnings to the same pipe."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            while line := await self.process.stdout.readline():
                if line.startswith(b"{"):
                    return dict(json.loads(line))
        raise AssertionError("HAP-NodeJS ended")


@asynccontextmanager
async def reference(folder: Path, model: Ours) -> AsyncIterator[Reference]:
    """Serve the same bridges as `model` with HAP-NodeJS, and pair one of them."""
    modules = packages.downloaded() / "node_modules"
    wanted = {
        "folder": str(folder),
        "code": CODE,
        "switches": [each.for_reference | _about(model, each.id) for each in SWITCHES],
        "bridges": [_about(model, "bridge") | _bridge(bridge_kind) for bridge_kind in BridgeKind],
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
        peer.bridges |= {
            BridgeKind(name): ReachableBridge(port, CODE) for name, port in (await peer.done()).items()
        }
        await prepare(peer)
        await peer.remember()
        yield peer
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)


def _bridge(bridge_kind: BridgeKind) -> dict[str, Any]:
    return {"name": str(bridge_kind), "username": BRIDGE_ID[bridge_kind], "serial": BRIDGE_ID[bridge_kind]}


def _about(model: Ours, name: str) -> dict[str, Any]:
    """Return the accessory information that hkswitch serves."""
    told = {
        "manufacturer": "Manufacturer",
        "model": "Model",
        "serial": "SerialNumber",
        "firmware": "FirmwareRevision",
    }
    return {key: model.bridges[BridgeKind.PAIRED].values[f"{name}.{what}"] for key, what in told.items()}
