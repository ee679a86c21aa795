"""Watching units and running jobs, on a private bus with a fake systemd."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_asyncio
import sdbus
from dbus_fast import Message
from dbus_fast.aio import MessageBus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import (
    Action,
    ActionResult,
    ActiveState,
    JobResult,
    LoadState,
    UnitHealth,
    UnitResult,
    UnitState,
    result_of,
)
from hkswitch.systemd import signals, watching
from hkswitch.systemd.connection import MOST_CALLS_IN_FLIGHT
from hkswitch.systemd.interface import SERVICE_INTERFACE
from hkswitch.systemd.units import Systemd
from tests.support.fake_systemd import SYSTEMD, UNIT, FakeSystemd, Unit, properties_changed
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

PEER = "org.freedesktop.DBus.Peer"
ACTIVE = UnitState(LoadState.LOADED, ActiveState.ACTIVE, "running")
INACTIVE = UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead")
NOT_FOUND = UnitState(LoadState.NOT_FOUND, ActiveState.INACTIVE, "dead")


@pytest_asyncio.fixture(loop_scope="module")
async def systemd(fake: FakeSystemd) -> AsyncIterator[Systemd]:
    connected = await Systemd.connect()
    fake.calls.clear()
    yield connected
    connected.close()


class UnitSnapshot(dict[str, UnitState]):
    """What a watch told, as it stands now."""

    def sink(self, units: Mapping[str, UnitState]) -> None:
        self.update(units)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- counts


async def test_no_bus_is_a_bus_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    with pytest.raises(BusUnavailable, match="No such file or directory"):
        await Systemd.connect()


async def test_states_are_by_the_name_asked_for(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit("a.service", active="active", sub="running"), Unit("b.service"))
    assert await systemd.states(["b.service", "gone.service", "a.service"]) == {
        "a.service": ACTIVE,
        "b.service": INACTIVE,
        "gone.service": NOT_FOUND,
    }


async def test_watch_tells_all_states_at_once_and_then_each_change(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("a.service"), Unit("b.service"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service", "b.service"], seen.sink)
    assert seen == {"a.service": INACTIVE, "b.service": INACTIVE}
    fake.change("b.service", "active", "running")
    await eventually(lambda: seen == {"a.service": INACTIVE, "b.service": ACTIVE})


async def test_a_signal_with_nothing_new_in_it_is_not_told(fake: FakeSystemd, systemd: Systemd) -> None:
    """There are such for each job that comes and goes."""
    fake.reset(Unit("a.service"))
    told: list[Mapping[str, UnitState]] = []
    await systemd.watch(["a.service"], told.append)
    for active, sub in (("inactive", "dead"), ("active", "running"), ("active", "running")):
        fake.change("a.service", active, sub)
    await systemd.states([])  # its answer comes after them
    assert told == [{"a.service": INACTIVE}, {"a.service": ACTIVE}]


async def test_changes_of_other_units_are_not_told(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit("a.service"), Unit("other.service"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service"], seen.sink)
    fake.change("other.service", "active", "running")
    fake.change("a.service", "active", "running")
    await eventually(lambda: seen == {"a.service": ACTIVE})


async def test_the_bus_sends_one_short_signal_for_each_change_of_a_watched_unit(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, str]] = []
    note = sent.append
    monkeypatch.setattr(
        systemd, "_unit_changed", lambda message: note((message.path, message.get_contents()[0]))
    )
    fake.reset(Unit("a.service"), Unit("b.service"))
    await systemd.watch(["a.service"], lambda _: None)
    sent.clear()  # until its own match is there, sdbus has the bus send all
    paths = [fake.units[name].path for name in ("a.service", "b.service")]
    for path in paths:
        for interface in (SERVICE_INTERFACE, UNIT):
            fake.bus.send(properties_changed(path, "active", "running", interface))
    await systemd.states([])  # its answer comes after them
    assert sent == [(paths[0], UNIT)]


async def test_an_alias_changes_with_its_unit(fake: FakeSystemd, systemd: Systemd) -> None:
    real = Unit("smbd.service")
    fake.reset(real)
    fake.units["smb.service"] = real
    seen = UnitSnapshot()
    await systemd.watch(["smb.service"], seen.sink)
    fake.change("smbd.service", "active", "running")
    await eventually(lambda: seen == {"smb.service": ACTIVE})


async def test_a_unit_that_appears_is_seen_after_a_reload(fake: FakeSystemd, systemd: Systemd) -> None:
    seen = UnitSnapshot()
    await systemd.watch(["new.service"], seen.sink)
    assert seen == {"new.service": NOT_FOUND}
    fake.reset(Unit("new.service"))
    fake.reload()
    await eventually(lambda: seen == {"new.service": INACTIVE})


async def test_a_name_that_became_an_alias_by_a_reload_changes_with_its_unit(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    seen = UnitSnapshot()
    await systemd.watch(["smb.service"], seen.sink)
    real = Unit("smbd.service")
    fake.reset(real)
    fake.units["smb.service"] = real
    fake.reload()
    await eventually(lambda: seen == {"smb.service": INACTIVE})
    fake.change("smbd.service", "active", "running")
    await eventually(lambda: seen == {"smb.service": ACTIVE})


async def test_of_more_units_than_a_connection_may_have_matches_each_change_is_told(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "MOST_MATCHES", 2)
    names = [f"unit-{number}.service" for number in range(3)]
    fake.reset(*map(Unit, names))
    seen = UnitSnapshot()
    for some in (names[:2], names):
        await systemd.watch(some, seen.sink)
    for name in names:
        fake.change(name, "active", "running")
    await eventually(lambda: seen == dict.fromkeys(names, ACTIVE))


async def test_a_unit_that_appears_without_a_reload_is_seen_when_it_changes(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    seen = UnitSnapshot()
    await systemd.watch(["new.service"], seen.sink)
    fake.reset(Unit("new.service"))
    fake.change("new.service", "active", "running")
    await eventually(lambda: seen == {"new.service": ACTIVE})


async def test_signals_of_another_sender_are_not_believed(
    fake: FakeSystemd, systemd: Systemd, bus_address: str
) -> None:
    fake.reset(Unit("a.service"), Unit("b.service"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service", "b.service"], seen.sink)
    liar = await MessageBus(bus_address=bus_address).connect()
    liar.send(properties_changed(fake.units["a.service"].path, "active", "running"))
    # When the bus has answered this call, it has passed the forged signal on.
    await liar.call(Message("org.freedesktop.DBus", "/org/freedesktop/DBus", PEER, "Ping"))
    fake.change("b.service", "active", "running")
    await eventually(lambda: seen["b.service"] == ACTIVE)
    liar.disconnect()
    assert seen["a.service"] == INACTIVE


@pytest.mark.parametrize(
    ("action", "method"),
    [(Action.START, "StartUnit"), (Action.STOP, "StopUnit"), (Action.RESTART, "TryRestartUnit")],
)
async def test_an_action_is_one_job_a_unit_which_is_held_while_it_is_started(
    fake: FakeSystemd, systemd: Systemd, action: Action, method: str
) -> None:
    fake.reset(Unit("a.service"))
    results = await systemd.run(action, ["a.service"], 0.2)
    assert results == (UnitResult("a.service", JobResult.DONE),)
    job = (method, "a.service", "fail" if action is Action.RESTART else "replace")
    held = [("RefUnit", "a.service"), ("ListUnitsByNames", "a.service"), job, ("UnrefUnit", "a.service")]
    assert fake.calls == ([job] if action is Action.STOP else held)
    assert fake.units["a.service"].refs == 0


async def test_stops_go_in_reverse_order(fake: FakeSystemd, systemd: Systemd) -> None:
    names = ["a.service", "b.service", "c.service"]
    fake.reset(*map(Unit, names))
    results = await systemd.run(Action.STOP, names, 0.2)
    assert [result.unit for result in results] == names[::-1]
    assert [call[1] for call in fake.calls] == names[::-1]


@pytest.mark.parametrize("result", ["failed", "timeout", "dependency", "canceled"])
async def test_a_job_result_is_told_in_systemds_word(
    fake: FakeSystemd, systemd: Systemd, result: str
) -> None:
    fake.reset(Unit("a.service", job_result=result), Unit("b.service"))
    assert await systemd.run(Action.START, ["a.service", "b.service"], 0.2) == (
        UnitResult("a.service", JobResult(result), "exited with status 1" if result == "failed" else ""),
        UnitResult("b.service", JobResult.DONE),
    )


async def test_a_unit_without_a_job_is_refused_with_systemds_sentence(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("a.service"))
    assert await systemd.run(Action.START, ["gone.service", "a.service"], 0.2) == (
        UnitResult("gone.service", JobResult.REFUSED, "Unit gone.service not found"),
        UnitResult("a.service", JobResult.DONE),
    )


async def test_a_restart_that_another_job_prevents_was_canceled_and_has_not_gone_wrong(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("a.service", active="active", sub="running", is_stopping=True))
    results = await systemd.run(Action.RESTART, ["a.service"], 0.2)
    why = "a.service conflicts with another job: Transaction for a.service/restart is destructive"
    assert result_of(results) == ActionResult(why)


async def test_what_jobs_led_to_was_told_before_their_results(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit("a.service"), Unit("b.service"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service", "b.service"], seen.sink)
    await systemd.run(Action.START, ["a.service"], 0.2)
    assert seen == {"a.service": ACTIVE, "b.service": INACTIVE}
    await systemd.run(Action.STOP, ["a.service"], 0.2)
    assert seen["a.service"].active is ActiveState.INACTIVE


async def test_a_unit_that_systemd_forgot_and_cannot_load_is_missing(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("a.service", active="active", sub="running"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service"], seen.sink)
    fake.change("a.service", "inactive", "dead")
    del fake.units["a.service"]
    fake.forget("a.service")
    await eventually(lambda: seen["a.service"] == NOT_FOUND)


async def test_a_unit_that_systemd_forgets_again_and_again_is_read_once(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("a.service", active="active", sub="running"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service"], seen.sink)
    fake.change("a.service", "inactive", "dead")
    for _ in range(3):
        fake.forget("a.service")
    reads = ("ListUnitsByNames", "a.service")
    await eventually(lambda: fake.calls.count(reads) == 3)  # two by the watch, and this one
    fake.forget("a.service")
    await systemd.states([])  # its answer comes after that
    assert fake.calls.count(reads) == 3


async def test_a_name_that_systemd_refuses_harms_no_other(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit("a.service", active="active", sub="running"))
    fake.bad_names = {"srv@data.mount"}
    states = await systemd.states(["a.service", "srv@data.mount"])
    assert states["a.service"] == ACTIVE
    assert states["srv@data.mount"].health is UnitHealth.MISSING


async def test_inactive_is_told_while_a_job_waits(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit("a.service", active="active", sub="running", held=True))
    seen = UnitSnapshot()
    await systemd.watch(["a.service"], seen.sink)
    fake.units["a.service"].job = "/org/freedesktop/systemd1/job/7"
    fake.change("a.service", "inactive", "dead")
    await eventually(lambda: seen["a.service"].active is ActiveState.INACTIVE)


async def test_a_crashed_unit_that_passes_through_inactive_has_failed_until_the_next_signal(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("a.service", active="activating", sub="auto-restart"))
    told: list[str] = []
    await systemd.watch(["a.service"], lambda units: told.append(units["a.service"].sub))
    fake.units["a.service"].job = "/org/freedesktop/systemd1/job/7"
    fake.change("a.service", "inactive", "dead")
    fake.change("a.service", "activating", "start")
    await eventually(lambda: told[-1] == "start")
    assert told == ["auto-restart", "start"]


async def test_a_crashed_unit_that_stays_inactive_is_believed_after_a_moment(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "RESTART_WITHIN_SECONDS", 0.1)
    fake.reset(Unit("a.service", active="activating", sub="auto-restart"))
    seen = UnitSnapshot()
    await systemd.watch(["a.service"], seen.sink)
    fake.units["a.service"].job = "/org/freedesktop/systemd1/job/7"
    fake.change("a.service", "inactive", "dead")
    await eventually(lambda: seen["a.service"].active is ActiveState.INACTIVE)


@pytest.mark.parametrize("action", list(Action))
async def test_what_has_not_begun_when_the_connection_is_closed_says_so(
    fake: FakeSystemd, systemd: Systemd, action: Action
) -> None:
    fake.reset(Unit("httpd.service"))
    ran = asyncio.create_task(systemd.run(action, ["httpd.service"], 0))
    also = asyncio.create_task(systemd.run(Action.STOP, ["httpd.service"], 0))
    await asyncio.sleep(0)
    systemd.close()
    for task in (ran, also):
        with pytest.raises(BusUnavailable):
            await asyncio.wait_for(task, 5)


async def test_many_units_run_at_once_with_few_calls_in_flight(fake: FakeSystemd, systemd: Systemd) -> None:
    names = [f"unit-{number}.service" for number in range(MOST_CALLS_IN_FLIGHT * 5)]
    fake.reset(*map(Unit, names))
    results = await systemd.run(Action.START, names, 0.2)
    assert {result.job for result in results} == {JobResult.DONE}


async def test_while_a_job_takes_long_the_ends_of_others_are_not_kept(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit("slow.service", held=True), Unit("a.service"))
    run = asyncio.create_task(systemd.run(Action.START, ["slow.service"], 0.2))
    await eventually(lambda: fake.units["slow.service"].job)
    assert await systemd.run(Action.START, ["a.service"], 0.2) == (UnitResult("a.service", JobResult.DONE),)
    assert systemd._jobs._ended == {}
    fake.release("slow.service", active="active", sub="running")
    assert await run == (UnitResult("slow.service", JobResult.DONE),)


async def test_a_job_that_is_waited_for_ends_with_the_connection(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit("a.service", held=True))
    running = asyncio.create_task(systemd.run(Action.START, ["a.service"], 0.2))
    await eventually(lambda: fake.units["a.service"].job)
    systemd.close()
    with pytest.raises(BusUnavailable):
        await running


async def test_an_answer_to_a_call_that_was_given_up_holds_up_no_other(systemd: Systemd) -> None:
    """sdbus hands it to the future that was cancelled, and says so in the middle of its reading."""
    connection, answers = systemd._connection, [asyncio.InvalidStateError, asyncio.InvalidStateError, None]

    def process() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    bus, connection.bus = connection.bus, cast("Any", SimpleNamespace(process=process, get_fd=int))
    try:
        connection._read()
    finally:
        connection.bus = bus
    assert answers == []
    assert not connection.lost.is_set()


async def test_a_systemd_that_comes_to_the_bus_a_moment_late_is_waited_for(fake: FakeSystemd) -> None:
    fake.reset(Unit("a.service"))
    await fake.leave()
    connecting = asyncio.create_task(Systemd.connect())
    await fake.bus.request_name(SYSTEMD)
    connected = await connecting
    assert await connected.states(["a.service"]) == {"a.service": INACTIVE}
    connected.close()


async def test_a_forged_change_of_owner_is_not_believed(
    fake: FakeSystemd, systemd: Systemd, bus_address: str
) -> None:
    losing = asyncio.create_task(systemd.until_lost())
    liar = await MessageBus(bus_address=bus_address).connect()
    forged = Message.new_signal(
        "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", "sss", [SYSTEMD, "", ":1.999"]
    )
    liar.send(forged)
    await liar.call(Message("org.freedesktop.DBus", "/org/freedesktop/DBus", PEER, "Ping"))
    assert await systemd.states(["a.service"])  # an answer that comes after the forged signal
    assert not losing.done()
    liar.disconnect()
    losing.cancel()
    await asyncio.gather(losing, return_exceptions=True)


async def test_calls_that_wait_when_the_connection_is_closed_end_as_lost(fake: FakeSystemd) -> None:
    fake.reset(Unit("a.service"))
    connected = await Systemd.connect()
    waiting = asyncio.create_task(connected.states(["a.service"]))
    await asyncio.sleep(0)
    connected.close()
    with pytest.raises(BusUnavailable):
        await waiting


async def test_connections_leave_no_descriptor(fake: FakeSystemd) -> None:
    fake.reset(Unit("a.service"))
    counts = []
    for _ in range(20):
        connected = await Systemd.connect()
        await connected.watch(["a.service"], lambda _: None)
        connected.close()
        del connected
        await asyncio.sleep(0)
        counts.append(descriptors())
    assert counts[-1] <= counts[2]


async def test_a_bus_that_goes_while_it_is_opened_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address = str(tmp_path / "bus")
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={address}")
    open_bus = sdbus.sd_bus_open_system
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()

        def opened_and_gone() -> sdbus.SdBus:
            bus = open_bus()
            server.accept()[0].close()
            return bus

        monkeypatch.setattr(sdbus, "sd_bus_open_system", opened_and_gone)
        before = descriptors()
        with pytest.raises(BusUnavailable):
            await Systemd.connect()
        await eventually(lambda: descriptors() == before)
