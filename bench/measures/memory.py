"""The memory of a service: private pages, and a proportional share of shared ones."""

from pathlib import Path

from tests.host.machine import Host


def mib(host: Host, service: str) -> float:
    """Return the PSS of all processes in the cgroup."""
    processes = processes_of(host, service)
    assert processes, f"{service} has no process"
    return sum(map(pss_kib, processes)) / 1024


def processes_of(host: Host, service: str) -> list[str]:
    """Return the PIDs of all processes in the cgroup."""
    cgroup = host.show(service, "ControlGroup")
    tree = Path(f"/proc/{host.leader}/root/sys/fs/cgroup{cgroup}")
    return [pid for procs in tree.rglob("cgroup.procs") for pid in procs.read_text().split()]


def pss_kib(pid: str) -> int:
    """Return the PSS of a process: its private pages, and its share of others."""
    lines = Path("/proc", pid, "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
