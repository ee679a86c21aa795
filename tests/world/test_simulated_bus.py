"""The simulated bus and systemd, where no contract holds them: losses, hangs, and what they cost."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import sdbus

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import (
    Action,
    ActiveState,
    JobResult,
    UnitFailure,
    UnitResult,
    UnitState,
    Usage,
)
from hkswitch.systemd.command import Command, ServiceResult
from hkswitch.systemd.connection import CALL_TIMEOUT_SECONDS, bus_itself
from hkswitch.systemd.link import Link
from hkswitch.systemd.units import HEARTBEAT_SECONDS, Systemd
from tests.world.loop import run
from tests.world.systemd import SimulatedSystemd
from tests.world.unit_spec import Kind, Life, Restart, Spec

WEB, FILES = "web.service", "files.service"
UNITS: dict[str, Spec] = {WEB: Spec(), FILES: Spec(Kind.NOTIFY, ready_seconds=2)}
DONE = (UnitResult(WEB, JobResult.DONE),)


@dataclass
class Recorder:
    """What a link told."""

    units: dict[str, UnitState] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)

    def seen(self, units: Mapping[str, UnitState]) -> None:
        self.units |= units

    def failed(self, unit: str, failure: UnitFailure | None) -> None:
        pass

    def lost(self, why: BusUnavailable) -> None:
        self.events.append(str(why).rpartition(": ")[2])
        self.units.clear()

    def found(self) -> None:
        self.events.append("found")


async def connected(systemd: SimulatedSystemd) -> Systemd:
    return await Systemd.connect(systemd.connection)


def test_a_link_lives_through_a_loss_of_the_bus_and_settles_what_ran() -> None:
    async def lost_meanwhile() -> None:
        systemd = SimulatedSystemd(UNITS, delay_seconds=lambda: 0.001)
        link, told = Link(lambda: connected(systemd)), Recorder()
        keeping = asyncio.create_task(link.keep(told))
        await link.watch([WEB, FILES])
        starting = asyncio.create_task(link.run(Action.START, [FILES], 0.2))
        await asyncio.sleep(1)
        systemd.lose_bus()
        await asyncio.sleep(3)
        assert told.events == ["found", "the connection was lost", "Connection refused", "Connection refused"]
        assert not told.units
        systemd.restore_bus()
        assert await starting == (UnitResult(FILES, JobResult.DONE),)
        await asyncio.sleep(0.1)
        assert told.events[-1] == "found"
        assert told.units[FILES] == systemd.truth(FILES)
        assert systemd.is_up(FILES)
        keeping.cancel()
        systemd.close()

    run(lost_meanwhile())


def test_a_restart_that_meets_another_one_is_done_when_the_unit_is_up_again() -> None:
    async def restarted_meanwhile() -> None:
        systemd = SimulatedSystemd({FILES: Spec(Kind.NOTIFY, ready_seconds=2, stop_seconds=1)})
        with await connected(systemd) as connection:
            await connection.run(Action.START, [FILES], 0.2)
            systemd.restart(FILES)
            await asyncio.sleep(0.5)
            results = await connection.run(Action.RESTART, [FILES], 0.2)
            assert results == (UnitResult(FILES, JobResult.DONE),)
            assert systemd.is_up(FILES)
        systemd.close()

    run(restarted_meanwhile())


@asynccontextmanager
async def linked(systemd: SimulatedSystemd) -> AsyncIterator[Link]:
    """A connected link without an observer."""
    link = Link(lambda: connected(systemd))
    keeping = asyncio.create_task(link.keep(Recorder()))
    await asyncio.sleep(1)
    yield link
    keeping.cancel()
    systemd.close()


@pytest.mark.parametrize(("crashes", "result"), [(True, JobResult.FAILED), (False, JobResult.DONE)])
def test_a_start_whose_bus_is_lost_is_no_success_for_a_moment_of_being_up(
    crashes: bool, result: JobResult
) -> None:
    life = Life(0.15, 1) if crashes else Life()
    loop = Spec(restart=Restart.ALWAYS, restart_seconds=0.1, lives=(life,))

    async def lost_meanwhile() -> None:
        systemd = SimulatedSystemd({WEB: loop}, delay_seconds=lambda: 0.001)
        async with linked(systemd) as link:
            starting = asyncio.create_task(link.run(Action.START, [WEB], 1))
            await asyncio.sleep(0.1)
            systemd.lose_bus()
            await asyncio.sleep(0.5)
            systemd.restore_bus()
            [ended] = await starting
            assert ended.job is result

    run(lost_meanwhile())


@pytest.mark.parametrize(("runs", "result"), [(True, JobResult.FAILED), (False, JobResult.DONE)])
def test_a_restart_whose_bus_is_lost_is_no_success_if_what_ran_was_stopped(
    runs: bool, result: JobResult
) -> None:
    async def stopped_meanwhile() -> None:
        systemd = SimulatedSystemd(UNITS, delay_seconds=lambda: 0.01)
        async with linked(systemd) as link:
            if runs:
                systemd.start(WEB)
                await asyncio.sleep(1)
            restarting = asyncio.create_task(link.run(Action.RESTART, [WEB], 1))
            await asyncio.sleep(0.05)
            systemd.lose_bus()
            systemd.stop(WEB)
            await asyncio.sleep(0.5)
            systemd.restore_bus()
            [ended] = await restarting
            assert ended.job is result

    run(stopped_meanwhile())


def test_a_loss_ends_a_start_whose_unit_is_being_restarted_by_another_job() -> None:
    async def lost_meanwhile() -> None:
        systemd = SimulatedSystemd({WEB: Spec(stop_seconds=1)})
        with await connected(systemd) as connection:
            starting = asyncio.create_task(connection.run(Action.START, [WEB], 0.2))
            await asyncio.sleep(0.1)
            systemd.restart(WEB)
            await asyncio.sleep(0.1)
            systemd.lose_bus()
            with pytest.raises(BusUnavailable):
                await asyncio.wait_for(starting, 5)
        systemd.close()

    run(lost_meanwhile())


def test_a_systemd_that_is_executed_anew_ends_the_connection_and_not_its_units() -> None:
    async def executed_anew() -> None:
        systemd = SimulatedSystemd(UNITS)
        link, told = Link(lambda: connected(systemd)), Recorder()
        keeping = asyncio.create_task(link.keep(told))
        await link.watch([WEB])
        await link.run(Action.START, [WEB], 0.2)
        systemd.leave_bus()
        await asyncio.sleep(0.5)
        systemd.join_bus()
        await asyncio.sleep(5)
        assert told.events == ["found", "the connection was lost", "found"]
        assert told.units[WEB].active is ActiveState.ACTIVE
        keeping.cancel()
        systemd.close()

    run(executed_anew())


def test_a_systemd_that_hangs_answers_nothing_and_does_all_of_it_later() -> None:
    async def hung() -> None:
        systemd = SimulatedSystemd(UNITS)
        connection = await connected(systemd)
        systemd.hang()
        asked_seconds = asyncio.get_running_loop().time()
        with pytest.raises(BusUnavailable, match="Method call timed out"):
            await connection.run(Action.START, [WEB], 0.2)
        assert asyncio.get_running_loop().time() - asked_seconds >= CALL_TIMEOUT_SECONDS
        connection.close()
        again = asyncio.create_task(connected(systemd))
        systemd.start(WEB)
        await asyncio.sleep(1)
        assert not systemd.is_up(WEB)
        systemd.go_on()
        with await again as later:
            assert (await later.states([WEB]))[WEB] == systemd.truth(WEB)
        assert systemd.is_up(WEB)
        systemd.close()

    run(hung())


def test_a_heartbeat_notices_that_nothing_is_answered() -> None:
    async def hung() -> float:
        systemd = SimulatedSystemd(UNITS)
        with await connected(systemd) as connection:
            systemd.hang()
            await connection.until_lost()
        systemd.close()
        return asyncio.get_running_loop().time()

    assert run(hung()) == pytest.approx(HEARTBEAT_SECONDS + CALL_TIMEOUT_SECONDS, abs=0.1)


def test_only_watched_units_wake_a_client_up() -> None:
    async def woken() -> int:
        systemd = SimulatedSystemd({WEB: Spec(), FILES: Spec()})
        woken = 0

        def count(units: Mapping[str, UnitState]) -> None:
            nonlocal woken
            woken += 1

        with await connected(systemd) as connection:
            await connection.watch([WEB], count)
            before = connection._connection.client._to_client._last_seconds  # type: ignore[attr-defined]
            await asyncio.sleep(1)
            systemd.start(FILES)
            await asyncio.sleep(1)
            after = connection._connection.client._to_client._last_seconds  # type: ignore[attr-defined]
            assert before == after
            systemd.start(WEB)
            await asyncio.sleep(1)
        systemd.close()
        return woken

    assert run(woken()) == 2


def test_the_bus_refuses_to_remove_a_match_that_is_not_there() -> None:
    async def removed() -> None:
        systemd = SimulatedSystemd()
        connection = systemd.connection()
        match = "type='signal',sender='org.freedesktop.systemd1',interface='a.b',member='C'"
        with pytest.raises(sdbus.DbusMatchRuleNotFound):
            await bus_itself(connection.bus).remove_match(match)
        connection.close()
        systemd.close()

    run(removed())


def test_a_command_that_runs_keeps_its_name_and_is_forgotten_at_its_end() -> None:
    async def executed() -> None:
        systemd = SimulatedSystemd(commands=lambda _: Life(2, 1))
        one = Command("command.service", ("/bin/false",), {}, 10)
        with await connected(systemd) as connection, await connected(systemd) as other:
            first = asyncio.create_task(connection.execute(one))
            await asyncio.sleep(1)
            refused = await other.execute(one)
            assert refused.result is ServiceResult.EXISTS
            assert "already loaded" in refused.detail
            assert (await first).exit_code == 1
            assert str((await other.states([one.unit]))[one.unit]) == "not-found"
        systemd.close()

    run(executed())


def test_the_cpu_time_of_a_unit_begins_at_zero_with_each_run() -> None:
    async def used() -> list[Usage]:
        systemd, usages = SimulatedSystemd(UNITS), list[Usage]()
        systemd.use_cores(WEB, 1.5)
        with await connected(systemd) as connection:
            await connection.run(Action.START, [WEB], 0)
            for action in (None, Action.RESTART):
                if action is not None:
                    await connection.run(action, [WEB], 0)
                await asyncio.sleep(10)
                usages += await connection.usages([WEB, FILES])
        systemd.close()
        return usages

    first, second = run(used())
    for usage in (first, second):
        assert usage.member == WEB
        assert usage.cpu_ns == pytest.approx(15e9, rel=0.01)
    assert second.run != first.run
    assert second.since_seconds - first.since_seconds == pytest.approx(10, abs=0.1)


def test_nothing_is_left_to_happen_once_all_is_closed() -> None:
    async def closed() -> None:
        loop = asyncio.get_running_loop()
        systemd = SimulatedSystemd(UNITS, delay_seconds=lambda: 0.01)
        with await connected(systemd) as connection:
            await connection.watch(UNITS, lambda _: None)
            starting = asyncio.create_task(connection.run(Action.START, [FILES], 0.2))
            await asyncio.sleep(1)
        await asyncio.gather(starting, return_exceptions=True)
        systemd.close()
        await asyncio.sleep(0)
        assert not [timer for timer in loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]

    run(closed())


def test_ten_thousand_operations_take_a_few_seconds() -> None:
    async def busy() -> None:
        systemd = SimulatedSystemd({WEB: Spec()}, delay_seconds=lambda: 0.0001)
        with await connected(systemd) as connection:
            await connection.watch([WEB], lambda _: None)
            for _ in range(1000):
                assert await connection.run(Action.START, [WEB], 0) == DONE
                assert await connection.run(Action.STOP, [WEB], 0) == DONE
        systemd.close()

    began_seconds = time.process_time()
    run(busy())
    assert time.process_time() - began_seconds < 10
