"""The resources of units: CPU time as systemd counts it, and memory as the kernel does. Runs as root too."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import sdbus

from hkswitch.model.unit_state import Usage
from hkswitch.systemd.connection import SYSTEMD, BusConnection
from hkswitch.systemd.interface import SERVICE_INTERFACE, UNIT_INTERFACE
from hkswitch.systemd.outcome import invocation_of

CGROUPS: Final = Path("/sys/fs/cgroup")
NOT_COUNTED: Final = 2**64 - 1
"""systemd's value for a resource that it does not count."""

_MICROSECONDS: Final = 1_000_000
"""In a second."""


async def measured(connection: BusConnection, running: Mapping[str, str]) -> list[Usage]:
    """Return the resources of running units, given their object paths; raises `BusUnavailable`.

    One that has no processes, or was restarted meanwhile, is missing.
    """
    found = await asyncio.gather(*(_usage(connection, unit, path) for unit, path in running.items()))
    return [usage for usage in found if usage is not None]


async def _usage(connection: BusConnection, unit: str, path: str) -> Usage | None:
    kind = f"{SYSTEMD}.{unit.rpartition('.')[2].capitalize()}"  # the interface of a service, a slice, a scope
    # The counter begins when a unit leaves `inactive`. From systemd 254 on, an automatic restart does so with
    # the crash, before it waits for RestartSec=.
    starts = [(UNIT_INTERFACE, "InactiveExitTimestampMonotonic")]
    if kind == SERVICE_INTERFACE:
        starts.append((kind, "ExecMainStartTimestampMonotonic"))
    run = (UNIT_INTERFACE, "InvocationID")
    wanted = (run, *starts, (kind, "CPUUsageNSec"), (kind, "ControlGroup"), run)
    try:
        # Sent together: systemd answers the calls of a connection in their order.
        before, *since, cpu, cgroup, after = await asyncio.gather(
            *(connection.property(path, interface, name) for interface, name in wanted)
        )
    except sdbus.SdBusBaseError:
        return None  # systemd has unloaded it
    if not cgroup or before != after:  # a counter of one run, and the start of another
        return None
    cpu_ns = None if cpu == NOT_COUNTED else cpu
    # TRUST: systemd made this path of names of units, and the kernel the files below it.
    memory = memory_bytes(CGROUPS / cgroup.lstrip("/"))
    return Usage(unit, invocation_of({"InvocationID": before}), max(since) / _MICROSECONDS, cpu_ns, memory)


def memory_bytes(cgroup: Path) -> int | None:
    """Return the anonymous memory and swap of a cgroup, with all below it; None if it is not counted.

    Not memory.current, which has the page cache: that of a file server fills all memory. cgroup v2, see
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    try:
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except OSError:  # there is no memory controller, or the unit has ended
        return None
    try:
        swapped = int((cgroup / "memory.swap.current").read_text())
    except OSError:  # this kernel does not swap, or does not count it
        swapped = 0
    # `anon` lacks pages of the swap cache that no process has mapped; the lists of evictable pages have them,
    # but lack locked pages.
    listed = int(stat["inactive_anon"]) + int(stat["active_anon"]) - int(stat["shmem"])
    # A page read from swap may keep its place there, and would count twice. Older kernels do not tell.
    in_both = int(stat.get("swapcached", 0))
    return max(int(stat["anon"]), listed) + max(0, swapped - in_both)
