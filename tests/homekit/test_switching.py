"""A controller pairs with the bridge, switches groups and is told the truth."""

import asyncio

from hkswitch import __version__
from hkswitch.core.model import aid_of
from hkswitch.hosts.simulated import ACTIVATING, ACTIVE, FAILED, INACTIVE
from tests.homekit.conftest import GROUPS, Served
from tests.support.controller import Controller
from tests.support.waiting import eventually

FAILURE = -70402


async def test_lists_every_group_with_its_name_aid_and_serial_number(controller: Controller) -> None:
    await controller.look()
    assert {s.name: (s.aid, s.serial_number, s.firmware_revision) for s in controller.switches.values()} == {
        group.name: (aid_of(group.id), group.id, __version__) for group in GROUPS
    }


async def test_accessories_are_in_the_order_of_their_aids(controller: Controller) -> None:
    aids = [accessory["aid"] for accessory in await controller.look()]
    assert aids == sorted(aids)


async def test_write_that_is_done_within_a_second_is_a_success_and_reads_back(controller: Controller) -> None:
    assert await controller.write("File Server", on=True) == 0
    assert await controller.read("File Server") is True
    assert await controller.write("File Server", on=False) == 0
    assert await controller.read("File Server") is False


async def test_writing_what_already_is_is_a_success(controller: Controller) -> None:
    assert await controller.write("Web Server", on=False) == 0
    assert await controller.read("Web Server") is False


async def test_other_controllers_get_an_event_of_a_write(controller: Controller, other: Controller) -> None:
    await controller.write("Web Server", on=True)
    assert await other.event("Web Server") is True


async def test_failure_within_a_second_is_an_error_and_leaves_the_value(controller: Controller) -> None:
    assert await controller.write("Broken Server", on=True) == FAILURE
    assert await controller.read("Broken Server") is False


async def test_slow_write_is_answered_with_success_before_its_end_and_stays_on(
    controller: Controller, served: Served
) -> None:
    assert await controller.write("Slow Server", on=True) == 0
    assert served.host.states["slow.service"] == ACTIVATING
    assert await controller.read("Slow Server") is True
    await eventually(lambda: served.host.states["slow.service"] == ACTIVE)
    assert await controller.read("Slow Server") is True


async def test_slow_failure_snaps_back_by_an_event_to_the_writer_too(controller: Controller) -> None:
    assert await controller.write("Doomed Server", on=True) == 0
    assert await controller.read("Doomed Server") is True
    assert await controller.event("Doomed Server") is False
    assert await controller.read("Doomed Server") is False


async def test_reads_of_other_connections_do_not_wait_for_a_slow_write(
    controller: Controller, other: Controller
) -> None:
    writing = asyncio.create_task(controller.write("Slow Server", on=True))
    await asyncio.sleep(0)
    assert await other.read("Web Server") is False
    assert not writing.done()
    assert await writing == 0


async def test_change_from_outside_is_an_event(controller: Controller, served: Served) -> None:
    served.host.change({"httpd.service": ACTIVE})
    assert await controller.event("Web Server") is True
    served.host.change({"httpd.service": FAILED})
    assert await controller.event("Web Server") is False


async def test_group_is_off_when_one_of_its_units_stops(controller: Controller, served: Served) -> None:
    await controller.write("File Server", on=True)
    served.host.change({"nmb.service": INACTIVE})
    assert await controller.event("File Server") is False


async def test_one_request_with_several_writes_gives_each_its_status(controller: Controller) -> None:
    statuses = await controller.write_all({"File Server": True, "Broken Server": True, "Web Server": True})
    assert statuses == {"File Server": 0, "Broken Server": FAILURE, "Web Server": 0}
    assert await controller.read_all(["File Server", "Broken Server", "Web Server"]) == {
        "File Server": True,
        "Broken Server": False,
        "Web Server": True,
    }
