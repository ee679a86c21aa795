"""Homebridge 2, which is no peer: the plugin ends it at launch. Its memory and its start without the plugin.

It is measured as a fact, and is no part of any target.
"""

import json
import platform
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import timestamps
from bench.figures import HOMEBRIDGE_2, Figures
from bench.measures import memory
from bench.peer import CPU, SETUP_CODE
from bench.phone import TRY_AGAIN_SECONDS
from tests.host.machine import ADDRESS, INTERFACE, Host, eventually

HERE: Final = Path(__file__).with_name("homebridge2")
MOUNT: Final = "/homebridge2"
"""The mount point of the downloaded packages on a host."""

PORT: Final = 51828
UNIT: Final = "homebridge2.service"
FOLDER: Final = "/var/lib/homebridge2"
PRIVATE_FOLDER: Final = "/var/lib/private/homebridge2"
"""Where systemd has it, for a user that it makes for the time of the service."""

PLUGIN: Final = "homebridge-cmdswitch2"
WITHIN_SECONDS: Final = 60
SETTLED_SECONDS: Final = 5
"""After it listens, until it has loaded everything."""

SERVICE: Final = f"""\
[Service]
DynamicUser=yes
StateDirectory=homebridge2
# Homebridge waits five seconds before it exits.
TimeoutStopSec=1
ExecStart={MOUNT}/node_modules/node-linux-{{cpu}}/bin/node \\
    {MOUNT}/node_modules/homebridge/bin/homebridge.js \\
    --user-storage-path {FOLDER} --plugin-path {{plugins}} --strict-plugin-resolution --no-qrcode
"""
PREFIX: Final = re.compile(r"^(\x1b\[[0-9;]*m)*\[[^\]]*\] (\x1b\[[0-9;]*m)*")
"""The time at the beginning of a line, and colours."""

ERROR: Final = re.compile(r"^\w*Error: .+", re.MULTILINE)


def version() -> str:
    """Return the locked version."""
    return str(json.loads((HERE / "package.json").read_text())["dependencies"]["homebridge"])


def measure(host: Host, starts: int, figures: Figures) -> str:
    """Measure it without the plugin; return a sentence about how it ends with the plugin.

    The calling thread must be in the host's network.
    """
    _configure(host, (), "/nonexistent")
    for _ in range(starts):
        _measure_start(host, figures)
    return _with_plugin(host)


def _measure_start(host: Host, figures: Figures) -> None:
    host.run("systemctl", "start", "--no-block", UNIT)
    try:
        listening_seconds = _until_listening()
        began_seconds = timestamps.started(host, UNIT)
        figures.add("start-listening", HOMEBRIDGE_2, (listening_seconds - began_seconds) * 1000)
        time.sleep(SETTLED_SECONDS)
        assert _is_running(host), host.journal(UNIT)
        figures.add("memory-alone", HOMEBRIDGE_2, memory.mib(host, (UNIT,)))
    finally:
        host.run("systemctl", "stop", UNIT)


def _until_listening() -> float:
    """Wait until its port is open; return that time."""
    deadline_seconds = time.monotonic() + WITHIN_SECONDS
    while not _is_listening():
        assert time.monotonic() < deadline_seconds, f"port {PORT} is closed after {WITHIN_SECONDS} s"
        time.sleep(TRY_AGAIN_SECONDS)
    return time.monotonic()


def _is_listening() -> bool:
    try:
        socket.create_connection((ADDRESS, PORT), timeout=1).close()
    except OSError:
        return False
    return True


def _is_running(host: Host) -> bool:
    return host.show(UNIT, "ActiveState") == "active"


def _with_plugin(host: Host) -> str:
    """Start it with a switch of the plugin; return how that ended."""
    switch = {"name": "One", "on_cmd": "true", "off_cmd": "true", "state_cmd": "false"}
    plugin = {"platform": "cmdSwitch2", "name": "CMD Switch 2", "switches": [switch]}
    _configure(host, [plugin], f"{MOUNT}/node_modules")
    host.run("systemctl", "start", UNIT)
    try:
        eventually(lambda: _is_listening() or not _is_running(host), timeout_seconds=WITHIN_SECONDS)
        time.sleep(SETTLED_SECONDS)
        runs = _is_running(host)
        end = (
            "runs"
            if runs
            else f"exits with status {host.show(UNIT, 'ExecMainStatus')}: `{error_in(host.journal(UNIT))}`"
        )
        return f"Homebridge {version()} with a switch of {PLUGIN} {end}."
    finally:
        host.run("systemctl", "stop", UNIT)
        host.run("systemctl", "reset-failed", UNIT, check=False)


def error_in(journal: str) -> str:
    """Return the first line of a journal that is an error of JavaScript, without time and colours."""
    found = ERROR.search("\n".join(PREFIX.sub("", line) for line in journal.splitlines()))
    assert found, f"no error in the journal:\n{journal}"
    return found.group()


def _configure(host: Host, platforms: Sequence[Mapping[str, Any]], plugins: str) -> None:
    config = {"bridge": _bridge(), "accessories": [], "platforms": list(platforms)}
    host.unit(UNIT, SERVICE.format(cpu=CPU[platform.machine()], plugins=plugins))
    host.run("rm", "-rf", FOLDER, PRIVATE_FOLDER)
    host.write(f"{PRIVATE_FOLDER}/config.json", json.dumps(config))


def _bridge() -> dict[str, Any]:
    return {
        "name": "Homebridge 2",
        "username": "CC:22:3D:E3:CE:31",
        "port": PORT,
        "pin": SETUP_CODE,
        "bind": [INTERFACE, ADDRESS],
    }
