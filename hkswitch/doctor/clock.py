"""Checks that the clock is plausible. HomeKit does not need it; the journal and `hkswitch status` do.

It reads the kernel's clock state, as `timedatectl` does: running that program would start a service.
"""

import ctypes
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from hkswitch.doctor.context import Context, parse_properties
from hkswitch.doctor.finding import Check, Finding, fail, ok, skip
from hkswitch.doctor.programs import CannotRun, run

RELEASE_YEAR: Final = 2026
"""A clock that shows an earlier year is wrong."""

LARGEST_ERROR_MICROSECONDS: Final = 16_000_000
"""The kernel reports this error for a clock that no program synchronizes (NTP_PHASE_LIMIT)."""

TIME_SERVICES: Final = ("systemd-timesyncd", "chronyd", "chrony", "ntpsec", "ntpd", "ntp", "openntpd")
"""Time synchronization services, by the names that distributions give them."""

_ENABLE_NTP: Final = "run `sudo timedatectl set-ntp true`"


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and more than enough room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


async def clock(context: Context) -> tuple[Finding]:
    """Check the date, and that a service synchronizes the clock."""
    del context
    try:
        shown = await run("systemctl", "show", "--property=LoadState,ActiveState", *TIME_SERVICES)
        states = active_states(shown.output)
    except CannotRun:
        states = set()
    return (plausible(time.time(), states, synchronized=_is_synchronized()),)


def plausible(now_unix_seconds: float, states: Collection[str], *, synchronized: bool) -> Finding:
    """Judge the clock. `states`: those of the time synchronization services that are installed."""
    now = datetime.fromtimestamp(now_unix_seconds, UTC)
    today = f"{now:%Y-%m-%d}"
    if now.year < RELEASE_YEAR:
        return fail(Check.CLOCK, f"the clock says {today}", f"{_ENABLE_NTP}, or `sudo timedatectl set-time`")
    if synchronized:
        return ok(Check.CLOCK, f"{today}, synchronized")
    if "active" in states:
        return ok(Check.CLOCK, f"{today}, not synchronized yet")
    if states:
        what = f"the clock says {today}, and no time synchronization service is running"
        return fail(Check.CLOCK, what, _ENABLE_NTP)
    return skip(Check.CLOCK, f"the clock says {today}; no time synchronization service was found")


def active_states(shown: str) -> set[str]:
    """Return the states of the services that exist, from the output of `systemctl show` about several."""
    blocks = [parse_properties(block) for block in shown.split("\n\n")]
    return {block["ActiveState"] for block in blocks if block.get("LoadState") == "loaded"}


def _is_synchronized() -> bool:
    found = _Timex()  # no modes: it only reads
    failed = ctypes.CDLL(None).adjtimex(ctypes.byref(found)) < 0
    return not failed and found.maxerror < LARGEST_ERROR_MICROSECONDS
