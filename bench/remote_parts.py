"""The parts of a run with many other hosts: each starts a bridge, measures it, and stops it."""

import asyncio
from dataclasses import dataclass
from typing import Final

from bench.figures import OURS, Figures
from bench.measures import idle, remote
from bench.phone import Phone
from bench.progress import Progress
from bench.remote_hosts import AWAY, HOSTS, HkswitchWithHosts, switches_of
from bench.scaling import OF_HOSTS
from bench.switches import ONE
from bench.targets import Limit, Row
from tests.host.machine import Host

ROUNDS: Final = 3
TAPS: Final = 15
IDLE_SECONDS: Final = 60
CALM_SECONDS: Final = 10
"""After a start, until the processes have their lasting size."""

GROWTH_ROUNDS: Final = 2
GROWTH_IDLE_SECONDS: Final = 10

ALONE, CONNECTED, ONE_AWAY, ALL_AWAY = "alone", "connected", "one-away", "all-away"

HOST_ROWS: Final = (
    Row("host-memory", "memory (PSS) for each host", "MiB", Limit(5)),
    Row("host-memory-ssh", "of that, its ssh process", "MiB"),
    Row("host-idle", "CPU in 60 s idle, for each host", "s", Limit(0.02)),
    Row("host-idle-ssh", "of that, its ssh process", "s"),
    Row(f"start-{ALONE}", "start → first response, no host", "s"),
    Row(f"start-{ONE_AWAY}", "start → first response, 1 host, which is away", "s"),
    Row(f"start-{ALL_AWAY}", f"start → first response, {HOSTS} hosts, all away", "s"),
    Row(f"start-{CONNECTED}", f"start → first response, {HOSTS} hosts", "s"),
    Row(f"all-{CONNECTED}", f"start → the switches of {HOSTS} hosts have values", "s"),
    Row("local-on", "write On → response, local switch", "ms"),
    Row("remote-on", "write On → response, switch of another host", "ms"),
    Row("local-off", "write Off → response, local switch", "ms"),
    Row("remote-off", "write Off → response, switch of another host", "ms"),
    Row("all-off", f"switches of {HOSTS} hosts off in one request → response", "ms"),
    Row("all-refused", f"of {HOSTS} writes in one request, those that failed", "", Limit(0)),
    Row(f"idle-{ALL_AWAY}", f"CPU in 60 s, {HOSTS} hosts, all away", "s"),
)


@dataclass(frozen=True, slots=True)
class HostsRun:
    """A run: the host that is measured, and its figures."""

    host: Host
    figures: Figures
    progress: Progress

    async def measure(self) -> None:
        """Measure everything."""
        here = Phone(self.host, HkswitchWithHosts())
        await self._starts(here, 0, ALONE)
        there = here.with_bridge(HkswitchWithHosts(AWAY))
        await self._starts(there, 1, ONE_AWAY)
        await self._starts(there, HOSTS, ALL_AWAY)
        await self._connected(here)
        for axis, counts in OF_HOSTS.axes.items():
            for count in counts:
                await self._growth(here, axis, count)

    async def _starts(self, phone: Phone, hosts: int, what: str) -> None:
        """Measure starts with hosts that are away, or with none."""
        switches = switches_of(hosts)
        self.progress.part(f"{hosts} hosts, {what}")
        async with phone.serving(switches) as controller:
            for _ in range(ROUNDS):
                first_seconds, _ = await remote.started(phone, controller, (ONE,))
                self.figures.add(f"start-{what}", OURS, first_seconds)
            if what == ONE_AWAY:
                return
            await asyncio.sleep(CALM_SECONDS)
            if what == ALONE:
                self._add_sizes(remote.sizes_mib(phone, 0), what)
            # Not of the processes that are there: each attempt is one that soon ends.
            used_seconds = await idle.seconds_a_minute(self.host, phone.bridge, IDLE_SECONDS, self.progress)
            self.figures.add(f"idle-{what}", OURS, used_seconds)

    async def _connected(self, phone: Phone) -> None:
        """Measure many hosts that are connected."""
        switches, figures = switches_of(HOSTS), self.figures
        self.progress.part(f"{HOSTS} hosts")
        async with phone.serving(switches) as controller:
            for _ in range(ROUNDS):
                first_seconds, all_seconds = await remote.started(phone, controller, switches)
                figures.add(f"start-{CONNECTED}", OURS, first_seconds)
                figures.add(f"all-{CONNECTED}", OURS, all_seconds)
            await asyncio.sleep(CALM_SECONDS)
            self._add_sizes(remote.sizes_mib(phone, HOSTS), CONNECTED)
            self._add_idle(await remote.idle_seconds(phone, IDLE_SECONDS))
            fresh = controller.again()
            await fresh.connect_once()
            await fresh.look()
            for counted in [Figures(), *[figures] * TAPS]:  # the first round only warms up the caches
                await remote.taps(phone, fresh, switches[:1], "local", counted)
                await remote.taps(phone, fresh, switches[1:2], "remote", counted)
            for _ in range(ROUNDS):
                await remote.taps(phone, fresh, switches[1:], "all", figures)
            await fresh.close()
        self._add_memory()

    async def _growth(self, phone: Phone, axis: str, count: int) -> None:
        """Measure a point of the charts: this many hosts that are connected."""
        switches = switches_of(count)
        self.progress.part(f"{axis}: {count}")
        async with phone.serving(switches) as controller:
            for _ in range(GROWTH_ROUNDS):
                first_seconds, all_seconds = await remote.started(phone, controller, switches)
                await asyncio.sleep(CALM_SECONDS)
                used = await remote.idle_seconds(phone, GROWTH_IDLE_SECONDS)
                values = {
                    "start": first_seconds,
                    "all": all_seconds,
                    "memory": sum(remote.sizes_mib(phone, count).values()),
                    "idle": sum(used.values()),
                }
                for cost, value in values.items():
                    self.figures.add(OF_HOSTS.metric(cost, axis, count), OURS, value)

    def _add_sizes(self, sizes_mib: dict[bool, float], what: str) -> None:
        for is_ssh, size_mib in sizes_mib.items():
            self.figures.add(f"{what}-{'ssh' if is_ssh else 'ours'}", OURS, size_mib)

    def _add_memory(self) -> None:
        before, ours, ssh = (
            self._median(what) for what in (f"{ALONE}-ours", f"{CONNECTED}-ours", f"{CONNECTED}-ssh")
        )
        self.figures.add("host-memory", OURS, (ours - before + ssh) / HOSTS)
        self.figures.add("host-memory-ssh", OURS, ssh / HOSTS)

    def _add_idle(self, used: dict[bool, float]) -> None:
        before = self._median(f"idle-{ALONE}")
        self.figures.add("host-idle", OURS, (sum(used.values()) - before) / HOSTS)
        self.figures.add("host-idle-ssh", OURS, used[True] / HOSTS)

    def _median(self, metric: str) -> float:
        series = self.figures.of(metric, OURS)
        assert series is not None, f"{metric} was not measured"
        return series.median
