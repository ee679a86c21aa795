"""Run the benchmarks and update docs/benchmarks.md; with --quick, only print results, without the peer.

With --targets, only measure what has a target, and add the run to the last ones. With --hosts, only measure
a bridge with many other hosts, and update that part of the page. With --redraw, only write the charts and the
page again, from the values of the last runs. Everything else needs root and the tools of `make test-host`,
and npm once, to download the peer.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from bench import environment, homebridge2, page, peer, remote_hosts, report, runs, scaling
from bench.bridges import Hkswitch
from bench.figures import Figures
from bench.growth import Growth
from bench.parts import FULL, QUICK, TARGETS, Rounds, Run
from bench.phone import Phone
from bench.progress import Progress
from bench.remote_parts import HOST_ROWS, HostsRun
from bench.targets import ROWS, Row
from tests.host.rootfs import CHECKOUT

PAGE: Final = CHECKOUT / "docs" / "benchmarks.md"
FOLDER: Final = PAGE.with_suffix("")
BEGINNING, MIDDLE, END = report.MOMENTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--quick", action="store_true", help="print only, without the peer, in about a minute")
    only.add_argument("--targets", action="store_true", help="only measure what has a target; add the run")
    only.add_argument("--hosts", action="store_true", help="only measure many other hosts")
    only.add_argument("--redraw", action="store_true", help="write charts and page again, without measuring")
    given = parser.parse_args()
    if given.redraw:
        _redraw()
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("The benchmarks boot a host, which needs root: use sudo.\n")
        return 77
    measured = _hosts() if given.hosts else _quick() if given.quick else _with_peer(full=not given.targets)
    sys.stdout.write(f"{measured}\n")
    return 0


def _redraw() -> None:
    """Write everything that is generated, but for the table of other hosts, which only its run has."""
    kept = runs.read(FOLDER)
    if kept:
        page.replace_measured(PAGE, report.section(kept))
    for growth, begin in (
        (scaling.SCALING, page.BEGIN_SCALING),
        (scaling.OF_HOSTS, page.BEGIN_HOSTS_SCALING),
    ):
        if (FOLDER / growth.values).exists():
            _draw(growth, growth.stored(FOLDER), begin)


def _quick() -> str:
    progress = Progress(parts=14)
    progress.part("boot a host")
    with environment.booted_host(None, progress) as host:
        run = Run(host, QUICK, Figures(), progress)
        with host.network(), _shown_if_it_fails(run.figures):
            asyncio.run(_measure_alone(run))
        return _with_speeds(run.figures, environment.versions(host, None))


def _with_peer(*, full: bool) -> str:
    rounds = FULL if full else TARGETS
    progress = Progress(parts=_parts(rounds))
    progress.part("download the peer (only once)")
    downloads = peer.downloaded()
    also = {homebridge2.MOUNT: peer.downloaded(homebridge2.HERE)} if full else {}
    progress.part("boot a host")
    with environment.booted_host(downloads, progress, also) as host:
        run = Run(host, rounds, Figures(), progress)
        versions = environment.versions(host, downloads)
        with host.network(), _shown_if_it_fails(run.figures):
            asyncio.run(_measure_with_peer(run, lambda ended: _keep(run, versions, ended)))
    return _with_speeds(run.figures, versions)


def _parts(rounds: Rounds) -> int:
    """Return the number of parts of a run with the peer."""
    optional = (
        rounds.events_polling,
        rounds.idle_polling_seconds,
        rounds.homebridge_2,
        rounds.growth,
    )
    return 10 + rounds.blocks * 8 + sum(map(bool, optional))


def _hosts() -> str:
    progress = Progress(parts=5 + len(scaling.OF_HOSTS.axes["other hosts"]))
    progress.part("boot two hosts")
    with remote_hosts.booted_hosts(progress) as host:
        run = HostsRun(host, Figures(), progress)
        with host.network(), _shown_if_it_fails(run.figures, HOST_ROWS):
            asyncio.run(run.measure())
        versions = environment.versions(host, None) | remote_hosts.versions(host)
    measured = _report(run.figures, versions, HOST_ROWS)
    page.replace_measured(PAGE, measured, page.BEGIN_HOSTS)
    _draw(scaling.OF_HOSTS, run.figures, page.BEGIN_HOSTS_SCALING)
    return measured


async def _measure_alone(run: Run) -> None:
    ours = Phone(run.host, Hkswitch())
    run.calibrate(BEGINNING)
    await _with_floor(run, ours)
    await run.events(ours, run.rounds.events)
    run.calibrate(MIDDLE)
    await run.idle(ours)
    await run.beside_changes(ours)
    await run.programs(ours)
    run.calibrate(END)


async def _measure_with_peer(run: Run, keep: Callable[[str], None]) -> None:
    """Alternate between both bridges, then run the parts that use the polling peer.

    What was measured is kept before the growth is, as that takes long and has no targets.
    """
    ours, theirs = Phone(run.host, Hkswitch()), Phone(run.host, peer.Homebridge())
    run.calibrate(BEGINNING)
    for _ in range(run.rounds.blocks):
        await _with_floor(run, ours)
        await run.few(theirs)
        await run.many(theirs)
    run.calibrate(MIDDLE)
    polling = theirs.with_bridge(peer.Homebridge(polling=True))
    await run.events(ours, run.rounds.events)
    if run.rounds.events_polling:
        await run.events(polling, run.rounds.events_polling, peer.INTERVAL_SECONDS)
    await run.idle(ours)
    if run.rounds.idle_polling_seconds:
        await run.idle(polling)
    await run.idle_whole(ours)
    await run.beside_changes(ours)
    await run.programs(ours)
    ended = run.homebridge_2() if run.rounds.homebridge_2 else ""
    run.calibrate(END)
    keep(ended)
    if run.rounds.growth:
        run.progress.part("growth")
        await scaling.measure(run, (ours, theirs))
        _draw(scaling.SCALING, run.figures, page.BEGIN_SCALING)


async def _with_floor(run: Run, ours: Phone) -> None:
    """Measure the floor around ours, as the speed of a machine changes within minutes."""
    await run.floor_of_taps()
    await run.few(ours)
    await run.floor_of_taps()
    await run.floor_at_once()
    await run.many(ours)
    await run.floor_at_once()


def _keep(run: Run, versions: Mapping[str, str], ended: str) -> None:
    """Add a run to those that are kept, and show them on the page."""
    now = runs.KeptRun(
        when=time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        code=runs.code_of(CHECKOUT),
        is_full=run.rounds is FULL,
        machine=environment.machine(),
        versions=versions,
        series=run.figures.summary(),
        homebridge_2=ended,
    )
    runs.write(FOLDER, runs.added(runs.read(FOLDER), now))
    page.replace_measured(PAGE, report.section(runs.read(FOLDER)))


def _draw(growth: Growth, figures: Figures, begin: str) -> None:
    growth.draw(figures, FOLDER)
    page.replace_measured(PAGE, growth.section(growth.stored(FOLDER), PAGE.stem), begin)


def _report(figures: Figures, versions: Mapping[str, str], rows: tuple[Row, ...] = ROWS) -> str:
    facts = page.facts(versions, environment.machine())
    return f"{facts}\n\n{page.table(figures, rows)}\n\n{page.missed_targets(figures, rows)}"


def _with_speeds(figures: Figures, versions: Mapping[str, str]) -> str:
    return f"{_report(figures, versions)}\n\n{report.speeds({'this run': figures})}"


@contextmanager
def _shown_if_it_fails(figures: Figures, rows: tuple[Row, ...] = ROWS) -> Iterator[None]:
    """Print what was measured before a failure, which ends the run and changes no file."""
    try:
        yield
    except BaseException:
        sys.stdout.write(f"Measured before the failure:\n\n{page.table(figures, rows)}\n")
        raise


if __name__ == "__main__":
    sys.exit(main())
