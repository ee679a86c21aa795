"""Checks that the rules of the configuration can measure what they limit, for the doctor and `check`.

Any user can see whether the kernel counts memory, and where running containers are; only root can ask an
engine where it would put them.
"""

import asyncio
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from hkswitch.containers.answers import EngineUnavailable
from hkswitch.containers.engines import Engines
from hkswitch.doctor.containers import ENGINES_TIMEOUT_SECONDS
from hkswitch.doctor.context import Context
from hkswitch.doctor.finding import NO_CONFIG, Check, Finding, counted, fail, ok, several, skip
from hkswitch.model.errors import BusUnavailable, Failure
from hkswitch.model.group import MEASURED_SUFFIXES, Engine, Group
from hkswitch.systemd.units import Systemd
from hkswitch.unit_names.contained import title_of
from hkswitch.unit_names.systemctl import RUNNING

CGROUPS: Final = Path("/sys/fs/cgroup")
BOOT_PARAMETERS: Final = (Path("/boot/firmware/cmdline.txt"), Path("/boot/cmdline.txt"))
"""The kernel's command line on a Raspberry Pi, newest place first."""
MEMORY_PARAMETERS: Final = "cgroup_enable=memory cgroup_memory=1"
"""Because the firmware of a Raspberry Pi adds `cgroup_disable=memory`."""

_OUTSIDE: Final = {Engine.DOCKER: "docker/*", Engine.PODMAN: "libpod_parent/libpod-*"}
"""Where an engine puts a container that it gives no scope of systemd."""
_OF_CONTAINER: Final = re.compile(r"(?:libpod-)?[0-9a-f]{64}")
_WITH_SCOPES: Final = {
    Engine.DOCKER: (
        'set `"exec-opts": ["native.cgroupdriver=systemd"]` in /etc/docker/daemon.json, '
        "and run `sudo systemctl restart docker.service`"
    ),
    Engine.PODMAN: (
        'set `cgroup_manager = "systemd"` in the section [engine] of /etc/containers/containers.conf, '
        "and create the containers again"
    ),
}


class KernelFault(NamedTuple):
    """The limits of rules that the kernel does not count for, by their keys; the reason, and the remedy."""

    limits: tuple[str, ...]
    why: str
    remedy: str


async def rules(context: Context) -> tuple[Finding]:
    """Check that systemd and the kernel count what the groups' rules limit."""
    if isinstance(context.config, Failure):
        return (skip(Check.RULES, NO_CONFIG),)
    ruled = [group for group in context.config.groups if group.restart_when]
    groups = tuple(group for group in ruled if group.elsewhere is None)
    if ruled and not groups:
        return (ok(Check.RULES, f"measured on other hosts: {_ids(ruled)}"),)
    outside = engines_outside(groups)
    if context.is_root:
        outside += await _asked([engine for engine in _engines(groups) if engine not in outside])
    return (measured(groups, kernel_fault(), outside),)


def measured(groups: Sequence[Group], kernel: KernelFault | None, outside: Sequence[Engine]) -> Finding:
    """Judge groups with rules by what is wrong with the kernel, and by the engines without scopes."""
    if not groups:
        return ok(Check.RULES, "no group has a rule")
    what, remedies = [], []
    if kernel and (limited := [group for group in groups if unmeasured_limits(group, kernel)]):
        keys = dict.fromkeys(key for group in limited for key in unmeasured_limits(group, kernel))
        what.append(f"the rule of {_ids(limited)} cannot measure {' and '.join(keys)}: {kernel.why}")
        remedies.append(kernel.remedy)
    for engine in outside:
        of_engine = [group for group in groups if group.contained and group.engine is engine]
        why, remedy = engine_fault(engine)
        what.append(f"the rule of {_ids(of_engine)} cannot measure containers: {why}")
        remedies.append(remedy)
    if what:
        return fail(Check.RULES, "; ".join(what), "; ".join(remedies))
    uncounted = [f"{unit} (group {group.id})" for group in groups for unit in not_counted(group)]
    also = f", but not those of {several(uncounted)}" if uncounted else ""
    return ok(
        Check.RULES, f"systemd counts the resources of {counted(len(groups), 'group')} with a rule{also}"
    )


def unmeasured_limits(group: Group, kernel: KernelFault) -> list[str]:
    """Return the limits of a group's rule that cannot be measured, by their keys."""
    return [key for key in kernel.limits if getattr(group.restart_when, key, None) is not None]


def not_counted(group: Group) -> tuple[str, ...]:
    """Return the units whose resources a rule does not see, such as a mount: systemd has no count of them."""
    return tuple(unit for unit in group.units if group.restart_when and not unit.endswith(MEASURED_SUFFIXES))


def kernel_fault() -> KernelFault | None:
    """Return what the kernel does not count; None if it counts all, or if systemd is not running."""
    if not RUNNING.exists():
        return None
    try:
        controllers = (CGROUPS / "cgroup.controllers").read_text().split()
    except OSError:
        remedy = "add `systemd.unified_cgroup_hierarchy=1` to the kernel's command line, and reboot"
        return KernelFault(("cpu_percent", "memory_mib"), "this machine does not use cgroup v2", remedy)
    if "memory" in controllers:
        return None
    boot = next((path for path in BOOT_PARAMETERS if path.exists()), None)
    end = f"the line in {boot}" if boot else "the kernel's command line"
    remedy = f"add `{MEMORY_PARAMETERS}` to the end of {end}, and reboot"
    return KernelFault(("memory_mib",), "the kernel's memory controller is off", remedy)


def engines_outside(groups: Iterable[Group]) -> list[Engine]:
    """Return the engines of these groups that run a container in no scope of systemd."""
    return [engine for engine in _engines(groups) if _runs_outside(engine)]


def engine_fault(engine: Engine) -> tuple[str, str]:
    """Return why the resources of an engine's containers are not counted, and the remedy."""
    return f"{title_of(engine)} uses the cgroup driver cgroupfs", _WITH_SCOPES[engine]


def uses_scopes(body: bytes) -> bool:
    """Tell from an engine's /info whether systemd counts its containers; what is malformed says nothing."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return True
    return not isinstance(told, dict) or told.get("CgroupDriver") != "cgroupfs"


def _ids(groups: Iterable[Group]) -> str:
    return several([group.id for group in groups])


def _engines(groups: Iterable[Group]) -> tuple[Engine, ...]:
    return tuple(dict.fromkeys(group.engine for group in groups if group.contained and group.restart_when))


def _runs_outside(engine: Engine) -> bool:
    with suppress(OSError):
        return any(_OF_CONTAINER.fullmatch(path.name) for path in CGROUPS.glob(_OUTSIDE[engine]))
    return False


async def _asked(asked: Sequence[Engine]) -> list[Engine]:
    """Return those of the engines that say themselves that they use no scopes; systemd knows which run."""
    if not asked:
        return []
    with suppress(BusUnavailable, TimeoutError):
        async with asyncio.timeout(ENGINES_TIMEOUT_SECONDS):
            with await Systemd.connect() as systemd:
                engines = Engines(systemd.states)
                return [engine for engine in asked if not await _has_scopes(engines, engine)]
    return []


async def _has_scopes(engines: Engines, engine: Engine) -> bool:
    with suppress(EngineUnavailable):
        return uses_scopes(await engines.connections[engine].get("/info"))
    return True
