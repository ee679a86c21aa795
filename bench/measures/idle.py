"""CPU time of an idle bridge."""

import asyncio
import time
from dataclasses import dataclass
from typing import Self

from bench import bus, timestamps
from bench.bridges import Bridge
from bench.progress import Progress
from tests.host.machine import Host

ANNOUNCED_SECONDS = 4
"""After a start, until the bridge has announced itself."""

CHANGES_A_SECOND = 20
UNRELATED_UNIT = "bench@unrelated.service"


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which the CPU of a bridge is measured, which must run throughout."""

    host: Host
    bridge: Bridge
    began_seconds: float
    before_ms: float
    started_seconds: float

    @classmethod
    def opened(cls, host: Host, bridge: Bridge) -> Self:
        """Begin now."""
        started_seconds = timestamps.started(host, bridge.service)
        before_ms = timestamps.cpu_ms(host, bridge.cgroups)
        return cls(host, bridge, time.monotonic(), before_ms, started_seconds)

    def seconds_a_minute(self) -> float:
        """End now; return the CPU seconds used since, scaled to a minute."""
        minutes = (time.monotonic() - self.began_seconds) / 60
        used_ms = timestamps.cpu_ms(self.host, self.bridge.cgroups) - self.before_ms
        assert self.host.show(self.bridge.service, "ActiveState") == "active", f"{self.bridge.who} has ended"
        started_seconds = timestamps.started(self.host, self.bridge.service)
        assert started_seconds == self.started_seconds, f"{self.bridge.who} was restarted"
        return used_ms / 1000 / minutes


async def seconds_a_minute(host: Host, bridge: Bridge, window_seconds: float, progress: Progress) -> float:
    """Return the CPU seconds while nothing happens, scaled to a minute."""
    await asyncio.sleep(ANNOUNCED_SECONDS)
    window, ends_seconds = Window.opened(host, bridge), time.monotonic() + window_seconds
    while (remaining_seconds := ends_seconds - time.monotonic()) > 0:
        progress.count_down(remaining_seconds)
        await asyncio.sleep(min(1, remaining_seconds))
    return window.seconds_a_minute()


async def beside_changes(host: Host, bridge: Bridge, window_seconds: float, progress: Progress) -> float:
    """Return the CPU seconds while unrelated units start and stop, scaled to a minute."""
    await asyncio.sleep(ANNOUNCED_SECONDS)
    async with bus.opened(host) as other:
        window, began_seconds = Window.opened(host, bridge), time.monotonic()
        for change in range(round(window_seconds * CHANGES_A_SECOND)):
            await (other.stop if change % 2 else other.start)([UNRELATED_UNIT])
            due_seconds = began_seconds + change / CHANGES_A_SECOND
            await asyncio.sleep(max(0, due_seconds - time.monotonic()))
            progress.count_down(began_seconds + window_seconds - time.monotonic())
        return window.seconds_a_minute()
