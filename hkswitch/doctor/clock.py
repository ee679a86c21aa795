"""Whether the clock can be right. HomeKit does without it; the journal and `hkswitch status` do not."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from hkswitch.doctor.finding import Finding, Point, ok, unknown, wrong
from hkswitch.doctor.programs import CannotRun, run
from hkswitch.doctor.situation import Situation, properties

RELEASED: Final = 2026
"""No clock that is right says an earlier year."""

_ADVICE: Final = "`sudo timedatectl set-ntp true`"


async def clock(situation: Situation) -> tuple[Finding]:
    """The point of this name."""
    del situation
    try:
        said = properties((await run("timedatectl", "show")).output)
    except CannotRun:
        said = {}
    return (sane(time.time(), said),)


def sane(now_unix_seconds: float, said: Mapping[str, str]) -> Finding:
    """`said`: what `timedatectl show` prints, if anything."""
    now = datetime.fromtimestamp(now_unix_seconds, UTC)
    today = f"{now:%Y-%m-%d}"
    if now.year < RELEASED:
        return wrong(Point.CLOCK, f"it says {today}", f"{_ADVICE}, or `sudo timedatectl set-time`")
    if said.get("NTPSynchronized") == "yes":
        return ok(Point.CLOCK, f"{today}, synchronized")
    if said.get("NTP") == "yes":
        return ok(Point.CLOCK, f"{today}, not synchronized yet")
    if said.get("CanNTP") == "yes":
        return wrong(Point.CLOCK, f"it says {today}, and nothing keeps it right", _ADVICE)
    return unknown(Point.CLOCK, f"nothing here knows whether {today} is right")
