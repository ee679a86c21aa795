"""When systemd says that something happened, on the clock that this process has too."""

import time
from collections.abc import Sequence
from typing import Final

from tests.host.machine import Host, eventually

WITHIN_SECONDS: Final = 20


def ms_since(began_seconds: float) -> float:
    """How long ago a moment of `time.monotonic` was."""
    return (time.monotonic() - began_seconds) * 1000


def entered(host: Host, units: Sequence[str], since_seconds: float, *, active: bool) -> float:
    """When the last of `units` became active or inactive; waits until all did so since a moment."""

    def last() -> float | None:
        moments = [int(line) / 1e6 for line in _shown(host, name, units)]
        return max(moments) if min(moments) >= since_seconds else None

    name = f"{'Active' if active else 'Inactive'}EnterTimestampMonotonic"
    return eventually(last, timeout_seconds=WITHIN_SECONDS)


def started(host: Host, service: str) -> float:
    """When systemd executed a service."""
    [moment] = _shown(host, "ExecMainStartTimestampMonotonic", (service,))
    return int(moment) / 1e6


def cpu_ms(host: Host, service: str) -> float:
    """What all processes of a service have used so far."""
    [used] = _shown(host, "CPUUsageNSec", (service,))
    return int(used) / 1e6


def _shown(host: Host, name: str, units: Sequence[str]) -> list[str]:
    return host.run("systemctl", "show", f"--property={name}", "--value", *units).stdout.split()
