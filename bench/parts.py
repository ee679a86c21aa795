"""The parts of a run: each starts a bridge, measures it, and stops it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench import bus
from bench.figures import FLOOR, OURS, Figures
from bench.measures import events, idle, memory, reading, slow_start, switching
from bench.phone import Phone
from bench.progress import Progress
from bench.switches import FEW, ONE, THREE, Switch, many
from tests.host.machine import Host
from tests.support.controller import Controller

MANY: Final = many(100)
PROGRAMS: Final = "/src/bench/measures/programs.py"


@dataclass(frozen=True, slots=True)
class Rounds:
    """The number of repetitions, or the duration, of each part."""

    blocks: int
    taps: int
    requests: int
    reads: int
    events: int
    starts: int
    programs: int
    slow_starts: int
    idle_seconds: float
    growth: int


FULL: Final = Rounds(
    blocks=2,
    taps=15,
    requests=4,
    reads=40,
    events=5,
    starts=4,
    programs=15,
    slow_starts=1,
    idle_seconds=60,
    growth=5,
)
QUICK: Final = Rounds(
    blocks=1,
    taps=5,
    requests=2,
    reads=40,
    events=2,
    starts=1,
    programs=3,
    slow_starts=1,
    idle_seconds=3,
    growth=0,
)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the benchmarks: its host, its repetitions, and its figures."""

    host: Host
    rounds: Rounds
    figures: Figures
    progress: Progress

    async def floor(self) -> None:
        """Measure jobs on one open bus connection."""
        self.progress.part("floor: the same jobs on an open bus connection")
        async with bus.opened(self.host) as open_bus:
            few, many = self.rounds.taps, self.rounds.requests
            await switching.floor(self.host, open_bus, ((ONE,), (THREE,)), few, self.figures)
            await switching.floor(self.host, open_bus, (MANY,), many, self.figures)

    async def few(self, phone: Phone) -> None:
        """Measure three switches."""
        bridge, rounds, figures = phone.bridge, self.rounds, self.figures
        self.progress.part(f"{bridge.who}: 3 switches")
        async with phone.serving(FEW) as controller:
            await switching.taps(self.host, bridge, controller, rounds.taps, figures)
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

    async def events(self, phone: Phone, interval_seconds: float = 0) -> None:
        """Measure events of units stopped by systemctl, at various times in the polling interval."""
        rounds = self.rounds.events
        pauses_seconds = [interval_seconds * number / rounds for number in range(rounds)]
        self.progress.part(f"{phone.bridge.who}: units stopped by systemctl")
        async with phone.serving(FEW) as controller:
            await events.stops(self.host, phone.bridge, controller, pauses_seconds, self.figures)

    async def idle(self, phone: Phone) -> None:
        """Measure a hundred idle switches, after reads that fill a polling peer's cache."""
        cgroups, window_seconds = phone.bridge.cgroups, self.rounds.idle_seconds
        who, figures = phone.bridge.who, self.figures
        self.progress.part(f"{who}: {len(MANY)} switches, idle for {window_seconds:g} s")
        async with phone.serving(MANY) as controller:
            await reading.reads(who, controller, MANY, self.rounds.requests, figures)
            idle_seconds = await idle.seconds_a_minute(self.host, cgroups, window_seconds, self.progress)
            figures.add("idle", who, idle_seconds)

    async def beside_changes(self, phone: Phone) -> None:
        """Measure a hundred idle switches while other units change."""
        cgroups, window_seconds = phone.bridge.cgroups, self.rounds.idle_seconds
        self.progress.part(f"{phone.bridge.who}: {idle.CHANGES_A_SECOND} changes per second of other units")
        async with phone.serving(MANY):
            used_seconds = await idle.beside_changes(self.host, cgroups, window_seconds, self.progress)
            self.figures.add("beside-changes", phone.bridge.who, used_seconds / 60 * 100)

    async def programs(self, phone: Phone) -> None:
        """Measure whole programs, while the daemon runs."""
        self.progress.part("whole programs")
        async with phone.serving(FEW):
            command = ("python3", PROGRAMS, str(self.rounds.programs))
            printed = self.host.run(*command, timeout_seconds=60).stdout
        for name, times_ms in json.loads(printed).items():
            for time_ms in times_ms:
                self.figures.add(name, FLOOR if name == "python3 -c pass" else OURS, time_ms)

    async def _starts(self, phone: Phone, controller: Controller, switches: Sequence[Switch]) -> None:
        for _ in range(self.rounds.starts):
            start_ms = await phone.restarted(controller, switches)
            self.figures.add(f"start-{len(switches)}", phone.bridge.who, start_ms)
