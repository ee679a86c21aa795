"""Keeps the states sent to the daemon up to date with the config, systemd, engines and probes. Runs as root.

The helper reads the config again for each request and each ping. While the config is refused, the helper
still watches the last accepted one: only actions need the current one.
"""

from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping

from hkswitch.containers.engines import Engines
from hkswitch.containers.following import Following
from hkswitch.model.config import Config
from hkswitch.model.errors import BusUnavailable
from hkswitch.model.group import MEASURED_SUFFIXES, Engine
from hkswitch.model.unit_state import UnitFailure, UnitState, Usage
from hkswitch.protocol.helper import ConfigUpdate
from hkswitch.serviceswitch.policy import TrustedConfig
from hkswitch.serviceswitch.probes import Probes, Spawn
from hkswitch.serviceswitch.samples import Measure, Measured, Samples
from hkswitch.serviceswitch.states import UnsentStates
from hkswitch.serviceswitch.stdio import ReplyWriter

WatchUnits = Callable[[tuple[str, ...]], Coroutine[None, None, None]]
"""Watches these units, and no others, from now on."""


class Observation:
    """The states of the config's groups, from systemd, the container engines and the probes."""

    def __init__(  # noqa: PLR0913 -- what it keeps in step
        self,
        config: TrustedConfig,
        states: UnsentStates,
        probes: Probes,
        *,
        watch: WatchUnits,
        measure: Measure,
        engines: Engines,
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
        self._samples = Samples(measure, self._measurable, self._sampled, spawn)
        self._measured: Collection[str] = ()
        """Groups, from the end of the first reports on: until then, not all containers are known."""
        self._followings = [Following(each, engines, self._told, self.failed, spawn) for each in Engine]
        self._applied: Config | None = None
        self._units: tuple[str, ...] | None = None
        self._members: set[str] = set()
        self._all_seen = False
        self._is_complete = False
        self._begun = False
        self._problem: str | None = None

    def observe(self, epoch: int, sampled: Collection[str]) -> None:
        """Send all known states, and then each change, and samples of some groups.

        Runs no probe, however often it is called.
        """
        self._begun = True
        self._problem = None
        self.read_config()
        self._states.begin(epoch)
        self._is_complete = False
        self._measured = sampled
        self._complete_if_settled()

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
        groups = config.local_groups
        self._states.regroup(groups)
        self._probes.regroup(groups)
        self._members = {member for group in groups for member in group.members}
        contained = [name for group in groups for name in group.contained]
        of_engines = [unit for following in self._followings for unit in following.watch(contained)]
        units = tuple(dict.fromkeys([*(unit for group in groups for unit in group.units), *of_engines]))
        if self._units is None or {*units} != {*self._units}:
            self._all_seen = False
            self._spawn(self._watch(units))
        self._units = units

    async def catch_up(self, containers: Collection[str]) -> None:
        """Update the states of these containers: an action on them has ended, and its result comes next."""
        for following in self._followings:
            await following.catch_up(containers)

    def _measurable(self, group_ids: Collection[str]) -> Iterator[Measured]:
        """Find whatever has processes of these groups."""
        groups = [group for group in self._applied.groups if group.id in group_ids] if self._applied else []
        units = dict.fromkeys(unit for group in groups for unit in group.units)
        yield from (Measured(unit, unit) for unit in units if unit.endswith(MEASURED_SUFFIXES))
        for member in dict.fromkeys(name for group in groups for name in group.contained):
            for following in self._followings:
                yield from (Measured(scope, member, each) for each, scope in following.scopes(member).items())

    def _sampled(self, at_seconds: float, usages: tuple[Usage, ...]) -> None:
        self._states.sampled(at_seconds, usages)
        self._replies.wake()

    def _told(self, containers: Mapping[str, UnitState]) -> None:
        """Update the states of containers."""
        self._states.seen(containers)
        self._probes.seen(containers)
        self._complete_if_settled()

    def _complete_if_settled(self) -> None:
        """Mark the end of the first reports, once."""
        is_settled = self._all_seen and all(following.is_settled for following in self._followings)
        if is_settled and not self._is_complete:
            self._is_complete = True
            self._states.complete()
            self._samples.observe(self._measured)
        self._replies.wake()

    # UnitObserver, for systemd/link.py

    def seen(self, units: Mapping[str, UnitState]) -> None:
        """Update the states of units; a check runs again after each change of its units."""
        self._states.seen({unit: state for unit, state in units.items() if unit in self._members})
        self._probes.seen(units)
        for following in self._followings:
            following.units_seen(units)
        self._replies.wake()

    def failed(self, unit: str, failure: UnitFailure | None) -> None:
        """Update the failure of a unit, or of one that this timer starts; containers have failures too."""
        if unit in self._members:
            self._states.failed(unit, failure)
            self._replies.wake()

    def lost(self, why: BusUnavailable) -> None:
        """Forget all states until all units have been read again."""
        self._all_seen = self._is_complete = False
        for following in self._followings:
            following.lost()
        self._states.lose(why)
        self._probes.lost()
        self._replies.wake()

    def found(self) -> None:
        """Note that all watched units have been read."""
        self._all_seen = True
        self._probes.found()
        self._complete_if_settled()
