"""What came of a start: whether the unit is up, has ended well, or failed, and why. Pure: no I/O.

systemd calls a job of a Type=simple service done when the process was forked. Whether the service is up can
only be told by watching it: a unit that is not held is forgotten when it has ended, and a crash loop looks
active at every other moment. org.freedesktop.systemd1(5) describes the properties.
"""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hkswitch.model.unit_state import ActiveState, JobResult, LoadState, UnitHealth, UnitResult, UnitState

Properties = Mapping[str, Any]
"""Values by name, without their D-Bus types."""

NEEDS_CONFIRMATION: Final = frozenset({"simple", "exec", "idle", "forking"})
"""Types of services whose job is done before anything is known of how they fare (systemd.service(5))."""

_EXITED: Final = 1  # CLD_EXITED
_NOT_EXECUTED: Final = 203  # systemd.exec(5): EXIT_EXEC


class Seen(NamedTuple):
    """A unit at one moment."""

    state: UnitState
    invocation: str

    @property
    def is_up(self) -> bool:
        """Whether the unit does its work."""
        return self.state.health is UnitHealth.UP


_UNSEEN: Final = Seen(UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead"), "")


@dataclass(slots=True)
class Story:
    """What signals told of a unit since its start was asked for."""

    unit: str
    """systemd's own name of it, which an alias has not."""
    before: Seen = _UNSEEN
    now: Seen = field(init=False)
    fall: Seen | None = None
    """The first time after its start that it was not up, and no job was to change that."""
    starts: int = 0
    """How often it was started since it was seen down; more than once if it came up anew unseen."""
    job: str = ""
    """The path of the job that is waited for, once it is known."""
    pending: str = ""
    """The path of the job that the unit has now."""
    other_jobs: set[str] = field(default_factory=set)
    """The paths of jobs on the unit that ended before its fall; among them may be the awaited one."""
    service: dict[str, Any] = field(default_factory=dict)
    """What signals told of it as a service, up to its fall: the next start makes systemd forget that."""

    is_heard: bool = False
    """Whether a signal told of it."""

    def __post_init__(self) -> None:
        self.now = self.before

    def begin(self, properties: Properties) -> None:
        """It begins now, with what a read said: but what a signal said since that was asked for is newer."""
        read = seen(properties)
        if self.is_heard:
            active, sub = self.now.state.active, self.now.state.sub
            read = Seen(UnitState(read.state.load, active, sub), self.now.invocation or read.invocation)
        else:
            self.pending = pending_job(properties)
        self.before = self.now = read
        self.fall, self.starts = None, 0
        self.other_jobs.clear()
        self.service.clear()

    def ended(self, job: str) -> None:
        """The awaited job was this one: a signal that came with its end may have told of a fall."""
        self.job = job
        self._note_fall()

    def changed(self, properties: Properties) -> None:
        """Take over properties of the unit from a signal."""
        self.is_heard = True
        state, invocation = self.now
        active = ActiveState(properties.get("ActiveState", state.active))
        invocation = invocation_of(properties) or invocation
        if invocation != self.now.invocation:
            self.starts = self.starts + 1 if self.now.is_up else 1
        self.now = Seen(UnitState(state.load, active, properties.get("SubState", state.sub)), invocation)
        if "Job" in properties:
            self.pending = pending_job(properties)
        self._note_fall()

    def service_changed(self, properties: Properties) -> None:
        """Take over its properties as a service; systemd tells them before those of the unit."""
        if self.fall is None:
            self.service |= properties

    def job_removed(self, path: str) -> None:
        """Take over that a job of the unit has ended, whoever asked for it."""
        if self.fall is None:
            self.other_jobs.add(path)
        if self.pending == path:
            self.pending = ""
            self._note_fall()

    @property
    def has_fallen(self) -> bool:
        """Whether the unit did not come up, or did not stay so."""
        return self.fall is not None or self._is_down

    @property
    def was_stopped(self) -> bool:
        """Whether someone or something else had a job on it, as a unit that it is bound to."""
        return bool(self.other_jobs - {self.job})

    @property
    def _is_down(self) -> bool:
        # One that has a job is about to change. A crash is told without one; systemd's own comes after it.
        return not self.now.is_up and not self.pending

    def _note_fall(self) -> None:
        # Two starts between two signals, and no other job: it fell in between.
        is_another = self.starts > 1 and not self.pending and not self.was_stopped
        if self.fall is None and self.starts and (self._is_down or is_another):
            self.fall = self.now


def seen(properties: Properties) -> Seen:
    """The unit with these properties."""
    load, active = LoadState(properties["LoadState"]), ActiveState(properties["ActiveState"])
    return Seen(UnitState(load, active, properties["SubState"]), invocation_of(properties))


def invocation_of(properties: Properties) -> str:
    """The number that each start of a unit gets anew, empty for none."""
    return bytes(properties.get("InvocationID", b"")).hex()


def pending_job(properties: Properties) -> str:
    """The path of the job that a unit has, empty for none."""
    number, path = properties.get("Job", (0, "/"))
    return str(path) if number else ""


def judged(asked: str, story: Story, unit: Properties, service: Properties) -> UnitResult:
    """What came of a start whose job is done.

    Args:
        asked: The name by which the unit was asked for.
        story: What signals told of it.
        unit: Its properties now.
        service: Its properties as a service, none if it is of another type.
    """
    left = seen(unit)
    now, service = story.fall or left, {**service, **story.service}
    if story.starts == 0 and now.invocation == story.before.invocation and not unit["ConditionResult"]:
        unmet = ", ".join(unmet_conditions(unit)) or "a condition was not met"
        return UnitResult(asked, JobResult.FAILED, unmet)
    # On systemd 252, what is started again after a clean exit is inactive for a moment, and has no job.
    goes_on = left.state.health in {UnitHealth.UP, UnitHealth.STARTING, UnitHealth.FAILED} or pending_job(
        unit
    )
    is_loop = story.fall is not None and not story.was_stopped and goes_on
    if now.state.health is UnitHealth.FAILED or is_loop:
        return UnitResult(asked, JobResult.FAILED, reason(service) or "failed")
    if now.is_up:
        return UnitResult(asked, JobResult.DONE)
    if story.was_stopped:
        return UnitResult(asked, JobResult.FAILED, f"was stopped: it is {now.state}")
    if not service:
        return UnitResult(asked, JobResult.DONE)
    if not _ended_well(service):
        return UnitResult(asked, JobResult.FAILED, reason(service) or f"is {now.state}")
    return UnitResult(asked, JobResult.DONE, f"exited with status {service.get('ExecMainStatus', 0)}")


def _ended_well(service: Properties) -> bool:
    return service.get("Result") == "success" and service.get("ExecMainCode") in {0, _EXITED}


def unmet_conditions(unit: Properties) -> Iterator[str]:
    """Those that systemd looked at and that were not met, as their lines in the unit file say them."""
    for name, trigger, negated, parameter, state in unit.get("Conditions", ()):
        if state < 0:
            yield f"{name}={'|' if trigger else ''}{'!' if negated else ''}{parameter} was not met"


def unmet_asserts(unit: Properties) -> str:
    """The same of the assertions."""
    return ", ".join(unmet_conditions({"Conditions": unit.get("Asserts", ())}))


_REASONS: Final = {
    "timeout": "took too long to start",
    "protocol": "ended before it was ready",
    "watchdog": "was killed by its watchdog",
    "exec-condition": "ExecCondition= was not met",
    "start-limit-hit": "was started too often (start limit)",
    "oom-kill": "ran out of memory",
    "resources": "could not be started: out of resources",
    "": "",
    "success": "",
}
"""systemd's Result of a service, where a status says no more."""

_OTHER_COMMANDS: Final = ("ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")


def reason(service: Properties) -> str:
    """Why a service failed, in a few words; empty where systemd does not say."""
    status, code = int(service.get("ExecMainStatus", 0)), service.get("ExecMainCode", 0)
    match result := service.get("Result", ""):
        case "exit-code" if code != _EXITED or status == 0:  # not the main process
            return next(_failed_commands(service), "failed (exit-code)")
        case "exit-code" if status == _NOT_EXECUTED:
            return "could not execute its program (status 203)"
        case "exit-code":
            return f"exited with status {status}"
        case "success" if code == _EXITED:
            return f"exited with status {status}"
        case "signal" if code != _EXITED and status:
            return f"was killed by {signal_name(status)}"
        case "success" if code != 0:
            return f"was killed by {signal_name(status)}"
        case "core-dump":
            return f"dumped core by {signal_name(status)}"
    return _REASONS.get(result, f"failed ({result})")


def _failed_commands(service: Properties) -> Iterator[str]:
    """The commands beside the main process that failed."""
    for name in _OTHER_COMMANDS:
        for _, _, is_ignored, *_, code, status in service.get(name, ()):
            if code == _EXITED and status != 0 and not is_ignored:
                yield f"{name}= exited with status {status}"


def signal_name(number: int) -> str:
    """The name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
