"""All checks, run concurrently. A check that raises an error is skipped, and affects no other."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from hkswitch.doctor.account import pairing, state, user
from hkswitch.doctor.alert_command import alerts
from hkswitch.doctor.bridges import bridges
from hkswitch.doctor.clock import clock
from hkswitch.doctor.configuration import configuration, trust
from hkswitch.doctor.containers import containers
from hkswitch.doctor.context import Context, collect
from hkswitch.doctor.finding import Check, Finding, Verdict, fail, ok, skip
from hkswitch.doctor.firewall import firewall
from hkswitch.doctor.hosts import hosts
from hkswitch.doctor.mdns import mdns
from hkswitch.doctor.measuring import rules
from hkswitch.doctor.network import network, port
from hkswitch.doctor.privileges import privileges
from hkswitch.doctor.service import helper, service
from hkswitch.doctor.sudoers import sudoers
from hkswitch.doctor.units import bus_and_units
from hkswitch.model.errors import Failure

CheckFunction = Callable[[Context], Awaitable[tuple[Finding, ...]]]

CHECKS: Final[dict[tuple[Check, ...], CheckFunction]] = {
    (Check.CONFIGURATION,): configuration,
    (Check.TRUST,): trust,
    (Check.USER,): user,
    (Check.STATE,): state,
    (Check.SUDO,): sudoers,
    (Check.PRIVILEGES,): privileges,
    (Check.SERVICE,): service,
    (Check.HELPER,): helper,
    (Check.BUS, Check.UNITS): bus_and_units,
    (Check.CONTAINERS,): containers,
    (Check.RULES,): rules,
    (Check.ALERTS,): alerts,
    (Check.HOSTS,): hosts,
    (Check.BRIDGES,): bridges,
    (Check.NETWORK,): network,
    (Check.PORT,): port,
    (Check.MDNS,): mdns,
    (Check.FIREWALL,): firewall,
    (Check.CLOCK,): clock,
    (Check.PAIRING,): pairing,
}


async def diagnose(config_file: Path, state_folder: Path) -> tuple[Finding, ...]:
    """Collect the facts, and run all checks."""
    return await check_all(await collect(config_file, state_folder))


async def check_all(context: Context) -> tuple[Finding, ...]:
    """Return the findings in the order of the checks."""
    found = await asyncio.gather(*(guarded(checks, make, context) for checks, make in CHECKS.items()))
    return for_other_bridges(without_repetition(tuple(finding for findings in found for finding in findings)))


def without_repetition(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Refer from a helper that does not start to the check that explains it, if that failed, too."""
    failed = {finding.check for finding in findings if finding.verdict is Verdict.FAIL}
    causes = [check for check in (Check.SUDO, Check.PRIVILEGES) if check in failed]
    if Check.HELPER not in failed or not causes:
        return findings
    referring = fail(Check.HELPER, "the daemon cannot start its helper", f"see {causes[0]} above")
    return tuple(referring if finding.check is Check.HELPER else finding for finding in findings)


def for_other_bridges(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Demand no bridge of its own from a machine that only those of other hosts use."""
    verdicts = {finding.check: finding.verdict for finding in findings}
    if (verdicts.get(Check.SERVICE), verdicts.get(Check.BRIDGES)) != (Verdict.TODO, Verdict.OK):
        return findings
    not_needed = {
        Check.SERVICE: ok(Check.SERVICE, "not enabled, and not needed by the bridges of other hosts"),
        Check.PAIRING: skip(Check.PAIRING, "this machine has no bridge of its own"),
    }
    return tuple(not_needed.get(finding.check, finding) for finding in findings)


async def guarded(checks: tuple[Check, ...], make: CheckFunction, context: Context) -> tuple[Finding, ...]:
    """Return the findings of a function; if it raises an error, its checks are skipped for that reason."""
    try:
        return await make(context)
    except (Failure, OSError, ValueError) as error:
        return tuple(skip(check, str(error)) for check in checks)
    except Exception as error:  # noqa: BLE001 -- the output of other programs can be anything
        return tuple(skip(check, f"unexpected {type(error).__name__}: {error}") for check in checks)
