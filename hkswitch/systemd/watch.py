"""What is known of watched units, from reads and signals that may overtake one another. Pure: no I/O."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from hkswitch.model.unit_state import ActiveState, UnitHealth, UnitState

UnitSink = Callable[[Mapping[str, UnitState]], None]
"""Is told the states of units that changed, or were read, by the names they are watched under."""

Heard = dict[str, tuple[ActiveState, str]]


class Watch:
    """The last known states of the watched units; an alias and its unit share one object path."""

    def __init__(self, units: tuple[str, ...], sink: UnitSink) -> None:
        """Nothing is known yet."""
        self.units = units
        self._sink = sink
        self._paths = dict.fromkeys(units, "")
        self._names: dict[str, list[str]] = {}
        self._states: dict[str, UnitState] = {}
        self._reads: list[Heard] = []
        self._changed_since_read: set[str] = set()

    @contextmanager
    def hearing(self) -> Iterator[Heard]:
        """Keep what signals say while a read is under way."""
        heard: Heard = {}
        self._reads.append(heard)
        try:
            yield heard
        finally:
            # Not remove(): another read of which nothing was heard yet either is equal, and not the same.
            self._reads = [read for read in self._reads if read is not heard]

    def wants(self, path: str | None) -> bool:
        """Whether a signal about this object path is of use."""
        return path in self._names or bool(self._reads)

    def read(self, listed: Mapping[str, tuple[str, UnitState]], heard: Heard) -> None:
        """Take over what a read of some units returned, but for those of which a signal came meanwhile.

        The signal may be newer, as it overtakes the answer on its way to us; should it be older, then
        systemd will send another one.
        """
        self._paths |= {name: path for name, (path, _) in listed.items()}
        self._names = {}
        for name, path in self._paths.items():
            self._names.setdefault(path, []).append(name)
        for name, (path, state) in listed.items():
            active, sub = heard.get(path, (state.active, state.sub))
            self._states[name] = UnitState(state.load, active, sub)
            if path not in heard:
                self._changed_since_read.discard(path)
        self._sink({name: self._states[name] for name in listed})

    def names_at(self, path: str) -> tuple[str, ...]:
        """The watched names of the unit with this object path."""
        return tuple(self._names.get(path, ()))

    def is_missing(self, path: str) -> bool:
        """Whether a watched unit at this object path could not be loaded when it was read."""
        return any(self._states[name].health is UnitHealth.MISSING for name in self.names_at(path))

    def waits_to_restart(self, path: str) -> bool:
        """Whether the unit crashed and is about to be started again, as far as it is known."""
        return any(self._states[name].waits_to_restart for name in self.names_at(path))

    def wants_to_know(self, path: str) -> bool:
        """Whether signals told of the unit since it was read last; says so once, for who then reads it."""
        if path not in self._changed_since_read:
            return False
        self._changed_since_read.discard(path)
        return True

    def changed(self, path: str, active: ActiveState, sub: str) -> None:
        """Take over what a signal said."""
        for heard in self._reads:
            heard[path] = (active, sub)
        self._changed_since_read.add(path)
        # No signal says LoadState: a unit that was missing is read anew when it is heard of.
        said = {name: UnitState(self._states[name].load, active, sub) for name in self.names_at(path)}
        news = {name: state for name, state in said.items() if state != self._states[name]}
        self._states |= news
        if news:  # systemd also says of a unit that a job of it came, or went
            self._sink(news)
