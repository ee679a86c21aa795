"""A simulated unit as systemd holds it: what is known of it, its timers, and the change of its state.

It must not know what leads to a change: service.py does.
"""

import math
from collections import Counter, deque
from collections.abc import Callable

from hkswitch.model.unit_state import LoadState
from tests.world.cpu_meter import CpuMeter
from tests.world.unit_spec import UNMET, Life, Spec
from tests.world.unit_states import ACTIVE_STATES, Begun, Manager, Timer


class Unit:
    """A loaded unit, which may be one that was not found."""

    def __init__(self, name: str, spec: Spec | None, manager: Manager) -> None:
        self.name = name
        self.spec = spec or Spec()
        self.load = LoadState.NOT_FOUND if spec is None else spec.load
        self.sub = "dead"
        self.invocation = b""
        self.condition_result = False
        self.assert_result = False
        self.result = "success"
        self.main = (0, 0)
        """Code and status of the main process."""
        self.pre = self.post = (0, 0)
        self.restarts = 0
        self.cpu = CpuMeter()
        self.left_inactive_seconds = 0.0
        self.entered_active_seconds = 0.0
        self.left_active_seconds = 0.0
        self.main_began_seconds = 0.0
        """When its main process was started."""
        self.main_ended_seconds = 0.0
        """When it ended; 0 while it runs."""
        self.is_stopped = False
        """Whether a job ended its newest run, and not the run itself."""
        self.was_up = False
        """Whether it was up before that."""
        self.holders: Counter[str] = Counter()
        """Connections by name, and how often each holds the unit."""
        self.is_known = False
        """Whether a signal told that it was loaded."""
        self.is_dirty = False
        """Whether a signal is to tell of it."""
        self._manager = manager
        self._program: Timer | None = None
        self._has_program = False
        self._has_helper = False
        self._control: Timer | None = None
        self._timeout: Timer | None = None
        self._may_restart = True
        self._is_checked = False
        self._starts: deque[float] = deque(maxlen=max(self.spec.start_limit, 1))

    @property
    def active(self) -> str:
        return ACTIVE_STATES[self.sub]

    @property
    def is_up(self) -> bool:
        return self.active == "active"

    @property
    def is_down(self) -> bool:
        return self.active in {"inactive", "failed"}

    @property
    def is_target(self) -> bool:
        """Whether it has no process: a target, a socket or a timer."""
        return self.name.endswith((".target", ".socket", ".timer"))

    @property
    def conditions(self) -> list[tuple[str, bool, bool, str, int]]:
        return [] if self.spec.condition_met else [_unmet("Condition", is_checked=self._is_checked)]

    @property
    def asserts(self) -> list[tuple[str, bool, bool, str, int]]:
        return [] if self.spec.assert_met else [_unmet("Assert", is_checked=self._is_checked)]

    def start(self) -> Begun:
        """Begin to start, for a job."""
        raise NotImplementedError

    def stop(self) -> Begun:
        """Begin to stop, for a job."""
        raise NotImplementedError

    def program_ends(self, life: Life) -> None:
        """The main process ends, by itself or by someone else."""
        raise NotImplementedError

    def triggered_is_down(self) -> None:
        """The unit that it starts, as a timer, is down."""

    @property
    def has_program(self) -> bool:
        """Whether its main process runs."""
        return self._has_program

    @property
    def has_processes(self) -> bool:
        """Whether it has a cgroup."""
        return self._has_program or self._control is not None

    def load_changed(self) -> None:
        """Its program uses another number of cores."""
        self.cpu.run(self._manager.now(), self._manager.cores(self) if self._has_program else 0)
        self._manager.used(self)

    def reload(self, spec: Spec | None) -> None:
        """Take over what is on disk now; what runs goes on."""
        self.load = LoadState.NOT_FOUND if spec is None else spec.load
        if spec is not None and spec != self.spec:
            self.spec = spec
            self._starts = deque(self._starts, maxlen=max(spec.start_limit, 1))

    def _fail(self, failure: str) -> None:
        if self.result == "success":
            self.result = failure

    def _set(self, sub: str) -> None:
        if sub != self.sub:
            self._manager.changing(self)
        self._cancel()
        was_down, was_up = self.is_down, self.is_up
        self.sub = sub
        if was_down and not self.is_down:
            self.left_inactive_seconds = self._manager.now()
            self.cpu.reset(self._manager.now())
        if self.is_up and not was_up:
            self.entered_active_seconds = self._manager.now()
        if was_up and not self.is_up:
            self.left_active_seconds = self._manager.now()
        self._manager.changed(self)

    def _later(self, seconds: float, event: Callable[[], None]) -> Timer:
        return self._manager.later(seconds, event)

    def _limit(self, seconds: float, event: Callable[[], None]) -> None:
        if math.isfinite(seconds):
            self._timeout = self._later(seconds, event)

    def _cancel(self) -> None:
        """Have nothing happen that the last state was to lead to, but for the end of the program."""
        for timer in (self._control, self._timeout):
            if timer is not None:
                timer.cancel()
        self._control = self._timeout = None

    def _cancel_program(self) -> None:
        if self._program is not None:
            self._program.cancel()
            self._program = None


def _unmet(kind: str, *, is_checked: bool) -> tuple[str, bool, bool, str, int]:
    return (f"{kind}PathExists", False, False, UNMET, -1 if is_checked else 0)
