"""What a unit does, said once: the unit file of a real host and the simulation's behaviour come from it.

It has the few settings that hkswitch sees the effects of. It must not know who carries it out.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from hkswitch.model.unit_state import LoadState

UNMET: Final = "/nonexistent"
"""The path that a Condition= or Assert= which is not met asks for."""


class Kind(StrEnum):
    """Type= of a service; or a target or a timer, which have no process."""

    SIMPLE = "simple"
    EXEC = "exec"
    IDLE = "idle"
    FORKING = "forking"
    NOTIFY = "notify"
    ONESHOT = "oneshot"
    TARGET = "target"
    TIMER = "timer"


class Restart(StrEnum):
    """Restart= of a service."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


class Life(NamedTuple):
    """How long a process runs, and the status or the signal that it ends with."""

    seconds: float = math.inf
    status: int = 0
    signal: int = 0


FOR_EVER: Final = (Life(),)


@dataclass(frozen=True)
class Spec:
    """One unit. Its n-th start leads the n-th of its lives; the last one is for all further starts."""

    kind: Kind = Kind.SIMPLE
    lives: tuple[Life, ...] = FOR_EVER
    ready_seconds: float = 0
    """Of notify and forking: from the start of its program until it says that it is up."""
    pre: Life | None = None
    """ExecStartPre=, which ends by itself."""
    post: Life | None = None
    """ExecStartPost=, the same."""
    stop_seconds: float = 0
    """ExecStop= takes so long, also after the program has ended well."""
    term_status: int = 0
    """The program exits with this status at SIGTERM; 0: SIGTERM kills it."""
    ignores_term: bool = False
    """SIGTERM does nothing to it: after the stop time-out, systemd kills it."""
    post_stop_seconds: float = 0
    """ExecStopPost= takes so long, after each end."""
    restart: Restart = Restart.NO
    restart_seconds: float = 0
    start_timeout_seconds: float = math.inf
    stop_timeout_seconds: float = math.inf
    start_limit: int = 0
    """So many starts are allowed within `LIMIT_SECONDS`; 0 for any number."""
    remains: bool = False
    missing_program: bool = False
    condition_met: bool = True
    exec_condition_met: bool = True
    assert_met: bool = True
    success_statuses: tuple[int, ...] = ()
    """SuccessExitStatus=, beside 0."""
    collects: bool = False
    """CollectMode=inactive-or-failed: it is forgotten when it has failed, too."""
    conflicts: tuple[str, ...] = ()
    binds_to: tuple[str, ...] = ()
    """It is also ordered after these."""
    part_of: tuple[str, ...] = ()
    triggers: str = ""
    """Of a timer: the service that it starts, first after `interval_seconds`."""
    interval_seconds: float = math.inf
    """Of a timer: from its start, and from each end of its service, until it starts that again."""
    load: LoadState = LoadState.LOADED
    """Or `MASKED`, or `BAD_SETTING`, as when ExecStart= is forgotten."""

    def __post_init__(self) -> None:
        ends = [life for life in (self.pre, self.post) if life is not None]
        assert all(math.isfinite(life.seconds) and not life.signal for life in ends)
        assert self.kind is not Kind.FORKING or not any(life.signal for life in self.lives)
        assert self.lives == FOR_EVER or not (self.term_status or self.ignores_term)

    def life(self, starts: int) -> Life:
        """The life that the start with this number leads; the first is 1."""
        return self.lives[min(starts, len(self.lives)) - 1]

    def unit_file(self) -> str | None:
        """The text of its unit file; None for one that is masked."""
        if self.load is LoadState.MASKED:
            return None
        section: tuple[str, ...] = ("[Service]", *self._service())
        if self.kind in {Kind.TARGET, Kind.TIMER}:
            section = ("[Timer]", *self._timer()) if self.kind is Kind.TIMER else ()
        return "\n".join(("[Unit]", *self._unit(), *section, ""))

    def _timer(self) -> Iterator[str]:
        yield f"Unit={self.triggers}"
        yield f"OnActiveSec={_span(self.interval_seconds)}"
        yield f"OnUnitInactiveSec={_span(self.interval_seconds)}"
        yield "AccuracySec=1ms"

    def _unit(self) -> Iterator[str]:
        yield from (f"Conflicts={name}" for name in self.conflicts)
        yield from (f"BindsTo={name}\nAfter={name}" for name in self.binds_to)
        yield from (f"PartOf={name}" for name in self.part_of)
        if not self.condition_met:
            yield f"ConditionPathExists={UNMET}"
        if not self.assert_met:
            yield f"AssertPathExists={UNMET}"
        yield f"StartLimitIntervalSec={LIMIT_SECONDS if self.start_limit else 0}"
        yield f"StartLimitBurst={self.start_limit or 1}"
        if self.collects:
            yield "CollectMode=inactive-or-failed"

    def _service(self) -> Iterator[str]:
        yield f"Type={self.kind}"
        yield f"Restart={self.restart}"
        yield f"RestartSec={self.restart_seconds:g}"
        yield f"RemainAfterExit={'yes' if self.remains else 'no'}"
        if self.load is LoadState.BAD_SETTING:
            return
        yield f"ExecStart={UNMET}/program" if self.missing_program else f"ExecStart={_sh(self._program())}"
        if self.pre is not None:
            yield f"ExecStartPre={_sh(_script(self.pre))}"
        if self.post is not None:
            yield f"ExecStartPost={_sh(_script(self.post))}"
        if self.success_statuses:
            yield f"SuccessExitStatus={' '.join(map(str, self.success_statuses))}"
        if self.stop_seconds:
            yield f"ExecStop=/bin/sleep {self.stop_seconds:g}"
        if self.post_stop_seconds:
            yield f"ExecStopPost=/bin/sleep {self.post_stop_seconds:g}"
        if not self.exec_condition_met:
            yield "ExecCondition=/bin/false"
        yield f"TimeoutStartSec={_span(self.start_timeout_seconds)}"
        yield f"TimeoutStopSec={_span(self.stop_timeout_seconds)}"
        if self.kind is Kind.NOTIFY:
            yield "NotifyAccess=all"

    def _program(self) -> str:
        *first, last = self.lives
        scripts = [f"mkdir {_mark(n)} 2>/dev/null && {{ {_script(life)}; }}" for n, life in enumerate(first)]
        program = "; ".join((*scripts, _script(last)))
        if self.term_status or self.ignores_term:
            at_term = "" if self.ignores_term else f"exit {self.term_status}"
            return f'trap "{at_term}" TERM; while :; do sleep infinity & wait; done'
        if self.kind is Kind.FORKING:
            return f"({program}) & sleep {self.ready_seconds:g}; exit 0"
        if self.kind is not Kind.NOTIFY:
            return program
        if math.isinf(self.ready_seconds):
            return program
        return f"(sleep {self.ready_seconds:g}; exec systemd-notify --ready) & {program}"


LIMIT_SECONDS: Final = 60
"""Over so long the starts are counted, where they are limited."""


def _mark(number: int) -> str:
    """A folder that is there once this life was led."""
    return f"/run/%N.{number}"


def _span(seconds: float) -> str:
    return f"{seconds:g}" if math.isfinite(seconds) else "infinity"


def _sh(script: str) -> str:
    return f"/bin/sh -c '{script}'"


def _script(life: Life) -> str:
    if math.isinf(life.seconds):
        return "exec sleep infinity"
    end = f"kill -{life.signal} $$$$" if life.signal else f"exit {life.status}"
    return f"sleep {life.seconds:g}; {end}" if life.seconds else end
