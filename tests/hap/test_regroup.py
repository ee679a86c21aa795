"""Config reloads: switches are added, removed and renamed without pairing again."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from hkswitch.backend.simulated import ACTIVE, SimulatedHost
from hkswitch.model.group import AccessoryType, Group, aid_of
from hkswitch.model.unit_state import Action
from tests.hap.conftest import GROUPS, Served
from tests.support.controller import Controller

WEB = Group("web", "Web Server", ("httpd.service",))
NEW = Group("new", "Brand New", ("new.service",))


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def groups_are_put_back(served: Served) -> AsyncIterator[None]:
    yield
    await regroup(served, GROUPS)


async def regroup(served: Served, groups: Sequence[Group]) -> None:
    served.bridge.regroup(groups, served.switchboard)
    served.switchboard.regroup(groups)
    await served.host.watch(groups)


def without(group_id: str) -> list[Group]:
    return [group for group in GROUPS if group.id != group_id]


def changed(group_id: str, **changes: object) -> list[Group]:
    return [replace(group, **changes) if group.id == group_id else group for group in GROUPS]  # type: ignore[arg-type] # a table of changes


async def test_a_new_group_can_be_seen_and_switched(controller: Controller, served: Served) -> None:
    await regroup(served, [*GROUPS, NEW])
    await controller.look()
    assert await controller.write("Brand New", on=True) == 0
    assert await controller.read("Brand New") is True


async def test_a_group_that_was_removed_is_gone_and_the_others_are_not_touched(
    controller: Controller, served: Served
) -> None:
    assert await controller.write("Kick", on=True) == 0
    await regroup(served, without("web"))
    before = dict(controller.switches)
    await controller.look()
    assert controller.switches == {name: switch for name, switch in before.items() if name != "Web Server"}
    assert await controller.read("Kick") is True
    controller.switches = before
    assert await controller.write("Web Server", on=True) == -70409


async def test_a_group_that_was_renamed_keeps_its_aid_and_its_state(
    controller: Controller, served: Served
) -> None:
    assert await controller.write("Web Server", on=True) == 0
    await regroup(served, changed("web", name="Website"))
    await controller.look()
    assert controller.switches["Website"].aid == aid_of("web")
    assert await controller.read("Website") is True
    served.host.change({"httpd.service": ACTIVE})
    assert await controller.write("Website", on=False) == 0
    assert await controller.read("Website") is False


async def test_a_group_of_another_type_has_another_service_and_its_state(
    controller: Controller, served: Served
) -> None:
    assert await controller.write("Web Server", on=True) == 0
    await regroup(served, changed("web", type=AccessoryType.LIGHT))
    accessories = await controller.look()
    services = next(a["services"] for a in accessories if a["aid"] == aid_of("web"))
    assert "00000043-0000-1000-8000-0026BB765291" in {service["type"] for service in services}
    assert await controller.read("Web Server") is True


async def test_a_restart_switch_comes_and_goes_with_its_option(
    controller: Controller, served: Served
) -> None:
    await regroup(served, changed("web", restart=True, actions=frozenset(Action)))
    await controller.look()
    assert await controller.read("Restart Web Server") is False
    assert await controller.write("Restart Web Server", on=True) == 0
    await regroup(served, GROUPS)
    await controller.look()
    assert "Restart Web Server" not in controller.switches


async def test_subscriptions_go_on(controller: Controller, served: Served) -> None:
    await regroup(served, changed("web", name="Website"))
    served.host.change({"httpd.service": ACTIVE})
    assert await controller.event("Web Server") is True


async def test_controllers_are_told_to_read_the_accessories_anew(
    controller: Controller, served: Served
) -> None:
    before = served.bridge.config_version
    await regroup(served, [*GROUPS, NEW])
    assert served.bridge.config_version == before + 1


@pytest.mark.parametrize(
    ("change", "grows"), [({"name": "Website"}, True), ({"type": AccessoryType.LIGHT}, True), ({}, False)]
)
async def test_a_restart_with_other_accessories_tells_controllers_too(
    tmp_path: Path, change: dict[str, Any], grows: bool
) -> None:
    versions = []
    for groups in ((WEB,), (replace(WEB, **change),)):
        served = await Served.start(tmp_path, SimulatedHost(groups), groups)
        versions.append(served.bridge.config_version)
        await served.stop()
    assert versions[1] - versions[0] == grows
