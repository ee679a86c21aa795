"""Random operations, 15 seconds in CI and longer by `make soak`: all views must agree afterwards."""

import os
import random
import sys
from collections.abc import Iterator

import pytest

from tests.host.machine import Host
from tests.host.matrix import TRANSPORTS
from tests.host.soak import CONFIG, PROGRAMS, UNITS, Figures, Soak, phones_of
from tests.support.controller import Controller

MINUTES = float(os.environ.get("SOAK_MINUTES", "0.25"))
SEED = int(os.environ.get("SOAK_SEED", "2026"))


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def config() -> str:
    return CONFIG


@pytest.fixture(scope="module", autouse=True)
def soak_units(host: Host) -> Iterator[None]:
    """The units and programs of the groups."""
    paths = [f"/usr/local/lib/systemd/system/{name}" for name in UNITS]
    for path, text in zip(paths, UNITS.values(), strict=True):
        host.write(path, text)
    for path, text in PROGRAMS.items():
        host.write(path, text, 0o755)
    host.run("systemctl", "daemon-reload")
    yield
    host.run("systemctl", "stop", *UNITS)
    host.run("systemctl", "reset-failed", *UNITS, check=False)
    host.run("sh", "-c", "rm -f /run/soak-*")
    host.run("rm", *paths, *PROGRAMS)
    host.run("systemctl", "daemon-reload")


async def test_all_views_agree_whenever_the_host_is_quiet(
    daemon: Host, paired: Controller, transport: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = daemon.read("/etc/hkswitch/config.yaml")
    figures = Figures(SEED)
    try:
        async with phones_of(paired, paired) as phones:
            soak = Soak(daemon, phones, transport, random.Random(SEED), figures)
            await soak.run(60 * MINUTES)
    finally:
        daemon.write("/etc/hkswitch/config.yaml", before)
        daemon.run("systemctl", "restart", "hkswitch")
        daemon.run("systemctl", "stop", *UNITS)
        daemon.run("systemctl", "reset-failed", check=False)
        with capsys.disabled():
            sys.stdout.write(f"\nsoak by {transport}: {figures}\n")
    assert figures.checks
    assert not figures.disagreements, "\n".join(figures.disagreements)
    assert not figures.tracebacks, "\n\n".join(figures.tracebacks)
    assert figures.lost_pairings == 0
    assert figures.descriptors[-1] <= figures.descriptors[0] + 10
