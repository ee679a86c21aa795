"""Run the benchmarks and update docs/benchmarks.md; with --quick, only print results, without the peer.

With --hosts, only measure a bridge with many other hosts, and update that part of the page. With --redraw,
only draw the charts again, from the values of the last run. Everything else needs root and the tools of
`make test-host`, and npm once, to download the peer.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import Final

from bench import environment, page, peer, remote_hosts, scaling
from bench.bridges import Hkswitch
from bench.figures import Figures
from bench.parts import FULL, QUICK, Run
from bench.phone import Phone
from bench.progress import Progress
from bench.remote_parts import HOST_ROWS, HostsRun
from tests.host.rootfs import CHECKOUT

PAGE: Final = CHECKOUT / "docs" / "benchmarks.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="print only, without the peer, in under a minute"
    )
    parser.add_argument("--redraw", action="store_true", help="draw the charts again, without measuring")
    parser.add_argument("--hosts", action="store_true", help="only measure many other hosts")
    given = parser.parse_args()
    if given.redraw:
        scaling.redraw(PAGE.with_suffix(""))
        return 0
    if os.geteuid() != 0:
        sys.stderr.write("The benchmarks boot a host, which needs root: use sudo.\n")
        return 77
    measured = _hosts() if given.hosts else _quick() if given.quick else _full()
    sys.stdout.write(f"{measured}\n")
    return 0


def _quick() -> str:
    progress = Progress(parts=8)
    progress.part("boot a host")
    with environment.booted_host(None, progress) as host:
        run = Run(host, QUICK, Figures(), progress)
        with host.network():
            asyncio.run(_measure_alone(run))
        return _report(run, None)


def _full() -> str:
    progress = Progress(parts=2 + FULL.blocks * 5 + 7)
    progress.part("download the peer (only once)")
    downloads = peer.downloaded()
    progress.part("boot a host")
    with environment.booted_host(downloads, progress) as host:
        run = Run(host, FULL, Figures(), progress)
        with host.network():
            asyncio.run(_measure_with_peer(run))
        measured = _report(run, downloads)
    scaling.draw(run.figures, PAGE.with_suffix(""))
    page.replace_measured(PAGE, f"{measured}\n\n{scaling.section(run.figures, PAGE.stem)}")
    return measured


def _hosts() -> str:
    progress = Progress(parts=5)
    progress.part("boot two hosts")
    with remote_hosts.booted_hosts(progress) as host:
        run = HostsRun(host, Figures(), progress)
        with host.network():
            asyncio.run(run.measure())
        facts = page.facts(
            environment.versions(host, None) | remote_hosts.versions(host), environment.machine()
        )
    table, missed = page.table(run.figures, HOST_ROWS), page.missed_targets(run.figures, HOST_ROWS)
    measured = f"{facts}\n\n{table}\n\n{missed}"
    page.replace_measured(PAGE, measured, page.BEGIN_HOSTS)
    return measured


async def _measure_alone(run: Run) -> None:
    ours = Phone(run.host, Hkswitch())
    await run.few(ours)
    await run.floor()
    await run.many(ours)
    await run.events(ours)
    await run.idle(ours)
    await run.beside_changes(ours)
    await run.programs(ours)


async def _measure_with_peer(run: Run) -> None:
    """Alternate between both bridges, then run the parts that use the polling peer."""
    ours, theirs = Phone(run.host, Hkswitch()), Phone(run.host, peer.Homebridge())
    for _ in range(run.rounds.blocks):
        for phone in (ours, theirs):
            await run.few(phone)
        await run.floor()
        for phone in (ours, theirs):
            await run.many(phone)
    polling = theirs.with_bridge(peer.Homebridge(polling=True))
    await run.events(ours)
    await run.events(polling, peer.INTERVAL_SECONDS)
    await run.idle(ours)
    await run.idle(polling)
    await run.beside_changes(ours)
    await run.programs(ours)
    run.progress.part("scaling")
    await scaling.measure(run, (ours, theirs))


def _report(run: Run, downloads: Path | None) -> str:
    facts = page.facts(environment.versions(run.host, downloads), environment.machine())
    return f"{facts}\n\n{page.table(run.figures)}\n\n{page.missed_targets(run.figures)}"


if __name__ == "__main__":
    sys.exit(main())
