"""The config version (c#): it grows with every change that controllers must read, and never falls."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from hkswitch.daemon.bridge import Bridge
from hkswitch.hap import state_file
from hkswitch.hap.announcement import announcement
from hkswitch.model.group import AccessoryType, Group
from tests.support.accessory_database import bridge_of, database, pair, regroup, renamed, typed, value_of
from tests.support.full_disk import filling

WEB = typed("web", AccessoryType.SWITCH)
FILES = typed("files", AccessoryType.SWITCH)
FIRMWARE_REVISION = "52"


@pytest.fixture
def be_version(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda version: monkeypatch.setattr("hkswitch.daemon.identities.__version__", version)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Return a function that fills the disk, or frees space again."""
    return filling(monkeypatch)


def on_disk(folder: Path) -> int:
    stored = state_file.read(folder)
    assert stored is not None
    return int(stored.accessory["config_version"])


def announced(bridge: Bridge) -> int:
    """Return the c# that mDNS would announce."""
    return int(announcement("Test", bridge._driver.state).properties[b"c#"] or 0)


CHANGES: list[tuple[tuple[Group, ...], bool]] = [
    ((WEB, FILES), True),
    ((), True),
    ((renamed(WEB, "Website"),), True),
    ((typed("web", AccessoryType.FAN),), True),
    ((typed("web", AccessoryType.SWITCH, restart=True),), True),
    ((FILES,), True),
    ((WEB,), False),
    ((Group("web", "Web", ("other.service",)),), False),  # what root acts on is not what phones see
]


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize(("groups", "grows"), CHANGES)
async def test_it_grows_with_the_accessories_and_with_nothing_else(
    tmp_path: Path, groups: tuple[Group, ...], grows: bool, running: bool
) -> None:
    bridge = bridge_of(tmp_path, WEB)
    before = bridge.config_version
    if running:
        regroup(bridge, *groups)
    else:
        bridge = bridge_of(tmp_path, *groups)
    assert bridge.config_version - before == grows
    assert bridge.config_version == on_disk(tmp_path) == announced(bridge)


async def test_it_does_not_depend_on_the_order_of_the_config_nor_on_what_is_switched(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, WEB, FILES)
    before = bridge.config_version
    for accessory in bridge._tiles.values():
        accessory.show(None, on=True)
        accessory.is_available = True
    regroup(bridge, FILES, WEB)
    assert bridge.config_version == bridge_of(tmp_path, FILES, WEB).config_version == before


VERSIONS = [
    (("0.1.0", "0.1.0"), [0]),
    (("0.1.0", "0.1.0+9.gabc1234", "0.1.0+12.g1234567", "0.2.0rc1", "0.2.0"), [0, 0, 1, 0]),
    (("0.1.0", "0.1.1"), [1]),
    (("0.2.0", "0.1.0"), [1]),
    (("0.1.0", "0.2.0", "0.2.0", "0.1.0", "0.2.0"), [1, 0, 1, 1]),
]


@pytest.mark.parametrize(("versions", "growth"), VERSIONS)
async def test_it_grows_with_each_other_firmware_revision_newer_or_older(
    tmp_path: Path, be_version: Callable[[str], None], versions: tuple[str, ...], growth: list[int]
) -> None:
    found = []
    for version in versions:
        be_version(version)
        bridge = bridge_of(tmp_path, WEB)
        found.append(announced(bridge))
        assert on_disk(tmp_path) == found[-1]
        plain = re.sub(r"(rc|\+).*", "", version)  # HomeKit allows x.y.z only
        assert {value_of(each, FIRMWARE_REVISION) for each in database(bridge)} == {plain}
    assert [after - before for before, after in pairwise(found)] == growth


async def test_what_could_not_be_written_is_not_announced_and_grows_when_there_is_room(
    tmp_path: Path, full: Callable[[bool], None]
) -> None:
    bridge = bridge_of(tmp_path, WEB)
    pair(bridge)
    before = announced(bridge)
    full(True)
    for name in ("One", "Two", "Three"):
        regroup(bridge, renamed(WEB, name))
        assert announced(bridge) == before
    full(False)
    bridge._driver.writer.try_again()
    assert announced(bridge) == on_disk(tmp_path) == before + 1
    bridge._driver.stop_writing()


async def test_it_never_falls_when_a_daemon_that_could_not_write_is_killed(
    tmp_path: Path, full: Callable[[bool], None], be_version: Callable[[str], None]
) -> None:
    heard = []
    for version, is_full in (("1.0", False), ("1.1", True), ("1.0", True), ("1.1", False), ("1.0", True)):
        be_version(version)
        full(is_full)
        bridge = bridge_of(tmp_path, WEB)
        heard.append(announced(bridge))
        regroup(bridge, renamed(WEB, f"Web {version}"))
        heard.append(announced(bridge))
        bridge._driver.stop_writing()
    assert heard == sorted(heard)
    assert heard[-1] > heard[0]


async def test_after_the_largest_number_it_is_one_as_the_specification_wants_it(tmp_path: Path) -> None:
    bridge = bridge_of(tmp_path, WEB)
    bridge._driver.state.config_version = 65535
    regroup(bridge, FILES)
    assert announced(bridge) == 1


async def test_the_bridges_own_serial_number_is_the_same_after_a_restart(tmp_path: Path) -> None:
    first, second = (bridge_of(tmp_path, WEB) for _ in range(2))
    assert database(first) == database(second)
