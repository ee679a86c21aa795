"""The measured values, by metric and bridge, without units and limits."""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol, Self

OURS: Final = "hkswitch"
PEER: Final = "peer"
POLLING: Final = "peer, polling"
FLOOR: Final = "floor"
HOMEBRIDGE_2: Final = "Homebridge 2"
MACHINE: Final = "machine"

DIGITS: Final = 5
"""Significant digits of a value in a file."""


class Series(NamedTuple):
    """What is kept of the values of one metric."""

    median: float
    percentile_95: float
    """By the nearest rank: of a few values, it is the highest."""
    low: float
    high: float
    size: int
    """The number of values."""

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Self:
        """Summarise at least one value."""
        rising = sorted(values)
        nearest = rising[math.ceil(0.95 * len(rising)) - 1]
        return cls(statistics.median(rising), nearest, rising[0], rising[-1], len(rising))


class Measured(Protocol):
    """The figures of a run, just measured or kept."""

    def of(self, metric: str, who: str) -> Series | None:
        """Return the figures of one metric, if it was measured."""


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
                found[metric][who] = [float(f"{value:.{DIGITS}g}") for value in values]
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
        return Series.of_values(values) if values else None

    def summary(self) -> dict[str, dict[str, Series]]:
        """Return what is kept of all metrics, by metric and bridge."""
        found: defaultdict[str, dict[str, Series]] = defaultdict(dict)
        for (metric, who), values in self._values.items():
            found[metric][who] = Series.of_values(values)
        return dict(found)
