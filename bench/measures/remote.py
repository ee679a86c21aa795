"""What other hosts cost: memory, idle CPU, the start of the bridge, and taps."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from bench import timestamps
from bench.figures import Figures
from bench.measures import memory
from bench.phone import ANSWERED_WITHIN_SECONDS, NOT_YET, Phone
from bench.switches import ONE, Switch
from tests.support.controller import Controller

SSH: Final = "ssh"
LOOK_AGAIN_SECONDS: Final = 0.05
FIRST_PRIORITY: Final = "-19"
"""As a nice value of the scheduler's groups (sched(7)): real hosts would take no time of this processor."""


def processes(phone: Phone) -> Iterator[tuple[str, str]]:
    """Yield the PIDs of the bridge's processes, and the names of their programs."""
    for unit in phone.bridge.cgroups:
        for pid in memory.processes_of(phone.host, unit):
            with suppress(OSError):  # it has ended
                yield pid, Path("/proc", pid, "comm").read_text().strip()


def sizes_mib(phone: Phone, hosts: int) -> dict[bool, float]:
    """Return the PSS of ssh (True), which must have a process for each host, and of all others."""
    sizes = {True: 0.0, False: 0.0}
    connections = 0
    for pid, name in processes(phone):
        sizes[name == SSH] += memory.pss_kib(pid) / 1024
        connections += name == SSH
    assert connections == hosts, f"{connections} processes of ssh for {hosts} hosts"
    return sizes


async def idle_seconds(phone: Phone, window_seconds: float) -> dict[bool, float]:
    """Return the CPU seconds in a minute: of ssh (True), and of all others. All processes must stay."""
    before, began_seconds = dict(_used_seconds(phone)), time.monotonic()
    await asyncio.sleep(window_seconds)
    minutes = (time.monotonic() - began_seconds) / 60
    used, after = {True: 0.0, False: 0.0}, dict(_used_seconds(phone))
    assert before, "the bridge has no process"
    assert after.keys() == before.keys(), "processes began or ended meanwhile"
    for (pid, name), seconds in after.items():
        used[name == SSH] += (seconds - before[pid, name]) / minutes
    return used


def _used_seconds(phone: Phone) -> Iterator[tuple[tuple[str, str], float]]:
    for pid, name in processes(phone):
        with suppress(OSError):
            threads = Path("/proc", pid, "task").glob("*/schedstat")
            yield (pid, name), sum(int(each.read_text().split()[0]) for each in threads) / 1e9


async def started(phone: Phone, controller: Controller, switches: Sequence[Switch]) -> tuple[float, float]:
    """Restart the bridge; return the seconds until it answers, and until all these switches have values."""
    host, service = phone.host, phone.bridge.service
    await controller.close()
    host.run("systemctl", "stop", service)
    host.run("systemctl", "start", "--no-block", service)
    preferring = asyncio.create_task(_prefer(phone))
    try:
        async with asyncio.timeout(ANSWERED_WITHIN_SECONDS * 4):
            await _answered(controller, (ONE,))
            first_seconds = time.monotonic()
            await _answered(controller, switches)
            all_seconds = time.monotonic()
    finally:
        preferring.cancel()
    began_seconds = timestamps.started(host, service)
    return first_seconds - began_seconds, all_seconds - began_seconds


async def _answered(controller: Controller, switches: Sequence[Switch]) -> None:
    """Return when all these switches can be read on a new connection."""
    while True:
        fresh = controller.again()
        try:
            await fresh.connect_once()
            if min((await fresh.read_all([switch.name for switch in switches])).values()) >= 0:
                return
        except NOT_YET:
            pass
        finally:
            await fresh.close()
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


async def _prefer(phone: Phone) -> None:
    """Have the bridge's processes precede those of the simulated hosts."""
    tree = Path(f"/proc/{phone.host.leader}/root/sys/fs/cgroup/system.slice")
    while True:
        for unit in phone.bridge.cgroups:
            with suppress(OSError):  # it has not started yet, or one has ended
                _put_first(tree / unit)
        await asyncio.sleep(LOOK_AGAIN_SECONDS / 10)


def _put_first(cgroup: Path) -> None:
    for processes in cgroup.rglob("cgroup.procs"):
        for pid in processes.read_text().split():
            Path("/proc", pid, "autogroup").write_text(FIRST_PRIORITY)


async def taps(
    phone: Phone, controller: Controller, switches: Sequence[Switch], what: str, figures: Figures
) -> None:
    """Measure the responses to an On and an Off of these switches in one request, and count failures.

    A single switch must not fail: the time of its answer would be that of something else.
    """
    for on in (True, False):
        began_seconds = time.monotonic()
        statuses = await controller.write_all({switch.name: on for switch in switches})
        figures.add(f"{what}-{'on' if on else 'off'}", phone.bridge.who, timestamps.ms_since(began_seconds))
        failed = sum(status != 0 for status in statuses.values())
        assert not failed or len(switches) > 1, f"refused: {statuses}"
        figures.add(f"{what}-refused", phone.bridge.who, failed)
