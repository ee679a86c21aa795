"""What happened in a world that is, or is no, trouble: the facts by which alerts and rules are judged.

They come from the simulation, which knows why each unit ended, and not from anything that hkswitch said.
"""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Fault(NamedTuple):
    """A unit failed, or waits for its next start, in this run."""

    at_seconds: float
    unit: str
    run: str
    is_requested: bool
    """Whether a job ended it, and not the unit itself."""
    was_up: bool = False
    """Whether it was up when that job came: systemd can tell that even later."""
    has_job: bool = False
    """Whether a job was queued by then: who has not seen the beginning of the end cannot tell."""


class Load(NamedTuple):
    """What the program of a unit uses from a moment on; `run` names its run, empty while nothing runs."""

    at_seconds: float
    run: str
    cores: float
    memory_bytes: int


class ToldCommand(NamedTuple):
    """A run of the alert command, by its environment."""

    at_seconds: float
    group_id: str
    reason: str
    state: str


class Shown(NamedTuple):
    """A sensor changed."""

    at_seconds: float
    group_id: str
    is_open: bool
    reason: str


IDLE = Load(-math.inf, "", 0, 0)


@dataclass(eq=False)
class TroubleFacts:
    """All facts of a world."""

    faults: list[Fault] = field(default_factory=list)
    loads: defaultdict[str, list[Load]] = field(default_factory=lambda: defaultdict(lambda: [IDLE]))
    commands: list[ToldCommand] = field(default_factory=list)
    restarts: list[tuple[float, str]] = field(default_factory=list)
    """When root allowed a rule to restart a group."""
    unpassed: dict[str, float] = field(default_factory=dict)
    """When the last run of a check began that did not pass, by its argument."""
    asked: dict[str, float] = field(default_factory=dict)
    """When a client last requested anything of a group."""

    def failed(self, fault: Fault) -> None:
        """A unit failed; it may have failed in this run before."""
        if not any((known.unit, known.run) == (fault.unit, fault.run) for known in self.faults):
            self.faults.append(fault)

    def loaded(self, unit: str, load: Load) -> None:
        """A unit uses something else than before."""
        if self.loads[unit][-1][1:] != load[1:]:
            self.loads[unit].append(load)

    def load(self, unit: str, at_seconds: float) -> Load:
        """What a unit used at a moment."""
        loads = self.loads[unit]
        return loads[bisect_right(loads, at_seconds, key=lambda load: load.at_seconds) - 1]

    def loads_between(self, unit: str, from_seconds: float, to_seconds: float) -> Iterator[Load]:
        """All that a unit used between two moments; the first from the former on."""
        yield self.load(unit, from_seconds)._replace(at_seconds=from_seconds)
        yield from (load for load in self.loads[unit] if from_seconds < load.at_seconds < to_seconds)

    def used_seconds(self, unit: str, from_seconds: float, to_seconds: float) -> float:
        """The CPU time that a unit took between two moments."""
        pieces = [*self.loads_between(unit, from_seconds, to_seconds)]
        ends = [*(piece.at_seconds for piece in pieces[1:]), to_seconds]
        return sum(piece.cores * (end - piece.at_seconds) for piece, end in zip(pieces, ends, strict=True))

    def run_since(self, unit: str, at_seconds: float) -> float:
        """When the run began that a unit was in at a moment; never if nothing ran."""
        run = self.load(unit, at_seconds).run
        if not run:
            return math.inf
        return next(load.at_seconds for load in self.loads[unit] if load.run == run)
