"""Keeps the states sent to the daemon up to date with the config, systemd and the probes. Runs as root.

The helper reads the config again for each request and each ping. While the config is refused, the helper
still watches the last accepted one: only actions need the current one.
"""

from collections.abc import Callable, Coroutine, Mapping

from hkswitch.model.config import Config
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import UnitState
from hkswitch.protocol.helper import ConfigUpdate
from hkswitch.serviceswitch.policy import TrustedConfig
from hkswitch.serviceswitch.probes import Probes, Spawn
from hkswitch.serviceswitch.states import UnsentStates
from hkswitch.serviceswitch.stdio import ReplyWriter

WatchUnits = Callable[[tuple[str, ...]], Coroutine[None, None, None]]
"""Watches these units, and no others, from now on."""


class Observation:
    """The states of the config's groups, from systemd and the probes."""

    def __init__(  # noqa: PLR0913 -- what it keeps in step
        self,
        config: TrustedConfig,
        states: UnsentStates,
        probes: Probes,
        *,
        watch: WatchUnits,
        replies: ReplyWriter,
        spawn: Spawn,
    ) -> None:
        """Watches nothing before `observe`."""
        self._config = config
        self._watch = watch
        self._states = states
        self._probes = probes
        self._replies = replies
        self._spawn = spawn
        self._applied: Config | None = None
        self._units: tuple[str, ...] | None = None
        self._all_seen = False
        self._begun = False
        self._problem: str | None = None

    def observe(self, epoch: int) -> None:
        """Send all known states, and then each change. Runs no probe, however often it is called."""
        self._begun = True
        self._problem = None
        self.read_config()
        self._states.begin(epoch)
        if self._all_seen:
            self._states.complete()
        self._replies.wake()

    def read_config(self) -> None:
        """Apply the config if it has changed, and report whether it is refused."""
        if not self._begun:
            return
        config = self._config.last_valid()
        if self._config.problem != self._problem:
            self._problem = self._config.problem
            self._replies.send(ConfigUpdate(self._problem))
        if config is not None and config is not self._applied:
            self._applied = config
            self._apply(config)
            self._replies.wake()

    def _apply(self, config: Config) -> None:
        self._states.regroup(config.groups)
        self._probes.regroup(config.groups)
        units = tuple(dict.fromkeys(unit for group in config.groups for unit in group.units))
        if self._units is None or {*units} != {*self._units}:
            self._all_seen = False
            self._spawn(self._watch(units))
        self._units = units

    # UnitObserver, for systemd/link.py

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Update the states of units; a check runs again after each change of its units."""
        self._states.seen(units)
        self._probes.seen(units)
        self._replies.wake()

    def lost(self, why: BusUnavailable) -> None:
        """Forget all states until all units have been read again."""
        self._all_seen = False
        self._states.lose(why)
        self._probes.lost()
        self._replies.wake()

    def found(self) -> None:
        """Note that all watched units have been read."""
        self._all_seen = True
        self._states.complete()
        self._probes.found()
        self._replies.wake()
