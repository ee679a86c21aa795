"""The states of watched units, from reads and signals that may overtake one another. Pure: no I/O."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from hkswitch.model.unit_state import LoadState, UnitHealth, UnitState

StatesCallback = Callable[[Mapping[str, UnitState]], None]
"""Called with the states of units that changed or were read, by the names under which they are watched."""


class UnitSight(NamedTuple):
    """What a signal or a read says about a unit. Only a read has the type of the job.

    `was_stopped`: a read of a failed unit shows that systemd was stopping it when its process ended.
    """

    state: UnitState
    job: int = 0
    run: str = ""
    job_type: str = ""
    was_stopped: bool = False

    def completed_by(self, read: "UnitSight") -> "UnitSight":
        """Return this with what only a read tells, if that is about the same job and the same run."""
        job_type = read.job_type if read.job == self.job else self.job_type
        was_stopped = read.was_stopped if read.run == self.run else self.was_stopped
        return self._replace(job_type=job_type, was_stopped=was_stopped)

    @property
    def without_load(self) -> "UnitSight":
        """The same of a unit with a file: an upgrade may stop one whose file is gone for a moment."""
        return self._replace(state=self.state._replace(load=LoadState.LOADED))


SightCallback = Callable[[str, UnitSight], None]
"""Called with each signal and each read of a unit, by its object path."""

Signaled = dict[str, UnitSight]
"""The last signals by object path; none of them has a LoadState."""


class WatchedUnits:
    """The last known states of the watched units; an alias and its unit share one object path."""

    def __init__(self, units: tuple[str, ...], on_states: StatesCallback) -> None:
        """Knows no state before the first read."""
        self.units = dict.fromkeys(units)
        self.triggers: dict[str, tuple[str, ...]] = {}
        """The units that watched timers start: they are watched too, but their states are not told."""
        self.on_sight: SightCallback = lambda _path, _sight: None
        self._on_states = on_states
        self._paths = dict.fromkeys(units, "")
        self._names: dict[str, list[str]] = {}
        self._states: dict[str, UnitState] = {}
        self._reads: list[Signaled] = []
        self._changed_since_read: set[str] = set()

    @contextmanager
    def reading(self) -> Iterator[Signaled]:
        """Collect the changes that are signaled while a read is under way."""
        signaled: Signaled = {}
        self._reads.append(signaled)
        try:
            yield signaled
        finally:
            # Not remove(): it compares, and two reads without signals are equal.
            self._reads = [read for read in self._reads if read is not signaled]

    @property
    def all_units(self) -> Collection[str]:
        """The watched units, and those that timers start."""
        return dict.fromkeys([*self.units, *(unit for started in self.triggers.values() for unit in started)])

    @property
    def paths(self) -> Collection[str]:
        """The object paths of them all, as far as they have been read."""
        return self._names.keys()

    def paths_of(self, name: str) -> Iterator[str]:
        """Yield the object paths of a unit, and of the units that it starts."""
        for unit in (name, *self.triggers.get(name, ())):
            yield self._paths.get(unit, "")

    def named_after(self, path: str) -> Collection[str]:
        """Return the watched units that have failed if the unit with this object path has."""
        names = self.names_at(path)
        timers = (timer for timer, started in self.triggers.items() if not {*started}.isdisjoint(names))
        return dict.fromkeys([*(name for name in names if name in self.units), *timers])

    def needs(self, path: str | None) -> bool:
        """Tell whether a signal about this object path matters."""
        return path in self._names or bool(self._reads)

    def read(self, listed: Mapping[str, tuple[str, UnitSight]], signaled: Signaled) -> None:
        """Apply what a read of some units returned, except where a signal came in between.

        The signal may be newer, as it can overtake the reply. If it is older, systemd will send another one.
        """
        self._paths |= {name: path for name, (path, _) in listed.items()}
        self._names = {}
        for name, path in self._paths.items():
            self._names.setdefault(path, []).append(name)
        sights: dict[str, UnitSight] = {}
        for name, (path, read) in listed.items():
            sights[path] = _loaded(signaled.get(path, read).completed_by(read), read.state.load)
            self._states[name] = sights[path].state
            if path not in signaled:
                self._changed_since_read.discard(path)
        self._tell({name: self._states[name] for name in listed})
        for path, sight in sights.items():
            self.on_sight(path, sight)

    def names_at(self, path: str) -> tuple[str, ...]:
        """Return the watched names of the unit with this object path."""
        return tuple(self._names.get(path, ()))

    def is_missing(self, path: str) -> bool:
        """Tell whether a watched unit at this object path could not be loaded when it was read."""
        return any(self._states[name].health is UnitHealth.MISSING for name in self.names_at(path))

    def waits_to_restart(self, path: str) -> bool:
        """Tell whether the unit was last seen waiting for its restart after a crash."""
        return any(self._states[name].waits_to_restart for name in self.names_at(path))

    def take_changed(self, path: str) -> bool:
        """Tell whether the unit was signaled since its last read, and reset that: the caller reads it."""
        if path not in self._changed_since_read:
            return False
        self._changed_since_read.discard(path)
        return True

    def changed(self, path: str, sight: UnitSight) -> None:
        """Apply a signal."""
        for signaled in self._reads:
            signaled[path] = sight
        self._changed_since_read.add(path)
        # No signal has LoadState: a unit that was missing is read again when it is signaled.
        states = {name: _loaded(sight, self._states[name].load).state for name in self.names_at(path)}
        news = {name: state for name, state in states.items() if state != self._states[name]}
        self._states |= news
        self._tell(news)  # systemd also signals when a job of the unit begins or ends
        for name in self.names_at(path)[:1]:
            self.on_sight(path, _loaded(sight, self._states[name].load))

    def _tell(self, states: Mapping[str, UnitState]) -> None:
        if told := {name: state for name, state in states.items() if name in self.units}:
            self._on_states(told)


def _loaded(sight: UnitSight, load: LoadState) -> UnitSight:
    return sight._replace(state=sight.state._replace(load=load))
