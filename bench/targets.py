"""The metrics with their targets: ratios within one run, or constants where the figure is a promise."""

from dataclasses import dataclass
from typing import Final

from bench.figures import FLOOR, MACHINE, OURS, PEER, POLLING, Measured
from bench.switches import EXEC, NOTIFY

NEAR: Final = 0.9
"""From this part of its limit on, a figure is near it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """An upper limit: a constant, or a multiple of another bridge's median plus a constant."""

    constant: float = 0
    times: float = 0
    who: str = ""
    reference: str = ""
    """The metric of the other's median, if it is not the same one."""
    called: str = ""
    """The words for the other's median, if its column does not say it."""

    def value(self, metric: str, figures: Measured) -> float | None:
        """Return the limit in this run; None if its reference was not measured."""
        if not self.who:
            return self.constant
        others = figures.of(self.reference or metric, self.who)
        return None if others is None else self.times * others.median + self.constant

    @property
    def is_ratio(self) -> bool:
        """Whether the limit is a multiple of another median, and nothing else."""
        return bool(self.who) and not self.constant

    @property
    def other(self) -> str:
        """The words for the other's median."""
        return self.called or self.who


@dataclass(frozen=True, slots=True)
class Row:
    """A metric: its key, its label, its unit, and its target."""

    metric: str
    label: str
    unit: str
    limit: Limit | None = None

    def judged(self, figures: Measured) -> "Judged | None":
        """Return our median beside its limit; None if there is no target, or either was not measured."""
        ours = figures.of(self.metric, OURS)
        limit = None if self.limit is None else self.limit.value(self.metric, figures)
        return None if ours is None or limit is None else Judged(ours.median, limit)


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure, and its limit in the same run."""

    figure: float
    limit: float

    @property
    def is_met(self) -> bool:
        """Whether the figure is within the limit."""
        return self.figure <= self.limit

    @property
    def is_near(self) -> bool:
        """Whether the figure is within the limit, but by less than a tenth; none is near a limit of 0."""
        return self.is_met and self.limit > 0 and self.figure > NEAR * self.limit

    @property
    def over_percent(self) -> float:
        """The percentage by which the limit is exceeded; infinite for a limit of 0."""
        return (self.figure / self.limit - 1) * 100 if self.limit > 0 else float("inf")


WATCHED_MS: Final = 200
"""The time that the helper watches a service of Type=exec after its job."""

PYTHON: Final = "python3 -c pass"
LOOP: Final = "loop"
"""A fixed loop, which shows the speed of the machine."""

ANSWER_MS: Final = 1.5
"""The time of an answer to an Off after its unit is inactive: two processes, and no more waiting."""

ACTIVE: Final = Limit(times=1.3, who=FLOOR)


def _taps(kind: str) -> tuple[Row, ...]:
    """Return the rows of taps on units of one type."""
    watched_ms = WATCHED_MS if kind == EXEC else 0
    on = Limit(watched_ms, 1.15, FLOOR)
    group_on = Limit(WATCHED_MS, 1.3, FLOOR) if kind == EXEC else Limit(times=1.2, who=FLOOR)
    inactive = f"{kind}-off-1-units"
    off = Limit(ANSWER_MS, 1.5, FLOOR, inactive, "floor until inactive")
    return (
        Row(f"{kind}-on-1-units", f"write On → unit active ({kind})", "ms", ACTIVE),
        Row(f"{kind}-on-1-answer", f"write On → response ({kind})", "ms", on),
        Row(inactive, f"write Off → unit inactive ({kind})", "ms", Limit(times=1.5, who=FLOOR)),
        Row(f"{kind}-off-1-answer", f"write Off → response ({kind})", "ms", off),
        Row(f"{kind}-on-3-answer", f"group of 3 units, On → response ({kind})", "ms", group_on),
        Row(
            f"{kind}-off-3-answer",
            f"group of 3 units, Off → response ({kind})",
            "ms",
            Limit(times=2, who=FLOOR),
        ),
        Row(f"{kind}-tap-cpu", f"CPU per toggle ({kind})", "ms", Limit(times=0.10, who=PEER)),
    )


def _of_python(times: float) -> Limit:
    return Limit(times=times, who=FLOOR, reference=PYTHON, called=f"`{PYTHON}`")


def _of_loop(times: float) -> Limit:
    return Limit(times=times, who=MACHINE, reference=LOOP, called="the fixed loop")


ROWS: Final = (
    *_taps(NOTIFY),
    *_taps(EXEC),
    Row("on-100-units", "100 switches on in one request → all active", "ms", ACTIVE),
    Row(
        "off-100-units",
        "100 switches off in one request → all inactive",
        "ms",
        Limit(times=1.2, who=FLOOR),
    ),
    Row("read-1", "read one On", "ms", _of_loop(0.01)),
    Row("read-100", "read 100 On in one request", "ms", _of_loop(0.02)),
    Row("read-processes", "processes started by that read", "", Limit(0)),
    Row("event", "unit stopped by systemctl → event", "ms", Limit(60)),
    Row("slow-answer", "15 s start: response to the write after", "s", Limit(1.05)),
    Row("slow-failed", "15 s start: response is an error (1: yes)", "", Limit(0)),
    Row("slow-blocked", "15 s start: same connection blocked for", "s", Limit(1.05)),
    Row("start-3", "start → first response, 3 switches", "ms", Limit(times=0.6, who=PEER)),
    Row("start-100", "start → first response, 100 switches", "ms", Limit(times=0.15, who=PEER)),
    Row("memory-3", "memory (PSS), 3 switches", "MiB", Limit(times=0.46, who=PEER)),
    Row("memory-100", "memory (PSS), 100 switches", "MiB", Limit(times=0.36, who=PEER)),
    Row("idle-whole", "CPU in 60 s idle, 100 switches, 10 containers, 3 rules", "s", Limit(0.02)),
    Row("idle", "CPU in 60 s idle, 100 switches", "s", Limit(0.05)),
    Row("beside-changes", "CPU with 20 changes per second of other units", "% of a core", Limit(0.5)),
    Row("hkswitch status", "`hkswitch status` as a whole process", "ms", _of_python(5)),
    Row("hkswitch status --json", "`hkswitch status --json`", "ms", _of_python(3.5)),
    Row(PYTHON, f"`{PYTHON}`", "ms"),
    Row("imports of the daemon", "Python and the daemon's imports", "ms"),
    Row("imports of the helper", "Python and the helper's imports", "ms"),
)
COLUMNS: Final = (OURS, FLOOR, PEER, POLLING)
