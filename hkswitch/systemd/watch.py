"""What is known of watched units, from reads and signals that may overtake one another. Pure: no I/O."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from hkswitch.model.unit_state import ActiveState, Meaning, UnitResult, UnitState

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
        self._jobs: dict[str, int] = {}
        self._ended: dict[str, int] = {}

    @contextmanager
    def hearing(self) -> Iterator[Heard]:
        """Keep what signals say while a read is under way."""
        heard: Heard = {}
        self._reads.append(heard)
        try:
            yield heard
        finally:
            self._reads.remove(heard)

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
        self._sink({name: self._states[name] for name in listed})

    def has_job(self, path: str, job_id: int) -> None:
        """Take over which job a unit has now, 0 for none; the same signal says what the last one led to."""
        if job_id:
            self._jobs[path] = job_id
        elif path in self._jobs:
            self._ended[path] = self._jobs.pop(path)

    def saw_ends_of(self, results: Iterable[UnitResult]) -> bool:
        """Whether signals said of each of these jobs on a watched unit that it ended, and what it led to."""
        watched = (result for result in results if result.unit in self._paths)
        return all(self._ended.get(self._paths[result.unit]) == result.job_id for result in watched)

    def missing(self, path: str) -> bool:
        """Whether a watched unit at this object path could not be loaded when it was read."""
        names = self._names.get(path, ())
        return any(self._states[name].meaning is Meaning.MISSING for name in names)

    def changed(self, path: str, active: ActiveState, sub: str) -> None:
        """Take over what a signal said."""
        for heard in self._reads:
            heard[path] = (active, sub)
        # No signal says LoadState: who hears of a unit that was missing reads anew.
        said = {name: UnitState(self._states[name].load, active, sub) for name in self._names.get(path, ())}
        news = {name: state for name, state in said.items() if state != self._states[name]}
        self._states |= news
        if news:  # systemd also says of a unit that a job of it came, or went
            self._sink(news)
