"""A host moves over from Homebridge: refused while a unit would start it, then the old controllers go on.

The folder is a recorded one: tests/peer has the same with a real Homebridge.
"""

import json
from collections.abc import Iterator
from typing import Final

import pytest

from hkswitch.model.errors import Exit
from tests.host.conftest import STUB_UNIT
from tests.host.installation import STATE, empty_state
from tests.host.machine import ADDRESS, Host, eventually, eventually_async
from tests.support.homebridge_folder import RECORDED, Seen, described, port_of
from tests.support.mdns import twin

FOLDER: Final = "/var/lib/homebridge"
CONFIG: Final = "/etc/hkswitch/config.yaml"
MAC: Final = "CC:22:3D:E3:CE:30"
UNITS: Final = ("file-server.service", "web-more.service", "printer.service")
UNIT: Final = """\
[Service]
User=homebridge
ExecStart=/bin/sh -c 'exec sleep infinity' hb-service
[Install]
WantedBy=multi-user.target
"""
TAKE_OVER: Final = ("hkswitch", "import-homebridge", f"{FOLDER}/config.json", "--take-over", FOLDER)
COMMAND: Final = (*TAKE_OVER, "-o", CONFIG)


@pytest.fixture(scope="module")
def homebridge(host: Host) -> Iterator[Host]:
    """The host with Homebridge's folder, an enabled unit for it, and the units of its switches."""
    before = host.read(CONFIG)
    host.run("useradd", "--system", f"--home-dir={FOLDER}", "--create-home", "homebridge")
    for file in (RECORDED / "main").rglob("*"):
        if file.is_file():
            host.write(f"{FOLDER}/{file.relative_to(RECORDED / 'main')}", file.read_text(), mode=0o600)
    host.run("chown", "--recursive", "homebridge:", FOLDER)
    host.write("/usr/local/lib/systemd/system/homebridge.service", UNIT)
    for unit in UNITS:
        host.write(f"/usr/local/lib/systemd/system/{unit}", STUB_UNIT)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "enable", "homebridge.service")
    host.run("rm", CONFIG)
    yield host
    host.run("systemctl", "stop", "hkswitch.service", *UNITS)
    host.run("systemctl", "disable", "homebridge.service")
    files = [f"/usr/local/lib/systemd/system/{unit}" for unit in ("homebridge.service", *UNITS)]
    host.run("rm", *files)
    host.run("systemctl", "daemon-reload")
    host.run("userdel", "--remove", "homebridge", check=False)
    host.write(CONFIG, before)
    empty_state(host)


@pytest.fixture(scope="module")
def taken_over(homebridge: Host) -> Iterator[Host]:
    """The host after the take-over, with the daemon running, and the test in its network."""
    homebridge.run("systemctl", "disable", "homebridge.service")
    before = homebridge.run("sh", "-c", f"find {FOLDER} -type f -exec sha256sum {{}} +").stdout
    homebridge.run(*COMMAND)
    assert homebridge.run("stat", "--format=%U:%G %a", CONFIG).stdout == "root:root 600\n"
    homebridge.run("chgrp", "hkswitch", CONFIG)
    homebridge.run("chmod", "640", CONFIG)
    assert homebridge.run("sh", "-c", f"find {FOLDER} -type f -exec sha256sum {{}} +").stdout == before
    listed = homebridge.run("stat", "--format=%U:%G %a", STATE, f"{STATE}/bridge.json").stdout
    assert listed.splitlines() == ["hkswitch:hkswitch 700", "hkswitch:hkswitch 600"]
    homebridge.run("systemctl", "start", "hkswitch.service")
    with homebridge.network():
        yield homebridge


async def test_a_unit_that_would_start_it_again_is_named_and_nothing_is_written(homebridge: Host) -> None:
    homebridge.run("systemctl", "enable", "homebridge.service")
    before = homebridge.run("ls", "-A", STATE).stdout
    refused = homebridge.run(*COMMAND, check=False)
    remedy = "run `sudo systemctl disable --now homebridge.service`"
    assert refused.returncode == Exit.CONFIG
    assert refused.stderr == (
        f"hkswitch: cannot take over the bridge: homebridge.service is enabled or active "
        f"and would start {MAC} again; {remedy}, "
        f"or import a copy of {FOLDER}/config.json, and remove that bridge from the original\n"
    )
    assert homebridge.run("ls", "-A", STATE).stdout == before
    assert homebridge.run("test", "-e", CONFIG, check=False).returncode == 1


async def test_both_controllers_go_on_without_pairing_again(taken_over: Host) -> None:
    seen = Seen.read(RECORDED / "main")
    admin, user = seen.controllers(ADDRESS, port_of(RECORDED / "main"))
    for controller in (admin, user):
        assert described(await controller.accessories()) == described(seen.accessories)
        await controller.look()
        await controller.subscribe()
    assert await admin.write("web & more", on=True) == 0
    assert taken_over.show("web-more.service", "ActiveState") == "active"
    assert await user.event("web & more") is True
    taken_over.run("systemctl", "start", "printer.service")
    assert [await each.event("Printer") for each in (admin, user)] == [True, True]
    for controller in (admin, user):
        await controller.close()
    listed = json.loads(taken_over.run("hkswitch", "pair", "--list", "--json").stdout)
    assert sorted(each["admin"] for each in listed) == [False, True]


def test_the_doctor_says_how_to_disable_a_unit_that_would_start_it_again(taken_over: Host) -> None:
    def state() -> tuple[str, str]:
        found = json.loads(taken_over.run("hkswitch", "doctor", "--json", check=False).stdout)
        [state] = [each for each in found["checks"] if each["check"] == "state"]
        return state["verdict"], state["advice"]

    assert state() == ("ok", "")
    taken_over.run("systemctl", "enable", "homebridge.service")
    verdict, advice = state()
    assert verdict == "todo"
    taken_over.run("sh", "-c", advice.removeprefix("run `").removesuffix("`"))
    assert state() == ("ok", "")


def conflict(host: Host) -> str:
    return str(json.loads(host.run("hkswitch", "status", "--json").stdout)["bridge"]["identity"])


async def test_a_second_bridge_with_its_identity_is_in_the_status_until_it_is_gone(taken_over: Host) -> None:
    assert conflict(taken_over) == ""
    async with twin(MAC, "Homebridge CAD8", ADDRESS):
        told = await eventually_async(lambda: conflict(taken_over))
        assert told.startswith(f"another bridge has the same identity ('Homebridge CAD8' at {ADDRESS})")
        assert told in taken_over.show("hkswitch.service", "StatusText")
        assert f"identity: {told}" in taken_over.run("hkswitch", "status").stdout
        assert told in taken_over.journal("hkswitch.service")
    await eventually_async(lambda: conflict(taken_over) == "")


async def test_a_bridge_that_answers_is_not_taken_over(taken_over: Host) -> None:
    state = "/root/state"
    async with twin(MAC, "Homebridge CAD8", ADDRESS):
        # The announcer answers in this event loop.
        with taken_over.popen(*TAKE_OVER, "--state-dir", state) as refused:
            await eventually_async(lambda: refused.poll() is not None)
            assert refused.stdout is not None
            said = refused.stdout.read()
    assert refused.returncode == Exit.CONFIG
    assert f"cannot take over the bridge: {MAC} still runs: " in said
    assert taken_over.run("test", "-e", state, check=False).returncode == 1


def test_the_state_survives_a_restart_of_the_daemon(taken_over: Host) -> None:
    number = json.loads(taken_over.read(f"{STATE}/bridge.json"))["accessory"]["config_version"]
    taken_over.run("systemctl", "restart", "hkswitch.service")
    eventually(lambda: conflict(taken_over) == "")
    contents = json.loads(taken_over.read(f"{STATE}/bridge.json"))
    assert (contents["version"], contents["accessory"]["config_version"]) == (3, number)
