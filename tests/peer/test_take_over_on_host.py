"""A host with a real Homebridge moves over; later, its service is started again by mistake."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from bench import peer
from bench.environment import booted_host
from bench.progress import Progress
from hkswitch.model.errors import Exit
from tests.host.conftest import STUB_UNIT, TOOLS
from tests.host.installation import STATE, empty_state
from tests.host.machine import ADDRESS, INTERFACE, Host, eventually_async
from tests.peer.homebridge import CHILD, CODE, MAIN, config, pair, switch
from tests.support.homebridge_folder import Seen, described

FOLDER: Final = "/var/lib/homebridge"
CONFIG: Final = "/etc/hkswitch/config.yaml"
OUTPUT: Final = ("-o", CONFIG)
TAKE_OVER: Final = ("hkswitch", "import-homebridge", f"{FOLDER}/config.json", "--take-over", FOLDER)
MAIN_PORT, CHILD_PORT = 51827, 51828
LATER: Final = 10
"""Homebridge gets higher ports when it is started by mistake: hkswitch has the bridge's own one."""
NAMES: Final = ("File Server", "Web", "Printer")
UNITS: Final = ("file-server.service", "web.service", "printer.service")
WANTS: Final = "/etc/systemd/system/multi-user.target.wants/homebridge.service"


@pytest.fixture(scope="module")
def moving() -> Iterator[Host]:
    """A host with hkswitch and Homebridge, and the units of its switches."""
    if os.geteuid() != 0 or not all(map(shutil.which, TOOLS)):
        pytest.skip("root and the tools of the host tests are needed")
    with booted_host(peer.downloaded(), Progress(parts=1)) as host:
        for unit in UNITS:
            host.unit(unit, STUB_UNIT)
        yield host


@asynccontextmanager
async def homebridge(host: Host, port: int) -> AsyncIterator[None]:
    """Run Homebridge's service within the block."""
    host.run("systemctl", "start", "homebridge.service")
    try:
        await eventually_async(lambda: _listens(host, port), timeout_seconds=30)
        yield
    finally:
        host.run("systemctl", "stop", "homebridge.service")


def _listens(host: Host, port: int) -> bool:
    return f":{port} " in host.run("ss", "--listening", "--tcp", "--numeric").stdout


async def told(host: Host, found: Callable[[str], bool]) -> str:
    """Wait for what the status says about a second bridge."""

    def conflict() -> str | None:
        said = str(json.loads(host.run("hkswitch", "status", "--json").stdout)["bridge"]["identity"])
        return f"[{said}]" if found(said) else None

    return await eventually_async(conflict, timeout_seconds=60)


def configured(*, child: bool, later: int = 0) -> str:
    """Return Homebridge's config, with the ports `later` higher."""
    child_port = CHILD_PORT + later if child else 0
    body = config(MAIN_PORT + later, map(switch, NAMES), child_port=child_port)
    body["bridge"]["bind"] = [INTERFACE, ADDRESS]
    return json.dumps(body)


@pytest.mark.parametrize("child", [False, True], ids=["main", "child"])
async def test_a_host_moves_over_and_a_homebridge_that_starts_again_is_reported(
    moving: Host, child: bool
) -> None:
    port, mac = (CHILD_PORT, CHILD) if child else (MAIN_PORT, MAIN)
    moving.run("rm", "-rf", FOLDER, CONFIG)
    moving.run("install", "--directory", "--owner=homebridge", FOLDER)
    moving.write(f"{FOLDER}/config.json", configured(child=child))
    with moving.network():
        async with homebridge(moving, port):
            seen = await pair(ADDRESS, port, CODE)
            refused = await asyncio.to_thread(moving.run, *TAKE_OVER, *OUTPUT, check=False)
            assert refused.returncode == Exit.CONFIG
            assert f"homebridge.service is enabled or active and would start {mac} again" in refused.stderr
        moving.run("systemctl", "add-wants", "multi-user.target", "homebridge.service")
        refused = moving.run(*TAKE_OVER, *OUTPUT, check=False)
        moving.run("rm", WANTS)
        assert f"homebridge.service is enabled or active and would start {mac} again" in refused.stderr
        moving.run(*TAKE_OVER, *OUTPUT)
        moving.run("chgrp", "hkswitch", CONFIG)
        moving.run("chmod", "640", CONFIG)
        moving.run("systemctl", "start", "hkswitch.service")
        try:
            await _check_served(moving, seen, port)
            moving.write(f"{FOLDER}/config.json", configured(child=child, later=LATER))
            async with homebridge(moving, port + LATER):
                said = await told(moving, bool)
                assert "another bridge has the same identity" in said
            await told(moving, lambda conflict: not conflict)
        finally:
            moving.run("systemctl", "stop", "hkswitch.service", *UNITS)
            empty_state(moving)


async def _check_served(host: Host, seen: Seen, port: int) -> None:
    owners = host.run("stat", "--format=%U:%G %a", STATE, f"{STATE}/bridge.json").stdout
    assert owners.splitlines() == ["hkswitch:hkswitch 700", "hkswitch:hkswitch 600"]
    admin, user = seen.controllers(ADDRESS, port)
    for controller in (admin, user):
        assert described(await controller.accessories()) == described(seen.accessories)
        await controller.look()
        await controller.subscribe()
    for name, unit in zip(NAMES, UNITS, strict=True):
        assert await user.write(name, on=True) == 0
        assert await admin.event(name) is True
        assert host.show(unit, "ActiveState") == "active"
        host.run("systemctl", "stop", unit)
        assert [await each.event(name) for each in (admin, user)] == [False, False]
    listed = json.loads(host.run("hkswitch", "pair", "--list", "--json").stdout)
    assert sorted(each["admin"] for each in listed) == [False, True]
    for controller in (admin, user):
        await controller.close()
