"""The host on which everything is measured: Debian with hkswitch and, for a full run, the peer."""

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench import homebridge2, peer
from bench.bridges import Hkswitch
from bench.progress import Progress
from bench.switches import LOADED_TARGET, UNITS, loaded_target
from hkswitch import __version__
from tests.host import engines
from tests.host.machine import STAGING, Host, booted, install
from tests.host.rootfs import CHECKOUT, RECIPES, root_folder, wheels_folder

RELEASE: Final = RECIPES
"""Debian 13 with a container engine."""

RESERVED: Final = f"{Hkswitch.port},{peer.Homebridge.port},{homebridge2.PORT}"
PYTHON: Final = "/usr/lib/hkswitch/bin/python3"
LISTING: Final = """\
import importlib.metadata, json
print(json.dumps({package.name: package.version for package in importlib.metadata.distributions()}))
"""


@contextmanager
def booted_host(
    downloads: Path | None, progress: Progress, also: Mapping[str, Path] | None = None
) -> Iterator[Host]:
    """Boot a host, and install everything without starting it. `also`: more folders, by mount point."""
    release = RELEASE
    read_only = {"/src": CHECKOUT, "/wheels": wheels_folder(release, progress.note), **(also or {})}
    if downloads is not None:
        read_only[peer.MOUNT] = downloads
    with tempfile.TemporaryDirectory() as folder:
        root = root_folder(release, progress.note)
        staging = Path(folder, "staged")
        staging.mkdir()
        options = (*engines.BOOT_OPTIONS, f"--bind={staging}:{STAGING}")
        with booted(release.name, root, read_only, Path(folder, "host.log"), options) as host:
            progress.note("installing hkswitch from its wheels")
            install(host)
            if downloads is not None:
                peer.install(host)
            # A client that retries a closed port could get it as its source port, and connect to itself.
            host.run("sysctl", "--write", f"net.ipv4.ip_local_reserved_ports={RESERVED}")
            for name, text in UNITS.items():
                host.unit(name, text)
            host.unit(LOADED_TARGET, loaded_target())
            host.run("systemctl", "start", LOADED_TARGET)
            yield host


def versions(host: Host, downloads: Path | None) -> dict[str, str]:
    """Return the versions of what is measured, and of its environment."""
    installed = json.loads(host.run(PYTHON, "-I", "-c", LISTING).stdout)
    return {
        "hkswitch": __version__,
        "Python": host.run("python3", "--version").stdout.split()[-1],
        "HAP-python": installed["HAP-python"],
        "sdbus": installed["sdbus"],
        "systemd": host.run("systemctl", "--version").stdout.split()[1],
        "Debian": host.read("/etc/debian_version").strip(),
        **(peer.versions(downloads) if downloads else {}),
        "kernel": platform.release(),
    }


def machine() -> str:
    """Return a short description of the machine."""
    cpus = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in cpus if line.startswith("model name")]
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    return f"{len(models) or 1} x {models[0] if models else platform.machine()}, {kib / 1024**2:.0f} GiB"
