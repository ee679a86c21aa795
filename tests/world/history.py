"""What units and containers were over time, by which what hkswitch said of them is judged. Pure."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from hkswitch.model.unit_state import UnitState


class Was(NamedTuple):
    """What a unit or a container was from some moment on."""

    at_seconds: float
    state: UnitState
    starts: int


@dataclass(frozen=True)
class History:
    """All that was remembered, by names."""

    _of: defaultdict[str, list[Was]] = field(default_factory=lambda: defaultdict(list))

    def __contains__(self, name: str) -> bool:
        return name in self._of

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def begin(self, name: str, state: UnitState) -> None:
        """Remember it from now on; it has always been so, and was never started."""
        self._of[name].append(Was(-math.inf, state, 0))

    def add(self, name: str, was: Was) -> None:
        """Remember what it is now."""
        self._of[name].append(was)

    def last(self, name: str) -> Was:
        """What it was remembered as, last."""
        return self._of[name][-1]

    def changed_at_seconds(self, name: str) -> float:
        """When it changed, last; never if it is not remembered."""
        return self.last(name).at_seconds if name in self else -math.inf

    def was(self, name: str, from_seconds: float, to_seconds: float) -> Iterator[Was]:
        """All that it was between two moments."""
        history = self._of[name]
        yield [was for was in history if was.at_seconds < from_seconds][-1]
        yield from (was for was in history if from_seconds <= was.at_seconds <= to_seconds)
