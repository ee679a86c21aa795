"""The measured values, by metric and bridge, without units and limits."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

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

    def as_object(self, prefix: str) -> dict[str, dict[str, list[float]]]:
        """Return the values of the metrics that begin with `prefix`, by metric and bridge, for JSON."""
        found: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)
        for (metric, who), values in self._values.items():
            if metric.startswith(prefix):
                found[metric][who] = [round(value, 3) for value in values]
        return dict(found)

    @classmethod
    def of_object(cls, found: Mapping[str, Mapping[str, Sequence[float]]]) -> Self:
        """Return the figures that `as_object` returned."""
        figures = cls()
        for metric, series in found.items():
            for who, values in series.items():
                for value in values:
                    figures.add(metric, who, value)
        return figures

    def of(self, metric: str, who: str) -> Series | None:
        """Return the values of one metric, if it was measured."""
        values = self._values.get((metric, who))
        return Series(tuple(values)) if values else None
