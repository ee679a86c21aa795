"""Failures of units and whether they were requested, from signals as systemd 252 and 257 sent them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from hkswitch.model.unit_state import ActiveState, LoadState, UnitFailure, UnitState
from hkswitch.systemd import failure_reports
from hkswitch.systemd.failure_reports import FailureObserver
from hkswitch.systemd.failures import NO_RUN, Failures
from hkswitch.systemd.units import Systemd
from hkswitch.systemd.watch import UnitSight
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

PATH = "/unit"
STATES = {
    "dead": ActiveState.INACTIVE,
    "dead-before-auto-restart": ActiveState.INACTIVE,
    "start": ActiveState.ACTIVATING,
    "auto-restart": ActiveState.ACTIVATING,
    "auto-restart-queued": ActiveState.ACTIVATING,
    "running": ActiveState.ACTIVE,
    "reload": ActiveState.RELOADING,
    "stop": ActiveState.DEACTIVATING,
    "failed": ActiveState.FAILED,
    "failed-before-auto-restart": ActiveState.FAILED,
}
UP = "dead 1 A, running 1, running"
STOPPED = f"{UP}, running 2, stop 2, failed 2"

BY_THEMSELVES = {
    "killed": f"{UP}, failed",
    "killed, and a stop comes later": f"{UP}, failed, failed 2, failed",
    "killed, and its ExecStopPost= is slow": f"{UP}, stop, failed",
    "killed, and a stop is queued during ExecStopPost=": f"{UP}, stop, stop 2, failed 2, failed",
    "killed, and a restart is queued during ExecStopPost=": f"{UP}, stop, stop 2, failed 2",
    "killed after a stop that was canceled": f"{UP}, running 2, running, failed",
    "killed while it reloads": f"{UP}, running 2, reload 2, reload 2, failed 2, failed",
    "killed while it reloads, and its ExecStopPost= is slow": f"{UP}, reload 2, stop 2, failed 2, failed",
    "killed before its start job is gone": "dead 1 A, running 1, failed",
    "crash loop of 257": f"{UP}, failed-before-auto-restart, auto-restart, auto-restart 2",
    "crash loop of 252": f"{UP}, failed, auto-restart, auto-restart 2",
    "loop of clean exits": f"{UP}, dead-before-auto-restart, auto-restart",
    "crash loop that reaches its start limit": f"{UP}, failed, auto-restart 2, failed 2, failed",
    "start that exits at once": "dead 1 A, start 1, failed 1, failed",
    "start that exits before any signal": "dead, failed 1 A, failed",
    "start of which only the end is signaled": "dead 1 A, failed",
    "start that fails, and the next one waits": "dead 1 A, start 1, failed 1, failed, failed 5",
    "start that takes too long": "dead 1 A, start 1, stop 1, failed 1, failed",
    "start that fails and is tried again": "dead 1 A, start 1, failed-before-auto-restart 1, auto-restart",
    "start beyond the limit": "dead 1 A, running, dead, failed 2, failed",
    "start of a unit whose stop failed": f"{STOPPED}, failed, failed 3 B, start 3, failed 3, failed",
    "restart whose start fails": f"{STOPPED}, failed 2 B, start 2, failed 2, failed",
    "restart whose start fails, in two signals": f"{UP}, running 2, failed 2 B, failed B",
    "automatic start that fails": "dead 1 A, auto-restart-queued 2 B, start 2, failed 2, failed",
}
REQUESTED = {
    "stop": f"{UP}, running 2, stop 2, failed 2, failed",
    "stop, and the signals between are missing": f"{UP}, failed 2, failed",
    "stop during a reload": f"{UP}, reload 2, stop 3, failed 3, failed",
    "stop that waits during a reload": f"{UP}, reload 2, reload 3, stop 3, failed 3",
    "stop after a reload": f"{UP}, running 2, reload 2, running 2, running, stop 3, failed 3",
    "stop, and a start is queued meanwhile": f"{UP}, stop 2, stop 3, failed 3",
    "stop during a start": "dead 1 A, start 1, start 2, stop 2, failed 2, failed",
    "stop during a start, and the signals between are missing": "dead 1 A, start 1, failed 2, failed",
    "stop between the halves of a restart": "dead 1 A, start 1, stop 1, failed 1, failed 2, failed",
    "stop of a start, of which no signal came": "dead, failed 1 A, stop 2, failed 2, failed",
    "stop during a restart during a start": "dead 1 A, start 1, stop 1, stop 2, failed 2, failed",
    "restart": f"{UP}, running 2, stop 2, failed 2",
    "stop without its unit file": f"{UP}, running gone, stop 2 gone, failed 2 gone, failed",
    "stop of a unit that was seen first when it was up": "running, running 2 A, stop 2, failed 2, failed",
    "stop of a unit that was seen first when it stopped": "stop 2 is:stop, failed 2 A, failed",
    "stop of a unit that was seen first when it stopped, by a signal": "stop 2 A, stop 2, failed 2, failed",
    "restart of a unit that was seen first when it stopped": "stop 2 is:restart, failed 2 A",
    "restart of a unit that was seen first when it started": "start 1 is:restart, stop 1 A, failed 1, failed",
}
NOT_FAILED = {
    "clean stop": f"{UP}, running 2, stop 2, dead 2, dead",
    "clean exit": f"{UP}, stop, dead",
    "failed, and reset": f"{UP}, failed, dead",
    "failed, and up again": f"{UP}, failed, failed 2, failed 2 B, running 2",
    "restarted through failed, not told yet": "dead 1 A, start 1, stop 1, failed 1, failed 1 B, start 1",
    "restarted before it was up": "dead 1 A, start 1, stop 1, failed 1",
    "failed start that is not over": "dead 1 A, start 1, failed 1",
    "stopped while it waits for its restart": f"{UP}, failed, auto-restart, auto-restart 2, dead 2",
    "cannot be unmounted": f"{UP}, stop 2, running 2, running",
}


def sights(steps: str) -> list[UnitSight]:
    """Parse steps: a sub state, perhaps a job, a run, the job's type, and `gone`; the run stays."""
    found, run = [], ""
    for sub, *rest in (step.split() for step in steps.split(", ")):
        job = next((int(word) for word in rest if word.isdigit()), 0)
        job_type = next((word[3:] for word in rest if word.startswith("is:")), "")
        run = next((word for word in rest if word.isupper()), run)
        load = LoadState.NOT_FOUND if "gone" in rest else LoadState.LOADED
        found.append(UnitSight(UnitState(load, STATES[sub], sub), job, run, job_type))
    return found


def judged(steps: str) -> tuple[Failures, list[tuple[str, bool]]]:
    """Return the verdicts, each once in a row."""
    failures, verdicts = Failures(), list[tuple[str, bool]]()
    for sight in sights(steps):
        verdict = failures.seen(PATH, sight)
        if verdict is not None and verdict[:2] not in verdicts[-1:]:
            verdicts.append(verdict[:2])
    return failures, verdicts


@pytest.mark.parametrize("steps", BY_THEMSELVES.values(), ids=BY_THEMSELVES)
def test_a_failure_without_a_request_is_told_once_and_as_one(steps: str) -> None:
    failures, verdicts = judged(steps)
    run = sights(steps)[-1].run
    assert [verdict for verdict in verdicts if not verdict[1]] == [(run, False)]
    assert (last := failures.verdict(PATH)) is not None
    assert last[:2] == (run, False)


@pytest.mark.parametrize("steps", REQUESTED.values(), ids=REQUESTED)
def test_an_end_that_a_job_led_to_is_requested(steps: str) -> None:
    assert judged(steps)[1] == [("A", True)]


@pytest.mark.parametrize("steps", NOT_FAILED.values(), ids=NOT_FAILED)
def test_a_unit_that_has_not_failed_or_is_still_being_started_has_no_verdict(steps: str) -> None:
    failures, verdicts = judged(steps)
    assert failures.verdict(PATH) is None
    assert len(verdicts) == (", failed, " in steps)


def test_a_restart_that_passes_through_failed_is_told_as_requested_at_most() -> None:
    failures, verdicts = judged(f"{UP}, running 2, stop 2, failed 2, failed 2 B, running 2, running")
    assert (failures.verdict(PATH), verdicts) == (None, [("A", True)])


def test_each_run_of_a_crash_loop_is_a_failure_of_its_own() -> None:
    loop = "auto-restart, auto-restart 2, auto-restart-queued 2 B, running 2, running, failed"
    assert judged(f"{UP}, failed, {loop}")[1] == [("A", False), ("B", False)]


def test_a_unit_that_never_had_a_run_has_a_word_for_it() -> None:
    assert judged("dead, failed")[1] == [(NO_RUN, False)]


@pytest.mark.parametrize(
    ("before", "read", "verdict"),
    [
        (f"{UP}, running 2, stop 2", "failed A", ("A", True)),
        (f"{UP}, running 2", "failed A", ("A", True)),
        (f"{UP}, stop 2, failed 2, failed", "failed A", ("A", True)),
        (f"{UP}, stop", "failed A", ("A", False)),
        (f"{UP}", "failed A", ("A", False)),
        (f"{UP}, failed", "failed A", ("A", False)),
        (f"{UP}, running 2, stop 2", "failed B", ("B", False)),
        (f"{UP}, stop 2, failed 2, failed", "failed B", ("B", False)),
        (UP, "running, running 5 B, stop 5, failed 5", ("B", True)),
        (UP, "running, stop 5 B, failed 5", ("B", True)),
        (UP, "running, failed B", ("B", False)),
        ("dead", "failed A", ("A", False)),
    ],
)
def test_after_a_lost_connection_only_the_same_run_keeps_its_past(
    before: str, read: str, verdict: tuple[str, bool]
) -> None:
    failures, _ = judged(before)
    failures.lost()
    for sight in sights(read):
        failures.seen(PATH, sight)
    assert (last := failures.verdict(PATH)) is not None
    assert last[:2] == verdict


def test_units_that_are_not_watched_any_longer_are_forgotten() -> None:
    failures, _ = judged(f"{UP}, stop 2, failed 2, failed")
    failures.keep([PATH])
    assert failures.verdict(PATH) is not None
    failures.keep([])
    assert failures.verdict(PATH) is None


# Told on a bus


class Watcher:
    """What the watches of one connection after another told."""

    def __init__(self) -> None:
        self.failures = Failures()
        self.told: list[tuple[str, UnitFailure | None]] = []
        self.states: dict[str, UnitState] = {}

    async def watch(self, systemd: Systemd, *units: str) -> None:
        await systemd.watch(units, self.states.update, FailureObserver(self.failures, self._failed))

    def _failed(self, unit: str, failure: UnitFailure | None) -> None:
        if failure is not None or any(name == unit for name, _ in self.told):
            self.told.append((unit, failure))

    async def until_told(self, *wanted: tuple[str, UnitFailure | None]) -> None:
        await eventually(lambda: self.told[-len(wanted) :] == [*wanted])


def failure(number: int, reason: str, *, is_requested: bool = False) -> UnitFailure:
    return UnitFailure(number.to_bytes(16, "big").hex(), is_requested, reason)


@pytest_asyncio.fixture(loop_scope="module")
async def systemd(fake: FakeSystemd, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Systemd]:
    monkeypatch.setattr(failure_reports, "REASON_WITHIN_SECONDS", 30)
    connected = await Systemd.connect()
    yield connected
    connected.close()


WEB = "web.service"
EXITED = failure(1, "web.service exited with status 1")
LATE = failure(1, "web.service failed")


async def test_a_crash_is_told_with_its_reason_and_cleared_when_the_unit_is_up(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit(WEB, active="active", sub="running", starts=1))
    watcher = Watcher()
    await watcher.watch(systemd, WEB)
    fake.change(WEB, "failed", "failed")
    fake.change(WEB, "failed", "failed")
    await watcher.until_told((WEB, EXITED))
    fake.change(WEB, "active", "running")
    await watcher.until_told((WEB, EXITED), (WEB, None))
    assert len(watcher.told) == 2


async def test_a_crash_is_told_even_if_the_unit_is_up_before_its_reason_is_read(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_reports, "REASON_WITHIN_SECONDS", 0.01)
    fake.reset(Unit(WEB, active="active", sub="running", starts=1))
    watcher = Watcher()
    await watcher.watch(systemd, WEB)
    fake.holds_services = True
    fake.change(WEB, "failed", "failed")
    fake.change(WEB, "active", "running")
    await watcher.until_told((WEB, LATE), (WEB, None))


async def test_a_failure_waits_for_its_reason_for_a_moment_only(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_reports, "REASON_WITHIN_SECONDS", 0.01)
    fake.reset(Unit(WEB, active="active", sub="running", starts=1))
    watcher = Watcher()
    await watcher.watch(systemd, WEB)
    fake.holds_services = True
    fake.change(WEB, "failed", "failed")
    await watcher.until_told((WEB, LATE))
    fake.release_services()
    await watcher.until_told((WEB, LATE), (WEB, EXITED))


async def test_a_requested_end_is_told_at_once_and_reads_nothing(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(Unit(WEB, active="active", sub="running", starts=1, job="/job/7"))
    watcher = Watcher()
    await watcher.watch(systemd, WEB)
    fake.change(WEB, "deactivating", "stop-sigterm")
    fake.change(WEB, "failed", "failed")
    await watcher.until_told((WEB, failure(1, f"{WEB} failed when it was stopped", is_requested=True)))
    assert fake.reads == []
    watcher.failures.lost()  # the next connection finds the same run
    await watcher.watch(systemd, WEB)
    assert {told and told.is_requested for _, told in watcher.told} == {True}
    await watcher.watch(systemd, "other.service")
    assert watcher.failures.verdict(fake.units[WEB].path) is None


async def test_a_service_that_ended_well_and_is_started_again_is_no_failure_but_a_crash_at_once_is(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_reports, "REASON_EVERY_SECONDS", 60)
    fake.reset(Unit(WEB, active="active", sub="running", starts=1))
    watcher = Watcher()
    await watcher.watch(systemd, WEB)
    fake.change(WEB, "activating", "auto-restart")
    ended = (WEB, failure(1, f"{WEB} ended well", is_requested=True))
    await watcher.until_told(ended)
    await watcher.watch(systemd, WEB)
    assert {*watcher.told} == {ended}
    fake.units[WEB].starts = 2
    fake.change(WEB, "active", "running")
    fake.units[WEB].result, fake.units[WEB].status = "exit-code", 1
    fake.change(WEB, "activating", "auto-restart")
    await watcher.until_told((WEB, None), (WEB, EXITED._replace(run=failure(2, "").run)))


async def test_a_crash_loop_is_told_each_time_and_its_reason_is_read_once_a_second(
    fake: FakeSystemd, systemd: Systemd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_reports, "REASON_EVERY_SECONDS", 60)
    fake.reset(Unit(WEB, active="active", sub="running", starts=1))
    watcher = Watcher()
    await watcher.watch(systemd, WEB)
    for number in range(1, 6):
        fake.units[WEB].starts = number
        fake.change(WEB, "failed", "failed")
        await watcher.until_told((WEB, EXITED._replace(run=failure(number, "").run)))
        fake.change(WEB, "active", "running")
    assert [read for read in fake.reads if read[0] == WEB and "Service" in read[1]] == [
        (WEB, "org.freedesktop.systemd1.Service")
    ]


async def test_a_unit_that_has_failed_before_is_told_with_its_run(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    fake.reset(Unit(WEB, active="failed", sub="failed", starts=1), Unit("other.service"))
    watcher = Watcher()
    await watcher.watch(systemd, WEB, "other.service")
    await watcher.until_told((WEB, EXITED))


async def test_a_timer_fails_with_the_service_that_it_starts_whose_states_are_not_told(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    timer, service, other = "backup.timer", "backup.service", "other.service"
    started = Unit(service, starts=1)
    fake.reset(Unit(timer, active="active", sub="waiting", triggers=(service,)), started, Unit(other))
    watcher = Watcher()
    await watcher.watch(systemd, timer)
    fake.change(service, "activating", "start")
    fake.change(service, "failed", "failed")
    failed = failure(1, f"{service} exited with status 1")
    await watcher.until_told((timer, failed))
    fake.change(service, "activating", "start")
    await watcher.until_told((timer, failed), (timer, None))
    fake.change(service, "failed", "failed")
    await watcher.until_told((timer, failed))
    fake.units[timer].triggers = (other,)
    fake.reload()
    await watcher.until_told((timer, None))
    assert {*watcher.states} == {timer}


async def test_a_timer_and_its_service_in_one_group_fail_both_and_each_for_itself(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    timer, service = "backup.timer", "backup.service"
    fake.reset(Unit(timer, active="active", sub="waiting", triggers=(service,)), Unit(service, starts=1))
    watcher = Watcher()
    await watcher.watch(systemd, timer, service)
    fake.change(service, "failed", "failed")
    failed = failure(1, f"{service} exited with status 1")
    await watcher.until_told((service, failed), (timer, failed))
    fake.change(timer, "failed", "failed")
    own = UnitFailure(NO_RUN, is_requested=False, reason=f"{timer} failed")
    await watcher.until_told((timer, own))
    fake.change(timer, "active", "waiting")
    await watcher.until_told((timer, failed))
    fake.change(service, "inactive", "dead")
    await watcher.until_told((service, None), (timer, None))
