"""Times of events on a host according to systemd, on the clock that this process shares."""

import time
from collections.abc import Sequence
from typing import Final

from tests.host.machine import Host, eventually

WITHIN_SECONDS: Final = 20


def ms_since(began_seconds: float) -> float:
    """Return the milliseconds since a value of `time.monotonic`."""
    return (time.monotonic() - began_seconds) * 1000


def state_changed(host: Host, units: Sequence[str], since_seconds: float, *, active: bool) -> float:
    """Wait until all units have become active (or inactive) since a time; return when the last one did."""

    def last() -> float | None:
        moments = [int(line) / 1e6 for line in _shown(host, name, units)]
        return max(moments) if min(moments) >= since_seconds else None

    name = f"{'Active' if active else 'Inactive'}EnterTimestampMonotonic"
    return eventually(last, timeout_seconds=WITHIN_SECONDS)


def started(host: Host, service: str) -> float:
    """Return when systemd executed a service."""
    [moment] = _shown(host, "ExecMainStartTimestampMonotonic", (service,))
    return int(moment) / 1e6


def cpu_ms(host: Host, units: Sequence[str]) -> float:
    """Return the CPU time used so far by all processes of these units, which must all be there."""
    used = _shown(host, "CPUUsageNSec", units)
    assert all(each.isdigit() for each in used), f"{units} used {used}"
    return sum(map(int, used)) / 1e6


def _shown(host: Host, name: str, units: Sequence[str]) -> list[str]:
    return host.run("systemctl", "show", f"--property={name}", "--value", *units).stdout.split()
