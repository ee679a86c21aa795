"""The memory of a service: private pages, and a proportional share of shared ones."""

from pathlib import Path

from tests.host.machine import Host


def mib(host: Host, service: str) -> float:
    """Return the PSS of all processes in the cgroup."""
    cgroup = host.show(service, "ControlGroup")
    tree = Path(f"/proc/{host.leader}/root/sys/fs/cgroup{cgroup}")
    processes = [pid for procs in tree.rglob("cgroup.procs") for pid in procs.read_text().split()]
    assert processes, f"{service} has no process"
    return sum(map(_pss_kib, processes)) / 1024


def _pss_kib(pid: str) -> int:
    lines = Path("/proc", pid, "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
