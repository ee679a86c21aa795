"""What simulated units say and need: states, how a job of theirs began, and systemd's part. Pure."""

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from tests.world.unit import Unit

ACTIVE_STATES: Final = {
    "dead": "inactive",
    "dead-before-auto-restart": "inactive",
    "failed": "failed",
    "failed-before-auto-restart": "failed",
    "condition": "activating",
    "start-pre": "activating",
    "start": "activating",
    "start-post": "activating",
    "auto-restart": "activating",
    "auto-restart-queued": "activating",
    "running": "active",
    "exited": "active",
    "active": "active",  # of a target
    "waiting": "active",  # of a timer
    "stop": "deactivating",
    "stop-sigterm": "deactivating",
    "stop-sigkill": "deactivating",
    "stop-post": "deactivating",
}
STARTING: Final = frozenset({"condition", "start-pre", "start", "start-post"})
WAITING: Final = frozenset({"auto-restart", "auto-restart-queued"})


class Begun(Enum):
    """What came of a call to `start` or `stop`: how a job that made it goes on."""

    RUNS = "it takes its time"
    ALREADY = "done"
    NOT_NOW = "try again when the state changes"
    UNMET = "done, as a condition was not met"
    ASSERT = "assert"
    FAILED = "failed"


class Timer(Protocol):
    """What `Manager.later` returns."""

    def cancel(self) -> None:
        """Have it not happen."""


class Manager(Protocol):
    """systemd's part that units need."""

    version: int

    def later(self, seconds: float, event: Callable[[], None]) -> Timer:
        """Have something happen after a time."""

    def now(self) -> float:
        """The time, in seconds."""

    def changing(self, unit: "Unit") -> None:
        """Tell the last change of a unit before the next one."""

    def changed(self, unit: "Unit") -> None:
        """Take over that the unit has changed, and see what that means for its job."""

    def touched(self, unit: "Unit") -> None:
        """The same of a property that no job waits for."""

    def restart_by_itself(self, unit: "Unit") -> None:
        """Queue the job that starts a crashed unit again."""

    def invocation(self) -> bytes:
        """A number that no start had before."""

    def cores(self, unit: "Unit") -> float:
        """How many cores the program of a unit uses while it runs."""

    def used(self, unit: "Unit") -> None:
        """Note what a unit uses from now on."""

    def trigger(self, name: str) -> bool:
        """Start a unit for a timer; returns whether that was possible."""

    def count_start(self, unit: "Unit") -> int:
        """How often a unit was started by now, even if it was forgotten in between."""
