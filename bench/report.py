"""The part of docs/benchmarks.md that the last runs are shown in. Pure: no I/O."""

from collections.abc import Mapping, Sequence
from typing import Final

from bench import page
from bench.figures import HOMEBRIDGE_2, MACHINE, Measured
from bench.runs import KeptRun, newest_full
from bench.targets import LOOP, PYTHON, ROWS, Row

MOMENTS: Final = ("beginning", "middle", "end")
"""When the speed of the machine is measured in a run."""

SPEEDS: Final = {PYTHON: f"`{PYTHON}`", LOOP: "a fixed loop in Python"}
NEAR: Final = "(near)"
MISSED: Final = "(missed)"
HOMEBRIDGE_ROWS: Final = (
    ("memory-alone", "memory (PSS), no plugin", "MiB"),
    ("start-listening", "start → its port is open, no plugin", "ms"),
)


def section(kept: Sequence[KeptRun]) -> str:
    """Return the text for these runs, the oldest first; at least one."""
    whole = newest_full(kept) or kept[-1]
    medians = f"Medians of the run of {whole.when}, with 95th percentiles in brackets."
    parts = (
        f"{_introduction(kept)}\n\n{_targets(kept)}\n\n{_missed(kept)}",
        f"## Speed of the machine\n\n{speeds({run.when: run for run in kept}, [run.code for run in kept])}",
        f"## All figures\n\n{page.facts(whole.versions, whole.machine)}\n\n{medians}\n\n{page.table(whole)}",
        f"## Homebridge 2\n\n{_homebridge_2(whole)}",
    )
    return "\n\n".join(parts)


def calibration(what: str, moment: str) -> str:
    """Return the metric of the machine's speed at a moment."""
    return f"{what}, {moment}"


def speeds(measured: Mapping[str, Measured], codes: Sequence[str] = ()) -> str:
    """Return a table with the speed of the machine at each moment of these runs, by their names.

    `codes`: what code each measured.
    """
    rows = [["code", *codes]] if codes else []
    for what, label in SPEEDS.items():
        for moment in MOMENTS:
            found = (figures.of(calibration(what, moment), MACHINE) for figures in measured.values())
            values = ("" if each is None else page.amount(each.median, "ms") for each in found)
            rows.append([f"{label}, {moment}", *values])
    return page.lines_of(["measured", *measured], rows)


def _introduction(kept: Sequence[KeptRun]) -> str:
    runs = "One run" if len(kept) == 1 else f"The last {len(kept)} runs"
    return (
        f"{runs}; times are UTC. A figure within 10 % of its limit is marked as {NEAR}, and one over it "
        f"as **{MISSED}**."
    )


def _targets(kept: Sequence[KeptRun]) -> str:
    heads = ["metric", "limit", *(run.when for run in kept)]
    rows = [row for row in ROWS if any(row.judged(run) for run in kept)]
    return page.lines_of(
        heads, [[row.label, _limit(row), *(_figure(row, run) for run in kept)] for row in rows]
    )


def _limit(row: Row) -> str:
    return "" if row.limit is None else f"≤ {page.reason(row.limit, row.unit)}"


def _figure(row: Row, run: KeptRun) -> str:
    """Return our figure in the terms of the limit, and its mark."""
    judged = row.judged(run)
    if judged is None or row.limit is None:
        return ""
    if row.limit.is_ratio:
        shown = f"{judged.figure / judged.limit * row.limit.times:.3g} x"
    else:
        of_limit = f" of {page.number(judged.limit)}" if row.limit.who else ""
        shown = f"{page.number(judged.figure)}{of_limit} {row.unit}".rstrip()
    return f"{shown} {NEAR}" if judged.is_near else shown if judged.is_met else f"**{shown} {MISSED}**"


def _missed(kept: Sequence[KeptRun]) -> str:
    """Return a line for each target that was missed in any run, with by how much in each."""
    lines = []
    for row in ROWS:
        judged = {run.when: row.judged(run) for run in kept}
        overs = [
            page.over(found.figure, found.limit, row.unit)
            + (f" in the run of {when}" if len(kept) > 1 else "")
            for when, found in judged.items()
            if found is not None and not found.is_met
        ]
        if overs:
            lines.append(f"- {row.label}: {'; '.join(overs)}.")
    return "\n".join(lines) or f"All targets are met in {'this run' if len(kept) == 1 else 'all runs'}."


def _homebridge_2(run: KeptRun) -> str:
    if not run.homebridge_2:
        return page.NOT_MEASURED
    series = ((label, unit, run.of(metric, HOMEBRIDGE_2)) for metric, label, unit in HOMEBRIDGE_ROWS)
    rows = [[label, page.amount(found.median, unit)] for label, unit, found in series if found is not None]
    return f"{run.homebridge_2}\n\n{page.lines_of(['metric', HOMEBRIDGE_2], rows)}"
