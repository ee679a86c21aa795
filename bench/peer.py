"""The peer: Homebridge with homebridge-cmdswitch2, whose switches call a wrapper through sudo."""

import json
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Final

from bench.figures import PEER, POLLING
from bench.switches import Switch
from tests.host.machine import ADDRESS, INTERFACE, Host
from tests.host.rootfs import CACHE

HERE: Final = Path(__file__).with_name("peer")
MOUNT: Final = "/peer"
"""The mount point of the downloaded packages on a host."""

CPU: Final = {"x86_64": "x64", "aarch64": "arm64"}
SETUP_CODE: Final = "031-45-154"
WRAPPER: Final = "/usr/local/bin/serviceswitch"
TIMEOUT_SECONDS: Final = 20
INTERVAL_SECONDS: Final = 5

SERVICE: Final = f"""\
[Unit]
# It is started many times in a row.
StartLimitIntervalSec=0
[Service]
User=homebridge
# Homebridge waits five seconds before it exits.
TimeoutStopSec=1
StateDirectory=homebridge
ExecStart={MOUNT}/node_modules/node-linux-{{cpu}}/bin/node {MOUNT}/node_modules/homebridge/bin/homebridge \\
    --user-storage-path /var/lib/homebridge --plugin-path {MOUNT}/node_modules --no-qrcode
"""
SUDOERS: Final = f"homebridge ALL=(root) NOPASSWD: {WRAPPER}\n"


def downloaded(locked: Path = HERE) -> Path:
    """Return a folder with the packages that are locked in this one, the peer's unless another is named.

    They are downloaded once, as locked by hash, and without running their scripts.
    """
    lock = (locked / "package-lock.json").read_bytes()
    finished = CACHE / "peer" / sha256(lock).hexdigest()[:12]
    if not finished.exists():
        finished.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=finished.parent) as unfinished:
            shutil.copytree(locked, unfinished, dirs_exist_ok=True)
            command = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
            subprocess.run(command, cwd=unfinished, check=True, stdin=subprocess.DEVNULL, capture_output=True)
            Path(unfinished).chmod(0o755)
            shutil.copytree(unfinished, finished, symlinks=True)
    return finished


def versions(downloads: Path) -> dict[str, str]:
    """Return the versions of the peer's components."""
    cpu = CPU[platform.machine()]
    packages = {
        "Homebridge": "homebridge",
        "homebridge-cmdswitch2": "homebridge-cmdswitch2",
        "Node.js": f"node-linux-{cpu}",
    }
    described = {
        name: json.loads((downloads / "node_modules" / package / "package.json").read_text())
        for name, package in packages.items()
    }
    return {name: str(package["version"]) for name, package in described.items()}


def install(host: Host) -> None:
    """Install the peer's user, service, wrapper and sudo rule on a host."""
    host.run("useradd", "--system", "--home-dir=/var/lib/homebridge", "homebridge")
    host.write("/etc/sudoers.d/homebridge", SUDOERS, mode=0o440)
    host.write(WRAPPER, (HERE / "serviceswitch").read_text(), mode=0o755)
    host.unit("homebridge.service", SERVICE.format(cpu=CPU[platform.machine()]))


@dataclass(frozen=True, slots=True)
class Homebridge:
    """The peer, which determines states on each read, or by polling."""

    polling: bool = False
    service: ClassVar[str] = "homebridge.service"
    cgroups: ClassVar[tuple[str, ...]] = (service,)
    port: ClassVar[int] = 51827

    @property
    def who(self) -> str:
        """The name under which its figures are recorded."""
        return POLLING if self.polling else PEER

    def configure(self, host: Host, switches: Sequence[Switch]) -> None:
        """Write the configurations of Homebridge and the wrapper."""
        groups = (f"    [{s.id}]={shlex.quote(' '.join(s.units))}\n" for s in switches)
        host.write("/usr/local/etc/serviceswitch", f"declare -A units=(\n{''.join(groups)})\n")
        # Cached switches would be added to these, and a bridge can have at most 149.
        host.run("rm", "-rf", "/var/lib/homebridge/accessories")
        host.run("install", "--directory", "--owner=homebridge", "/var/lib/homebridge")
        host.write("/var/lib/homebridge/config.json", json.dumps(self._config(switches)))

    def setup_code(self, host: Host) -> str:  # noqa: ARG002 -- as any bridge
        """Return the constant setup code of the configuration."""
        return SETUP_CODE

    def _config(self, switches: Sequence[Switch]) -> dict[str, Any]:
        bridge = {
            "name": "Peer",
            "username": "CC:22:3D:E3:CE:30",
            "port": self.port,
            "pin": SETUP_CODE,
            "bind": [INTERFACE, ADDRESS],
        }
        platform = {
            "platform": "cmdSwitch2",
            "name": "CMD Switch 2",
            "switches": [self._switch(switch) for switch in switches],
        }
        return {"bridge": bridge, "accessories": [], "platforms": [platform]}

    def _switch(self, switch: Switch) -> dict[str, Any]:
        return {
            "name": switch.name,
            "on_cmd": f"sudo {WRAPPER} start {switch.id}",
            "off_cmd": f"sudo {WRAPPER} stop {switch.id}",
            "state_cmd": f"sudo {WRAPPER} status {switch.id}",
            "polling": self.polling,
            "interval": INTERVAL_SECONDS,
            "timeout": TIMEOUT_SECONDS,
        }
