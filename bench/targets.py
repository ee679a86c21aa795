"""The metrics with their targets, which are ratios within one run or constants."""

from dataclasses import dataclass
from typing import Final

from bench.figures import FLOOR, OURS, PEER, POLLING, Figures


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper limit: a constant, or a multiple of another bridge's median plus a constant."""

    constant: float = 0
    times: float = 0
    who: str = ""
    reference: str = ""

    def value(self, metric: str, figures: Figures) -> float | None:
        """Return the limit in this run; None if its reference was not measured."""
        if not self.who:
            return self.constant
        others = figures.of(self.reference or metric, self.who)
        return None if others is None else self.times * others.median + self.constant

    def __str__(self) -> str:
        if not self.who:
            return f"{self.constant:g}"
        plus = f" + {self.constant:g} ms" if self.constant else ""
        return f"{self.times:g} x {self.who}{plus}"


@dataclass(frozen=True, slots=True)
class Row:
    """A metric: its key, its label, its unit, and its target."""

    metric: str
    label: str
    unit: str
    limit: Limit | None = None

    def is_met(self, figures: Figures) -> bool | None:
        """Return whether our median is within the limit; None if either was not measured."""
        ours = figures.of(self.metric, OURS)
        limit = None if self.limit is None else self.limit.value(self.metric, figures)
        return None if ours is None or limit is None else ours.median <= limit


WATCHED_MS: Final = 200
"""The time that the helper watches a service of Type=exec after its job."""

ON: Final = Limit(times=1.3, who=FLOOR)
RESPONSE: Final = Limit(WATCHED_MS, 1.3, FLOOR)
OFF: Final = Limit(times=2, who=FLOOR)

ROWS: Final = (
    Row("on-1-units", "write On → unit active", "ms", ON),
    Row("on-1-answer", "write On → response", "ms", Limit(WATCHED_MS + 3, 1.3, FLOOR, "on-1-units")),
    Row("off-1-units", "write Off → unit inactive", "ms", OFF),
    Row("off-1-answer", "write Off → response", "ms", Limit(3, 2, FLOOR, "off-1-units")),
    Row("on-3-answer", "group of 3 units, On → response", "ms", RESPONSE),
    Row("off-3-answer", "group of 3 units, Off → response", "ms", OFF),
    Row("on-100-units", "100 switches on in one request → all active", "ms", ON),
    Row("off-100-units", "100 switches off in one request → all inactive", "ms", ON),
    Row("read-1", "read one On", "ms", Limit(0.5)),
    Row("read-100", "read 100 On in one request", "ms", Limit(1)),
    Row("read-processes", "processes started by that read", "", Limit(0)),
    Row("event", "unit stopped by systemctl → event", "ms", Limit(60)),
    Row("slow-answer", "15 s start: response to the write after", "s", Limit(1.05)),
    Row("slow-failed", "15 s start: response is an error (1: yes)", "", Limit(0)),
    Row("slow-blocked", "15 s start: same connection blocked for", "s", Limit(1.05)),
    Row("start-3", "start → first response, 3 switches", "ms", Limit(times=1, who=PEER)),
    Row("start-100", "start → first response, 100 switches", "ms", Limit(times=0.5, who=PEER)),
    Row("memory-3", "memory (PSS), 3 switches", "MiB", Limit(times=0.55, who=PEER)),
    Row("memory-100", "memory (PSS), 100 switches", "MiB", Limit(times=0.5, who=PEER)),
    Row("idle", "CPU in 60 s idle, 100 switches", "s", Limit(0.05)),
    Row("beside-changes", "CPU with 20 changes per second of other units", "% of a core", Limit(0.5)),
    Row("tap-cpu", "CPU per toggle", "ms", Limit(3)),
    Row("hkswitch status", "`hkswitch status` as a whole process", "ms", Limit(150)),
    Row("hkswitch status --json", "`hkswitch status --json`", "ms"),
    Row("python3 -c pass", "`python3 -c pass`", "ms"),
    Row("imports of the daemon", "Python and the daemon's imports", "ms"),
    Row("imports of the helper", "Python and the helper's imports", "ms"),
)
COLUMNS: Final = (OURS, FLOOR, PEER, POLLING)
