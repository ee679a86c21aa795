"""What was measured: values by what they are and whose they are. Knows no unit and no limit."""

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
    """The values of one thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """Half of the values are not above it."""
        return statistics.median(self.values)

    @property
    def percentile_95(self) -> float:
        """The smallest value that 95 of 100 are not above: of few values, the largest."""
        return sorted(self.values)[math.ceil(0.95 * len(self.values)) - 1]


class Figures:
    """All of them."""

    def __init__(self) -> None:
        """There are none yet."""
        self._values: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, what: str, who: str, value: float) -> None:
        """Note one value."""
        self._values[what, who].append(value)

    def of(self, what: str, who: str) -> Series | None:
        """The values of one thing, if it was measured."""
        values = self._values.get((what, who))
        return Series(tuple(values)) if values else None
