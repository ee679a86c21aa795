"""The parts of a run: each starts a bridge, measures it, and stops it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import bus, homebridge2, report, whole
from bench.figures import FLOOR, MACHINE, OURS, POLLING, Figures
from bench.measures import events, idle, memory, reading, slow_start, switching
from bench.phone import Phone
from bench.progress import Progress
from bench.switches import EXEC, FEW, NOTIFY, TAPPED, Switch, many
from bench.targets import PYTHON
from tests.host.machine import Host
from tests.support.controller import Controller

MANY: Final = many(100)
PROGRAMS: Final = "/src/bench/measures/programs.py"
CALIBRATION: Final = "/src/bench/measures/calibration.py"


@dataclass(frozen=True, slots=True)
class Rounds:
    """The number of repetitions, or the duration, of each part; what has none is left out."""

    blocks: int
    taps: int
    requests: int
    reads: int
    events: int
    events_polling: int
    starts: int
    programs: int
    slow_starts: int
    idle_seconds: float
    idle_polling_seconds: float
    """A polling peer is never idle, so that less time is enough."""
    calibrations: int
    homebridge_2: int
    growth: int


FULL: Final = Rounds(
    blocks=2,
    taps=15,
    requests=4,
    reads=40,
    events=5,
    events_polling=5,
    starts=4,
    programs=15,
    slow_starts=1,
    idle_seconds=60,
    idle_polling_seconds=20,
    calibrations=10,
    homebridge_2=2,
    growth=5,
)
TARGETS: Final = Rounds(
    blocks=1,
    taps=20,
    requests=4,
    reads=40,
    events=5,
    events_polling=0,
    starts=5,
    programs=15,
    slow_starts=1,
    idle_seconds=45,
    idle_polling_seconds=0,
    calibrations=10,
    homebridge_2=0,
    growth=0,
)
QUICK: Final = Rounds(
    blocks=1,
    taps=5,
    requests=2,
    reads=40,
    events=2,
    events_polling=0,
    starts=1,
    programs=3,
    slow_starts=1,
    idle_seconds=3,
    idle_polling_seconds=0,
    calibrations=3,
    homebridge_2=0,
    growth=0,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the benchmarks: its host, its repetitions, and its figures."""

    host: Host
    rounds: Rounds
    figures: Figures
    progress: Progress

    def calibrate(self, moment: str) -> None:
        """Measure the speed of the machine."""
        self.progress.part(f"speed of the machine, {moment}")
        for what, times_ms in self._printed(CALIBRATION, self.rounds.calibrations).items():
            for time_ms in times_ms:
                self.figures.add(report.calibration(what, moment), MACHINE, time_ms)
                self.figures.add(what, MACHINE, time_ms)

    async def floor_of_taps(self) -> None:
        """Measure the jobs of half of the taps on one open bus connection."""
        self.progress.part("floor: the same jobs on an open bus connection")
        async with bus.opened(self.host) as open_bus:
            await switching.floor_of_taps(self.host, open_bus, _half(self.rounds.taps), self.figures)

    async def floor_at_once(self) -> None:
        """Measure the jobs of half of the requests for a hundred switches."""
        self.progress.part(f"floor: the jobs of {len(MANY)} switches")
        async with bus.opened(self.host) as open_bus:
            rounds = _half(self.rounds.requests)
            await switching.floor_at_once(self.host, open_bus, MANY, rounds, self.figures)

    async def few(self, phone: Phone) -> None:
        """Measure three switches, and taps on each type of service."""
        bridge, rounds, figures = phone.bridge, self.rounds, self.figures
        self.progress.part(f"{bridge.who}: 3 switches")
        async with phone.serving(TAPPED[NOTIFY]) as controller:
            await switching.taps(phone, controller, NOTIFY, rounds.taps, figures)
        async with phone.serving(FEW) as controller:
            await switching.taps(phone, controller, EXEC, rounds.taps, figures)
            await reading.reads(bridge.who, controller, FEW, rounds.reads, figures)
            await slow_start.starts(self.host, bridge, controller, rounds.slow_starts, figures)
            figures.add("memory-3", bridge.who, memory.mib(self.host, bridge.cgroups))
            await self._starts(phone, controller, FEW)

    async def many(self, phone: Phone) -> None:
        """Measure a hundred switches."""
        bridge, rounds, figures = phone.bridge, self.rounds, self.figures
        self.progress.part(f"{bridge.who}: {len(MANY)} switches")
        async with phone.serving(MANY) as controller:
            for _ in range(rounds.requests):
                await switching.at_once(self.host, bridge, controller, MANY, figures)
            await reading.reads(bridge.who, controller, MANY, rounds.requests, figures)
            await reading.processes(self.host, bridge.who, controller, MANY, figures)
            figures.add(f"memory-{len(MANY)}", bridge.who, memory.mib(self.host, bridge.cgroups))
            await self._starts(phone, controller, MANY)

    async def events(self, phone: Phone, rounds: int, interval_seconds: float = 0) -> None:
        """Measure events of units stopped by systemctl, at various times in the polling interval."""
        pauses_seconds = [interval_seconds * number / rounds for number in range(rounds)]
        self.progress.part(f"{phone.bridge.who}: units stopped by systemctl")
        async with phone.serving(FEW) as controller:
            await events.stops(self.host, phone.bridge, controller, pauses_seconds, self.figures)

    async def idle(self, phone: Phone) -> None:
        """Measure a hundred idle switches, after reads that fill a polling peer's cache."""
        who, rounds, figures = phone.bridge.who, self.rounds, self.figures
        window_seconds = rounds.idle_polling_seconds if who == POLLING else rounds.idle_seconds
        self.progress.part(f"{who}: {len(MANY)} switches, idle for {window_seconds:g} s")
        async with phone.serving(MANY) as controller:
            await reading.reads(who, controller, MANY, rounds.requests, figures)
            used_seconds = await idle.seconds_a_minute(self.host, phone.bridge, window_seconds, self.progress)
            figures.add("idle", who, used_seconds)

    async def idle_whole(self, phone: Phone) -> None:
        """Measure an idle installation that has everything."""
        bridge, window_seconds = whole.WholeInstallation(), self.rounds.idle_seconds
        self.progress.part(f"{bridge.who}: with containers and rules, idle for {window_seconds:g} s")
        with whole.running(self.host):
            async with phone.with_bridge(bridge).serving(whole.SWITCHES):
                whole.until_known(self.host)
                used_seconds = await idle.seconds_a_minute(self.host, bridge, window_seconds, self.progress)
                whole.until_known(self.host)
        self.figures.add("idle-whole", bridge.who, used_seconds)

    async def beside_changes(self, phone: Phone) -> None:
        """Measure a hundred idle switches while other units change."""
        window_seconds = self.rounds.idle_seconds / 2
        self.progress.part(f"{phone.bridge.who}: {idle.CHANGES_A_SECOND} changes per second of other units")
        async with phone.serving(MANY):
            used_seconds = await idle.beside_changes(self.host, phone.bridge, window_seconds, self.progress)
            self.figures.add("beside-changes", phone.bridge.who, used_seconds / 60 * 100)

    async def programs(self, phone: Phone) -> None:
        """Measure whole programs, while the daemon runs."""
        self.progress.part("whole programs")
        async with phone.serving(FEW):
            printed = self._printed(PROGRAMS, self.rounds.programs)
        for name, times_ms in printed.items():
            for time_ms in times_ms:
                self.figures.add(name, FLOOR if name == PYTHON else OURS, time_ms)

    def homebridge_2(self) -> str:
        """Measure Homebridge 2; return how it ended with the plugin."""
        self.progress.part("Homebridge 2")
        return homebridge2.measure(self.host, self.rounds.homebridge_2, self.figures)

    async def _starts(self, phone: Phone, controller: Controller, switches: Sequence[Switch]) -> None:
        for _ in range(self.rounds.starts):
            start_ms = await phone.restarted(controller, switches)
            self.figures.add(f"start-{len(switches)}", phone.bridge.who, start_ms)

    def _printed(self, program: str, rounds: int) -> dict[str, list[float]]:
        """Run a program that prints the milliseconds of what it measures on the host."""
        printed = self.host.run("python3", program, str(rounds), timeout_seconds=60).stdout
        return {str(name): list(times_ms) for name, times_ms in json.loads(printed).items()}


def _half(rounds: int) -> int:
    return (rounds + 1) // 2
