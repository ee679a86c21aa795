"""The states of watched units, from reads and signals that may overtake one another. Pure: no I/O."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from hkswitch.model.unit_state import ActiveState, UnitHealth, UnitState

StatesCallback = Callable[[Mapping[str, UnitState]], None]
"""Called with the states of units that changed or were read, by the names under which they are watched."""

Signaled = dict[str, tuple[ActiveState, str]]


class WatchedUnits:
    """The last known states of the watched units; an alias and its unit share one object path."""

    def __init__(self, units: tuple[str, ...], on_states: StatesCallback) -> None:
        """Knows no state before the first read."""
        self.units = units
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

    def needs(self, path: str | None) -> bool:
        """Tell whether a signal about this object path matters."""
        return path in self._names or bool(self._reads)

    def read(self, listed: Mapping[str, tuple[str, UnitState]], signaled: Signaled) -> None:
        """Apply what a read of some units returned, except where a signal came in between.

        The signal may be newer, as it can overtake the reply. If it is older, systemd will send another one.
        """
        self._paths |= {name: path for name, (path, _) in listed.items()}
        self._names = {}
        for name, path in self._paths.items():
            self._names.setdefault(path, []).append(name)
        for name, (path, state) in listed.items():
            active, sub = signaled.get(path, (state.active, state.sub))
            self._states[name] = UnitState(state.load, active, sub)
            if path not in signaled:
                self._changed_since_read.discard(path)
        self._on_states({name: self._states[name] for name in listed})

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

    def changed(self, path: str, active: ActiveState, sub: str) -> None:
        """Apply a signal."""
        for signaled in self._reads:
            signaled[path] = (active, sub)
        self._changed_since_read.add(path)
        # No signal has LoadState: a unit that was missing is read again when it is signaled.
        states = {name: UnitState(self._states[name].load, active, sub) for name in self.names_at(path)}
        news = {name: state for name, state in states.items() if state != self._states[name]}
        self._states |= news
        if news:  # systemd also signals when a job of the unit begins or ends
            self._on_states(news)
