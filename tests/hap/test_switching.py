"""A controller pairs with the bridge, switches groups and receives correct states."""

import asyncio
from collections.abc import Awaitable

import pytest

from hkswitch import __version__
from hkswitch.backend.simulated import ACTIVATING, ACTIVE, FAILED, INACTIVE, MISSING
from hkswitch.daemon.identities import firmware_revision
from hkswitch.model.group import aid_of
from tests.hap.conftest import GROUPS, Served
from tests.support.controller import Controller
from tests.support.waiting import eventually

FAILURE = -70402


async def together(*requests: Awaitable[object]) -> list[object]:
    """The answers to requests that are made at once."""
    return list(await asyncio.gather(*requests))


async def test_lists_every_group_with_its_name_aid_and_serial_number(controller: Controller) -> None:
    await controller.look()
    revision = firmware_revision(__version__)
    groups = {group.name: (aid_of(group.id), group.id, revision) for group in GROUPS}
    restarts = {
        f"Restart {group.name}": (aid_of(f"{group.id}:restart"), f"{group.id}:restart", revision)
        for group in GROUPS
        if group.restart
    }
    seen = {s.name: (s.aid, s.serial_number, s.firmware_revision) for s in controller.switches.values()}
    assert seen == groups | restarts


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("Web Server", "49"),
        ("Some Outlet", "47"),
        ("Some Lamp", "43"),
        ("Some Fan", "40"),
        ("Restart Kick", "49"),
    ],
)
async def test_a_group_has_the_service_of_its_type(controller: Controller, name: str, service: str) -> None:
    accessories = await controller.look()
    aid = controller.switches[name].aid
    services = next(accessory["services"] for accessory in accessories if accessory["aid"] == aid)
    assert f"000000{service}-0000-1000-8000-0026BB765291" in {found["type"] for found in services}


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


async def test_a_restart_switch_restarts_a_running_group_and_turns_itself_off(
    controller: Controller, other: Controller, served: Served
) -> None:
    assert await controller.write("Kick", on=True) == 0
    seen: list[str] = []
    served.host.listeners.append(lambda units: seen.extend(state.active.value for state in units.values()))
    assert await controller.write("Restart Kick", on=True) == 0
    served.host.listeners.clear()
    assert seen == ["deactivating", "inactive", "activating", "active"]
    assert await controller.event("Restart Kick") is False
    assert await controller.read("Restart Kick") is False
    assert await controller.read("Kick") is True


async def test_a_restart_that_takes_long_is_on_until_it_is_done_and_the_group_stays_on(
    controller: Controller, other: Controller
) -> None:
    await controller.write("Lag", on=True)
    assert await controller.write("Restart Lag", on=True) == 0
    assert await other.read("Restart Lag") is True
    assert await other.read("Lag") is True
    assert await controller.event("Restart Lag") is False
    assert await other.read("Lag") is True


async def test_a_restart_of_a_group_that_is_off_leaves_it_off(controller: Controller) -> None:
    assert await controller.write("Restart Kick", on=True) == 0
    assert await controller.event("Restart Kick") is False
    assert await controller.read("Kick") is False


async def test_a_second_request_on_the_same_connection_is_answered_after_the_first(
    controller: Controller,
) -> None:
    await controller.pairing.connection.ensure_connection()
    controller.pairing.connection._concurrency_limit = asyncio.Semaphore(3)  # aiohomekit would wait itself
    order: list[str] = []

    async def note(what: str, request: Awaitable[object]) -> object:
        answer = await request
        order.append(what)
        return answer

    answers = await together(
        note("write", controller.write("Slow Server", on=True)),
        note("read", controller.read("Slow Server")),
        note("other", controller.read("Web Server")),
    )
    assert answers == [0, True, False]
    assert order == ["write", "read", "other"]


async def test_two_controllers_that_write_the_same_both_get_the_outcome(
    controller: Controller, other: Controller
) -> None:
    assert await together(controller.write("Web Server", on=True), other.write("Web Server", on=True)) == [
        0,
        0,
    ]
    failures = await together(
        controller.write("Broken Server", on=True), other.write("Broken Server", on=True)
    )
    assert failures == [FAILURE, FAILURE]


async def test_of_two_controllers_that_write_the_opposite_the_last_one_wins_and_both_learn_it(
    controller: Controller, other: Controller
) -> None:
    first = asyncio.create_task(controller.write("Lag", on=True))
    assert await other.read("Lag") is False  # the first write was sent before this
    assert await other.write("Lag", on=False) == 0
    assert await first == 0
    assert await controller.event("Lag") is False
    assert await controller.read("Lag") is False


async def test_on_off_on_in_a_moment_ends_on_without_an_error(
    controller: Controller, other: Controller
) -> None:
    third = controller.again()
    taps = [controller.write("Web Server", on=True), other.write("Web Server", on=False)]
    assert await together(*taps, third.write("Web Server", on=True)) == [0, 0, 0]
    await other.until_on_is("Web Server", on=True)
    await third.close()


async def test_a_group_that_flaps_sends_few_events_and_the_last_is_the_truth(
    controller: Controller, served: Served
) -> None:
    for _ in range(30):
        served.host.change({"httpd.service": ACTIVE})
        served.host.change({"httpd.service": INACTIVE})
        await asyncio.sleep(0.05)  # the flapping itself, 1.5 s of it
    served.host.change({"httpd.service": ACTIVE})
    while not await controller.event("Web Server"):
        pass
    assert controller.events.qsize() == 0
    assert controller.told["Web Server"] <= 4


async def test_a_crash_loop_settles_on_off(controller: Controller, served: Served) -> None:
    await controller.write("Web Server", on=True)
    for _ in range(10):
        served.host.change({"httpd.service": FAILED})
        served.host.change({"httpd.service": ACTIVATING})
        served.host.change({"httpd.service": ACTIVE})
        await asyncio.sleep(0.02)  # the loop's own pace
    assert await controller.read("Web Server") is False
    served.host.change({"httpd.service": FAILED})
    assert await controller.event("Web Server") is False
    assert controller.told["Web Server"] == 1


async def test_a_missing_unit_makes_its_switch_and_no_other_unreadable(
    controller: Controller, served: Served
) -> None:
    served.host.change({"httpd.service": MISSING})
    assert await controller.read_all(["Web Server", "Kick", "Restart Kick"]) == {
        "Web Server": FAILURE,
        "Kick": False,
        "Restart Kick": False,
    }
    served.host.change({"httpd.service": ACTIVE})
    assert await controller.event("Web Server") is True
    assert await controller.read("Web Server") is True


async def test_a_lost_host_makes_every_switch_unreadable_until_it_is_back(
    controller: Controller, served: Served
) -> None:
    served.host.lose()
    assert await controller.read_all(["Kick", "Restart Kick", "Web Server"]) == {
        "Kick": FAILURE,
        "Restart Kick": FAILURE,
        "Web Server": FAILURE,
    }
    served.reset()
    assert await controller.read_all(["Kick", "Restart Kick"]) == {"Kick": False, "Restart Kick": False}
