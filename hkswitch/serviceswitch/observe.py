"""Keeps what the daemon is told in step with the config, systemd and the probes. Runs as root.

The config is looked at with each request and each ping. While it cannot be believed, the last one that was
believed is watched further: only actions need the one of today.
"""

from collections.abc import Callable, Coroutine, Mapping

from hkswitch.model.config import Config
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import UnitState
from hkswitch.protocol.helper import ConfigTold
from hkswitch.serviceswitch.policy import TrustedConfig
from hkswitch.serviceswitch.probes import Probes, Spawn
from hkswitch.serviceswitch.states import States
from hkswitch.serviceswitch.stdio import Output

Watch = Callable[[tuple[str, ...]], Coroutine[None, None, None]]
"""Watches these units from now on, and tells of them."""


class Observation:
    """What systemd and the probes say about the groups of the config."""

    def __init__(  # noqa: PLR0913 -- what it keeps in step
        self,
        config: TrustedConfig,
        states: States,
        probes: Probes,
        *,
        watch: Watch,
        output: Output,
        spawn: Spawn,
    ) -> None:
        """Watches nothing before `observe`."""
        self._config = config
        self._watch = watch
        self._states = states
        self._probes = probes
        self._output = output
        self._spawn = spawn
        self._applied: Config | None = None
        self._units: tuple[str, ...] | None = None
        self._all_seen = False
        self._begun = False
        self._problem: str | None = None

    def observe(self, epoch: int) -> None:
        """Tell everything that is known, and then each change. To be asked often makes no probe run."""
        self._begun = True
        self._problem = None
        self.look()
        self._states.begin(epoch)
        if self._all_seen:
            self._states.complete()
        self._output.tell()

    def look(self) -> None:
        """Look whether the config is another one, or no longer to be believed."""
        if not self._begun:
            return
        config = self._config.last_valid()
        if self._config.problem != self._problem:
            self._problem = self._config.problem
            self._output.say(ConfigTold(self._problem))
        if config is not None and config is not self._applied:
            self._applied = config
            self._apply(config)
            self._output.tell()

    def _apply(self, config: Config) -> None:
        self._states.regroup(config.groups)
        self._probes.regroup(config.groups)
        units = tuple(dict.fromkeys(unit for group in config.groups for unit in group.units))
        if self._units is None or {*units} != {*self._units}:
            self._all_seen = False
            self._spawn(self._watch(units))
        self._units = units

    # What is told of units

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Take over states of units; a check is asked again after each change of its own."""
        self._states.seen(units)
        self._probes.seen(units)
        self._output.tell()

    def lost(self, why: BusUnavailable) -> None:
        """No state is known until all units are seen again."""
        self._all_seen = False
        self._states.lose(why)
        self._probes.lost()
        self._output.tell()

    def found(self) -> None:
        """All watched units were seen."""
        self._all_seen = True
        self._states.complete()
        self._probes.found()
        self._output.tell()
