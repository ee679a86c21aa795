"""A simulated timer unit, which starts a service now and then, as src/core/timer.c of systemd does it."""

from tests.world.unit import Unit
from tests.world.unit_spec import Life
from tests.world.unit_states import Begun


class TimerUnit(Unit):
    """A unit without a process."""

    def start(self) -> Begun:
        if self.is_up:
            return Begun.ALREADY
        self.invocation = self._manager.invocation()
        self.is_stopped = False
        self._wait()
        return Begun.RUNS

    def stop(self) -> Begun:
        if self.is_down:
            return Begun.ALREADY
        self.is_stopped = True
        self._set("dead")
        return Begun.RUNS

    def program_ends(self, life: Life) -> None:
        """It has none."""

    def triggered_is_down(self) -> None:
        if self.sub == "running":
            self._wait()

    def _wait(self) -> None:
        self._set("waiting")
        self._control = self._later(self.spec.interval_seconds, self._elapsed)

    def _elapsed(self) -> None:
        self._control = None
        self._set("running")
        if not self._manager.trigger(self.spec.triggers):
            self._wait()
