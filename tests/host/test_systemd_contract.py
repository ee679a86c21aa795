"""The real systemd, used through the production class, fulfils the same contract as its simulation."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pytest

from hkswitch.systemd.units import Systemd
from tests.contract.case import PREFIX, Case
from tests.contract.cases import CASES
from tests.contract.play import Played, play
from tests.host.machine import Host
from tests.world.unit_spec import Spec

FOLDER: Final = "/usr/local/lib/systemd/system"
VERSIONS: Final = {"bookworm": 252, "trixie": 257}
PARALLEL_CASES: Final = 12
"""The number of cases that run in parallel: with more, processes start too slowly for the cases.

That can happen on a busy machine anyway, so a case that fails runs again alone, and that result counts.
"""

_BUS: Final = "DBUS_SYSTEM_BUS_ADDRESS"

REMOVE: Final = f"""
for units; do
    systemctl kill --signal=KILL "$units"
    systemctl stop "$units"
    rm -rf {FOLDER}/$units* /run/$units*
    systemctl reset-failed "$units"
done
systemctl daemon-reload
true
"""


@dataclass(frozen=True)
class Real:
    """A host on which cases run."""

    host: Host

    async def connect(self) -> Systemd:
        return await Systemd.connect()

    async def outside(self, verb: str, unit: str) -> None:
        match verb:
            case "kill":
                await self._run("systemctl", "kill", "--signal=KILL", unit)
            case "daemon-reload":
                await self._run("systemctl", "daemon-reload")
            case _:
                await self._run("systemctl", "--no-block", verb, unit)

    async def define(self, unit: str, spec: Spec) -> None:
        await asyncio.to_thread(write, self.host, unit, spec)

    async def _run(self, *argv: str) -> None:
        await asyncio.to_thread(self.host.run, *argv)


def write(host: Host, unit: str, spec: Spec) -> None:
    """Write a unit file, or mask the unit."""
    if (text := spec.unit_file()) is None:
        host.run("mkdir", "--parents", FOLDER)
        host.run("ln", "--symbolic", "--force", "/dev/null", f"{FOLDER}/{unit}")
    else:
        host.write(f"{FOLDER}/{unit}", text)


@pytest.fixture(scope="module")
def bus(host: Host) -> Iterator[None]:
    """Make new connections use the host's bus."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_BUS, f"unix:path=/proc/{host.leader}/root/run/dbus/system_bus_socket")
        yield


@pytest.fixture(scope="module")
def played(host: Host, bus: None) -> Iterator[Mapping[str, Played]]:
    """The recorded events of each case, by id."""
    define(host, CASES)
    said = asyncio.run(all_played(Real(host)))
    for case in CASES:
        if not is_kept(host, case, said[case.id]):
            host.run("sh", "-c", REMOVE, "sh", *case.units)
            define(host, [case])
            said[case.id] = asyncio.run(play(Real(host), tuple(case.told), case.steps))
    yield said
    host.run("sh", "-c", REMOVE, "sh", f"{PREFIX}*")


def define(host: Host, cases: Sequence[Case]) -> None:
    for case in cases:
        for unit, spec in case.units.items():
            write(host, unit, spec)
    host.run("systemctl", "daemon-reload")


def is_kept(host: Host, case: Case, said: Played) -> bool:
    """Return whether the events of a case fulfil the contract."""
    wanted = case.wanted(VERSIONS[host.release])
    return case.cut(said, wanted) == wanted


async def all_played(machine: Real) -> dict[str, Played]:
    said: dict[str, Played] = {}
    room = asyncio.Semaphore(PARALLEL_CASES)

    async def one(case: Case) -> None:
        async with room:
            said[case.id] = await play(machine, tuple(case.told), case.steps)

    await asyncio.gather(*(one(case) for case in CASES if not case.is_alone))
    for case in CASES:
        if case.is_alone:
            await one(case)
    return said


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_systemd_keeps_the_contract(host: Host, played: Mapping[str, Played], case: Case) -> None:
    wanted = case.wanted(VERSIONS[host.release])
    assert case.cut(played[case.id], wanted) == wanted
