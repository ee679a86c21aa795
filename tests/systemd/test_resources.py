"""The resources of units: which are read, of which run, and what counts as memory."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from hkswitch.model.errors import BusUnavailable
from hkswitch.model.unit_state import Usage
from hkswitch.systemd import resources
from hkswitch.systemd.connection import SYSTEMD
from hkswitch.systemd.interface import SERVICE_INTERFACE, UNIT_INTERFACE
from hkswitch.systemd.resources import memory_bytes
from hkswitch.systemd.units import Systemd
from tests.support.fake_systemd import FakeSystemd, Unit
from tests.support.fixtures import bus_address, fake, systemd_on_bus

__all__ = ["bus_address", "fake", "systemd_on_bus"]

MIB = 2**20
STAT = f"""\
anon {52 * MIB}
file {3900 * MIB}
kernel 4419584
kernel_stack 212992
pagetables 1097728
sec_pagetables 0
percpu 1440
sock 4096
vmalloc 8192
shmem {128 * MIB}
zswap 0
zswapped 0
file_mapped 86470656
file_dirty 135168
file_writeback 0
swapcached 1007616
anon_thp 4194304
file_thp 0
shmem_thp 0
inactive_anon 53002240
active_anon 2412544
inactive_file {3000 * MIB}
active_file {900 * MIB}
unevictable 0
slab_reclaimable 2703160
slab_unreclaimable 300056
slab 3003216
workingset_refault_anon 12
workingset_refault_file 51284
pgfault 1204411
pgmajfault 811
"""
"""In the form of Linux 6.12, of a file server: nearly all is page cache."""


def unit(name: str, **properties: object) -> Unit:
    """A unit that runs."""
    up = {"active": "active", "sub": "running", "starts": 1, "cgroup": f"/system.slice/{name}"}
    return Unit(name, **{**up, "cpu_ns": 5_000_000_000, "began_seconds": 100.25} | properties)  # type: ignore[arg-type]


RUN = f"{1:032x}"


@pytest_asyncio.fixture(loop_scope="module")
async def systemd(
    fake: FakeSystemd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Systemd]:
    monkeypatch.setattr(resources, "CGROUPS", tmp_path)
    connected = await Systemd.connect()
    yield connected
    connected.close()


MEASURED = [
    (unit("web.service"), Usage("web.service", RUN, 100.25, 5_000_000_000, None)),
    (unit("web.service", starts=7), Usage("web.service", f"{7:032x}", 100.25, 5_000_000_000, None)),
    (unit("a.slice", active="active", sub="active"), Usage("a.slice", RUN, 100.25, 5_000_000_000, None)),
    (unit("docker-1.scope"), Usage("docker-1.scope", RUN, 100.25, 5_000_000_000, None)),
    (unit("web.service", active="reloading"), Usage("web.service", RUN, 100.25, 5_000_000_000, None)),
    (unit("web.service", cpu_ns=0), Usage("web.service", RUN, 100.25, 0, None)),
    (unit("web.service", cpu_ns=2**64 - 1), Usage("web.service", RUN, 100.25, None, None)),
    # an automatic restart: it left `inactive` when it crashed, and was then started
    (unit("web.service", main_began_seconds=130.5), Usage("web.service", RUN, 130.5, 5_000_000_000, None)),
    # its main process was that of the last run, until its next one begins
    (unit("web.service", main_began_seconds=7.5), Usage("web.service", RUN, 100.25, 5_000_000_000, None)),
    (unit("a.slice", main_began_seconds=130.5), Usage("a.slice", RUN, 100.25, 5_000_000_000, None)),
    (unit("web.service", active="inactive", sub="dead"), None),
    (unit("web.service", active="failed", sub="failed"), None),  # and left processes behind
    (unit("web.service", sub="exited", cgroup=""), None),  # and a counter that is no longer its own
    (unit("web.service", active="activating", sub="auto-restart", cgroup=""), None),
    (Unit("web.service", load="not-found"), None),
]


@pytest.mark.parametrize(("measured", "expected"), MEASURED)
async def test_what_runs_has_the_counter_of_its_run_and_the_start_of_that(
    fake: FakeSystemd, systemd: Systemd, measured: Unit, expected: Usage | None
) -> None:
    fake.reset(measured)
    assert await systemd.usages([measured.name]) == ([] if expected is None else [expected])


async def test_all_units_are_read_at_once_and_only_those_that_run(
    fake: FakeSystemd, systemd: Systemd
) -> None:
    running = [unit(f"unit{number}.service") for number in range(40)]
    fake.reset(*running, unit("down.service", active="inactive"))
    usages = await systemd.usages([*fake.units, "none.service"])
    assert [usage.member for usage in usages] == [each.name for each in running]
    firsts = [name for name, _, what in fake.reads if what == "InvocationID"][:20]
    assert len({*firsts}) > 10  # not one after the other
    assert {name for name, *_ in fake.reads} == {each.name for each in running}


def restarted(changed: Unit) -> None:
    changed.starts += 1
    changed.cpu_ns = 0


def unloaded(changed: Unit) -> None:
    changed.cgroup = ""


@pytest.mark.parametrize(
    "read",
    ["InactiveExitTimestampMonotonic", "ExecMainStartTimestampMonotonic", "CPUUsageNSec", "ControlGroup"],
)
@pytest.mark.parametrize("change", [restarted, unloaded])
async def test_a_unit_that_is_restarted_or_ends_meanwhile_is_left_out(
    fake: FakeSystemd, systemd: Systemd, read: str, change: Callable[[Unit], None]
) -> None:
    """No counter belongs to the run before it, or to the one after it."""
    fake.reset(unit("web.service"), unit("other.service"))

    def on_read(about: Unit, what: str) -> None:
        if (about.name, what) == ("web.service", read):
            change(about)

    fake.on_read = on_read
    assert [usage.member for usage in await systemd.usages(fake.units)] == ["other.service"]


async def test_a_lost_bus_is_an_error(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(unit("web.service"))
    systemd.close()
    with pytest.raises(BusUnavailable):
        await systemd.usages(["web.service"])


async def test_a_unit_is_asked_as_what_it_is(fake: FakeSystemd, systemd: Systemd) -> None:
    fake.reset(unit("web.service"), unit("a-b.slice"), unit("docker-1.scope"))
    await systemd.usages(fake.units)
    kinds = {name: {kind for each, kind, _ in fake.reads if each == name} for name in fake.units}
    assert kinds == {
        "web.service": {UNIT_INTERFACE, SERVICE_INTERFACE},
        "a-b.slice": {UNIT_INTERFACE, f"{SYSTEMD}.Slice"},
        "docker-1.scope": {UNIT_INTERFACE, f"{SYSTEMD}.Scope"},
    }


# Memory


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory_stat": STAT, "memory_swap_current": "0\n"}, 52 * MIB),  # and no page cache
        ({"memory_stat": STAT, "memory_swap_current": f"{7 * MIB}\n"}, 59 * MIB),
        ({"memory_stat": STAT}, 52 * MIB),  # a kernel that cannot swap
        ({"memory_stat": STAT.replace(f"anon {52 * MIB}", "anon 0"), "memory_swap_current": "1\n"}, 1),
        ({"memory_swap_current": f"{7 * MIB}\n"}, None),
        ({"memory_current": f"{4000 * MIB}\n"}, None),
        ({}, None),
    ],
)
def test_memory_is_anonymous_memory_and_swap_and_never_page_cache(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    assert memory_bytes(write(tmp_path / "web.service", **files)) == expected


def test_a_cgroup_that_is_gone_has_no_memory(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path / "gone.service") is None


async def test_the_memory_of_a_unit_is_that_of_its_cgroup(
    fake: FakeSystemd, systemd: Systemd, tmp_path: Path
) -> None:
    name = "dev-disk-by\\x2dlabel-x.service"
    write(tmp_path / "system.slice" / "a.slice" / name, memory_stat=STAT, memory_swap_current="5\n")
    fake.reset(unit(name, cgroup=f"/system.slice/a.slice/{name}"), unit("other.service"))
    memory = {usage.member: usage.memory_bytes for usage in await systemd.usages(fake.units)}
    assert memory == {name: 52 * MIB + 5, "other.service": None}
