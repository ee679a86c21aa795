"""The memory of a bridge: private pages, and a proportional share of shared ones."""

from collections.abc import Sequence
from pathlib import Path

from tests.host.machine import Host


def mib(host: Host, units: Sequence[str]) -> float:
    """Return the PSS of all processes in the cgroups of these units."""
    total_kib = 0
    for unit in units:
        processes = processes_of(host, unit)
        assert processes, f"{unit} has no process"
        total_kib += sum(map(pss_kib, processes))
    return total_kib / 1024


def processes_of(host: Host, unit: str) -> list[str]:
    """Return the PIDs of all processes in the cgroup of a unit."""
    cgroup = host.show(unit, "ControlGroup")
    tree = Path(f"/proc/{host.leader}/root/sys/fs/cgroup{cgroup}")
    return [pid for procs in tree.rglob("cgroup.procs") for pid in procs.read_text().split()]


def pss_kib(pid: str) -> int:
    """Return the PSS of a process: its private pages, and its share of others."""
    lines = Path("/proc", pid, "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
