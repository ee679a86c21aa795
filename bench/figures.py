"""The measured values, by metric and bridge, without units and limits."""

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

OURS: Final = "hkswitch"
PEER: Final = "peer"
POLLING: Final = "peer, polling"
FLOOR: Final = "floor"


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one metric."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of the values."""
        return statistics.median(self.values)

    @property
    def percentile_95(self) -> float:
        """The 95th percentile (nearest rank), which is the largest of a few values."""
        return sorted(self.values)[math.ceil(0.95 * len(self.values)) - 1]


class Figures:
    """All measured values of a run."""

    def __init__(self) -> None:
        """Start without values."""
        self._values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, metric: str, who: str, value: float) -> None:
        """Record one value."""
        self._values[metric, who].append(value)

    def of(self, metric: str, who: str) -> Series | None:
        """Return the values of one metric, if it was measured."""
        values = self._values.get((metric, who))
        return Series(tuple(values)) if values else None
