"""The simulated systemd keeps the contract, in both versions that Debian has; and the table is a fair one."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from hkswitch.systemd.units import Systemd
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.contract.play import Played, play
from tests.world.loop import run
from tests.world.messages import Delay
from tests.world.systemd import SimulatedSystemd
from tests.world.unit_spec import Spec

VERSIONS: Final = (252, 257)
SEEDS: Final = range(4)


@dataclass(frozen=True)
class Simulated:
    """The simulation, as a machine that cases are played on."""

    systemd: SimulatedSystemd

    async def connect(self) -> Systemd:
        return await Systemd.connect(self.systemd.connection)

    async def outside(self, verb: str, unit: str) -> None:
        match verb:
            case "start":
                self.systemd.start(unit)
            case "stop":
                self.systemd.stop(unit)
            case "restart":
                self.systemd.restart(unit)
            case "kill":
                self.systemd.crash(unit, signal=9)
            case "daemon-reload":
                self.systemd.daemon_reload()

    async def define(self, unit: str, spec: Spec) -> None:
        self.systemd.define(unit, spec)


def delays() -> Iterator[Delay]:
    """No delay, an even one, and some that let messages come in bunches."""
    yield lambda: 0
    yield lambda: 0.001
    for seed in SEEDS:
        numbers = random.Random(seed)
        yield lambda numbers=numbers: 0.02 * numbers.random()  # type: ignore[misc]


async def played(case: Case, version: int, delay_seconds: Delay) -> Played:
    systemd = SimulatedSystemd(
        case.units,
        version=version,
        delay_seconds=delay_seconds,
        commands=lambda argv: case.commands[argv],
    )
    try:
        return await play(Simulated(systemd), tuple(case.told), case.steps)
    finally:
        systemd.close()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_the_simulation_keeps_the_contract(case: Case, version: int) -> None:
    wanted = case.wanted(version)
    for delay_seconds in delays():
        said = run(played(case, version, delay_seconds))
        assert case.cut(said, wanted) == wanted


def test_half_of_the_contract_are_failures_and_refusals() -> None:
    fine = {"done", "exited with status 0"}
    bad = [case for case in CASES if any(not fine & {word, word.partition(" ")[2]} for word in case.results)]
    assert 2 * len(bad) >= len(CASES)


def test_no_unit_is_in_two_cases() -> None:
    names = [name for case in CASES for name in case.told]
    assert len(names) == len(set(names))
