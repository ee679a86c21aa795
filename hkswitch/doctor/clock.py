"""Whether the clock can be right. HomeKit does without it; the journal and `hkswitch status` do not.

Asks the kernel, as `timedatectl` does: to ask that would start a service.
"""

import ctypes
import time
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Final

from hkswitch.doctor.context import Situation, properties
from hkswitch.doctor.finding import Finding, Point, ok, unknown, wrong
from hkswitch.doctor.programs import CannotRun, run

RELEASED: Final = 2026
"""No clock that is right says an earlier year."""

LARGEST_ERROR_MICROSECONDS: Final = 16_000_000
"""The kernel says this of a clock that nobody keeps right (NTP_PHASE_LIMIT)."""

KEEPERS: Final = ("systemd-timesyncd", "chronyd", "chrony", "ntpsec", "ntpd", "ntp", "openntpd")
"""Services that do, by the names that distributions give them."""

_NTP: Final = "`sudo timedatectl set-ntp true`"


class _Timex(ctypes.Structure):
    """The beginning of struct timex (adjtimex(2)), and more than enough room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    )


async def clock(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    del situation
    try:
        asked = await run("systemctl", "show", "--property=LoadState,ActiveState", *KEEPERS)
        keepers = states_of(asked.output)
    except CannotRun:
        keepers = set()
    return (sane(time.time(), keepers, synchronized=_is_synchronized()),)


def sane(now_unix_seconds: float, keepers: Collection[str], *, synchronized: bool) -> Finding:
    """`keepers`: the states of the services here that could keep it right."""
    now = datetime.fromtimestamp(now_unix_seconds, UTC)
    today = f"{now:%Y-%m-%d}"
    if now.year < RELEASED:
        return wrong(Point.CLOCK, f"it says {today}", f"{_NTP}, or `sudo timedatectl set-time`")
    if synchronized:
        return ok(Point.CLOCK, f"{today}, synchronized")
    if "active" in keepers:
        return ok(Point.CLOCK, f"{today}, not synchronized yet")
    if keepers:
        return wrong(Point.CLOCK, f"it says {today}, and nothing keeps it right", _NTP)
    return unknown(Point.CLOCK, f"nothing here knows whether {today} is right")


def states_of(shown: str) -> set[str]:
    """The states of the services that are there, in what `systemctl show` prints of several."""
    blocks = [properties(block) for block in shown.split("\n\n")]
    return {block["ActiveState"] for block in blocks if block.get("LoadState") == "loaded"}


def _is_synchronized() -> bool:
    found = _Timex()  # no modes: it only reads
    failed = ctypes.CDLL(None).adjtimex(ctypes.byref(found)) < 0
    return not failed and found.maxerror < LARGEST_ERROR_MICROSECONDS
