"""Helpers that are killed at random moments, during taps and changes of units: what is said is true."""

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hkswitch.backend import aftermath, helper_client
from hkswitch.model.switch_events import Observed, RequestOrigin
from hkswitch.model.unit_state import Action, ActiveState, LoadState, UnitState
from tests.conftest import child_processes
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus
from tests.support.host_with_helper import HostSetup, Recorder, ignore, patched
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

KILLS = 1000
SEED = 2026
TAPPED, CHANGED = 10, 10
"""Groups that are tapped, and others whose units change from outside."""

METHODS = {Action.START: "StartUnit", Action.STOP: "StopUnit", Action.RESTART: "TryRestartUnit"}
CONFIG = "groups:\n" + "".join(
    f"  group-{number}: {{units: [unit-{number}], restart: true, actions: [start, stop, restart]}}\n"
    for number in range(TAPPED + CHANGED)
)


@dataclass
class Ordered(Recorder):
    """An observer that was never told an older state of a unit after a newer one: sub states are numbers."""

    newest: Counter[str] = field(default_factory=Counter)

    def observed(self, group_id: str, observed: Observed) -> None:
        super().observed(group_id, observed)
        for unit, state in (observed.units or {}).items():
            if state.sub.isdecimal():
                assert int(state.sub) >= self.newest[unit], (unit, state)
                self.newest[unit] = int(state.sub)


@dataclass
class Storm:
    """The taps and changes of one run."""

    fake: FakeSystemd
    helped: HostSetup
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    outcomes: Counter[str] = field(default_factory=Counter)
    changes: int = 0

    def unit(self, number: int) -> Unit:
        return self.fake.units[f"unit-{number}.service"]

    async def tap(self, number: int) -> None:
        """One tap on a group that nobody else taps now; a success must be one."""
        action = self.chance.choice(list(Action))
        unit = self.unit(number)
        unit.job_result = self.chance.choice(["done", "done", "done", "failed"])
        call = (METHODS[action], unit.name, "fail" if action is Action.RESTART else "replace")
        before, was_up = self.fake.calls.count(call), unit.active == "active"
        result = await self.helped.host.request(action, f"group-{number}", ignore, RequestOrigin.CONTROLLER)
        asked = self.fake.calls.count(call) - before
        assert asked <= 1, f"{action} was done {asked} times"
        self.outcomes["failure" if result.failure else "success"] += 1
        if result.failure is None:
            assert asked or action is not Action.RESTART, "a restart that nobody did"
            up = {Action.START: True, Action.STOP: False, Action.RESTART: was_up or unit.active == "active"}
            assert (unit.active == "active") is up[action], f"{action}, and the unit is {unit.active}"

    def change(self) -> None:
        """A unit of the others changes from outside."""
        self.changes += 1
        active = self.chance.choice(["active", "inactive", "failed", "activating", "deactivating"])
        number = TAPPED + self.chance.randrange(CHANGED)
        self.fake.change(f"unit-{number}.service", active, str(self.changes))

    async def blow(self) -> None:
        """Taps on all groups, changes meanwhile, and a kill at a random moment."""
        taps = [asyncio.create_task(self.tap(number)) for number in range(TAPPED)]
        for _ in range(self.chance.randrange(12)):
            self.change()
            await asyncio.sleep(self.chance.choice([0, 0, 0.001, 0.005, 0.02]))
        self.helped.signal(signal.SIGKILL)
        for _ in range(self.chance.randrange(12)):
            self.change()
            await asyncio.sleep(self.chance.choice([0, 0.001, 0.02]))
        async with asyncio.timeout(20):
            await asyncio.gather(*taps)

    def is_true(self) -> bool:
        """Whether what was told last is how the units are."""
        return all(
            self.helped.told.last[f"group-{number}"].units
            == {self.unit(number).name: state_of(self.unit(number))}
            for number in range(TAPPED + CHANGED)
        )


def state_of(unit: Unit) -> UnitState:
    return UnitState(LoadState(unit.load), ActiveState(unit.active), unit.sub)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- counts, and Path.iterdir opens one more


@contextmanager
def nothing_left() -> Iterator[None]:
    """No process, no descriptor and no task more than before."""
    processes, descriptors, tasks = child_processes(), open_descriptors(), len(asyncio.all_tasks())
    yield
    assert len(asyncio.all_tasks()) <= tasks
    assert child_processes() <= processes
    assert open_descriptors() <= descriptors


async def test_whenever_helpers_are_killed_what_is_said_is_true_and_nothing_is_left(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helper_client, "BACK_OFF_SECONDS", (0.01,))
    monkeypatch.setattr(aftermath, "STARTING_WITHIN_SECONDS", 0.2)
    fake.reset(*(Unit(f"unit-{number}.service", sub="0") for number in range(TAPPED + CHANGED)))
    config_file = tmp_path / "config.yaml"
    with nothing_left():
        helped = HostSetup.of(config_file, CONFIG, patched(config_file))
        helped.told = Ordered(helped.told.groups)
        await helped.opened()
        storm = Storm(fake, helped)
        for number in range(KILLS):
            await storm.blow()
            if number % 10 == 0:
                await eventually(storm.is_true)
            fake.calls.clear()
        await eventually(storm.is_true)
        await helped.host.close()
        await eventually(lambda: not helped.helpers())
    assert sum(storm.outcomes.values()) == KILLS * TAPPED
    assert min(storm.outcomes["success"], storm.outcomes["failure"]) > KILLS
    figures = (
        f"{KILLS} kills, {dict(storm.outcomes)}, {storm.changes} changes, {len(helped.told.changes)} told"
    )
    print(figures)  # noqa: T201 -- for those who let it blow
