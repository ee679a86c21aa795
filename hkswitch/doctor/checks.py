"""All points, side by side. One that breaks is said, and harms no other."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hkswitch.doctor.account import paired, state, user
from hkswitch.doctor.clock import clock
from hkswitch.doctor.configuration import configuration, trust
from hkswitch.doctor.context import Situation, collect
from hkswitch.doctor.finding import Finding, Point, unknown
from hkswitch.doctor.firewall import firewall
from hkswitch.doctor.mdns import mdns
from hkswitch.doctor.network import network, port
from hkswitch.doctor.privileges import privileges
from hkswitch.doctor.service import helper, service
from hkswitch.doctor.sudoers import sudoers
from hkswitch.doctor.units import bus_and_units
from hkswitch.model.errors import Failure

Check = Callable[[Situation], Awaitable[tuple[Finding, ...]]]

CHECKS: Final[dict[tuple[Point, ...], Check]] = {
    (Point.CONFIGURATION,): configuration,
    (Point.TRUST,): trust,
    (Point.USER,): user,
    (Point.STATE,): state,
    (Point.SUDOERS,): sudoers,
    (Point.PRIVILEGES,): privileges,
    (Point.SERVICE,): service,
    (Point.HELPER,): helper,
    (Point.BUS, Point.UNITS): bus_and_units,
    (Point.NETWORK,): network,
    (Point.PORT,): port,
    (Point.MDNS,): mdns,
    (Point.FIREWALL,): firewall,
    (Point.CLOCK,): clock,
    (Point.PAIRED,): paired,
}


async def run(config_file: Path, state_folder: Path) -> tuple[Finding, ...]:
    """Look around, and examine."""
    return await examine(await collect(config_file, state_folder))


async def examine(situation: Situation) -> tuple[Finding, ...]:
    """How it is at every point, in their order."""
    found = await asyncio.gather(*(guarded(points, check, situation) for points, check in CHECKS.items()))
    return tuple(finding for findings in found for finding in findings)


async def guarded(points: tuple[Point, ...], check: Check, situation: Situation) -> tuple[Finding, ...]:
    """What a check finds, or why it could not."""
    try:
        return await check(situation)
    except (Failure, OSError, ValueError) as error:
        return tuple(unknown(point, str(error)) for point in points)
