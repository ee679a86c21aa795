"""CPU time of an idle bridge."""

import asyncio
import time
from collections.abc import Sequence

from bench import bus, timestamps
from bench.progress import Progress
from tests.host.machine import Host

CHANGES_A_SECOND = 20
UNRELATED_UNIT = "bench@unrelated.service"


async def seconds_a_minute(
    host: Host, units: Sequence[str], window_seconds: float, progress: Progress
) -> float:
    """Return the CPU seconds while nothing happens, scaled to a minute."""
    before_ms, began_seconds = timestamps.cpu_ms(host, units), time.monotonic()
    while (remaining_seconds := began_seconds + window_seconds - time.monotonic()) > 0:
        progress.count_down(remaining_seconds)
        await asyncio.sleep(min(1, remaining_seconds))
    return _a_minute(host, units, before_ms, began_seconds)


async def beside_changes(
    host: Host, units: Sequence[str], window_seconds: float, progress: Progress
) -> float:
    """Return the CPU seconds while unrelated units start and stop, scaled to a minute."""
    async with bus.opened(host) as other:
        before_ms, began_seconds = timestamps.cpu_ms(host, units), time.monotonic()
        for change in range(round(window_seconds * CHANGES_A_SECOND)):
            await (other.stop if change % 2 else other.start)([UNRELATED_UNIT])
            due_seconds = began_seconds + change / CHANGES_A_SECOND
            await asyncio.sleep(max(0, due_seconds - time.monotonic()))
            progress.count_down(began_seconds + window_seconds - time.monotonic())
        return _a_minute(host, units, before_ms, began_seconds)


def _a_minute(host: Host, units: Sequence[str], before_ms: float, began_seconds: float) -> float:
    used_ms = timestamps.cpu_ms(host, units) - before_ms
    return used_ms / 1000 * 60 / (time.monotonic() - began_seconds)
