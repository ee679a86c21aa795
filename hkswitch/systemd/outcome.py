"""The result of a start: the unit is up, has exited cleanly, or failed, and why. Pure: no I/O.

systemd reports a Type=simple service's job as done once it has forked the process. Only watching it shows
whether the service is up: systemd unloads a unit that is not referenced when it has ended, and a crash loop
looks active some of the time. org.freedesktop.systemd1(5) describes the properties.
"""

import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from hkswitch.model.unit_state import ActiveState, JobResult, LoadState, UnitHealth, UnitResult, UnitState

Properties = Mapping[str, Any]
"""Values by name, without their D-Bus types."""

NEEDS_CONFIRMATION: Final = frozenset({"simple", "exec", "idle", "forking"})
"""Types of services whose job is done before the service is known to work (systemd.service(5))."""

_EXITED: Final = 1  # CLD_EXITED
NOT_EXECUTED: Final = 203  # systemd.exec(5): EXIT_EXEC


class UnitSnapshot(NamedTuple):
    """The state of a unit at one moment."""

    state: UnitState
    invocation: str

    @property
    def is_up(self) -> bool:
        """Whether the unit is active."""
        return self.state.health is UnitHealth.UP


_NOT_YET_SEEN: Final = UnitSnapshot(UnitState(LoadState.LOADED, ActiveState.INACTIVE, "dead"), "")


@dataclass(slots=True)
class StartHistory:
    """The changes of a unit, from signals, since its start was requested."""

    unit: str
    """systemd's name of the unit, not an alias."""
    before: UnitSnapshot = _NOT_YET_SEEN
    now: UnitSnapshot = field(init=False)
    went_down: UnitSnapshot | None = None
    """Its state at the first moment after its start when it was not up, and no job was pending."""
    starts: int = 0
    """How often it was started since it was last seen down; above 1 if it went down and up unseen."""
    job: str = ""
    """The path of the awaited job, once it is known."""
    pending: str = ""
    """The path of the unit's pending job."""
    other_jobs: set[str] = field(default_factory=set)
    """The paths of the unit's jobs that ended before it went down; may include the awaited one."""
    service: dict[str, Any] = field(default_factory=dict)
    """Its properties as a service until it went down, from signals: the next start resets them."""

    is_signaled: bool = False
    """Whether a signal has arrived."""

    def __post_init__(self) -> None:
        self.now = self.before

    def begin(self, read: UnitSnapshot, pending: str) -> None:
        """Begin with what was read; a signal that came since the read was requested is newer."""
        if self.is_signaled:
            active, sub = self.now.state.active, self.now.state.sub
            state = UnitState(read.state.load, active, sub)
            read = UnitSnapshot(state, self.now.invocation or read.invocation)
        else:
            self.pending = pending
        self.before = self.now = read
        self.went_down, self.starts = None, 0
        self.other_jobs.clear()
        self.service.clear()

    def ended(self, job: str) -> None:
        """Note the path of the awaited job: earlier signals may already show that the unit went down."""
        self.job = job
        self._note_going_down()

    def changed(self, properties: Properties) -> None:
        """Apply properties of the unit from a signal."""
        self.is_signaled = True
        state, invocation = self.now
        active = ActiveState(properties.get("ActiveState", state.active))
        invocation = invocation_of(properties) or invocation
        if invocation != self.now.invocation:
            self.starts = self.starts + 1 if self.now.is_up else 1
        state = UnitState(state.load, active, properties.get("SubState", state.sub))
        self.now = UnitSnapshot(state, invocation)
        if "Job" in properties:
            self.pending = pending_job(properties)
        self._note_going_down()

    def service_changed(self, properties: Properties) -> None:
        """Apply properties of the service; systemd signals them before those of the unit."""
        if self.went_down is None:
            self.service |= properties

    def job_removed(self, path: str) -> None:
        """Note the end of any job of the unit."""
        if self.went_down is None:
            self.other_jobs.add(path)
        if self.pending == path:
            self.pending = ""
            self._note_going_down()

    @property
    def is_starting(self) -> bool:
        """Whether the unit is on its way up."""
        return self.now.state.health is UnitHealth.STARTING

    @property
    def has_gone_down(self) -> bool:
        """Whether the unit did not come up, or did not stay up."""
        return self.went_down is not None or self._is_down

    @property
    def was_stopped(self) -> bool:
        """Whether another job affected it, such as one of a unit that it is bound to."""
        return bool(self.other_jobs - {self.job})

    @property
    def _is_down(self) -> bool:
        # A unit with a job is about to change. A crash is signaled without one; its restart job comes later.
        return not self.now.is_up and not self.pending

    def _note_going_down(self) -> None:
        # Two starts between two signals, and no other job: it went down in between.
        was_restarted = self.starts > 1 and not self.pending and not self.was_stopped
        if self.went_down is None and self.starts and (self._is_down or was_restarted):
            self.went_down = self.now


def snapshot_of(properties: Properties) -> UnitSnapshot:
    """Return the state in a unit's properties."""
    load, active = LoadState(properties["LoadState"]), ActiveState(properties["ActiveState"])
    return UnitSnapshot(UnitState(load, active, properties["SubState"]), invocation_of(properties))


def invocation_of(properties: Properties) -> str:
    """Return the unit's invocation ID, which each start changes; empty for none."""
    return bytes(properties.get("InvocationID", b"")).hex()


def pending_job(properties: Properties) -> str:
    """Return the path of a unit's pending job, empty for none."""
    number, path = properties.get("Job", (0, "/"))
    return str(path) if number else ""


def result_of_start(asked: str, history: StartHistory, unit: Properties, service: Properties) -> UnitResult:
    """Return the result of a start whose job is done.

    Args:
        asked: The name under which the unit was requested; may be an alias.
        history: Its changes since the request.
        unit: Its properties now.
        service: Its properties as a service; empty for other types.
    """
    last = snapshot_of(unit)
    now, service = history.went_down or last, {**service, **history.service}
    if history.starts == 0 and now.invocation == history.before.invocation and not unit["ConditionResult"]:
        unmet = ", ".join(unmet_conditions(unit)) or "a condition was not met"
        return UnitResult(asked, JobResult.FAILED, unmet)
    # On systemd 252, a unit that is restarted after a clean exit is inactive for a moment, and has no job.
    is_alive = last.state.health in {UnitHealth.UP, UnitHealth.STARTING, UnitHealth.FAILED}
    is_loop = history.went_down is not None and not history.was_stopped and (is_alive or pending_job(unit))
    if now.state.health is UnitHealth.FAILED or is_loop:
        # How a unit ends when it is stopped is no reason. If the other job's start failed, the unit tells.
        job = JobResult.CANCELED if history.was_stopped else JobResult.FAILED
        return UnitResult(asked, job, reason(service) or "failed")
    if now.is_up:
        return UnitResult(asked, JobResult.DONE)
    if history.was_stopped:
        return UnitResult(asked, JobResult.CANCELED, f"was stopped: it is {now.state}")
    if not service:
        return UnitResult(asked, JobResult.DONE)
    if not _ended_well(service):
        return UnitResult(asked, JobResult.FAILED, reason(service) or f"is {now.state}")
    return UnitResult(asked, JobResult.DONE, f"exited with status {service.get('ExecMainStatus', 0)}")


def _ended_well(service: Properties) -> bool:
    return service.get("Result") == "success" and service.get("ExecMainCode") in {0, _EXITED}


def was_stopped(unit: Properties, service: Properties) -> bool:
    """Return whether systemd was stopping a service that was up when its main process ended.

    A service that ends by itself leaves its active state after that, unless systemd ends it for its watchdog.
    """
    states = ("InactiveExit", "ActiveEnter", "ActiveExit")
    began, was_up, left = (unit.get(f"{state}TimestampMonotonic", 0) for state in states)
    ended = service.get("ExecMainExitTimestampMonotonic", 0)
    return service.get("Result") != "watchdog" and 0 < began <= was_up <= left < ended


def unmet_conditions(unit: Properties) -> Iterator[str]:
    """Yield the conditions that systemd checked and that were not met, as in the unit file."""
    for name, trigger, negated, parameter, state in unit.get("Conditions", ()):
        if state < 0:
            yield f"{name}={'|' if trigger else ''}{'!' if negated else ''}{parameter} was not met"


def unmet_asserts(unit: Properties) -> str:
    """Return the same for assertions, as one line."""
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
"""Explains systemd's Result of a service where the exit status adds nothing."""

_OTHER_COMMANDS: Final = ("ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")


def reason(service: Properties, *, in_start: bool = True) -> str:
    """Explain why a service failed, in a few words; empty if systemd does not know.

    `in_start`: before it was up.
    """
    status, code = int(service.get("ExecMainStatus", 0)), service.get("ExecMainCode", 0)
    match result := service.get("Result", ""):
        case "timeout" if not in_start:
            return "exceeded its time limit"
        case "exit-code" if code != _EXITED or status == 0:  # not the main process
            return next(_failed_commands(service), "failed (exit-code)")
        case "exit-code" if status == NOT_EXECUTED:
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
            return f"was killed by {signal_name(status)} (core dumped)"
    return _REASONS.get(result, f"failed ({result})")


def _failed_commands(service: Properties) -> Iterator[str]:
    """Yield the failed commands other than the main process."""
    for name in _OTHER_COMMANDS:
        for _, _, is_ignored, *_, code, status in service.get(name, ()):
            if code == _EXITED and status != 0 and not is_ignored:
                yield f"{name}= exited with status {status}"


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
