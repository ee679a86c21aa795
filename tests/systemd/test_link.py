"""systemd, whether or not the bus is there: on a private bus with a fake systemd that comes and goes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Action, JobResult, UnitFailure, UnitResult, UnitState
from hkswitch.systemd import connection
from hkswitch.systemd import link as module
from hkswitch.systemd.command import Command, ServiceResult
from hkswitch.systemd.link import Link
from tests.support.fake_systemd import SYSTEMD, FakeSystemd, Outcome, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]


@dataclass
class Recorder:
    """What the link told: the states, and each loss and return in order."""

    units: dict[str, UnitState] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    def seen(self, units: Mapping[str, UnitState]) -> None:
        self.units |= units

    def failed(self, unit: str, failure: UnitFailure | None) -> None:
        pass

    def lost(self, why: BusUnavailable) -> None:
        assert str(why)
        self.events.append("lost")
        self.units.clear()

    def found(self) -> None:
        self.events.append("found")


@dataclass
class Linked:
    link: Link
    told: Recorder


@pytest_asyncio.fixture(loop_scope="module")
async def linked(fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Linked]:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(module, "NEXT_POLL_SECONDS", 0.02)
    fake.reset(Unit("a.service"), Unit("b.service"))
    link, told = Link(), Recorder()
    keeping = asyncio.create_task(link.keep(told))
    await link.watch(["a.service"])
    await eventually(lambda: told.events == ["found"] and told.units)
    yield Linked(link, told)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_all_watched_units_are_told_when_it_is_there(linked: Linked) -> None:
    assert linked.told.units.keys() == {"a.service"}
    await linked.link.watch(["a.service", "b.service"])
    assert linked.told.units.keys() == {"a.service", "b.service"}


async def test_a_loss_is_told_and_all_is_read_anew_afterwards(linked: Linked, fake: FakeSystemd) -> None:
    await fake.leave()
    await eventually(lambda: linked.told.events == ["found", "lost"])
    fake.units["a.service"].active = "active"
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: linked.told.events[-1] == "found")
    assert linked.told.units["a.service"].active == "active"


@pytest.mark.parametrize(
    ("active", "result"),
    [
        ("active", UnitResult("a.service", JobResult.DONE)),
        ("failed", UnitResult("a.service", JobResult.FAILED, "exited with status 1")),
        ("inactive", UnitResult("a.service", JobResult.FAILED, "is inactive (dead)")),
    ],
)
async def test_what_ran_while_the_bus_went_is_settled_by_the_units(
    linked: Linked, fake: FakeSystemd, active: str, result: UnitResult
) -> None:
    fake.units["a.service"].held = True
    run = asyncio.create_task(linked.link.run(Action.START, ["a.service"], 0.2))
    await eventually(lambda: fake.units["a.service"].job)
    await fake.leave()
    await eventually(lambda: linked.told.events[-1] == "lost")
    fake.units["a.service"].job = None
    fake.units["a.service"].active, fake.units["a.service"].starts = active, 1
    await fake.bus.request_name(SYSTEMD)
    assert await run == (result,)


@pytest.mark.parametrize(
    ("starts", "result"),
    [
        (2, UnitResult("a.service", JobResult.DONE)),
        (1, UnitResult("a.service", JobResult.FAILED, "was not restarted")),
    ],
)
async def test_what_is_up_when_the_bus_is_back_was_restarted_only_if_it_was_started_anew(
    linked: Linked, fake: FakeSystemd, starts: int, result: UnitResult
) -> None:
    unit = fake.units["a.service"]
    unit.active, unit.sub, unit.starts, unit.held = "active", "running", 1, True
    run = asyncio.create_task(linked.link.run(Action.RESTART, ["a.service"], 0.2))
    await eventually(lambda: unit.job)
    await fake.leave()
    await eventually(lambda: linked.told.events[-1] == "lost")
    unit.job, unit.starts = None, starts
    await fake.bus.request_name(SYSTEMD)
    assert await run == (result,)


async def test_a_job_that_is_still_there_when_the_bus_is_back_is_waited_for(
    linked: Linked, fake: FakeSystemd
) -> None:
    fake.units["a.service"].held = True
    run = asyncio.create_task(linked.link.run(Action.START, ["a.service"], 0.2))
    await eventually(lambda: fake.units["a.service"].job)
    await fake.leave()
    await eventually(lambda: linked.told.events[-1] == "lost")
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: linked.told.events[-1] == "found")
    assert not run.done()
    fake.release("a.service", active="active", sub="running")
    assert await run == (UnitResult("a.service", JobResult.DONE),)


async def test_a_command_that_ran_while_the_bus_went_has_an_end_that_nobody_knows(
    linked: Linked, fake: FakeSystemd
) -> None:
    fake.commands = lambda _: Outcome(seconds=60)
    command = Command("c.service", ("/bin/true",), {}, 60)
    run = asyncio.create_task(linked.link.execute(command))
    await eventually(lambda: fake.ran)
    await fake.leave()
    await eventually(lambda: linked.told.events[-1] == "lost")
    await fake.bus.request_name(SYSTEMD)
    assert (await run).result is ServiceResult.LOST


async def test_without_a_bus_everything_says_so_and_nothing_ends(
    fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent")
    link, told = Link(), Recorder()
    keeping = asyncio.create_task(link.keep(told))
    await link.watch(["a.service"])
    await eventually(lambda: told.events == ["lost", "lost"])
    with pytest.raises(BusUnavailable, match="No such file"):
        await link.run(Action.START, ["a.service"], 0.2)
    with pytest.raises(BusUnavailable, match="No such file"):
        await link.states(["a.service"])
    assert not keeping.done()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


# A bus that stays, and a systemd that does not answer as it should


@pytest.mark.parametrize(
    "units", [("a.service", "b.service"), ("b.service",)], ids=["one more unit", "another unit"]
)
async def test_a_watch_that_could_not_be_begun_is_a_loss_and_begun_anew(
    linked: Linked, fake: FakeSystemd, units: tuple[str, ...]
) -> None:
    fake.failing = {"ListUnitsByNames"}
    await linked.link.watch(units)
    await eventually(lambda: linked.told.events == ["found", "lost", "found"])
    assert linked.told.units.keys() == {*units}


async def test_units_that_cannot_be_read_after_a_daemon_reload_are_a_loss_and_read_anew(
    linked: Linked, fake: FakeSystemd
) -> None:
    fake.failing = {"ListUnitsByNames"}
    fake.units["a.service"].active = "active"
    fake.reload()
    await eventually(lambda: linked.told.events == ["found", "lost", "found"])
    assert linked.told.units["a.service"].active == "active"


async def test_a_first_read_that_is_not_answered_is_made_again(
    fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(connection, "CALL_TIMEOUT_SECONDS", 1)
    fake.reset(Unit("a.service"))
    fake.unheard = {"ListUnitsByNames"}
    link, told = Link(), Recorder()
    keeping = asyncio.create_task(link.keep(told))
    await link.watch(["a.service"])
    await eventually(lambda: told.events == ["lost", "found"])
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_start_that_was_not_answered_is_settled_by_the_units(
    linked: Linked, fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CALL_TIMEOUT_SECONDS", 1)
    await fake.leave()
    await eventually(lambda: linked.told.events[-1] == "lost")
    await fake.bus.request_name(SYSTEMD)
    await eventually(lambda: linked.told.events[-1] == "found")
    fake.unheard = {"StartUnit"}
    assert await linked.link.run(Action.START, ["a.service"], 0.2) == (
        UnitResult("a.service", JobResult.DONE),
    )


@pytest.mark.parametrize(
    ("before_seconds", "was_lost_soon", "pause_seconds"),
    [(0, True, 1), (1, True, 2), (16, True, 30), (30, True, 30), (30, False, 1), (0, False, 1)],
)
def test_connections_that_are_lost_soon_are_made_less_and_less_often(
    before_seconds: int, *, was_lost_soon: bool, pause_seconds: int
) -> None:
    assert module.pause_after(before_seconds, was_lost_soon=was_lost_soon) == pause_seconds


async def test_the_pause_grows_while_each_connection_is_lost_at_once(
    linked: Linked, fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_seconds: list[float] = []

    def noted(before_seconds: float, *, was_lost_soon: bool) -> float:
        assert was_lost_soon
        pauses_seconds.append(before_seconds + 0.05)
        return pauses_seconds[-1]

    monkeypatch.setattr(module, "pause_after", noted)
    for _ in range(3):
        linked.told.events.clear()
        fake.failing.add("ListUnitsByNames")
        await linked.link.watch(["b.service", "a.service"])
        await eventually(lambda: linked.told.events == ["lost", "found"])
    assert pauses_seconds == pytest.approx([0.05, 0.1, 0.15])


async def test_a_bus_that_does_not_come_back_in_time_fails_what_ran(
    linked: Linked, fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUS_BACK_WITHIN_SECONDS", 0.1)
    fake.units["a.service"].held = True
    run = asyncio.create_task(linked.link.run(Action.START, ["a.service"], 0.2))
    await eventually(lambda: fake.units["a.service"].job)
    await fake.leave()
    with pytest.raises(BusUnavailable):
        await run
    await fake.bus.request_name(SYSTEMD)
