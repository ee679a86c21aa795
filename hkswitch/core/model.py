"""The values everything speaks in: units, groups, their states, and what may be asked. Pure: no I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Self

MOST_ACCESSORIES = 149
"""HomeKit allows 150 accessories behind a bridge, the bridge itself included."""

RESERVED_AIDS = frozenset({0, 1, 7})
"""0 is no AID, 1 is the bridge, and iOS ignores 7 (HAP-python #61)."""


class Action(StrEnum):
    """What a caller may ask of a group."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


class Crossing(StrEnum):
    """How the daemon gets at its helper: over the trust line."""

    SUDO = "sudo"
    SOCKET = "socket"


class AccessoryType(StrEnum):
    """What a group looks like in the Home app."""

    SWITCH = "switch"
    OUTLET = "outlet"
    LIGHT = "light"
    FAN = "fan"


class LoadState(StrEnum):
    """systemd's LoadState (org.freedesktop.systemd1(5))."""

    LOADED = "loaded"
    STUB = "stub"
    MERGED = "merged"
    NOT_FOUND = "not-found"
    MASKED = "masked"
    BAD_SETTING = "bad-setting"
    ERROR = "error"
    UNKNOWN = "unknown"  # ours: a word that only a newer systemd knows

    @classmethod
    def _missing_(cls, value: object) -> Self:  # noqa: ARG003 -- the signature is Enum's
        return cls("unknown")


class ActiveState(StrEnum):
    """systemd's ActiveState (org.freedesktop.systemd1(5))."""

    ACTIVE = "active"
    RELOADING = "reloading"
    REFRESHING = "refreshing"
    INACTIVE = "inactive"
    MAINTENANCE = "maintenance"
    FAILED = "failed"
    ACTIVATING = "activating"
    DEACTIVATING = "deactivating"
    UNKNOWN = "unknown"  # ours: a word that only a newer systemd knows

    @classmethod
    def _missing_(cls, value: object) -> Self:  # noqa: ARG003 -- the signature is Enum's
        return cls("unknown")


class JobResult(StrEnum):
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
    REFUSED = "refused"  # ours: systemd made no job at all
    UNKNOWN = "unknown"  # ours: a word that only a newer systemd knows

    @classmethod
    def _missing_(cls, value: object) -> Self:  # noqa: ARG003 -- the signature is Enum's
        return cls("unknown")

    @property
    def success(self) -> bool:
        """Whether the job did what was asked."""
        return self is JobResult.DONE


class Meaning(Enum):
    """What a unit's state means for its group."""

    UP = "up"
    STARTING = "starting"
    STOPPING = "stopping"
    DOWN = "down"
    FAILED = "failed"
    MISSING = "missing"


_LOADABLE = frozenset({LoadState.LOADED, LoadState.STUB, LoadState.MERGED})
_WAITING_TO_RESTART = frozenset({"auto-restart", "auto-restart-queued"})
_MEANINGS = {
    ActiveState.ACTIVE: Meaning.UP,
    ActiveState.RELOADING: Meaning.UP,
    ActiveState.REFRESHING: Meaning.UP,
    ActiveState.ACTIVATING: Meaning.STARTING,
    ActiveState.DEACTIVATING: Meaning.STOPPING,
    ActiveState.INACTIVE: Meaning.DOWN,
    ActiveState.MAINTENANCE: Meaning.DOWN,
    ActiveState.FAILED: Meaning.FAILED,
    ActiveState.UNKNOWN: Meaning.MISSING,  # not understood is not shown
}


@dataclass(frozen=True, slots=True)
class UnitState:
    """A unit's state in systemd's own words."""

    load: LoadState
    active: ActiveState
    sub: str

    @property
    def meaning(self) -> Meaning:
        """What this state means for a group; a crash loop that waits for its next start has failed."""
        if self.load not in _LOADABLE:
            return Meaning.MISSING
        if self.active is ActiveState.ACTIVATING and self.sub in _WAITING_TO_RESTART:
            return Meaning.FAILED
        return _MEANINGS[self.active]

    def __str__(self) -> str:
        if self.load not in _LOADABLE:
            return self.load.value
        return f"{self.active.value} ({self.sub})"


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
    """The state of a group of units: on only if all of them are up."""
    meanings = {unit.meaning for unit in units}
    if not meanings or Meaning.MISSING in meanings:
        return GroupState.MISSING
    if meanings == {Meaning.UP}:
        return GroupState.ON
    if Meaning.FAILED in meanings:
        return GroupState.FAILED
    if Meaning.STARTING in meanings and meanings <= {Meaning.UP, Meaning.STARTING}:
        return GroupState.STARTING
    if Meaning.STOPPING in meanings:
        return GroupState.STOPPING
    if Meaning.UP in meanings:
        return GroupState.PARTIAL
    return GroupState.OFF


class Verdict(StrEnum):
    """What a probe says: a group's status command, or the check of a group of units."""

    ON = "on"
    OFF = "off"
    UNAVAILABLE = "unavailable"


Argv = tuple[str, ...]
"""A program by its absolute path, and its arguments. No shell reads it."""


@dataclass(frozen=True, slots=True)
class Commands:
    """What is run for a group that has no units. `status` exits with 0 for on and with 1 to 125 for off."""

    start: Argv
    stop: Argv
    status: Argv
    restart: Argv = ()


@dataclass(frozen=True, slots=True)
class Group:
    """A named group that is one switch: of commands, or of units, full names in the config's order."""

    id: str
    name: str
    units: tuple[str, ...] = ()
    type: AccessoryType = AccessoryType.SWITCH
    actions: frozenset[Action] = frozenset({Action.START, Action.STOP})
    restart: bool = False
    commands: Commands | None = None
    """Instead of units."""
    check: Argv = ()
    """A group of units is on only if this exits with 0, too."""
    interval_seconds: int = 30
    """How often the probe is run."""
    timeout_seconds: int = 10
    """How long a command may take."""

    @property
    def probe(self) -> Argv:
        """What says more of the group's state than systemd does, if anything."""
        return self.check if self.commands is None else self.commands.status

    def state(self, units: Mapping[str, UnitState], verdict: Verdict | None) -> GroupState | None:
        """The group's state, from its units' and from what its probe said since; None is not known."""
        if self.commands is not None:
            return {Verdict.ON: GroupState.ON, Verdict.OFF: GroupState.OFF}.get(verdict) if verdict else None
        if not units.keys() >= set(self.units):
            return None
        state = group_state([units[unit] for unit in self.units])
        if not self.check or state is not GroupState.ON:
            return state
        passed = {Verdict.ON: GroupState.ON, Verdict.OFF: GroupState.PARTIAL, Verdict.UNAVAILABLE: None}
        return GroupState.STARTING if verdict is None else passed[verdict]

    @property
    def aid(self) -> int:
        """The AID of the group's accessory."""
        return aid_of(self.id)

    @property
    def restart_aid(self) -> int:
        """The AID of the group's restart accessory; a colon cannot be part of an id."""
        return aid_of(f"{self.id}:restart")

    @property
    def restart_name(self) -> str:
        """The name of the group's restart accessory."""
        return f"Restart {self.name}"


def aid_of(identity: str) -> int:
    """A 32-bit AID that depends on nothing but `identity`: Home keeps rooms and automations by it."""
    import hashlib  # noqa: PLC0415 -- `hkswitch status` needs no AID, and no OpenSSL

    digest = hashlib.sha256(identity.encode()).digest()
    while (aid := int.from_bytes(digest[:4], "big")) in RESERVED_AIDS:
        digest = hashlib.sha256(digest).digest()
    return aid


@dataclass(frozen=True, slots=True)
class UnitResult:
    """How one unit's job ended. `detail` is systemd's sentence where it made no job."""

    unit: str
    job: JobResult
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.unit} {self.job.value}" + (f" ({self.detail})" if self.detail else "")


def failure_of(results: tuple[UnitResult, ...]) -> str | None:
    """The failed ones of a request's job results as one line, or None if all succeeded."""
    failed = [str(result) for result in results if not result.job.success]
    return ", ".join(failed) or None
