"""A helper that observes on a real host, beside that of the daemon, and the failures that it tells."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Final

from hkswitch.model.unit_state import UnitFailure
from hkswitch.protocol.helper import Observe, encode_message
from tests.host.machine import Host, eventually

SERVE: Final = ("sudo", "-n", "/usr/sbin/serviceswitch", "serve")


@dataclass
class HeardFailures:
    """Every failure that a helper tells, by units."""

    process: Popen[str]
    all: dict[str, list[UnitFailure | None]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    is_complete: bool = False

    def __post_init__(self) -> None:
        """Prepare to read."""
        self.reading = threading.Thread(target=self._read, daemon=True)

    def listen(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(encode_message(Observe(1)).decode())
        self.process.stdin.flush()
        self.reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message = json.loads(line) if line.startswith("{") else {}
            self.is_complete |= message.get("type") == "complete"
            for unit, _, active, sub in message.get("units", []) if message.get("type") == "states" else []:
                self.states[unit] = f"{active}/{sub}"
            for unit, run, is_requested, reason in message.get("failures", []):
                failure = UnitFailure(run, is_requested, reason) if run else None
                self.all.setdefault(unit, []).append(failure)

    def until_told(self, unit: str) -> None:
        """Wait until the unit has failed."""
        eventually(lambda: any(self.all.get(unit, ())))

    def until_by_itself(self, unit: str, reason: str) -> None:
        """Wait until the unit has failed for this reason, which nobody requested."""
        eventually(lambda: reason in self.by_itself(unit))

    def last(self, unit: str) -> UnitFailure | None:
        return self.all.get(unit, [None])[-1]

    def by_itself(self, unit: str) -> list[str]:
        """The reasons of failures that nobody requested."""
        return [each.reason for each in self.all.get(unit, ()) if each is not None and not each.is_requested]


@contextmanager
def listening(host: Host) -> Iterator[HeardFailures]:
    """Run a helper that observes."""
    with host.popen(*SERVE, user="hkswitch") as process:
        heard = HeardFailures(process)
        heard.listen()
        eventually(lambda: heard.is_complete)
        yield heard
