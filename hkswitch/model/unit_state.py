"""States, actions and results: the vocabulary that hkswitch shares with systemd. Pure: no I/O.

The state of a container is a `UnitState` too, with a few words that systemd lacks.
"""

from collections.abc import Collection, Mapping
from enum import Enum, StrEnum
from typing import NamedTuple, Self


class Action(StrEnum):
    """An action that a caller may request for a group."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"

    def overrules(self, older: "Action") -> bool:
        """Return whether this makes an older action obsolete. A restart never does: it starts nothing new."""
        return older is not self and (self is Action.STOP or (self is Action.START and older is Action.STOP))


class HelperTransport(StrEnum):
    """How the daemon reaches its helper."""

    SUDO = "sudo"
    SOCKET = "socket"


class _OfSystemd(StrEnum):
    """A set of words that systemd uses; `UNKNOWN` stands for the words of a newer systemd."""

    @classmethod
    def _missing_(cls, value: object) -> Self:  # noqa: ARG003 -- the signature is Enum's
        return cls("unknown")


class LoadState(_OfSystemd):
    """systemd's LoadState (org.freedesktop.systemd1(5))."""

    LOADED = "loaded"
    STUB = "stub"
    MERGED = "merged"
    NOT_FOUND = "not-found"
    MASKED = "masked"
    BAD_SETTING = "bad-setting"
    ERROR = "error"
    UNAVAILABLE = "unavailable"  # ours: the engine of a container does not answer
    UNKNOWN = "unknown"  # ours: any word of a newer systemd


class ActiveState(_OfSystemd):
    """systemd's ActiveState (org.freedesktop.systemd1(5))."""

    ACTIVE = "active"
    RELOADING = "reloading"
    REFRESHING = "refreshing"
    INACTIVE = "inactive"
    MAINTENANCE = "maintenance"
    FAILED = "failed"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    PARTIAL = "partial"  # ours: a paused container, or a project some of whose containers run
    FAILING = "failing"  # ours: a container that runs, but is unhealthy, or restarts again and again
    UNKNOWN = "unknown"  # ours: any word of a newer systemd, and a container that cannot be seen


class JobResult(_OfSystemd):
    """How a systemd job ended (JobRemoved in org.freedesktop.systemd1(5))."""

    DONE = "done"
    CANCELED = "canceled"
    TIMEOUT = "timeout"
    FAILED = "failed"
    DEPENDENCY = "dependency"
    SKIPPED = "skipped"
    INVALID = "invalid"
    ASSERT = "assert"
    UNSUPPORTED = "unsupported"
    COLLECTED = "collected"
    ONCE = "once"
    FROZEN = "frozen"
    CONCURRENCY = "concurrency"
    REFUSED = "refused"  # ours: systemd created no job
    UNKNOWN = "unknown"  # ours: any word of a newer systemd

    @property
    def success(self) -> bool:
        """Whether the job did what was requested."""
        return self is JobResult.DONE


class UnitHealth(Enum):
    """The health of a unit, as its group needs it."""

    UP = "up"
    PARTIAL = "partial"
    STARTING = "starting"
    STOPPING = "stopping"
    DOWN = "down"
    FAILED = "failed"
    MISSING = "missing"


_LOADABLE = frozenset({LoadState.LOADED, LoadState.STUB, LoadState.MERGED})
_WAITS_TO_RESTART = "auto-restart"
"""Part of every sub state between a crash and the next start, like `dead-before-auto-restart`."""

_HEALTH = {
    ActiveState.ACTIVE: UnitHealth.UP,
    ActiveState.RELOADING: UnitHealth.UP,
    ActiveState.REFRESHING: UnitHealth.UP,
    ActiveState.ACTIVATING: UnitHealth.STARTING,
    ActiveState.DEACTIVATING: UnitHealth.STOPPING,
    ActiveState.PARTIAL: UnitHealth.PARTIAL,
    ActiveState.FAILING: UnitHealth.FAILED,
    ActiveState.INACTIVE: UnitHealth.DOWN,
    ActiveState.MAINTENANCE: UnitHealth.DOWN,
    ActiveState.FAILED: UnitHealth.FAILED,
    ActiveState.UNKNOWN: UnitHealth.MISSING,  # hkswitch must not show a state that it does not understand
}


class UnitState(NamedTuple):
    """The state of a unit or a container, in systemd's terms; `sub` has spaces only for a container."""

    load: LoadState
    active: ActiveState
    sub: str

    @property
    def health(self) -> UnitHealth:
        """The unit's health; a crashed unit that waits for its next start counts as failed."""
        if self.load not in _LOADABLE:
            return UnitHealth.MISSING
        return UnitHealth.FAILED if self.waits_to_restart else _HEALTH[self.active]

    @property
    def is_running(self) -> bool:
        """Whether the unit has processes, or is about to have some."""
        return self.active not in {ActiveState.INACTIVE, ActiveState.FAILED}

    @property
    def waits_to_restart(self) -> bool:
        """Whether the unit crashed and systemd is about to start it again."""
        return _WAITS_TO_RESTART in self.sub and " " not in self.sub

    def __str__(self) -> str:
        if self.load not in _LOADABLE and self.active is not ActiveState.UNKNOWN:
            return self.load.value
        if self.load not in _LOADABLE:
            return f"{self.load.value} ({self.sub})"
        return f"{self.active.value} ({self.sub})"


def in_words(units: Mapping[str, UnitState]) -> list[str]:
    """Return each unit with its state, as `systemctl list-units` shows it: `httpd.service=active/running`."""
    return [f"{name}={state.active}/{state.sub}" for name, state in units.items()]


class UnitFailure(NamedTuple):
    """The failure of a unit or a container. `run` tells its runs apart, such as systemd's invocation ID.

    `is_requested`: somebody stopped it, and it ended like that. `reason` names the unit: "web.service was
    killed by SIGKILL".
    """

    run: str
    is_requested: bool
    reason: str


class Usage(NamedTuple):
    """The resources of one unit, or of one container, in one run since its start.

    `since_seconds` is the start, by the clock of the sample; `cpu_ns` is all CPU time since then, and
    `memory_bytes` is anonymous memory and swap now. None: it cannot be measured.
    """

    member: str
    run: str
    since_seconds: float
    cpu_ns: int | None
    memory_bytes: int | None


class Sample(NamedTuple):
    """The resources of everything that runs of a group. `at_seconds`: by the host's monotonic clock."""

    at_seconds: float
    usages: tuple[Usage, ...]


class GroupState(StrEnum):
    """A group's state, from the states of its units."""

    ON = "on"
    STARTING = "starting"
    STOPPING = "stopping"
    PARTIAL = "partial"
    OFF = "off"
    FAILED = "failed"
    MISSING = "missing"

    @property
    def on(self) -> bool:
        """HomeKit's On characteristic for this state."""
        return self in {GroupState.ON, GroupState.STARTING}


def group_state(units: Collection[UnitState]) -> GroupState:
    """Return the state of a group of units, which is on only if all of them are up."""
    healths = {unit.health for unit in units}
    if not healths or UnitHealth.MISSING in healths:
        return GroupState.MISSING
    if healths == {UnitHealth.UP}:
        return GroupState.ON
    if UnitHealth.FAILED in healths:
        return GroupState.FAILED
    if UnitHealth.STARTING in healths and healths <= {UnitHealth.UP, UnitHealth.STARTING}:
        return GroupState.STARTING
    if UnitHealth.STOPPING in healths:
        return GroupState.STOPPING
    if not healths.isdisjoint({UnitHealth.UP, UnitHealth.PARTIAL}):
        return GroupState.PARTIAL
    return GroupState.OFF


class ProbeResult(StrEnum):
    """The result of a probe: of a status command, or of the check of a group of units."""

    ON = "on"
    OFF = "off"
    UNAVAILABLE = "unavailable"


class UnitResult(NamedTuple):
    """The result of a unit's job. `detail` is a short reason, such as "exited with status 1".

    After a successful job, `detail` says that the unit has ended and is no longer running.
    """

    unit: str
    job: JobResult
    detail: str = ""

    def __str__(self) -> str:
        if self.job in {JobResult.FAILED, JobResult.ASSERT, JobResult.CANCELED} and self.detail:
            return f"{self.unit} {self.detail}"
        return f"{self.unit} {self.job.value}" + (f" ({self.detail})" if self.detail else "")


def failure_of(results: tuple[UnitResult, ...]) -> str | None:
    """Return the failed results of a request on one line, or None if all succeeded."""
    failed = [str(result) for result in results if not result.job.success]
    return ", ".join(failed) or None


class ActionResult(NamedTuple):
    """The result of an action on a group. `failure` is None after a success; `note` is for the user.

    `superseded`: a newer request replaced it, which is no failure; the action may not have happened.
    `went_wrong`: the host tried it, and it failed by itself: nothing denied it, and no other job canceled it.
    """

    failure: str | None = None
    note: str = ""
    superseded: bool = False
    went_wrong: bool = False


def result_of(results: tuple[UnitResult, ...]) -> ActionResult:
    """Combine the results of a request's units."""
    ended = [result for result in results if result.job.success and result.detail]
    notes = [f"{result.unit} {result.detail} and is not running" for result in ended]
    failed = {result.job for result in results if not result.job.success}
    by_others = {JobResult.CANCELED, JobResult.DEPENDENCY} if JobResult.CANCELED in failed else set()
    return ActionResult(failure_of(results), ", ".join(notes), went_wrong=bool(failed - by_others))
