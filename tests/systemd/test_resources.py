"""The resources of units: which are read, of which run, and what counts as memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
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
from tests.support.waiting import eventually

__all__ = ["bus_address", "fake", "systemd_on_bus"]

MIB = 2**20
OF_SERVICE = 3
"""Properties that only a service has."""


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
    running = [unit(f"unit{number}.service") for number in range(10)]
    fake.reset(*running, unit("down.service", active="inactive"))
    fake.holds_services = True
    reading = asyncio.create_task(systemd.usages([*fake.units, "none.service"]))
    await eventually(lambda: len(fake.held_reads) == OF_SERVICE * len(running))  # none waits for another one
    fake.release_services()
    assert [usage.member for usage in await reading] == [each.name for each in running]
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


def recordings() -> dict[tuple[str, str], dict[str, str]]:
    """Return what the kernel wrote, file by file, for each version of Linux and each case below."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for recorded in sorted((Path(__file__).parent / "recorded").glob("memory-linux-*.txt")):
        for case in recorded.read_text().split("#CASE ")[1:]:
            name, *files = case.split("#FILE ")
            version = recorded.stem.removeprefix("memory-linux-")
            found[version, name.strip()] = {
                file: text for file, _, text in (each.partition("\n") for each in files)
            }
    return found


RECORDED = recordings()
"""Recorded in a virtual machine, on the kernels of Debian 12 (6.1.192-3) and Debian 13 (6.12.118-1).

One process in a cgroup of its own used 64 MiB of memory, or read 128 MiB of a file on ext4 through a buffer
of 1 MiB. memory.high=16M moved the memory to swap, on a disk or on zram; then, with memory.high=max, the
process read some or all of it again.
"""

KERNELS = ["6.1", "6.12"]
HELD = [  # the case, the MiB that count, and the MiB of memory.current, which systemd has as MemoryCurrent
    ("empty", 0, {0}),
    ("anonymous", 64, {64}),
    ("child_anonymous", 64, {64}),  # in a cgroup below
    ("page_cache", 1, {129, 130}),  # 1 MiB of the program's, and the file
    ("tmpfs", 0, {64}),  # files, which a restart may well keep
    ("shared", 0, {64}),  # MAP_SHARED: the kernel makes such a file
    ("disk_swapped", 64, {8, 14}),
    ("disk_swapped_and_read_in_part", 64, {10, 16}),  # the kernel reads more than was asked for
    ("disk_swapped_and_read_again", 64, {64}),  # its swap is not freed
    ("zram_swapped", 64, {0, 14}),
    ("zram_swapped_and_read_again", 64, {64}),  # its swap is freed
]


def write(folder: Path, files: Mapping[str, str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("case", "held_mib", "current_mib"), HELD)
def test_memory_is_anonymous_memory_and_swap_and_never_page_cache(
    tmp_path: Path, kernel: str, case: str, held_mib: int, current_mib: set[int]
) -> None:
    cgroup = write(tmp_path, RECORDED[kernel, case])
    held_bytes = memory_bytes(cgroup)
    assert held_bytes is not None
    assert round(held_bytes / MIB) == held_mib
    assert round(int((cgroup / "memory.current").read_text()) / MIB) in current_mib


@pytest.mark.parametrize("kernel", KERNELS)
def test_tmpfs_in_swap_counts_as_swap(tmp_path: Path, kernel: str) -> None:
    """The kernel does not say what swap is of."""
    files = RECORDED[kernel, "disk_swapped_tmpfs"]
    used = memory_bytes(write(tmp_path, files)) or 0
    assert 48 * MIB < int(files["memory.swap.current"]) < used < int(files["memory.swap.current"]) + MIB / 8


SWAPPED = RECORDED["6.12", "disk_swapped"]
ANON_BYTES = 14_684_160
LISTED_BYTES = 14_860_288
"""Of anonymous memory, with the swap cache."""
SWAPPED_BYTES = 52_477_952
CACHED_BYTES = 176_128
"""In memory and in swap."""
HELD_BYTES = LISTED_BYTES + SWAPPED_BYTES - CACHED_BYTES


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["memory.stat", "memory.swap.current"], HELD_BYTES),
        (["memory.stat"], LISTED_BYTES),  # the kernel does not count swap, or it is the cgroup of all units
        (["memory.current", "memory.swap.current"], None),
        ([], None),  # there is no memory controller
    ],
)
def test_files_that_a_kernel_lacks(tmp_path: Path, files: list[str], expected: int | None) -> None:
    assert memory_bytes(write(tmp_path, {name: SWAPPED[name] for name in files})) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"swapcached": SWAPPED_BYTES + 4096}, LISTED_BYTES),  # the files are not of the same moment
        ({"swapcached": 0}, LISTED_BYTES + SWAPPED_BYTES),
        ({"swapcached": None}, LISTED_BYTES + SWAPPED_BYTES),  # as in older kernels
        # locked in memory, as databases have it
        (
            {"inactive_anon": 0, "active_anon": 0, "unevictable": ANON_BYTES},
            ANON_BYTES + SWAPPED_BYTES - CACHED_BYTES,
        ),
        ({"shmem": 2 * LISTED_BYTES}, ANON_BYTES + SWAPPED_BYTES - CACHED_BYTES),  # which is locked
    ],
)
def test_no_page_counts_twice_and_no_figure_is_negative(
    tmp_path: Path, changed: dict[str, int | None], expected: int
) -> None:
    stat = dict(line.split() for line in SWAPPED["memory.stat"].splitlines()) | changed
    lines = [f"{name} {value}\n" for name, value in stat.items() if value is not None]
    assert memory_bytes(write(tmp_path, {**SWAPPED, "memory.stat": "".join(lines)})) == expected


def test_a_cgroup_that_is_gone_has_no_memory(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path / "gone.service") is None


async def test_the_memory_of_a_unit_is_that_of_its_cgroup(
    fake: FakeSystemd, systemd: Systemd, tmp_path: Path
) -> None:
    name = "dev-disk-by\\x2dlabel-x.service"
    write(tmp_path / "system.slice" / "a.slice" / name, SWAPPED)
    fake.reset(unit(name, cgroup=f"/system.slice/a.slice/{name}"), unit("other.service"))
    memory = {usage.member: usage.memory_bytes for usage in await systemd.usages(fake.units)}
    assert memory == {name: HELD_BYTES, "other.service": None}
