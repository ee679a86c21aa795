"""A bridge of a real Homebridge is taken over, and its controllers notice nothing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hkswitch.backend.simulated import INACTIVE, SimulatedHost
from hkswitch.daemon.assumed_states import AssumedStates, meaning_of
from hkswitch.model.config import parse
from hkswitch.model.group import AccessoryType, Group
from tests.hap.conftest import Served
from tests.peer.homebridge import Homebridge, add_other_plugin, copied_modules, switch
from tests.support.command import run
from tests.support.homebridge_folder import Seen, described
from tests.support.ports import LOOPBACK


async def take_over(homebridge: Homebridge, copy: Path | None = None) -> tuple[int, str, str]:
    """Take over the bridge of its config, or of a copy of that."""
    folder = homebridge.folder
    config = copy or folder / "config.json"
    output, state = folder.with_name("new.yaml"), folder.with_name("state")
    arguments = (config, "-o", output, "--take-over", folder, "--state-dir", state)
    return await asyncio.to_thread(run, "import-homebridge", *arguments)


def imported(homebridge: Homebridge) -> tuple[Group, ...]:
    return parse(homebridge.folder.with_name("new.yaml").read_bytes(), "new.yaml").groups


@asynccontextmanager
async def serving(homebridge: Homebridge, groups: tuple[Group, ...]) -> AsyncIterator[Served]:
    served = await Served.start(homebridge.folder.with_name("state"), SimulatedHost(groups), groups)
    try:
        yield served
    finally:
        await served.stop()


async def check(homebridge: Homebridge, seen: Seen) -> None:
    """Check that both controllers verify, find everything as it was, switch and receive events."""
    async with serving(homebridge, imported(homebridge)) as served:
        admin, user = seen.controllers(served.address, served.port)
        for controller in (admin, user):
            assert described(await controller.accessories()) == described(seen.accessories)
            await controller.look()
            await controller.subscribe()
        name, unit = "Switch 0", "switch-0.service"
        for writer, reader in ((admin, user), (user, admin)):
            assert await writer.write(name, on=True) == 0
            assert await reader.event(name) is True
            served.host.change({unit: INACTIVE})
            assert [await each.event(name) for each in (writer, reader)] == [False, False]
        assert len(served.bridge.controllers()) == 2
        for controller in (admin, user):
            await controller.close()


def switches(number: int) -> list[object]:
    texts = {"manufacturer": "Acme", "model": "Rack 1", "serial": "A-1"}
    return [switch("Switch 0", **texts), *(switch(f"Switch {each}") for each in range(1, number))]


@pytest.mark.parametrize("number", [1, 3, 100])
@pytest.mark.parametrize("child", [False, True], ids=["main", "child"])
async def test_both_controllers_go_on_without_pairing_again(tmp_path: Path, number: int, child: bool) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge", child=child)
    homebridge.configure(switches(number))
    async with homebridge.running():
        seen = await homebridge.pair()
    assert len(seen.accessories) == number + 1
    code, output, errors = await take_over(homebridge)
    assert (code, errors) == (0, "")
    assert f"with {number} switch{'es' if number > 1 else ''} and 2 controllers" in output
    await check(homebridge, seen)


@pytest.mark.parametrize("child", [False, True], ids=["main", "child"])
async def test_they_go_on_after_the_plugin_was_removed(tmp_path: Path, child: bool) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge", child=child)
    homebridge.configure(switches(3))
    async with homebridge.running():
        seen = await homebridge.pair()
    homebridge.modules = await asyncio.to_thread(copied_modules, tmp_path, plugin=False)
    if not child:  # a child bridge is not started without its plugin
        async with homebridge.running():
            pass
        assert json.loads((homebridge.folder / "accessories" / "cachedAccessories").read_text()) == []
    assert (await take_over(homebridge))[0] == 0
    await check(homebridge, seen)


async def test_switches_with_a_history_keep_their_ids_and_later_groups_change_none(tmp_path: Path) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge")
    homebridge.configure(switches(7))
    async with homebridge.running():
        seen = await homebridge.pair()
    homebridge.configure([*switches(2), *switches(7)[5:], switch("Late")])
    async with homebridge.running():
        seen = await homebridge.look(seen)
    assert {each["aid"] for each in seen.accessories} == {1, 2, 3, 7, 8, 9}
    assert (await take_over(homebridge))[0] == 0
    await check(homebridge, seen)
    groups = imported(homebridge)
    new = Group("new", "New", ("new.service",), AccessoryType.FAN)
    for changed in (
        (*groups, new),
        (replace(groups[0], restart=True), *groups[1:]),
        groups[2:],
        groups,
    ):
        async with serving(homebridge, changed) as served:
            (admin, _) = seen.controllers(served.address, served.port)
            now = described(await admin.accessories())
            there = {ids: what for ids, what in described(seen.accessories).items() if ids in now}
            assert there.items() <= now.items()
            assert not {aid for aid, _ in now} & {4, 5, 6}
            await admin.close()
    assert now == described(seen.accessories)


@pytest.mark.parametrize("child", [False, True], ids=["main", "child"])
async def test_switches_without_a_status_stay_as_a_command_last_turned_them(
    tmp_path: Path, child: bool
) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge", child=child)
    turned = {"On": (True,), "Off": (True, False), "Broken": (True,), "Still On": (True, False), "New": ()}
    works, fails = "/bin/true", "/bin/false"
    homebridge.configure(
        [
            {
                "name": name,
                "on_cmd": fails if name == "Broken" else works,
                "off_cmd": fails if name == "Still On" else works,
            }
            for name in turned
        ]
    )
    async with homebridge.running():
        seen = await homebridge.pair()
        (admin, _) = seen.controllers(LOOPBACK.addresses[0], homebridge.bridge_port)
        await admin.look()
        for name, values in turned.items():
            done = [await admin.write(name, on=on) == 0 for on in values]
            assert done == [name != "Broken", name != "Still On"][: len(values)]
        await admin.close()
    code, output, errors = await take_over(homebridge)
    assert (code, errors) == (0, "")
    assert "on, as Homebridge last turned them, without a command to tell: on, still-on\n" in output
    assumed = AssumedStates(homebridge.folder.with_name("state"))
    assumed.keep({group.id: meaning_of(group) for group in imported(homebridge)})
    assert [group.id for group in imported(homebridge) if assumed.is_on(group.id)] == ["on", "still-on"]


async def test_a_bridge_that_runs_is_refused_and_named(tmp_path: Path) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge")
    homebridge.configure(switches(1))
    async with homebridge.running():
        await homebridge.pair()
        code, _, errors = await take_over(homebridge)
    assert code == 78
    assert f"listens on its port {homebridge.port}; stop it first" in errors
    assert not homebridge.folder.with_name("state").exists()


async def test_a_bridge_with_a_lamp_of_another_plugin_is_refused_and_named(tmp_path: Path) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge")
    homebridge.modules = await asyncio.to_thread(copied_modules, tmp_path, plugin=True)
    add_other_plugin(homebridge.modules)
    homebridge.configure(switches(1), [{"platform": "Others", "name": "Others"}])
    async with homebridge.running():
        await homebridge.pair()
    code, _, errors = await take_over(homebridge)
    assert code == 78
    assert "has accessories of other plugins ('Kitchen Lamp' of homebridge-others)" in errors
    assert not homebridge.folder.with_name("state").exists()


async def test_a_child_bridge_is_taken_over_while_homebridge_runs_for_others(tmp_path: Path) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge", child=True)
    homebridge.configure(switches(3))
    config = homebridge.folder / "config.json"
    async with homebridge.running():
        seen = await homebridge.pair()
        code, _, errors = await take_over(homebridge)
    assert (code, f"listens on its port {homebridge.child_port}" in errors) == (78, True)
    copy = config.with_name("copy.json")
    config.rename(copy)
    body = json.loads(copy.read_text())
    config.write_text(json.dumps(body | {"platforms": []}))
    without_child = replace(homebridge, child_port=0)
    async with without_child.running():
        code, _, errors = await take_over(homebridge, copy)
        assert (code, errors) == (0, "")
        await check(homebridge, seen)


async def test_a_child_bridge_is_free_of_the_main_bridges_lamp(tmp_path: Path) -> None:
    homebridge = Homebridge.new(tmp_path / "homebridge", child=True)
    homebridge.modules = await asyncio.to_thread(copied_modules, tmp_path, plugin=True)
    add_other_plugin(homebridge.modules)
    homebridge.configure(switches(1), [{"platform": "Others", "name": "Others"}])
    async with homebridge.running():
        seen = await homebridge.pair()
    before = {file: file.read_bytes() for file in homebridge.folder.rglob("*") if file.is_file()}
    assert (await take_over(homebridge))[0] == 0
    assert {file: file.read_bytes() for file in homebridge.folder.rglob("*") if file.is_file()} == before
    await check(homebridge, seen)
