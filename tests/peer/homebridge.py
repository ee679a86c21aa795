"""A real Homebridge 1.11.4 with homebridge-cmdswitch2, as a process of its own on the loopback interface."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.peer import downloaded
from tests.peer.packages import node
from tests.support.controller import Controller
from tests.support.homebridge_folder import Seen
from tests.support.ports import LOOPBACK, free_port

MAIN, CHILD = "CC:22:3D:E3:CE:30", "0E:8A:11:22:33:44"
CODE: Final = "031-45-154"
USER: Final = "11111111-2222-4333-8444-555555555555"
START_SECONDS, STOP_SECONDS = 30, 20
LAUNCHED: Final = "is running on port"

OTHER_PLUGIN: Final = """\
module.exports = (api) => api.registerPlatform("Others", class {
    constructor(log, config, api) {
        const { Service, uuid } = api.hap;
        api.on("didFinishLaunching", () => {
            if (this.known) return;
            const lamp = new api.platformAccessory("Kitchen Lamp", uuid.generate("lamp"));
            lamp.addService(Service.Lightbulb, "Kitchen Lamp");
            api.registerPlatformAccessories("homebridge-others", "Others", [lamp]);
        });
    }
    configureAccessory() { this.known = true; }
});
"""
"""A plugin with one lamp."""


def switch(name: str, **more: object) -> dict[str, object]:
    """Return a switch of a unit."""
    unit = re.sub(r"[^a-z0-9]+", "-", name.lower())
    commands = {"on_cmd": f"systemctl start {unit}", "off_cmd": f"systemctl stop {unit}"}
    return {"name": name, **commands, "state_cmd": f"systemctl is-active {unit}", **more}


def config(
    port: int, switches: Iterable[object], *, child_port: int = 0, others: Iterable[object] = ()
) -> dict[str, Any]:
    """Return a whole config; with `child_port`, the switches are on a child bridge."""
    platform: dict[str, Any] = {"platform": "cmdSwitch2", "name": "CMD Switch", "switches": list(switches)}
    if child_port:
        platform["_bridge"] = {"username": CHILD, "port": child_port, "name": "Switches"}
    bridge = {
        "name": "Homebridge",
        "username": MAIN,
        "port": port,
        "pin": CODE,
        "bind": [*LOOPBACK.addresses],
    }
    return {"bridge": bridge, "accessories": [], "platforms": [platform, *others]}


@dataclass
class Homebridge:
    """Homebridge's folder, and how it is started."""

    folder: Path
    modules: Path
    port: int
    child_port: int = 0

    @classmethod
    def new(cls, folder: Path, *, child: bool = False) -> "Homebridge":
        folder.mkdir()
        modules = downloaded() / "node_modules"
        return cls(folder, modules, free_port(), free_port() if child else 0)

    @property
    def bridge_port(self) -> int:
        """The port of the bridge that has the switches."""
        return self.child_port or self.port

    def configure(self, switches: Iterable[object], others: Iterable[object] = ()) -> None:
        body = config(self.port, switches, child_port=self.child_port, others=others)
        (self.folder / "config.json").write_text(json.dumps(body, indent=1))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run it within the block, until it says that its bridges are online."""
        command = [
            str(node(self.modules)),
            str(self.modules / "homebridge" / "bin" / "homebridge"),
            *("--user-storage-path", str(self.folder), "--plugin-path", str(self.modules), "--no-qrcode"),
        ]
        ports = {self.port, self.child_port} - {0}
        with self.folder.with_name("log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, start_new_session=True
            )
        try:
            async with asyncio.timeout(START_SECONDS):
                while not all(map(_listens, ports)):
                    assert process.returncode is None, self.folder.with_name("log").read_text()
                    await asyncio.sleep(0.1)
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            async with asyncio.timeout(STOP_SECONDS):
                while any(map(_listens, ports)):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)  # for its files; after that, Homebridge only waits for five seconds
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def pair(self) -> Seen:
        """Pair an admin and a user, and return what they see."""
        return await pair(LOOPBACK.addresses[0], self.bridge_port, CODE)

    async def look(self, seen: Seen) -> Seen:
        """Return what its controllers see now."""
        controller = seen.controllers(LOOPBACK.addresses[0], self.bridge_port)[0]
        accessories = await controller.accessories()
        await controller.close()
        return Seen(accessories, seen.pairings)


async def pair(address: str, port: int, code: str) -> Seen:
    """Pair an admin and a user with a bridge, and return what they see."""
    admin = await Controller.pair_only(address, port, code)
    key = Ed25519PrivateKey.generate()
    public_key = key.public_key().public_bytes_raw()
    await admin.add(USER, public_key, "User")
    seen = await admin.accessories()
    first: Mapping[str, Any] = dict(admin.pairing.pairing_data)
    await admin.close()
    second = {
        "iOSPairingId": USER,
        "iOSDeviceLTSK": key.private_bytes_raw().hex(),
        "iOSDeviceLTPK": public_key.hex(),
    }
    return Seen(seen, (dict(first), {**first, **second}))


def copied_modules(folder: Path, *, plugin: bool) -> Path:
    """Copy Homebridge with or without the plugin, since it finds plugins beside itself."""
    copied = folder / "node_modules"
    left = ("include", "*.map", "*.d.ts", *(() if plugin else ("homebridge-cmdswitch2",)))
    shutil.copytree(
        downloaded() / "node_modules", copied, symlinks=True, ignore=shutil.ignore_patterns(*left)
    )
    return copied


def add_other_plugin(modules: Path) -> None:
    """Add a plugin with a lamp to a copy of the modules."""
    plugin = modules / "homebridge-others"
    plugin.mkdir()
    (plugin / "index.js").write_text(OTHER_PLUGIN)
    package = {"name": "homebridge-others", "version": "1.0.0", "main": "index.js"}
    package |= {"keywords": ["homebridge-plugin"], "engines": {"homebridge": "*"}}  # type: ignore[dict-item]
    (plugin / "package.json").write_text(json.dumps(package))


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK.addresses[0], port)) == 0
