"""Homebridge 2, which is no peer: the plugin ends it at launch. Its memory and its start without the plugin.

It is measured as a fact, and is no part of any target.
"""

import json
import platform
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from bench import timestamps
from bench.figures import HOMEBRIDGE_2, Figures
from bench.measures import memory
from bench.peer import CPU, SETUP_CODE
from tests.host.machine import ADDRESS, INTERFACE, Host, eventually

HERE: Final = Path(__file__).with_name("homebridge2")
MOUNT: Final = "/homebridge2"
"""The mount point of the downloaded packages on a host."""

PORT: Final = 51828
UNIT: Final = "homebridge2.service"
FOLDER: Final = "/var/lib/homebridge2"
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
COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m|^\[[^\]]*(AM|PM|\d)\] ")
"""Colours, and the time at the beginning of a line."""

REASON: Final = re.compile(r"^\w*Error: .+", re.MULTILINE)


def version() -> str:
    """Return the locked version."""
    return str(json.loads((HERE / "package.json").read_text())["dependencies"]["homebridge"])


def measure(host: Host, starts: int, figures: Figures) -> str:
    """Measure it without the plugin, then start it with the plugin; return how that ended, in one line."""
    _configure(host, {"bridge": _bridge(), "accessories": [], "platforms": []}, "/nonexistent")
    for _ in range(starts):
        _measure_start(host, figures)
    return _with_plugin(host)


def _measure_start(host: Host, figures: Figures) -> None:
    host.run("systemctl", "start", UNIT)
    try:
        listening_seconds = eventually(lambda: _listens(host), timeout_seconds=WITHIN_SECONDS)
        began_seconds = timestamps.started(host, UNIT)
        figures.add("start-listening", HOMEBRIDGE_2, (listening_seconds - began_seconds) * 1000)
        time.sleep(SETTLED_SECONDS)
        assert host.show(UNIT, "ActiveState") == "active", host.journal(UNIT)
        figures.add("memory-alone", HOMEBRIDGE_2, memory.mib(host, (UNIT,)))
    finally:
        host.run("systemctl", "stop", UNIT)


def _listens(host: Host) -> float | None:
    shown = host.run("ss", "--numeric", "--listening", "--tcp", "--no-header", f"sport = :{PORT}").stdout
    return time.monotonic() if shown.strip() else None


def _with_plugin(host: Host) -> str:
    """Start it with a switch of the plugin; return the error that ended it, or that it runs."""
    switch = {"name": "One", "on_cmd": "true", "off_cmd": "true", "state_cmd": "false"}
    plugin = {"platform": "cmdSwitch2", "name": "CMD Switch 2", "switches": [switch]}
    _configure(host, {"bridge": _bridge(), "accessories": [], "platforms": [plugin]}, f"{MOUNT}/node_modules")
    host.run("systemctl", "start", UNIT)
    try:
        ended = eventually(lambda: _ended_or_listens(host), timeout_seconds=WITHIN_SECONDS)
        return (
            f"exited with status {host.show(UNIT, 'ExecMainStatus')}: {_reason(host)}"
            if ended < 0
            else "runs"
        )
    finally:
        host.run("systemctl", "stop", UNIT)
        host.run("systemctl", "reset-failed", UNIT, check=False)


def _ended_or_listens(host: Host) -> float | None:
    """Return a negative number when it has ended, and another when it listens and stays for a while."""
    if host.show(UNIT, "ActiveState") not in {"active", "activating"}:
        return -1
    listening_seconds = _listens(host)
    if listening_seconds is not None:
        time.sleep(SETTLED_SECONDS)
        return listening_seconds if host.show(UNIT, "ActiveState") == "active" else -1
    return None


def _reason(host: Host) -> str:
    """Return the first line of the journal that is an error of JavaScript."""
    lines = (COLOURS.sub("", line).strip() for line in host.journal(UNIT).splitlines())
    journal = "\n".join(COLOURS.sub("", line) for line in lines)
    found = REASON.search(journal)
    assert found, f"no error in the journal:\n{journal}"
    return found.group()


def _configure(host: Host, config: Mapping[str, Any], plugins: str) -> None:
    host.unit(UNIT, SERVICE.format(cpu=CPU[platform.machine()], plugins=plugins))
    host.run("rm", "-rf", f"{FOLDER}/", f"/var/lib/private/{Path(FOLDER).name}")
    host.write(f"/var/lib/private/{Path(FOLDER).name}/config.json", json.dumps(config), mode=0o644)


def _bridge() -> dict[str, Any]:
    return {
        "name": "Homebridge 2",
        "username": "CC:22:3D:E3:CE:31",
        "port": PORT,
        "pin": SETUP_CODE,
        "bind": [INTERFACE, ADDRESS],
    }
