"""The duration of reads of On, and the number of processes they start."""

import time
from collections.abc import Sequence

from bench import timestamps
from bench.figures import Figures
from bench.switches import Switch
from tests.host.machine import Host
from tests.support.controller import Controller


async def reads(
    who: str, controller: Controller, switches: Sequence[Switch], rounds: int, figures: Figures
) -> None:
    """Measure reads of one switch, and of all in one request."""
    names = [switch.name for switch in switches]
    for _ in range(rounds):
        figures.add("read-1", who, await took_ms(controller, names[:1]))
        figures.add(f"read-{len(names)}", who, await took_ms(controller, names))


async def took_ms(controller: Controller, names: Sequence[str]) -> float:
    """Send one request, whose values must all be valid; return the time."""
    began_seconds = time.monotonic()
    values = await controller.read_all(names)
    taken_ms = timestamps.ms_since(began_seconds)
    assert min(values.values()) >= 0, f"invalid values: {values}"
    return taken_ms


async def processes(
    host: Host, who: str, controller: Controller, switches: Sequence[Switch], figures: Figures
) -> None:
    """Count the processes that a read of all switches starts."""
    names = [switch.name for switch in switches]
    before, own = _newest_process(host), _newest_process(host)
    await controller.read_all(names)
    figures.add("read-processes", who, _newest_process(host) - own - (own - before))


def _newest_process(host: Host) -> int:
    """Return the PID of the process started last on the host (proc(5), loadavg)."""
    return int(host.run("cat", "/proc/loadavg").stdout.split()[-1])
