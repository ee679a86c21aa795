"""The sensor of a group: one event for each trouble, always a value, and no id of anything else changes."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from pyhap.const import CATEGORY_SENSOR

from hkswitch.backend.simulated import ACTIVE, FAILED, INACTIVE, SimulatedHost
from hkswitch.daemon import alerts as alerts_module
from hkswitch.daemon.bridge import Bridge
from hkswitch.daemon.sensors import SENSOR_TYPES
from hkswitch.hap.state_file import StateUnwritable
from hkswitch.model.group import AccessoryType, AlertSensor, Group
from hkswitch.model.switch_events import Observed
from hkswitch.model.unit_state import Action, UnitFailure
from tests.hap.conftest import Served
from tests.support.accessory_database import (
    RECORDED_GROUPS,
    Ids,
    bridge_of,
    database,
    meanings,
    pair,
    regroup,
    renamed,
    typed,
    value_of,
)
from tests.support.controller import Controller
from tests.support.full_disk import filling

CONTACT, OCCUPANCY, LEAK = AlertSensor
STATES: Final = {CONTACT: "6A", OCCUPANCY: "71", LEAK: "70"}
"""The characteristic of each sensor."""

WEB: Final = Group("web", "Web", ("httpd.service",), actions=frozenset(Action), restart=True)
FILES: Final = typed("files", AccessoryType.LIGHT)
KILLED: Final = UnitFailure("run 1", is_requested=False, reason="httpd.service was killed by SIGKILL")


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that fills the disk, or frees space again."""
    return filling(monkeypatch)


def alerting(group: Group, sensor: AlertSensor | None = CONTACT) -> Group:
    return replace(group, alert=sensor)


def sensors(bridge: Bridge) -> dict[int, tuple[AlertSensor, int]]:
    """Return the served sensors by aid, each with its value."""
    found = {}
    for accessory in database(bridge):
        for service in accessory["services"]:
            if (sensor := SENSOR_TYPES.get(service["type"])) is not None:
                found[accessory["aid"]] = sensor, value_of(accessory, STATES[sensor])
    return found


# The accessory database


@pytest.mark.parametrize(("sensor", "service"), [(CONTACT, "80"), (OCCUPANCY, "86"), (LEAK, "83")])
async def test_it_is_an_accessory_of_its_own_with_the_service_of_its_type(
    tmp_path: Path, sensor: AlertSensor, service: str
) -> None:
    bridge = bridge_of(tmp_path, alerting(WEB, sensor))
    [accessory] = [each for each in database(bridge) if each["aid"] == WEB.alert_aid]
    assert [each["type"] for each in accessory["services"]] == ["3E", service]
    assert (value_of(accessory, "23"), value_of(accessory, "30")) == ("Web Alert", "web:alert")
    [state] = accessory["services"][1]["characteristics"]
    assert (state["type"], state["perms"], state["value"]) == (STATES[sensor], ["pr", "ev"], 0)
    assert bridge._driver.accessory.accessories[WEB.alert_aid].category == CATEGORY_SENSOR
    bridge.show_alert("web", detected=True)
    assert sensors(bridge) == {WEB.alert_aid: (sensor, 1)}
    bridge.show_alert("web", detected=False)
    assert sensors(bridge) == {WEB.alert_aid: (sensor, 0)}


@pytest.mark.parametrize("is_paired", [True, False])
@pytest.mark.parametrize("sensor", AlertSensor)
async def test_adding_and_removing_it_changes_no_id_that_was_there(
    tmp_path: Path, sensor: AlertSensor, is_paired: bool
) -> None:
    groups = (WEB, FILES, *RECORDED_GROUPS)
    bridge = bridge_of(tmp_path, *groups)
    if is_paired:
        pair(bridge)
    first = meanings(database(bridge))
    with_sensors = [alerting(group, sensor) for group in groups]
    regroup(bridge, *with_sensors)
    second = meanings(database(bridge))
    added = {ids: what for ids, what in second.items() if ids not in first}
    assert first.items() <= second.items()
    assert {aid for aid, _ in added} == {group.alert_aid for group in groups}
    assert second == meanings(database(bridge_of(tmp_path, *with_sensors)))  # after a restart
    assert first == meanings(database(bridge_of(tmp_path, *groups)))
    again = bridge_of(tmp_path, *with_sensors)
    assert second == meanings(database(again))
    regroup(again, *groups)
    assert first == meanings(database(again))


@pytest.mark.parametrize("is_paired", [True, False])
async def test_another_type_of_sensor_has_ids_of_its_own_and_the_first_one_finds_its_own_again(
    tmp_path: Path, is_paired: bool
) -> None:
    bridge = bridge_of(tmp_path, alerting(WEB, CONTACT))
    if is_paired:
        pair(bridge)
    seen: dict[Ids, str] = {}
    for sensor in (CONTACT, OCCUPANCY, LEAK, CONTACT, LEAK, OCCUPANCY):
        regroup(bridge, alerting(WEB, sensor))
        for found in (database(bridge), database(bridge_of(tmp_path, alerting(WEB, sensor)))):
            assert all(seen.setdefault(ids, what) == what for ids, what in meanings(found).items())


async def test_phones_read_the_accessories_again_when_it_comes_and_goes(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, WEB)
    pair(bridge)
    versions = [bridge.config_version]
    for group in (alerting(WEB), alerting(WEB), alerting(WEB, LEAK), WEB):
        regroup(bridge, group)
        versions.append(bridge.config_version - versions[0])
    assert versions[1:] == [1, 1, 2, 3]


@pytest.mark.parametrize(
    "changed",
    [renamed(WEB, "Website"), replace(WEB, restart=False), replace(WEB, type=AccessoryType.FAN), WEB],
)
@pytest.mark.parametrize("sensor", [CONTACT, LEAK])
async def test_its_value_stays_when_the_group_changes(
    tmp_path: Path, changed: Group, sensor: AlertSensor
) -> None:
    bridge = bridge_of(tmp_path, alerting(WEB))
    bridge.show_alert("web", detected=True)
    regroup(bridge, alerting(changed, sensor))
    assert sensors(bridge) == {WEB.alert_aid: (sensor, 1)}
    [name] = [value_of(each, "23") for each in database(bridge) if each["aid"] == WEB.alert_aid]
    assert name == changed.alert_name


async def test_without_a_sensor_there_is_nothing_to_show(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, alerting(WEB), FILES)
    before = database(bridge)
    bridge.show_alert("files", detected=True)
    bridge.show_alert("other", detected=True)
    assert database(bridge) == before


async def test_on_a_full_disk_a_new_sensor_is_left_out_and_a_retyped_one_keeps_its_type_and_its_value(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    groups = alerting(WEB), FILES
    pair(bridge_of(tmp_path, *groups))
    changed = alerting(WEB, LEAK), alerting(FILES)
    full(True)
    bridge = bridge_of(tmp_path, *changed)
    for group_id in ("web", "files"):
        bridge.show_alert(group_id, detected=True)
    assert sensors(bridge) == {WEB.alert_aid: (CONTACT, 1)}
    assert all(
        words in bridge.storage_problem
        for words in ("not in the Home app: Files Alert", "old type: Web Alert")
    )
    with pytest.raises(StateUnwritable):
        regroup(bridge, alerting(WEB, OCCUPANCY))
    for value in (0, 1):
        bridge.show_alert("web", detected=bool(value))
        assert sensors(bridge) == {WEB.alert_aid: (CONTACT, value)}
    full(False)
    bridge._driver.writer.try_again()
    assert sensors(bridge) == {WEB.alert_aid: (LEAK, 1), FILES.alert_aid: (CONTACT, 1)}
    assert bridge.storage_problem == ""


# With a controller


@pytest.fixture
def well_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts_module, "WELL_SECONDS", 0.05)


GROUPS: Final = (alerting(WEB), Group("lamp", "Lamp", ("lamp.service",)))


@pytest_asyncio.fixture(loop_scope="module")
async def alarmed(tmp_path: Path) -> AsyncIterator[Served]:
    served = await Served.start(tmp_path, SimulatedHost(GROUPS, broken={"httpd.service"}), GROUPS)
    yield served
    await served.stop()


def runs() -> Iterator[UnitFailure]:
    yield from (KILLED._replace(run=f"run {number}") for number in range(1, 100))


@pytest.mark.usefixtures("well_soon")
async def test_one_trouble_is_one_event_and_its_end_another(alarmed: Served) -> None:
    controller, failures = await alarmed.pair(), runs()
    await controller.subscribe()
    assert await controller.read("Web Alert") == 0
    for _ in range(20):
        alarmed.host.fail("httpd.service", next(failures))
        alarmed.host.change({"httpd.service": FAILED})
    assert await controller.event("Web Alert") is True
    assert await controller.read("Web Alert") == 1
    alarmed.host.change({"httpd.service": ACTIVE})
    assert await controller.event("Web Alert") is False
    assert controller.told["Web Alert"] == 2
    await controller.close()


async def test_a_start_that_fails_opens_it_and_a_stop_does_not(alarmed: Served) -> None:
    controller = await alarmed.pair()
    await controller.subscribe()
    alarmed.host.change({"httpd.service": ACTIVE})
    assert await controller.event("Web") is True
    assert await controller.write("Web", on=False) == 0
    assert await controller.read("Web Alert") == 0
    assert await controller.write("Web", on=True) != 0
    assert await controller.event("Web Alert") is True
    await controller.close()


async def test_it_has_a_value_while_the_state_is_unknown(alarmed: Served) -> None:
    controller = await alarmed.pair()
    alarmed.host.fail("httpd.service", KILLED)
    alarmed.host.lose()
    assert await controller.read_all(["Web", "Web Alert"]) == {"Web": -70402, "Web Alert": 1}
    alarmed.switchboard.observed("web", Observed(None))
    assert await controller.read("Web Alert") == 1
    await controller.close()


async def test_it_cannot_be_written(alarmed: Served) -> None:
    controller = await alarmed.pair()
    assert await controller.write("Web Alert", on=True) == -70404
    assert await controller.read("Web Alert") == 0
    await controller.close()


@pytest.mark.parametrize("is_requested", [True, False])
async def test_a_restart_of_the_daemon_while_a_unit_is_failed_is_no_event_and_reads_the_kept_verdict(
    tmp_path: Path, is_requested: bool
) -> None:
    before = await Served.start(tmp_path, SimulatedHost(GROUPS), GROUPS)
    paired = await before.pair()
    before.host.fail("httpd.service", KILLED._replace(is_requested=is_requested))
    await paired.close()
    await before.stop()
    host = SimulatedHost(GROUPS)
    host.states["httpd.service"] = FAILED
    host.failures["httpd.service"] = KILLED  # a new helper cannot know whether it was requested
    after = await Served.start(tmp_path, host, GROUPS)
    controller = Controller.of_pairing(paired.pairing.pairing_data, after.address, after.port)
    await controller.look()
    await controller.subscribe()
    assert await controller.read("Web Alert") == (0 if is_requested else 1)
    host.change({"httpd.service": FAILED})
    host.change({"lamp.service": ACTIVE})
    assert await controller.event("Lamp") is True
    host.change({"lamp.service": INACTIVE})
    assert await controller.event("Lamp") is False
    assert controller.told["Web Alert"] == 0
    host.fail("httpd.service", KILLED._replace(run="run 2"))
    assert await controller.read("Web Alert") == 1
    await controller.close()
    await after.stop()
